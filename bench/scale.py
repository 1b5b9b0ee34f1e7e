"""Networks of a thousand and of ten thousand overlay nodes in virtual time: hops, messages, and the hottest node."""

import asyncio
import gc
import random
import resource
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from math import log2
from operator import sub
from typing import Final

from bench.fleet import DELAY_S, Fleet
from bench.hops import trace
from bench.machines import make_order
from bench.measure import percentile, table
from dhtex import limits
from dhtex.market.identity import Identity
from dhtex.market.ids import DhtKey, order_key
from dhtex.market.records import Kind, Order, Record
from dhtex.overlay.pages import wire_id
from dhtex.sim.loop import play

SEED: Final = 20_251_129
BETWEEN_S: Final = 0.01
AFTER_S: Final = 5.0
JOIN_S: Final = 15.0  # a newcomer looks around for eight seconds
JOIN_EACH_S: Final = 0.1
MAKERS: Final = 50
LIFE_S: Final = 86_400
INTRO = """## Large networks, simulated

Overlay nodes of the production code in one process on virtual time; a datagram takes {delay_ms:.0f} ms on its way in
the median (spread by e^±0.4), none is lost, nobody comes or goes. *joined*: the nodes have joined one another, through
two known ones each. *built*: their routing tables are filled as such a network's would be after a while, at random
within a bucket. {work} of each kind from random nodes, one every {between_ms:.0f} ms of virtual time. A search finds
the {holders} nearest nodes to a random point and then asks each for what it holds there, as `dhtex why` does; a put
hands an order to its holders, a get fetches it by its id where it is not held, a get of all compares what they have.
Hops are the nodes that were asked one after the other until the nearest was. Datagrams are those of all nodes,
requests and answers; *tokens* are those among them that only fetch a token from a node that was not known before, which
is asked twice.

{searches}

{operations}

What a node receives over all that; and, of gets of one key by all sorts of nodes, what the hottest node receives of
each.

{loads}

*Found* counts the gets that found the order, *rightly held* how many of the {holders} nearest nodes hold an order after
its put. A newcomer has joined when it has found its own neighbourhood; then it looks around elsewhere.

{outcomes}
"""


@dataclass(slots=True)
class Work:
    """What some operations came to."""

    took_s: list[float] = field(default_factory=list)
    datagrams: float = 0.0
    tokens: float = 0.0
    good: int = 0

    def row(self) -> list[object]:
        ms = [percentile(self.took_s, share) * 1000 for share in (0.5, 0.95, 0.99)]
        return [*ms, self.datagrams / len(self.took_s), self.tokens / len(self.took_s)]


@dataclass(slots=True)
class Result:
    """What one network came to."""

    name: str
    searches: list[object]
    operations: list[list[object]]
    load: list[object]
    outcome: list[object]


class Bench:
    """The work on one network."""

    def __init__(self, fleet: Fleet, count: int) -> None:
        self.fleet = fleet
        self.count = count
        self.hops: list[int] = []
        self.asked: list[int] = []
        maker_chance = random.Random(SEED)
        makers = [Identity.from_seed(maker_chance.randbytes(32)) for _ in range(MAKERS)]
        self.orders = [make_order(makers[i % MAKERS], i, maker_chance, LIFE_S) for i in range(count)]

    async def work(self, operation: Callable[[Record[Order]], Awaitable[bool]]) -> Work:
        """Do it for each order, one begun after the other, and wait for what follows."""
        loop, work = asyncio.get_running_loop(), Work()
        sent, tokens = self.fleet.sent, self._tokens()

        async def one(order: Record[Order]) -> None:
            started = loop.time()
            good = await operation(order)
            work.good += good
            work.took_s.append(loop.time() - started)

        running = []
        for order in self.orders:
            running.append(loop.create_task(one(order)))
            await asyncio.sleep(BETWEEN_S)
        await asyncio.gather(*running)
        await asyncio.sleep(AFTER_S)
        work.datagrams = self.fleet.sent - sent
        work.tokens = 2 * (self._tokens() - tokens)
        return work

    def _tokens(self) -> int:
        return sum(member.node.protocol.counts.get("tokens_renewed", 0) for member in self.fleet.members)

    @property
    def keys(self) -> list[DhtKey]:
        return [order_key(order.id) for order in self.orders]

    async def search(self, _order: Record[Order]) -> bool:
        chance = self.fleet.chance
        path = await trace(chance.choice(self.fleet.members).node.protocol, DhtKey(chance.randbytes(20)))
        self.hops.append(path.hops)
        self.asked.append(path.asked)
        return True

    async def put(self, order: Record[Order]) -> bool:
        node = self.fleet.chance.choice(self.fleet.members).node
        result = await node.put(order_key(order.id), order.wire, None)
        return result.holders + result.local >= limits.HOLDERS

    async def fetch(self, order: Record[Order]) -> bool:
        key = order_key(order.id)
        node = self.fleet.stranger(key).node
        return await node.fetch(key, Kind.ORDER, lambda wire: wire_id(wire) == order.id) is not None

    async def get(self, order: Record[Order]) -> bool:
        key = order_key(order.id)
        result = await self.fleet.stranger(key).node.get(key)
        return any(version.wires for version in result.versions)


