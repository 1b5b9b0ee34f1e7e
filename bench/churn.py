"""Nodes that come and go in virtual time: what is lost, what comes back to life, and what keeping it costs.

`python -m bench.churn` replaces 85 % of all nodes in every ten minutes, for hours; makers put each record once and are
never seen again, so only the holders can keep it. `--book` does so with one book that is too large for one node of its
tree. `--quiet` replaces nobody, to see what keeping costs by itself. `--restart` stops all nodes of a full network and
starts them in the same second. Overlay and holdings are the production ones; network, clock and chance are those of
`dhtex.sim`. A number of the seed gives the same run.
"""

import argparse
import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from bench.machines import NETWORK, PORT, Member, World, cancel, make_order
from dhtex import limits
from dhtex.directory.service import Directory
from dhtex.market.identity import Identity
from dhtex.market.ids import DhtKey, NodeId, RecordId, index_key, order_key
from dhtex.market.records import Kind, Order, Record, Side, Status, is_a, parse_record
from dhtex.node.offers import resume_within_s
from dhtex.overlay.results import GetResult
from dhtex.sim.clock import EPOCH_S
from dhtex.sim.loop import play
from dhtex.store.holdings import Holdings

REPLACED_PART = 0.85
WITHIN_S = 600.0
LOOK_S = 300.0
TRIES = 3
HOUR_S = 3600.0
RESTART_S = 600.0
BOOK_PUTS = 8  # at a time
BOOK_SETTLES_S = 900.0  # orders come to their places


@dataclass(slots=True, kw_only=True)
class Report:
    """What a run came to. Rates are datagrams sent."""

    nodes: int
    orders: int
    virtual_s: float = 0.0
    replaced: int = 0
    reads: int = 0
    lost: list[str] = field(default_factory=list)
    revived: list[str] = field(default_factory=list)
    holders_least: int = limits.HOLDERS
    datagrams_per_node_hour: float = 0.0
    bytes_per_node_hour: float = 0.0
    by_verb: Counter[str] = field(default_factory=Counter)  # the datagrams of a node and hour
    peak_per_node_s: int = 0
    pings_starved: int = 0
    listed_after_s: float = 0.0
    tree_nodes: int = 1  # at most

    def __str__(self) -> str:
        verbs = ", ".join(f"{verb} {count:.0f}" for verb, count in self.by_verb.most_common())
        rows = [f"{name.replace('_', ' '):26}{value}" for name, value in (
            ("nodes", self.nodes), ("orders", self.orders), ("virtual_s", f"{self.virtual_s:.0f}"),
            ("nodes_replaced", self.replaced), ("reads", self.reads), ("live_orders_lost", len(self.lost)),
            ("dead_orders_revived", len(self.revived)), ("fewest_holders_seen", self.holders_least),
            ("datagrams_per_node_hour", f"{self.datagrams_per_node_hour:.0f}"), ("of_these", verbs),
            ("bytes_per_node_hour", f"{self.bytes_per_node_hour:.0f}"),
            ("peak_per_node_and_second", self.peak_per_node_s), ("pings_dropped_by_limits", self.pings_starved),
            ("listed_after_s", f"{self.listed_after_s:.0f}"), ("nodes_of_one_book", self.tree_nodes),
        )]  # fmt: skip
        return "\n".join(rows)

    def count(self, world: World, virtual_s: float) -> None:
        """Take down what all nodes have sent in this time."""
        traffic, node_hours = world.traffic, self.nodes * virtual_s / HOUR_S
        self.virtual_s = virtual_s
        self.datagrams_per_node_hour = traffic.datagrams / node_hours
        self.bytes_per_node_hour = traffic.octets / node_hours
        self.by_verb = Counter({verb: round(count / node_hours) for verb, count in traffic.by_verb.items()})
        self.peak_per_node_s = traffic.peak
        self.pings_starved = sum(
            member.overlay.counters.get(f"dropped_rate_{whose}", 0)
            for member in world.members
            for whose in ("peer", "strangers")
        )


