"""Whole nodes in this process: a cold listing of a large book, and how soon others hear of an order and of its end."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from bench.measure import percentile, table
from dhtex import limits
from dhtex.config import NodeConfig
from dhtex.node import Node
from dhtex.views import ListingView, OrderDraft, OrderQuery

HOST = "127.0.0.1"
PAIR = "BTC/USD"
NODES = 8
NODES_MANY = 64
EVENTS_MANY = 300
ORDERS = 1000
SETTLE_S_MAX = 90
PATIENCE_S = 30.0
QUIET_PER_S = 5  # datagrams of a node
STEADY_S = 5  # makers of many orders are never quieter: they read what they may have missed
INTRO = """## Market

Medians. {nodes} whole nodes and the reader run in one process and share its one core. The cold node has just
started and knows two peers. A watcher's time counts from the call that signs, journals and publishes the order;
its stamp has no work in it.

{rows}
"""


def config(*peers: int) -> NodeConfig:
    """A node that keeps nothing on disk, in a network whose stamps cost nothing."""
    bootstrap = tuple(f"{HOST}:{port}" for port in peers)
    return NodeConfig(port=0, host=HOST, network="bench", pow_bits=0, bootstrap=bootstrap)


def draft(price: int, confirm: str = "auto") -> OrderDraft:
    return OrderDraft(side="sell", amount="1.5", pair=PAIR, price=str(price), minimum="0.1", confirm=confirm)


async def start_nodes(stack: AsyncExitStack, count: int) -> list[Node]:
    """So many nodes that know one another as far as nodes of that many do; the stack stops them."""
    nodes: list[Node] = []
    for index in range(count):
        peers = {nodes[0].status().port, nodes[index // 2].status().port} if nodes else set()
        nodes.append(await stack.enter_async_context(Node(config(*peers))))
    enough = min(count - 1, limits.HOLDERS)
    await until(lambda: all(node.status().peers >= enough for node in nodes), "nodes meet")
    return nodes


async def until(condition: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {patience_s} s: {what}"
        await asyncio.sleep(0.01)


def sent(nodes: list[Node]) -> int:
    """How many datagrams the nodes have sent."""
    return sum(node.status().counters["datagrams_out"] for node in nodes)


async def settle(nodes: list[Node]) -> None:
    """Wait, not for ever, until newcomers have found their place and records are where they belong: until the network
    is quiet, or a second brings about as much as those before it."""
    rates: list[int] = []
    for _ in range(SETTLE_S_MAX):
        before = sent(nodes)
        await asyncio.sleep(1.0)
        rates.append(sent(nodes) - before)
        last = rates[-1 - STEADY_S : -1]
        steady = len(last) == STEADY_S and max(last) < 1.5 * min(last) and rates[-1] > 0.8 * min(last)
        if steady or rates[-1] < QUIET_PER_S * len(nodes):
            return


async def timed(action: Callable[[], Awaitable[ListingView]]) -> tuple[float, ListingView]:
    started = time.perf_counter()
    found = await action()
    return (time.perf_counter() - started) * 1000, found


async def run(quick: bool) -> str:
    """Measure; the report's section."""
    async with AsyncExitStack() as stack:
        nodes = await start_nodes(stack, NODES)
        await settle(nodes)
        latencies = await _latencies(nodes, 20 if quick else 100)
        gone, told = await _cancellations(nodes, 5 if quick else 20)
        count = ORDERS // 10 if quick else ORDERS
        already = len(latencies) - len(gone)
        for start in range(already, count, 50):
            drafts = [(nodes[index % NODES], draft(50_000 + index)) for index in range(start, min(start + 50, count))]
            await asyncio.gather(*(node.add_order(one) for node, one in drafts))
        colds = [await _cold_listing(nodes, count) for _ in range(3)]
    async with AsyncExitStack() as stack:
        many = await start_nodes(stack, NODES_MANY)
        await settle(many)
        distant = await _latencies(many, 30 if quick else EVENTS_MANY)
    times = [cold[0] for cold in colds]
    complete = all(cold[2] for cold in colds)
    rows = [
        (f"a cold node lists {count} orders of one pair, ms", statistics.median(times), "≤ 1,000"),
        (f"slowest of {len(times)} such listings, ms", max(times), ""),
        ("orders listed, at least", min(cold[1] for cold in colds), count),
        ("every listing complete by its own account", "yes" if complete else "NO", "yes"),
        ("publish until a watcher on another node hears, ms", statistics.median(latencies), "≤ 10"),
        ("the same, 90th percentile, ms", percentile(latencies, 0.9), ""),
        (f"the same with {NODES_MANY} nodes, ms", statistics.median(distant), "≤ 5"),
        (f"the same with {NODES_MANY} nodes, 99th percentile, ms", percentile(distant, 0.99), "≤ 50"),
        ("cancel until another node's listing lacks the order, ms", statistics.median(gone), "≤ 2,000"),
        ("cancel until a watcher on another node hears, ms", statistics.median(told), "≤ 2,000"),
    ]
    return INTRO.format(nodes=NODES, rows=table(["what", "value", "aim"], rows))


