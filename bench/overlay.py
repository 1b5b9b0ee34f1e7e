"""The overlay beside the stock package, on the same work: put, get, and the CPU of one round trip."""

import random
from collections.abc import Awaitable, Callable

from bench.measure import Timing, interleave, table
from bench.ours import OverlayNetwork
from bench.records import make_orders
from bench.stock import StockNetwork
from dhtex import limits
from dhtex.market.ids import order_key
from dhtex.market.records import Order, Record

Operation = Callable[[int], Awaitable[None]]

SEED = 20_250_701
PINGS = 200
INTRO = """## Overlay against the stock package

All nodes of all networks run in one process, on loopback. dhtex keeps {copies} copies, and its get asks the
holders and compares their answers. Stock keeps 20 as shipped; with `ksize={copies}` it keeps as many copies as
dhtex. Values are signed orders of about 500 bytes; a get starts at a node that does not hold the value, where
there is one. Medians. The aims: put 5 times quicker than stock as
shipped, get no slower, a third of the CPU for a round trip.

{operations}

One round trip of a ping, both ends in this process, CPU time:

{pings}
"""


async def run(quick: bool) -> str:
    """Measure networks of 32 and 64 nodes; the report's section."""
    rows, pings = [], []
    for size in (32, 64):
        results = await _one_size(size, 2 if quick else 6, 5 if quick else 20)
        rows += [_row(size, operation, results[operation]) for operation in ("put", "get")]
        pings.append(_ping_row(size, results["ping"]))
    head = ["nodes", "operation", "dhtex ms", "stock ms", f"stock k={limits.HOLDERS} ms"]
    return INTRO.format(
        copies=limits.HOLDERS,
        operations=table([*head, "stock / dhtex", f"k={limits.HOLDERS} / dhtex"], rows),
        pings=table(["nodes", "dhtex µs", "stock µs", "share"], pings),
    )


async def _one_size(size: int, rounds: int, operations: int) -> dict[str, dict[str, Timing]]:
    chance = random.Random(SEED)
    orders = make_orders(rounds * operations, 10, chance)
    ours = OverlayNetwork(size, chance)
    stocks = {"stock": StockNetwork(size, 20, chance), "same": StockNetwork(size, limits.HOLDERS, chance)}
    try:
        await ours.start()
        for stock in stocks.values():
            await stock.start()

        await ours.settle()
        puts: dict[str, Operation] = {"dhtex": lambda i: ours.put(order_key(orders[i].id), orders[i].wire)}
        gets: dict[str, Operation] = {"dhtex": lambda i: ours.get(order_key(orders[i].id))}
        for name, stock in stocks.items():
            puts[name], gets[name] = _operations(stock, orders)
        pings: dict[str, Operation] = {"dhtex": lambda _: ours.ping(), "stock": lambda _: stocks["stock"].ping()}
        return {
            "put": await interleave(puts, rounds, operations),
            "get": await interleave(gets, rounds, operations),
            "ping": await interleave(pings, rounds, PINGS),
        }
    finally:
        for stock in stocks.values():
            stock.stop()
        await ours.stop()


def _operations(stock: StockNetwork, orders: list[Record[Order]]) -> tuple[Operation, Operation]:
    """Put and get of the same values by their order ids."""
    return lambda i: stock.put(orders[i].id.hex(), orders[i].wire), lambda i: stock.get(orders[i].id.hex())


def _row(size: int, operation: str, timings: dict[str, Timing]) -> list[object]:
    dhtex, stock, same = (timings[name].median_ms for name in ("dhtex", "stock", "same"))
    return [size, operation, dhtex, stock, same, f"{stock / dhtex:.1f}x", f"{same / dhtex:.1f}x"]


def _ping_row(size: int, timings: dict[str, Timing]) -> list[object]:
    dhtex, stock = (timings[name].cpu_ms * 1000 for name in ("dhtex", "stock"))
    return [size, dhtex, stock, f"1/{stock / dhtex:.1f}"]