# --- churn --------------------------------------------------------------------------------------------------------


async def churn(seed: int, size: int, orders: int, hours: float, replaced_part: float = REPLACED_PART) -> Report:
    """Let nodes come and go, and read everything every few minutes. Each fourth order is canceled.

    If nobody is to be replaced, everything is read once, after the traffic was counted.
    """
    chance = random.Random(f"{seed}/churn")
    world, report = World(seed, chance), Report(nodes=size, orders=orders)
    loop = asyncio.get_running_loop()
    maker = Identity.from_seed(chance.randbytes(32))
    life_s = int(hours * HOUR_S) + 7200
    placed = [make_order(maker, number, chance, life_s) for number in range(orders)]
    dead = frozenset(order.id for order in placed[::4])
    try:
        for _ in range(size):
            await world.newcomer()
            await asyncio.sleep(0.5)
        for order in placed:
            await put(world, order)
            if order.id in dead:
                await put(world, cancel(maker, order), order)
        await asyncio.sleep(30.0)
        began = loop.time()
        world.traffic.clear()
        if replaced_part:
            async with replacing(world, report, size, replaced_part):
                while loop.time() - began < hours * HOUR_S:
                    await asyncio.sleep(LOOK_S)
                    await look_everywhere(world, report, placed, dead)
        else:
            await asyncio.sleep(hours * HOUR_S)
        report.count(world, loop.time() - began)
        if not replaced_part:
            await look_everywhere(world, report, placed, dead)
        return report
    finally:
        world.close()


async def put(world: World, record: Record[Order] | Record[Status], order: Record[Order] | None = None) -> None:
    body, order_id = record.body, (order or record).id
    member = world.chance.choice(world.members)
    await member.do(member.overlay.put(order_key(order_id), record.wire, None))
    await member.do(member.overlay.put(index_key(NETWORK, body.pair, body.side, ""), record.wire, ""))


@asynccontextmanager
async def replacing(world: World, report: Report, size: int, part: float) -> AsyncIterator[None]:
    """Meanwhile, one node goes and another comes, at random moments, so that this part of all go in WITHIN_S."""
    pause_s, coming = WITHIN_S / (part * size), set[asyncio.Task[None]]()

    async def replace() -> None:
        while True:
            await asyncio.sleep(world.chance.expovariate(1 / pause_s))
            world.kill(world.chance.choice(world.members))
            report.replaced += 1
            coming.add(task := asyncio.create_task(world.newcomer()))
            task.add_done_callback(coming.discard)

    replacement = asyncio.create_task(replace())
    try:
        yield
    finally:
        for task in (replacement, *coming):
            task.cancel()
        await asyncio.gather(replacement, *coming, return_exceptions=True)


async def look_everywhere(world: World, report: Report, placed: list[Record[Order]], dead: frozenset[RecordId]) -> None:
    """Read each order at its own key, and all pairs."""
    for order in placed:
        key = order_key(order.id)
        await look(world, report, key, [order.id], dead)
        holding = sum(m.holdings.page(key, Kind.ORDER, 0, 0, m.clock.now()).total > 0 for m in world.members)
        if order.id not in dead:
            report.holders_least = min(report.holders_least, holding)
    for pair in sorted({order.body.pair for order in placed}):
        there = [order.id for order in placed if order.body.pair == pair]
        await look(world, report, index_key(NETWORK, pair, Side.SELL, ""), there, dead)


async def look(world: World, report: Report, key: DhtKey, there: list[RecordId], dead: frozenset[RecordId]) -> None:
    """Read a key from a node that has joined; three different nodes must miss an order before it counts as lost."""
    moment = f"at {asyncio.get_running_loop().time():.0f} s at {key.hex()[:10]}"
    missing = set(there)
    for reader in world.chance.sample(world.old(), TRIES):
        found = kinds_of(await reader.do(reader.overlay.get(key)))
        report.reads += 1
        revived = {one for one in missing & dead if found.get(one) == {Kind.ORDER}}
        report.revived += [f"{one.hex()[:10]} {moment}" for one in revived]
        missing -= revived
        missing = {one for one in missing if (Kind.STATUS if one in dead else Kind.ORDER) not in found.get(one, ())}
        if not missing:
            return
    report.lost += [f"{one.hex()[:10]} {moment}" for one in missing]


