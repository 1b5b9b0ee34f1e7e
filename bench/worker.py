"""Some nodes of a network in Python: `python -m bench.worker NAME NODES VALUES CREATED NUMBER`, driven by `crew`.

It reads one command a line and answers each with one line, both in JSON. Operations are made, and who reads what and
where from is chosen, before the clock runs.
"""

import asyncio
import gc
import json
import random
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from bench.floor import FloorShare
from bench.hops import trace
from bench.ours import OverlayNetwork
from bench.records import make_orders
from bench.stock import StockNetwork
from dhtex.market.ids import DhtKey, order_key
from dhtex.market.records import Order, Record

SEED = 20_251_129
STOCK_COPIES = 20  # as shipped
Done = list[tuple[float, object]]  # of each operation: seconds, result
_Orders = list[Record[Order]]


class OurShare:
    """Nodes of dhtex, and what they can do with the values."""

    def __init__(self, size: int, orders: _Orders, chance: random.Random) -> None:
        self._network, self._chance = OverlayNetwork(size, chance), chance
        self._keys = [order_key(order.id) for order in orders]
        self.join = self._network.join
        self.verbs: dict[str, Callable[[int], Awaitable[object]]] = {
            "put": lambda index: self._network.put(self._keys[index], orders[index].wire),
            "get": lambda index: self._network.fetch(self._keys[index], orders[index].id),
            "get of all": lambda index: self._network.get(self._keys[index]),
            "search": lambda _: self._search(),
        }

    def strangers(self, index: int) -> int:
        """How many nodes here do not hold a value."""
        return len(self._network.strangers(self._keys[index]))

    async def _search(self) -> tuple[int, int]:
        path = await trace(self._chance.choice(self._network.nodes).protocol, DhtKey(self._chance.randbytes(20)))
        return path.hops, path.asked


class StockShare:
    """Nodes of the stock package, and what they can do with the values."""

    def __init__(self, size: int, orders: _Orders, chance: random.Random) -> None:
        self._network = StockNetwork(size, STOCK_COPIES, chance)
        self._keys = [order.id.hex() for order in orders]
        self.join = self._network.join
        self.verbs: dict[str, Callable[[int], Awaitable[object]]] = {
            "put": lambda index: self._network.put(self._keys[index], orders[index].wire),
            "get": lambda index: self._network.get(self._keys[index]),
        }

    def strangers(self, index: int) -> int:
        """How many nodes here do not hold a value."""
        return len(self._network.strangers(self._keys[index]))


SHARES: dict[str, type[OurShare | StockShare | FloorShare]] = {
    "dhtex": OurShare,
    "floor": FloorShare,
    "kademlia": StockShare,
}


class Worker:
    """What a crew may order."""

    def __init__(self, name: str, size: int, orders: _Orders, chance: random.Random) -> None:
        self._memory_kib = memory_kib()
        self._share = SHARES[name](size, orders, chance)
        self._operations: list[Awaitable[object]] = []

    async def join(self, known: list[int], port: int) -> int:
        """Let the next node listen at a port, 0 is any, and join through those at known ports; its port."""
        return await self._share.join(known, port)

    async def settled(self) -> int:
        """The network has settled: what the nodes here take in memory."""
        gc.collect()
        gc.freeze()  # nobody else has so many nodes in one heap
        return memory_kib() - self._memory_kib

    async def strangers(self, indexes: list[int]) -> list[int]:
        """How many nodes here do not hold each of some values."""
        return [self._share.strangers(index) for index in indexes]

    async def prepare(self, verb: str, indexes: list[int]) -> None:
        """Make the operations of a batch."""
        self._operations = [self._share.verbs[verb](index) for index in indexes]

    async def go(self, parallel: int) -> dict[str, Any]:
        """Do what was prepared, so many at a time; from when to when on the clock that all processes have."""
        left, done, began = iter(self._operations), Done(), time.monotonic()
        await asyncio.gather(*(_await_each(left, done) for _ in range(parallel)))
        return {"began": began, "ended": time.monotonic(), "done": done}


async def _await_each(left: Iterator[Awaitable[object]], done: Done) -> None:
    for operation in left:
        started = time.perf_counter()
        result = await operation
        done.append((time.perf_counter() - started, result))


def memory_kib() -> int:
    """What of this process lies in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 1024


async def serve(name: str, size: int, values: int, created: int, number: int) -> None:
    """Do what is asked until there is nobody who could ask."""
    orders = make_orders(values, 10, random.Random(SEED), created)  # everywhere the same
    worker = Worker(name, size, orders, random.Random(SEED + 1 + number))
    while line := await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline):
        command = json.loads(line)
        print(json.dumps(await getattr(worker, command.pop("do"))(**command)), flush=True)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], *map(int, sys.argv[2:])))