async def _latencies(nodes: list[Node], count: int) -> list[float]:
    """Milliseconds from the call that publishes until a watcher on another node has the order."""
    heard: dict[str, float] = {}
    news = asyncio.Event()

    async def follow() -> None:
        async for event in nodes[-1].watch(PAIR):
            if event.order is not None:
                heard.setdefault(event.order.id, time.perf_counter())
                news.set()

    follower = asyncio.create_task(follow())
    await asyncio.sleep(1.0)
    latencies = []
    for index in range(count):
        started = time.perf_counter()
        view = await nodes[index % (len(nodes) - 1)].add_order(draft(50_000 + index))
        while view.order.id not in heard:
            news.clear()
            await asyncio.wait_for(news.wait(), 30)
        latencies.append((heard[view.order.id] - started) * 1000)
    follower.cancel()
    await asyncio.gather(follower, return_exceptions=True)
    return latencies


async def _cancellations(nodes: list[Node], count: int) -> tuple[list[float], list[float]]:
    """Milliseconds from the call that cancels one of the orders until the listing of one node lacks it, and until the
    watcher at another hears."""
    *makers, reader, watching = nodes
    heard: dict[str, float] = {}

    async def follow() -> None:
        async for event in watching.watch(PAIR):
            if event.order is not None and event.order.status == "canceled":
                heard.setdefault(event.order.id, time.perf_counter())

    follower = asyncio.create_task(follow())
    await asyncio.sleep(1.0)
    mine = [(node, order) for node in makers for order in node._running.offers.open_orders()][:count]
    gone, told = [], []
    for node, order in mine:
        order_id, started = order.id.hex(), time.perf_counter()
        await node.cancel_order(order_id)
        query = OrderQuery(pair=PAIR, limit=10 * ORDERS)
        while order_id in {view.id for view in (await reader.list_orders(query)).orders}:
            assert time.perf_counter() - started < PATIENCE_S, "a canceled order stays in the listing"
        gone.append((time.perf_counter() - started) * 1000)
        await until(lambda: order_id in heard, "the watcher hears of the end")  # noqa: B023 - awaited here
        told.append((heard[order_id] - started) * 1000)
    follower.cancel()
    await asyncio.gather(follower, return_exceptions=True)
    return gone, told


async def _cold_listing(nodes: list[Node], count: int) -> tuple[float, int, bool]:
    """Milliseconds, orders and completeness of the first listing of a node that has just joined."""
    await settle(nodes)
    ports = [node.status().port for node in nodes[:2]]
    async with Node(config(*ports)) as cold:
        await until(lambda: cold.status().peers >= 2, "the cold node joins")
        query = OrderQuery(pair=PAIR, limit=10 * count)
        milliseconds, view = await timed(lambda: cold.list_orders(query))
    return milliseconds, len(view.orders), view.coverage.complete
