"""What a book costs its readers as it grows: price trees of up to a million orders, and a cold listing over 64
nodes."""

import asyncio
import random
import statistics
import time
from collections.abc import Iterable
from contextlib import AsyncExitStack

from bench.market import PAIR, config, sent, settle, start_nodes, timed, until
from bench.measure import table
from dhtex import limits
from dhtex.directory.pricetree import NodeAnswer, Walk, Wish
from dhtex.market.branches import Branches, divide
from dhtex.market.ids import NodeId, RecordId
from dhtex.market.pricebits import PRICE_BITS, path_of, price_bits
from dhtex.node import Node
from dhtex.views import OrderDraft, OrderQuery

SEED = 7
NODES = 64
ORDERS = 500
MAKERS = 8
COLD_READERS = 5
REST_S_MAX = 60
REST_PER_S = 4  # datagrams
RECORDS_PER_PAGE = 4
REQUESTS_PER_LOOKUP = 12
ROUND_TRIPS_PER_LOOKUP = 3
ROUND_TRIP_MS = 50
VOTERS = frozenset({NodeId(bytes(20)), NodeId(b"\1" * 20)})
INTRO = """## A book of any size

The tree is built and walked by the code that nodes run (`market/branches.py`, `directory/pricetree.py`), in memory,
with prices within 4 % of each other and honest holders. Counted: nodes, levels, the nodes opened and how many times the
walk had to wait. Computed from these: datagrams ({requests} requests a lookup, {records} orders a page, each asked once
and answered once) and milliseconds at a round trip of {trip} ms ({trips} for a lookup, no losses). "all" reads
{parallel} nodes at a time.

{sizes}

Measured: {nodes} whole nodes on loopback in one process, {orders} orders of {makers} makers in one pair, {cold} readers
one after the other that have just joined and hold nothing of the book; one side is listed, each order's signature is
checked. Datagrams are those that the reader sends and receives; the CPU is that of the process, all nodes of it.
Medians, best and worst.

{cold_rows}

A maker says that it is alive by one put of a Beat for each node of a tree where it has orders, every
{beat_s:.0f} s. Measured: datagrams of all nodes for one Beat, the least of {makers}; computed: what that makes for so
many makers with orders at one node each.

{beats}
"""


class Tree:
    """A tree as it is when every order has come to its place and branches have been adopted."""

    def __init__(self, paths: Iterable[str]) -> None:
        self.orders: dict[str, list[str]] = {"": []}
        self.branches = {"": Branches("")}
        for path in paths:
            self._put("", path)
        self._flatten()

    def _put(self, prefix: str, path: str) -> None:
        while (branch := self.branches[prefix].of(path)) is not None:
            prefix = branch
            if prefix not in self.orders:
                self.orders[prefix], self.branches[prefix] = [], Branches(prefix)
        held = self.orders[prefix]
        held.append(path)
        if len(held) > limits.TREE_NODE_ORDERS_MAX:
            branches = self.branches[prefix]
            branches.add(divide(held))
            self.orders[prefix] = [path for path in held if branches.of(path) is None]
            for path in held:
                if branches.of(path) is not None:
                    self._put(prefix, path)

    def _flatten(self) -> None:
        """What `Tending` does: name the branches of branches while there is room, and forget who has nothing left."""
        for prefix in sorted(self.branches, key=len):
            branches = self.branches.get(prefix, Branches(prefix))
            queue = list(branches)
            while queue and len(branches) < limits.TREE_BRANCHES_MAX:
                child = queue.pop(0)
                below = list(self.branches[child])
                if len(branches) + len(below) > limits.TREE_BRANCHES_MAX:
                    continue
                branches.add(below)
                queue += below
                if below and not self.orders[child]:
                    branches.drop(child)
                    del self.orders[child], self.branches[child]

    def depth(self, prefix: str = "") -> int:
        # A branch that two nodes name may have been emptied by the one of them.
        return 1 + max((self.depth(branch) for branch in self.branches.get(prefix, ())), default=0)

    def walk(self, wish: Wish) -> tuple[int, int, int]:
        """Nodes opened, times waited, and orders pulled."""
        walk, opened, waits, pulled = Walk(False, wish), 0, 0, 0
        while True:
            steps = []
            while (step := walk.next()) is not None:
                steps.append(step)
            if not steps:
                return opened, waits, pulled
            waits += 1
            for step in steps:
                worst = step.worst or "1" * PRICE_BITS
                orders = self.orders.get(step.prefix, ())
                held = sorted(path for path in orders if step.best <= path[:PRICE_BITS] <= worst)
                read = held[: step.limit]
                opened, pulled = opened + 1, pulled + len(read)
                ranks = tuple((path[:PRICE_BITS], 0, path[PRICE_BITS:].encode()) for path in read)
                rest = ranks[-1] if read and len(read) < len(held) else None
                branches = dict.fromkeys(self.branches.get(step.prefix, ()), VOTERS)
                walk.on_page(step, NodeAnswer(True, 8, len(read), ranks, rest, branches))


