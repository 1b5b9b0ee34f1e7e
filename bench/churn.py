"""Nodes that come and go in virtual time: what is lost, what comes back to life, and what keeping it costs.

`python -m bench.churn` replaces 85 % of all nodes in every ten minutes, for hours; makers put each record once and are
never seen again, so only the holders can keep it. `python -m bench.churn --restart` stops all nodes of a full network
and starts them in the same second. Overlay and holdings are the production ones; network, clock and chance are those
of `dhtex.sim`. A number of the seed gives the same run.
"""

import argparse
import asyncio
import itertools
import random
import sys
import time
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from dhtex import limits
from dhtex.directory.service import Directory
from dhtex.market import stamp
from dhtex.market.admission import Verifier, admit
from dhtex.market.identity import Identity
from dhtex.market.ids import NodeId, index_key, order_key
from dhtex.market.records import (
    VERSION,
    Closing,
    Confirm,
    Kind,
    Liveness,
    Order,
    Record,
    Side,
    Status,
    id_of,
    parse_record,
    seal_record,
)
from dhtex.node.offers import resume_within_s
from dhtex.overlay.addresses import Address
from dhtex.overlay.server import Overlay
from dhtex.sim.clock import EPOCH_S, NodeClock
from dhtex.sim.history import History
from dhtex.sim.loop import Life, VirtualLoop, play
from dhtex.sim.network import Network, SimEndpoint, Weather
from dhtex.store.database import Database
from dhtex.store.holdings import Holdings

NETWORK = "churn"
PORT = 4000
REPLACED_PART = 0.85
WITHIN_S = 600.0
LOOK_S = 300.0
OLD_ENOUGH_S = 30.0  # a reader has joined by then
TRIES = 3
HOUR_S = 3600.0
Result = TypeVar("Result")


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
    peak_per_node_s: int = 0
    pings_starved: int = 0
    listed_after_s: float = 0.0

    def __str__(self) -> str:
        rows = [f"{name.replace('_', ' '):26}{value}" for name, value in (
            ("nodes", self.nodes), ("orders", self.orders), ("virtual_s", f"{self.virtual_s:.0f}"),
            ("nodes_replaced", self.replaced), ("reads", self.reads), ("live_orders_lost", len(self.lost)),
            ("dead_orders_revived", len(self.revived)), ("fewest_holders_seen", self.holders_least),
            ("datagrams_per_node_hour", f"{self.datagrams_per_node_hour:.0f}"),
            ("bytes_per_node_hour", f"{self.bytes_per_node_hour:.0f}"),
            ("peak_per_node_and_second", self.peak_per_node_s), ("pings_dropped_by_limits", self.pings_starved),
            ("listed_after_s", f"{self.listed_after_s:.0f}"),
        )]  # fmt: skip
        return "\n".join(rows)


class Traffic:
    """Counts what every node sends, by virtual second."""

    def __init__(self) -> None:
        self.datagrams = self.octets = self.peak = 0
        self._second = -1
        self._of_second: Counter[Address] = Counter()

    def sent(self, endpoint: SimEndpoint, data: bytes) -> None:
        self.datagrams += 1
        self.octets += len(data)
        second = int(asyncio.get_running_loop().time())
        if second != self._second:
            self._second = second
            self._of_second.clear()
        self._of_second[endpoint.address] += 1
        self.peak = max(self.peak, self._of_second[endpoint.address])


class Member:
    """One machine with an overlay and what it holds."""

    def __init__(self, world: "World", number: int, holdings: Holdings, node_id: NodeId) -> None:
        loop = asyncio.get_running_loop()
        self.ip = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        self.life = Life(self.ip)
        self.holdings = holdings
        self.node_id = node_id
        self.born = loop.time()
        self.clock = NodeClock(loop.time, 1000.0)
        self.entropy = random.Random(f"{world.seed}/{number}/{self.born}")
        self.overlay = Overlay(
            node_id, NETWORK, holdings, self.clock, self.entropy, open_endpoint=world.network.opener(self.life)
        )

    async def join(self, others: list["Member"]) -> None:
        """Listen, and meet the network through these."""
        await self.do(self.overlay.listen(PORT, self.ip))
        for other in others:
            await self.do(self.overlay.connect((other.ip, PORT)))

    async def do(self, work: Coroutine[Any, Any, Result]) -> Result | None:
        """Something that this machine does; None if it ends meanwhile."""
        task = self.life.spawn(work)
        while self.life.alive:
            done, _ = await asyncio.wait([task], timeout=5.0)
            if done:
                return task.result()
        return None