def run(quick: bool) -> str:
    """Measure; the report's section."""
    count = 100 if quick else 2000
    plans = [(200, False), (1000, True)] if quick else [(1000, False), (1000, True), (10_000, True)]
    results = []
    for size, built in plans:
        started, cpu = time.monotonic(), time.process_time()
        results.append(play(_one(size, built, count)))
        gc.collect()
        took_s, cpu_s = time.monotonic() - started, time.process_time() - cpu
        memory_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)
        told = f"{results[-1].name}: {took_s:.0f} s, {cpu_s:.0f} s CPU, {memory_gib:.1f} GiB at most"
        print(told, file=sys.stderr, flush=True)
    searches = ["nodes", "log2", "hops, median", "99 %", "most", "asked, median", "most"]
    operations = ["nodes, work", "p50, ms", "p95, ms", "p99, ms", "datagrams", "of these tokens"]
    loads = ["nodes", "peers known", "received, mean", "99 %", "hottest", "hottest / mean", "hottest, one key's get"]
    outcomes = ["nodes", "found", "rightly held", "datagrams until joined", "and looked around", "joined after, ms"]
    return INTRO.format(
        delay_ms=DELAY_S * 1000,
        between_ms=BETWEEN_S * 1000,
        work=f"{count:,}",
        holders=limits.HOLDERS,
        searches=table(searches, (result.searches for result in results)),
        operations=table(operations, (row for result in results for row in result.operations)),
        loads=table(loads, (result.load for result in results)),
        outcomes=table(outcomes, (result.outcome for result in results)),
    )


async def _one(size: int, built: bool, count: int) -> Result:
    fleet = Fleet(SEED)
    name = f"{size:,} {'built' if built else 'joined'}"
    try:
        if built:
            await fleet.build(size)
        else:
            await _join_all(fleet, size)
        bench = Bench(fleet, count)
        before = fleet.received()
        works = {"search": await bench.work(bench.search)}
        works |= {"put": await bench.work(bench.put), "get": await bench.work(bench.fetch)}
        held = [sum(m.holds(key) for m in fleet.nearest(key, limits.HOLDERS)) for key in bench.keys]
        works["get of all"] = await bench.work(bench.get)
        loads = list(map(sub, fleet.received(), before))
        mean, hottest = statistics.mean(loads), max(loads)
        bench.orders = bench.orders[:1] * count
        before = fleet.received()
        await bench.work(bench.fetch)
        of_one_key = max(map(sub, fleet.received(), before)) / count
        peers = statistics.mean(len(member.node.protocol.table) for member in fleet.members)
        found = f"{works['get'].good + works['get of all'].good} of {2 * count}"
        hops, asked = bench.hops, bench.asked
        median = statistics.median
        return Result(
            name,
            [name, log2(size), f"{median(hops):.0f}", percentile(hops, 0.99), max(hops), median(asked), max(asked)],
            [[f"{name}, {what}", *work.row()] for what, work in works.items()],
            [name, peers, mean, percentile(loads, 0.99), hottest, hottest / mean, of_one_key],
            [name, found, f"{statistics.mean(held):.2f}", *await _joins(fleet)],
        )
    finally:
        fleet.close()


async def _join_all(fleet: Fleet, size: int) -> None:
    """Let so many join, one begun after the other."""
    members = [await fleet.new() for _ in range(2)]
    joining = []
    while len(members) < size:
        members.append(await fleet.new())
        joining.append(asyncio.create_task(fleet.join(members[-1])))
        await asyncio.sleep(JOIN_EACH_S)
    await asyncio.gather(*joining)
    await asyncio.sleep(JOIN_S)
    for member in members:
        member.rest()
    await asyncio.sleep(AFTER_S)


async def _joins(fleet: Fleet) -> list[object]:
    """What a newcomer costs, one after the other."""
    until: list[float] = []
    after: list[float] = []
    took: list[float] = []
    loop = asyncio.get_running_loop()
    for _ in range(20):
        member = await fleet.new()
        started, sent = loop.time(), fleet.sent
        await fleet.join(member)
        took.append(loop.time() - started)
        until.append(fleet.sent - sent)
        await asyncio.sleep(JOIN_S)
        after.append(fleet.sent - sent)
        member.rest()
    return [statistics.median(until), statistics.median(after), statistics.median(took) * 1000]
