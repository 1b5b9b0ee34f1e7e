"""How many datagrams an order event costs the whole network, as the network grows."""

import asyncio
import statistics
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from bench.market import PAIR, draft, sent, settle, start_nodes, until
from bench.measure import table
from dhtex.node import Node
from dhtex.views import AcceptRequest

QUIET_S = 0.3
EVENTS = ("publish", "accept", "confirm")
INTRO = """## Messages per order event

UDP datagrams that all nodes of the network together send because of one event, requests and answers both, with one
watcher of the pair beside maker and taker; what the idle network sends is subtracted. Medians. Flooding would send
every event along every contact of every node once.

Each request is two datagrams. To publish takes 8 puts at the order's key and 8 at the index key, 3 requests for each
key that has to be searched for, 3 leases at the order's key for accepts to come, a reading of that key when they
stand, and 3 pushes for each watcher of the pair. An accept is 8 puts, 3 pushes to the maker and to the taker, whose
leases and readings are its own, and who asks the 8 holders of the pair's index whether they know an end of the order;
the end is 8 puts at either key, pushes to both sides and to the watcher, and two readings. With 8 nodes each node holds
every key, so some of that is no message; from 16 on nothing of it depends on their number, only whether a search is
due.

{rows}
"""


class Counter:
    """Counts what all nodes send because of one action, less what they send anyway in the same time."""

    def __init__(self, nodes: list[Node]) -> None:
        self._nodes = nodes
        self.idle_per_s = 0.0

    async def calibrate(self, seconds: float) -> None:
        """Measure what the network sends while nothing happens."""
        before = sent(self._nodes)
        await asyncio.sleep(seconds)
        self.idle_per_s = (sent(self._nodes) - before) / seconds

    async def cost(self, action: Callable[[], Awaitable[object]]) -> float:
        """Datagrams caused by an action, everything that follows from it included."""
        loop = asyncio.get_running_loop()
        started, before = loop.time(), sent(self._nodes)
        await action()
        while True:
            seen = sent(self._nodes)
            await asyncio.sleep(QUIET_S)
            if sent(self._nodes) - seen <= max(1.0, 2 * QUIET_S * self.idle_per_s) or loop.time() - started > 5:
                break
        return max(0.0, sent(self._nodes) - before - self.idle_per_s * (loop.time() - started))


async def run(quick: bool) -> str:
    """Measure; the report's section."""
    rows = [await _one_size(size, 3 if quick else 7) for size in ((8, 16) if quick else (8, 16, 32, 64))]
    head = ["nodes", *EVENTS, "flooding, each event", "idle, datagrams/s of a node"]
    return INTRO.format(rows=table(head, rows))


async def _one_size(size: int, rounds: int) -> list[object]:
    async with AsyncExitStack() as stack:
        nodes = await start_nodes(stack, size)
        maker, taker, watcher = nodes[0], nodes[size // 2], nodes[-1]
        follower = asyncio.create_task(_follow(watcher))
        await settle(nodes)
        counter = Counter(nodes)
        await counter.calibrate(5.0)
        costs: dict[str, list[float]] = {event: [] for event in EVENTS}
        for index in range(rounds):
            for event, cost in zip(EVENTS, await _one_order(counter, maker, taker, 50_000 + index), strict=True):
                costs[event].append(cost)
        flood = sum(node.status().peers for node in nodes)
        follower.cancel()
        await asyncio.gather(follower, return_exceptions=True)
        return [size, *(statistics.median(costs[event]) for event in EVENTS), flood, counter.idle_per_s / size]


async def _follow(node: Node) -> None:
    async for _ in node.watch(PAIR):
        pass


async def _one_order(counter: Counter, maker: Node, taker: Node, price: int) -> list[float]:
    """Publish an order that its maker confirms by hand, accept it, confirm it; the cost of each step."""
    found: list[str] = []

    async def publish() -> None:
        found.append((await maker.add_order(draft(price, "ask"))).order.id)

    async def accept() -> None:
        await taker.accept_order(found[0], AcceptRequest(wait_s=0))
        await until(lambda: any(trade.order == found[0] for trade in maker.trades()), "the maker hears of the accept")

    async def confirm() -> None:
        await maker.confirm_order(found[0], "", "")
        await until(
            lambda: any(t.order == found[0] and t.state == "confirmed" for t in taker.trades()), "the taker hears"
        )

    return [await counter.cost(step) for step in (publish, accept, confirm)]
