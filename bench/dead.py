"""Put and get after a quarter of all nodes were killed silently, beside the stock package.

Killed means: the socket is closed and nothing is said. Nobody is given time to notice: the operations begin at once.
"""

import asyncio
import logging
import random
import statistics
import time
from collections.abc import Awaitable, Callable

from bench.measure import percentile, table
from bench.ours import OverlayNetwork
from bench.records import make_orders
from bench.stock import StockNetwork
from dhtex import limits
from dhtex.market.ids import DhtKey, order_key
from dhtex.market.records import Order, Record
from dhtex.overlay.server import Overlay

SEED = 20_250_702
SIZE = 64
DEAD = SIZE // 4
PATIENCE_S = 10.0
LOOKS = 5000
INTRO = """## After silent deaths

{size} nodes, {dead} of which were killed silently a moment ago, so that nobody knows yet. Milliseconds. A put ends when
those who were found have the record, which is at {placed} of {due} places, and goes on in the background where somebody
was silent; *everywhere* is when all live holders have it, {patience_ms:,.0f} when they have not by then. A get reads a
held record from a node that does not hold it, a miss reads a key at which there is nothing. The aims: put everywhere
below 500, get below 10 (median), miss below 500.

{rows}
"""


async def run(quick: bool) -> str:
    """Measure; the report's section."""
    chance = random.Random(SEED)
    ours = await _ours(chance, 12 if quick else 40)
    stock = await _stock(chance, 4 if quick else 8)
    rows = [[name, *_figures(ours[name]), *_figures(stock.get(name))] for name in ("put", "everywhere", "get", "miss")]
    head = ["operation", "dhtex median", "p90", "max", "stock median", "p90", "max"]
    placed, due = map(int, ours["placed"])
    rows[1][0] = "put, everywhere"
    return INTRO.format(
        size=SIZE, dead=DEAD, placed=placed, due=due, patience_ms=PATIENCE_S * 1000, rows=table(head, rows)
    )


def _figures(times_s: list[float] | None) -> list[object]:
    if times_s is None:
        return ["", "", ""]
    return [statistics.median(times_s) * 1000, percentile(times_s, 0.9) * 1000, max(times_s) * 1000]


def kill(node: Overlay) -> None:
    """End a node as a machine that loses power: nothing is said, nothing more is heard."""
    assert node.transport is not None
    node.transport.close()
    node.protocol.close()


def closest(nodes: list[Overlay], key: DhtKey) -> list[Overlay]:
    """The true holders of a key among these nodes."""
    goal = int.from_bytes(key)
    return sorted(nodes, key=lambda node: int.from_bytes(node.protocol.own_id) ^ goal)[: limits.HOLDERS]


async def _timed(operation: Awaitable[object]) -> float:
    started = time.perf_counter()
    await operation
    return time.perf_counter() - started


async def _ours(chance: random.Random, operations: int) -> dict[str, list[float]]:
    orders = make_orders(3 * operations, 10, chance)
    held, fresh, absent = orders[:operations], orders[operations : 2 * operations], orders[2 * operations :]
    network = OverlayNetwork(SIZE, chance)
    times: dict[str, list[float]] = {"put": [], "get": [], "miss": [], "placed": [0, 0], "everywhere": []}
    try:
        await network.start()
        await network.settle()
        for order in held:
            await network.put(order_key(order.id), order.wire)
        dead = chance.sample(range(SIZE), DEAD)
        live = [i for i in range(SIZE) if i not in dead]
        for index in dead:
            kill(network.nodes[index])
        alive = [network.nodes[index] for index in live]
        shelf = {id(network.nodes[index]): network.holdings[index] for index in live}

        def holds(node: Overlay, record: Record[Order]) -> bool:
            return shelf[id(node)].page(order_key(record.id), 0, 0, 1200, float(record.body.created)).total > 0

        # Each operation from another node, as far as there are: what one has learnt does not help the next.
        for turn in range(operations):
            key = order_key(fresh[turn].id)
            began, true = time.perf_counter(), closest(alive, key)
            await alive[turn % len(alive)].put(key, fresh[turn].wire, None)
            times["put"].append(time.perf_counter() - began)
            times["placed"][0] += sum(holds(node, fresh[turn]) for node in true)
            times["placed"][1] += len(true)
            for _ in range(LOOKS):
                if all(holds(node, fresh[turn]) for node in true):
                    break
                await asyncio.sleep(PATIENCE_S / LOOKS)
            times["everywhere"].append(time.perf_counter() - began)
            strangers = [node for node in alive if not holds(node, held[turn])]
            times["get"].append(await _timed(_fetch(strangers[(7 * turn) % len(strangers)], held[turn])))
            times["miss"].append(await _timed(alive[(turn + 20) % len(alive)].get(order_key(absent[turn].id))))
        return times
    finally:
        await network.stop()


async def _fetch(node: Overlay, order: Record[Order]) -> None:
    assert await node.fetch(order_key(order.id), 0, lambda wire: wire == order.wire) is not None, "a record is lost"


async def _stock(chance: random.Random, operations: int) -> dict[str, list[float]]:
    network = StockNetwork(SIZE, 20, chance)
    names = [f"value {number}" for number in range(3 * operations)]
    times: dict[str, list[float]] = {"put": [], "get": [], "miss": []}
    for name in ("kademlia", "rpcudp"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # they tell of every silent node
    await network.start()
    for name in names[:operations]:
        assert await network.put(name, b"x" * 500)
    dead = chance.sample(network.servers, DEAD)
    for server in dead:
        server.stop()
    network.servers = [server for server in network.servers if server not in dead]
    alive = network.servers

    async def each(kind: str, work: Callable[[int], Awaitable[object]]) -> None:
        times[kind] = await asyncio.gather(*(_timed(work(turn)) for turn in range(operations)))

    # All at once: one after the other would take minutes, and it is waiting that takes them.
    await each("put", lambda turn: alive[turn].set(names[operations + turn], b"x" * 500))
    await each("get", lambda turn: network.get(names[turn]))
    await each("miss", lambda turn: alive[-turn - 1].get(names[2 * operations + turn]))
    network.stop()
    return times
