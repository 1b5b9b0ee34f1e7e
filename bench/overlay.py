"""The overlay beside the stock package, on the same work: put, get, and the CPU of one round trip."""

import random
from collections.abc import Awaitable, Callable
from statistics import mean

from bench.measure import Timing, interleave, table
from bench.ours import OverlayNetwork
from bench.records import make_orders
from bench.stock import StockNetwork
from bench.trips import rates
from dhtex import limits
from dhtex.market.ids import order_key
from dhtex.market.records import Order, Record

Operation = Callable[[int], Awaitable[object]]

SEED = 20_250_701
PINGS = 200
VERBS = ("ping", "find_node")
RATES = [
    "heap", "in flight", "dhtex", "stock", "UDP echo", "floor", "calls", "dhtex / stock", "dhtex / echo",
    "dhtex / floor", "calls / stock", "compiled", "compiled / stock",
]  # fmt: skip
INTRO = """## Overlay against the stock package

All nodes of all networks run in one process, on loopback. dhtex keeps {copies} copies, each checked by its holder
(stamp, signature); stock keeps 20 as shipped, unchecked, and with `ksize={copies}` as many as dhtex. Values are signed
orders of about 500 bytes. A `get` fetches an order by its id, from whoever is quickest, and checks its hash; stock
takes what comes first. A `get of all` asks all holders and compares their answers, which stock cannot: this is what
listings and the trade protocol do. Both start at a node that does not hold the value, where there is one. Medians.
The aims: put 5 times quicker than stock as shipped, get no slower, a third of the CPU for a round trip.

{operations}

CPU time of one round trip, both ends in this process: a ping, which both send in the same form, and the step of a
lookup (`find_node`; ours is a `dx_get` without records). dhtex answers with {contacts} contacts, stock with 20
or {copies}. "both" is the mean. A lone ping between two nodes takes 175,000 instructions of the interpreter, with stock
359,000, and 85,000 with the floor of the next table, so a third of stock would leave 35,000 for all that
protects a node (counted once, with callgrind; the kernel's are not in it).

{trips}

Round trips per second of one core: pings between two nodes, both ends in one process, so many in flight, CPU time.
Beside them an echo of 20 bytes on asyncio's datagram transports, and the *floor*: a socket on the same loop with this
frame, ids matched by address, and MessagePack, and nothing else (no time-outs, rates, tokens, peers, checks). *calls*
are the four calls of the system alone that a round trip takes, to send and to receive at either end, one after the
other, without a loop: no program in Python that sends a datagram for each message can be quicker. Three
nodes are asked in turn, so that what each lets one address send, {per_s} datagrams a second, is not the result.
*compiled* is dhtex with its busiest modules compiled, compared with the stock package in the same process. asyncio's
transports receive into 256 KiB: where the heap of a process has no room for that, each datagram costs three calls of
the system more. Which it is is chance, for the tables above too; stock nodes and the echo are twice as quick with room,
dhtex is as quick without.

The aim is 5 times the round trips of stock. How far off it is depends on the machine and the day: the floor, which does
next to nothing, did 6.2 to 7.0 times what stock did without room and 4.0 to 4.4 times with room in two runs, 4.5 and
2.7 times in another, where the calls alone were 6.2 and 5.2 times stock with room. So with room 5 times is out of reach
in Python; without, it is reached with many in flight, compiled.

{rates}
"""


async def run(quick: bool) -> str:
    """Measure networks of 32 and 64 nodes; the report's section."""
    rows, trips = [], []
    for size in (32, 64):
        results = await _one_size(size, 2 if quick else 6, 5 if quick else 20)
        rows += [_row(size, operation, results[operation]) for operation in ("put", "get", "get of all")]
        trips += [_trip_row(size, verb, results[verb]) for verb in VERBS]
        trips.append(_trip_row(size, "both", *(results[verb] for verb in VERBS)))
    head = ["nodes", "operation", "dhtex ms", "stock ms", f"stock k={limits.HOLDERS} ms"]
    shares = ["dhtex / stock", f"dhtex / k={limits.HOLDERS}"]
    return INTRO.format(
        copies=limits.HOLDERS,
        contacts=limits.LOOKUP_CONTACTS_ALONE,
        operations=table([*head, "stock / dhtex", f"k={limits.HOLDERS} / dhtex"], rows),
        trips=table(["nodes", "verb", "dhtex µs", "stock µs", f"stock k={limits.HOLDERS} µs", *shares], trips),
        per_s=f"{limits.PEER_DATAGRAMS_PER_S:,}",
        rates=table(RATES, rates(quick)),
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
        gets: dict[str, Operation] = {
            "dhtex": lambda i: ours.fetch(order_key(orders[i].id), orders[i].id),
            "all": lambda i: ours.get(order_key(orders[i].id)),
        }
        for name, stock in stocks.items():
            puts[name], gets[name] = _operations(stock, orders)
        pings: dict[str, Operation] = {"dhtex": lambda _: ours.ping()}
        finds: dict[str, Operation] = {"dhtex": lambda i: ours.find(order_key(orders[i % len(orders)].id))}
        for name, stock in stocks.items():
            pings[name], finds[name] = _trips(stock, orders)
        return {
            "put": await interleave(puts, rounds, operations),
            "get": (got := await interleave(gets, rounds, operations)),
            "get of all": got | {"dhtex": got["all"]},
            "ping": await interleave(pings, rounds, PINGS),
            "find_node": await interleave(finds, rounds, PINGS),
        }
    finally:
        for stock in stocks.values():
            stock.stop()
        await ours.stop()


def _operations(stock: StockNetwork, orders: list[Record[Order]]) -> tuple[Operation, Operation]:
    """Put and get of the same values by their order ids."""
    return lambda i: stock.put(orders[i].id.hex(), orders[i].wire), lambda i: stock.get(orders[i].id.hex())


def _trips(stock: StockNetwork, orders: list[Record[Order]]) -> tuple[Operation, Operation]:
    """Single round trips."""
    return lambda _: stock.ping(), lambda i: stock.find(orders[i % len(orders)].id.hex())


def _row(size: int, operation: str, timings: dict[str, Timing]) -> list[object]:
    dhtex, stock, same = (timings[name].median_ms for name in ("dhtex", "stock", "same"))
    return [size, operation, dhtex, stock, same, f"{stock / dhtex:.1f}x", f"{same / dhtex:.1f}x"]


def _trip_row(size: int, verb: str, *timings: dict[str, Timing]) -> list[object]:
    contestants = ("dhtex", "stock", "same")
    dhtex, stock, same = (mean(timing[name].cpu_ms * 1000 for timing in timings) for name in contestants)
    return [size, verb, dhtex, stock, same, f"1/{stock / dhtex:.1f}", f"1/{same / dhtex:.1f}"]