class World:
    """All machines of one run."""

    def __init__(self, seed: int, chance: random.Random) -> None:
        self.seed = seed
        self.chance = chance
        self.history = History()
        self.network = Network(self.history, random.Random(f"{seed}/network"), Weather(loss=0.01, delay_s=0.02))
        self.traffic = Traffic()
        self.network.on_send = self.traffic.sent
        self.members: list[Member] = []
        self.verifier = Verifier()
        self._numbers = itertools.count(1)
        self._databases: list[Database] = []

    def holdings(self) -> Holdings:
        database = Database.open(None)
        self._databases.append(database)
        return Holdings(database, NETWORK, 0, self.verifier)

    async def newcomer(self) -> None:
        member = Member(self, next(self._numbers), self.holdings(), NodeId(self.chance.randbytes(20)))
        known = self.chance.sample(self.members, min(2, len(self.members)))
        self.members.append(member)
        await member.join(known)

    def kill(self, member: Member) -> None:
        """It loses power: nothing is said."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.members.remove(member)
        self.network.vanish(member.life)
        loop.end(member.life)

    def old(self) -> list[Member]:
        now = asyncio.get_running_loop().time()
        return [member for member in self.members if now - member.born >= OLD_ENOUGH_S]

    def close(self) -> None:
        for member in list(self.members):
            self.kill(member)
        for database in self._databases:
            database.close()


def make_order(maker: Identity, number: int, chance: random.Random, life_s: int) -> Record[Order]:
    """An order in one of 20 pairs, made at the beginning of virtual time."""
    created = int(EPOCH_S)
    order = Order(
        version=VERSION, network=NETWORK, maker=maker.public, pair=f"BTC/Q{'ABCDEFGHIJKLMNOPQRST'[number % 20]}Q",
        side=Side.SELL, price=str(chance.randrange(50_000, 60_000)), amount="1.5", minimum="1.5", payments=("SEPA",),
        note="weekdays only", created=created, expires=created + life_s, liveness=Liveness.MAILBOX,
        confirm=Confirm.AUTO, encryption_key=maker.encryption_public, epoch=1, salt=chance.randbytes(8), reference="",
        replaces=b"", parent=b"", group=b"",
    )  # fmt: skip
    return seal_record(order, maker.sign, stamp.mint(id_of(order), 0, stamp.hour_of(created)))


def cancel(maker: Identity, order: Record[Order]) -> Record[Status]:
    """The end of an order."""
    body = order.body
    status = Status(
        version=VERSION, network=NETWORK, order_id=order.id, maker=maker.public, pair=body.pair, side=body.side,
        price=body.price, expires=body.expires, epoch=1, seq=1, closing=Closing.CANCELED, at=int(EPOCH_S),
        accept_id=b"", taker=b"", amount="", replaced_by=b"", sealed=b"",
    )  # fmt: skip
    return seal_record(status, maker.sign, b"")


# --- churn --------------------------------------------------------------------------------------------------------


async def churn(seed: int, size: int, orders: int, hours: float) -> Report:
    """Let nodes come and go, and read every order every few minutes. Each fourth order is canceled."""
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
        began, sent, octets = loop.time(), world.traffic.datagrams, world.traffic.octets
        world.traffic.peak = 0
        replacing = loop.create_task(replace(world, report, size))
        while loop.time() - began < hours * HOUR_S:
            await asyncio.sleep(LOOK_S)
            for order in placed:
                await look(world, report, order, order.id in dead)
        replacing.cancel()
        await asyncio.gather(replacing, return_exceptions=True)
        report.virtual_s = loop.time() - began
        node_hours = size * report.virtual_s / HOUR_S
        report.datagrams_per_node_hour = (world.traffic.datagrams - sent) / node_hours
        report.bytes_per_node_hour = (world.traffic.octets - octets) / node_hours
        report.peak_per_node_s = world.traffic.peak
        return report
    finally:
        world.close()


async def put(world: World, record: Record[Order] | Record[Status], order: Record[Order] | None = None) -> None:
    body, order_id = record.body, (order or record).id
    member = world.chance.choice(world.members)
    await member.do(member.overlay.put(order_key(order_id), record.wire, None))
    await member.do(member.overlay.put(index_key(NETWORK, body.pair, body.side, ""), record.wire, ""))


async def replace(world: World, report: Report, size: int) -> None:
    """One node goes and another comes, at random moments, so that REPLACED_PART go in WITHIN_S."""
    pause_s = WITHIN_S / (REPLACED_PART * size)
    while True:
        await asyncio.sleep(world.chance.expovariate(1 / pause_s))
        world.kill(world.chance.choice(world.members))
        report.replaced += 1
        asyncio.get_running_loop().create_task(world.newcomer())


async def look(world: World, report: Report, order: Record[Order], dead: bool) -> None:
    """Read one order from a node that has joined; three different nodes must miss it before it counts as lost."""
    moment = f"{order.id.hex()[:10]} at {asyncio.get_running_loop().time():.0f} s"
    for _ in range(TRIES):
        reader = world.chance.choice(world.old())
        result = await reader.do(reader.overlay.get(order_key(order.id)))
        report.reads += 1
        if result is None:
            continue
        found = [parse_record(wire, NETWORK) for version in result.versions for wire in version.wires]
        kinds = {record.kind for record in found if isinstance(record, Record)}
        if dead and Kind.STATUS in kinds:
            return
        if dead and Kind.ORDER in kinds:
            report.revived.append(moment)
            return
        if not dead and Kind.ORDER in kinds:
            now = reader.clock.now()
            holding = sum(m.holdings.page(order_key(order.id), Kind.ORDER, 0, 0, now).total > 0 for m in world.members)
            report.holders_least = min(report.holders_least, holding)
            return
    report.lost.append(moment)


# --- all at once --------------------------------------------------------------------------------------------------


async def restart(seed: int, size: int, orders: int) -> Report:
    """A full network of which every node is a maker loses power and comes back in one second."""
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
        report.listed_after_s = await listed(world, placed) - began
        await asyncio.sleep(max(0.0, 600.0 - (loop.time() - began)))
        report.virtual_s = loop.time() - began
        node_hours = size * report.virtual_s / HOUR_S
        report.datagrams_per_node_hour = world.traffic.datagrams / node_hours
        report.bytes_per_node_hour = world.traffic.octets / node_hours
        report.peak_per_node_s = world.traffic.peak
        report.pings_starved = sum(
            member.overlay.counters.get("dropped_rate_peer", 0)
            + member.overlay.counters.get("dropped_rate_strangers", 0)
            for member in world.members
        )
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
    clock, entropy = member.clock, member.entropy
    directory = Directory(
        member.overlay, NETWORK, lambda record: admit(record, clock.now(), 0, world.verifier.check), clock, entropy
    )

    async def live() -> None:
        member.overlay.load_peers(peers)
        member.overlay.on_peers = directory.peers_changed
        for order in own:
            directory.keep(order, resume_within_s(len(own)))
        await directory.run()

    member.life.spawn(live())


async def listed(world: World, placed: list[Record[Order]]) -> float:
    """When some node, another each time, lists every order."""
    loop = asyncio.get_running_loop()
    wanted = {order.id for order in placed}
    pairs = sorted({order.body.pair for order in placed})
    while True:
        reader = world.chance.choice(world.members)
        found = set()
        for pair in pairs:
            result = await reader.do(reader.overlay.get(index_key(NETWORK, pair, Side.SELL, ""), Kind.ORDER))
            for version in result.versions if result is not None else ():
                records = (parse_record(wire, NETWORK) for wire in version.wires)
                found |= {record.id for record in records if isinstance(record, Record)}
        if wanted <= found:
            return loop.time()
        assert loop.time() < HOUR_S, "never listed again"
        await asyncio.sleep(1.0)


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/churn", description=__doc__.splitlines()[0])
    parser.add_argument("--restart", action="store_true", help="stop and start all nodes instead")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--nodes", type=int, default=0)
    parser.add_argument("--orders", type=int, default=0)
    parser.add_argument("--hours", type=float, default=3.0)
    options = parser.parse_args()
    started = time.monotonic()
    if options.restart:
        report = play(restart(options.seed, options.nodes or 100, options.orders or 10_000))
    else:
        report = play(churn(options.seed, options.nodes or 64, options.orders or 100, options.hours))
    print(report)
    print(f"seed {options.seed}, {time.monotonic() - started:.0f} s of real time", file=sys.stderr)
    sys.exit(1 if report.lost or report.revived else 0)


if __name__ == "__main__":
    main()