def kinds_of(result: GetResult | None) -> dict[RecordId, set[Kind]]:
    """What was found of each order."""
    found: dict[RecordId, set[Kind]] = {}
    for version in result.versions if result is not None else ():
        for record in (parse_record(wire, NETWORK) for wire in version.wires):
            if is_a(record, Order):
                found.setdefault(record.id, set()).add(Kind.ORDER)
            elif is_a(record, Status):
                found.setdefault(RecordId(record.body.order_id), set()).add(Kind.STATUS)
    return found


# --- a large book ---------------------------------------------------------------------------------------------------


async def book(seed: int, size: int, orders: int, hours: float) -> Report:
    """Let nodes come and go that hold one book which is too large for one node of its tree, and list it."""
    chance = random.Random(f"{seed}/book")
    world, report = World(seed, chance, tended=True), Report(nodes=size, orders=orders)
    loop = asyncio.get_running_loop()
    makers = [Identity.from_seed(chance.randbytes(32)) for _ in range(max(1, orders // 20))]
    life_s = int(hours * HOUR_S) + 7200
    placed = [make_order(makers[number % len(makers)], 0, chance, life_s) for number in range(orders)]
    try:
        for _ in range(size):
            await world.newcomer()
            await asyncio.sleep(0.5)
        maker = chance.choice(world.members)
        directory = maker.directory(world.gate)
        for start in range(0, orders, BOOK_PUTS):
            await maker.do(publish(directory, placed[start : start + BOOK_PUTS]))
        await asyncio.sleep(BOOK_SETTLES_S)
        began = loop.time()
        world.traffic.clear()
        async with replacing(world, report, size, REPLACED_PART):
            while loop.time() - began < hours * HOUR_S:
                await asyncio.sleep(LOOK_S)
                await look_at_book(world, report, placed)
        report.count(world, loop.time() - began)
        return report
    finally:
        world.close()


async def publish(directory: Directory, orders: list[Record[Order]]) -> None:
    at_keys = (directory.put_at_order(order.id, order.wire) for order in orders)
    await asyncio.gather(*at_keys, *(directory.put_in_tree(order) for order in orders))


async def look_at_book(world: World, report: Report, placed: list[Record[Order]]) -> None:
    """List the book; three different nodes must miss an order, or have no complete list, before it counts as lost."""
    moment = f"at {asyncio.get_running_loop().time():.0f} s"
    missing, complete = {order.id for order in placed}, False
    for reader in world.chance.sample(world.old(), TRIES):
        reading = await reader.do(reader.directory(world.gate).read_index(placed[0].body.pair, Side.SELL))
        report.reads += 1
        if reading is not None:
            missing -= reading.orders.keys()
            complete |= reading.coverage.complete
            report.tree_nodes = max(report.tree_nodes, reading.coverage.nodes)
        if complete and not missing:
            return
    report.lost += [f"{one.hex()[:10]} {moment}" for one in missing] or [f"no complete listing {moment}"]


# --- all at once --------------------------------------------------------------------------------------------------


async def restart(seed: int, size: int, orders: int) -> Report:
    """A full network of which every node is a maker loses power and comes back in one second.

    An observer, whose own datagrams are not counted, lists all pairs until every order is there again.
    """
    chance = random.Random(f"{seed}/restart")
    world, report = World(seed, chance), Report(nodes=size, orders=orders)
    loop = asyncio.get_running_loop()
    makers = [Identity.from_seed(chance.randbytes(32)) for _ in range(size)]
    placed = [make_order(makers[number % size], number, chance, 86_400) for number in range(orders)]
    shelves = [(world.holdings(), NodeId(chance.randbytes(20))) for _ in range(size)]
    fill(shelves, placed)
    try:
        began = loop.time()
        for number, (holdings, node_id) in enumerate(shelves):
            await asyncio.sleep(1.0 / size)
            member = Member(world, number + 1, holdings, node_id)
            world.members.append(member)
            await member.do(member.overlay.listen(PORT, member.ip))
            wake(world, member, shelves, placed[number::size])
        observer = Member(world, size + 1, world.holdings(), NodeId(chance.randbytes(20)))
        world.traffic.spared = frozenset({observer.ip})
        await observer.join(world.chance.sample(world.members, 2))
        report.listed_after_s = await listed(observer, placed) - began
        world.kill(observer)
        await asyncio.sleep(max(0.0, RESTART_S - (loop.time() - began)))
        report.count(world, loop.time() - began)
        return report
    finally:
        world.close()


def fill(shelves: list[tuple[Holdings, NodeId]], placed: list[Record[Order]]) -> None:
    """Put each order where it belongs, as it was before the power failed."""
    for order in placed:
        body = order.body
        for key, prefix in ((order_key(order.id), None), (index_key(NETWORK, body.pair, body.side, ""), "")):
            goal = int.from_bytes(key)
            nearest = sorted(shelves, key=lambda shelf: int.from_bytes(shelf[1]) ^ goal)
            for holdings, _ in nearest[: limits.HOLDERS]:
                holdings.put(order.wire, prefix, EPOCH_S, "self")


def wake(world: World, member: Member, shelves: list[tuple[Holdings, NodeId]], own: list[Record[Order]]) -> None:
    """What a node does when it starts: it asks its old peers, and puts its own records again."""
    old = world.chance.sample(range(len(shelves)), min(40, len(shelves)))
    peers = [(shelves[n][1], (f"10.0.{n + 1 >> 8}.{n + 1 & 255}", PORT)) for n in old]
    directory = member.directory(world.gate)

    async def live() -> None:
        member.overlay.load_peers(peers)
        member.overlay.on_peers = directory.peers_changed
        for order in own:
            directory.keep(order, resume_within_s(len(own)))
        await directory.run()

    member.life.spawn(live())


async def listed(observer: Member, placed: list[Record[Order]]) -> float:
    """When somebody lists every order again."""
    loop = asyncio.get_running_loop()
    wanted = {order.id for order in placed}
    pairs = sorted({order.body.pair for order in placed})
    while True:
        found: set[RecordId] = set()
        for pair in pairs:
            key = index_key(NETWORK, pair, Side.SELL, "")
            found |= kinds_of(await observer.do(observer.overlay.get(key, Kind.ORDER))).keys()
        if wanted <= found:
            return loop.time()
        assert loop.time() < HOUR_S, "never listed again"
        await asyncio.sleep(1.0)


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/churn", description=__doc__.splitlines()[0])
    parser.add_argument("--restart", action="store_true", help="stop and start all nodes instead")
    parser.add_argument("--book", action="store_true", help="one book of 3,000 orders instead of many small ones")
    parser.add_argument("--quiet", action="store_true", help="replace nobody; 1,000 orders")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--nodes", type=int, default=0)
    parser.add_argument("--orders", type=int, default=0)
    parser.add_argument("--hours", type=float, default=3.0)
    options = parser.parse_args()
    started = time.monotonic()
    if options.restart:
        report = play(restart(options.seed, options.nodes or 100, options.orders or 10_000))
    elif options.book:
        report = play(book(options.seed, options.nodes or 64, options.orders or 3000, options.hours))
    else:
        size, part = options.nodes or 64, 0.0 if options.quiet else REPLACED_PART
        orders = options.orders or (1000 if options.quiet else 100)
        report = play(churn(options.seed, size, orders, options.hours, part))
    print(report)
    for line in report.lost + report.revived:
        print(line, file=sys.stderr)
    print(f"seed {options.seed}, {time.monotonic() - started:.0f} s of real time", file=sys.stderr)
    sys.exit(1 if report.lost or report.revived else 0)


if __name__ == "__main__":
    main()