def run(quick: bool) -> str:
    """Measure; the report's section."""
    sizes = [row for exponent in range(2, 5 if quick else 7) for row in _one_size(10**exponent)]
    head = ["orders", "tree nodes", "levels", "wanted", "nodes opened", "waits", "datagrams", "ms"]
    nodes, orders, readers = (16, 300, 2) if quick else (NODES, ORDERS, COLD_READERS)
    cold, beat = asyncio.run(_cold(nodes, orders, readers))
    beats = [(makers, beat, makers * beat / limits.BEAT_INTERVAL_S) for makers in (10, 100, 1000)]
    return INTRO.format(
        requests=REQUESTS_PER_LOOKUP,
        records=RECORDS_PER_PAGE,
        trip=ROUND_TRIP_MS,
        trips=ROUND_TRIPS_PER_LOOKUP,
        parallel=limits.TREE_PARALLEL,
        sizes=table(head, sizes),
        nodes=nodes,
        orders=orders,
        makers=MAKERS,
        cold=readers,
        cold_rows=table(["what", "median", "best", "worst", "aim"], cold),
        beat_s=limits.BEAT_INTERVAL_S,
        beats=table(["makers", "datagrams of one Beat", "datagrams/s of the whole network"], beats),
    )


def _one_size(count: int) -> Iterable[list[object]]:
    chance = random.Random(SEED)
    prices = (str(50_000 + chance.randrange(200_000) / 100) for _ in range(count))
    paths = (path_of(_canonical(price), RecordId(chance.randbytes(32))) for price in prices)
    tree = Tree(paths)
    middle = price_bits("51000")
    wishes = {
        "best 20": Wish(limit=20),
        "best 200": Wish(limit=200),
        "20 from a price on": Wish(limit=20, low=middle),
        "ladder of 20 prices": Wish(limit=20, levels=True),
        "all": Wish(),
    }
    for name, wish in wishes.items():
        opened, waits, pulled = tree.walk(wish)
        datagrams = 2 * (opened * REQUESTS_PER_LOOKUP + -(-pulled // RECORDS_PER_PAGE))
        milliseconds = waits * (ROUND_TRIPS_PER_LOOKUP + (2 if pulled > RECORDS_PER_PAGE else 1)) * ROUND_TRIP_MS
        yield [count, len(tree.orders), tree.depth(), name, opened, waits, datagrams, milliseconds]


def _canonical(price: str) -> str:
    return price.rstrip("0").rstrip(".")


async def _cold(count: int, orders: int, readers: int) -> tuple[list[tuple[object, ...]], int]:
    async with AsyncExitStack() as stack:
        nodes = await start_nodes(stack, count)
        await settle(nodes)
        chance = random.Random(SEED)
        drafts = [_draft(chance) for _ in range(orders)]
        for start in range(0, orders, 50):
            part = enumerate(drafts[start : start + 50], start)
            await asyncio.gather(*(nodes[index % MAKERS].add_order(draft) for index, draft in part))
        for _ in range(2):
            for node in nodes:
                parts = node._running
                for key in parts.holdings.tree_keys():
                    await parts.tending.tend(key)
        await settle(nodes)
        beat = await _beat_cost(nodes)
        rows: list[tuple[float, float, int, int, int, int]] = []
        while len(rows) < readers:
            row = await _cold_listing(nodes, orders)
            rows += [] if row is None else [row]
    columns = list(zip(*rows, strict=True))
    names = (
        ("ms", "≤ 100"),
        ("of these CPU ms", ""),
        ("datagrams", "≤ 300"),
        ("tree nodes", ""),
        ("orders", orders),
        ("complete", 1),
    )
    return [
        (name, statistics.median(column), min(column), max(column), aim)
        for (name, aim), column in zip(names, columns, strict=True)
    ], beat


def _draft(chance: random.Random) -> OrderDraft:
    price = _canonical(str(50_000 + chance.randrange(200_000) / 100))
    return OrderDraft(side="sell", amount="1.5", pair=PAIR, price=price, liveness="mailbox")


async def _cold_listing(nodes: list[Node], orders: int) -> tuple[float, float, int, int, int, int] | None:
    """What a newcomer's first listing costs; None of one that has come to hold a part of the book by then."""
    ports = [node.status().port for node in nodes[:2]]
    async with Node(config(*ports)) as cold:
        await until(lambda: cold.status().peers >= limits.BUCKET_SIZE // 2, "the cold node joins")
        await settle([*nodes, cold])
        await _at_rest(cold)
        if cold._running.holdings.tree_keys():
            return None
        before, used = _traffic(cold), time.process_time()
        query = OrderQuery(pair=PAIR, side="sell", limit=10 * orders)
        milliseconds, view = await timed(lambda: cold.list_orders(query))
        coverage, cpu_ms = view.coverage, (time.process_time() - used) * 1000
        sent_and_got = _traffic(cold) - before
        return milliseconds, cpu_ms, sent_and_got, coverage.nodes, len(view.orders), int(coverage.complete)


async def _at_rest(node: Node) -> None:
    """Wait, not for ever, until a newcomer has looked around: what that costs is not what a listing costs."""
    for _ in range(REST_S_MAX):
        before = _traffic(node)
        await asyncio.sleep(1.0)
        if _traffic(node) - before <= REST_PER_S:
            return


def _traffic(node: Node) -> int:
    counters = node.status().counters
    return counters["datagrams_in"] + counters["datagrams_out"]


async def _beat_cost(nodes: list[Node]) -> int:
    costs = []
    for node in nodes[:MAKERS]:
        parts = node._running
        order, before = parts.offers.open_orders()[0], sent(nodes)
        prefix = parts.directory.tree_prefix(order.id)
        await parts.beats.beat(order.body.pair, order.body.side, prefix, parts.keys.signer(order.body))
        costs.append(sent(nodes) - before)
    return min(costs)  # the network does other things meanwhile
