"""One contestant in a process and a network of its own: `python -m bench.peer NAME NODES VALUES`, driven by `peers`.

It says `{"ready": …}`, then reads one command a line and answers each with one line, both in JSON. A batch is ordered
by `{"verb": "put", "first": 0, "count": 20, "parallel": 1}`. Who reads what, and where from, is chosen before the clock
runs. What is counted (datagrams, CPU of the process) ends when the network is quiet again, and what the idle network
does in the same time is subtracted.
"""

import asyncio
import gc
import json
import random
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

from bench.hops import trace
from bench.isolate import datagrams_out, isolate
from bench.ours import OverlayNetwork
from bench.records import make_orders
from bench.stock import StockNetwork
from dhtex.market.ids import DhtKey, order_key
from dhtex.market.records import Order, Record

SEED = 20_251_129
PARALLEL_MAX = 64
IDLE_S = 0.2
QUIET_S = 0.05
BUSY_S_MAX = 2.0
SETTLE_S_MIN = 15  # a node of dhtex looks around for eight seconds after it has joined
SETTLE_S_MAX = 60
SETTLED_PER_NODE_AND_S = 30  # the C++ nodes send a few a second for ever
# The two in C++ have threads: an operation of theirs is a call that blocks. Those on asyncio are awaited.
Operation = Awaitable[object] | Callable[[], object]
Verb = Callable[[int], Operation]
Done = list[tuple[float, object]]  # of each operation: seconds, result
BLOCKING = {"opendht": "OpenDhtNetwork", "libtorrent": "LibtorrentNetwork"}


async def start(name: str, size: int, orders: list[Record[Order]], chance: random.Random) -> dict[str, Verb]:
    """Start a network; what it can do."""
    if name in BLOCKING:
        network = getattr(import_module(f"bench.{name}"), BLOCKING[name])(size, [o.wire for o in orders], chance)
        return dict(network.verbs)
    if name == "kademlia":
        stock = StockNetwork(size, 20, chance)  # as shipped
        await stock.start()
        return {
            "put": lambda index: stock.put(orders[index].id.hex(), orders[index].wire),
            "get": lambda index: stock.get(orders[index].id.hex()),
        }
    ours = OverlayNetwork(size, chance)
    await ours.start()
    return {
        "put": lambda index: ours.put(order_key(orders[index].id), orders[index].wire),
        "get": lambda index: ours.fetch(order_key(orders[index].id), orders[index].id),
        "get of all": lambda index: ours.get(order_key(orders[index].id)),
        "search": lambda _: _search(ours, chance),
    }


async def _search(ours: OverlayNetwork, chance: random.Random) -> tuple[int, int]:
    path = await trace(chance.choice(ours.nodes).protocol, DhtKey(chance.randbytes(20)))
    return path.hops, path.asked


class Meter:
    """Counts what the process does beyond what it does anyway, which is measured a little before each batch."""

    def __init__(self) -> None:
        self._idle_s = self._idle_datagrams = self._idle_cpu_s = 0.0

    async def settle(self, size: int) -> None:
        """Wait until newcomers have found their places."""
        for second in range(SETTLE_S_MAX):
            before = datagrams_out()
            await asyncio.sleep(1.0)
            if second >= SETTLE_S_MIN and datagrams_out() - before <= SETTLED_PER_NODE_AND_S * size:
                return

    async def measure(self, work: Awaitable[Done]) -> dict[str, Any]:
        """Wait for a batch and for the quiet after it."""
        await self._idle()
        started, before, cpu = time.monotonic(), datagrams_out(), cpu_s()
        done = await work
        batch_s = time.monotonic() - started
        await self._quiet()
        idle_times = (time.monotonic() - started) / self._idle_s
        return {
            "wall_s": [wall_s for wall_s, _ in done],
            "results": [result for _, result in done],
            "batch_s": batch_s,
            "datagrams": max(0.0, datagrams_out() - before - idle_times * self._idle_datagrams),
            "cpu_s": max(0.0, cpu_s() - cpu - idle_times * self._idle_cpu_s),
        }

    async def _idle(self) -> None:
        started, before, cpu = time.monotonic(), datagrams_out(), cpu_s()
        await asyncio.sleep(IDLE_S)
        self._idle_s += time.monotonic() - started
        self._idle_datagrams += datagrams_out() - before
        self._idle_cpu_s += cpu_s() - cpu

    async def _quiet(self) -> None:
        """Wait until what was begun has ended."""
        usual = 2 * QUIET_S * self._idle_datagrams / self._idle_s + 2
        for _ in range(int(BUSY_S_MAX / QUIET_S)):
            before = datagrams_out()
            await asyncio.sleep(QUIET_S)
            if datagrams_out() - before <= usual:
                return


def cpu_s() -> float:
    """CPU time of all threads of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def memory_kib() -> int:
    """What of this process lies in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 1024


async def batch(operations: list[Operation], parallel: int, threads: ThreadPoolExecutor) -> Done:
    """Do all, so many at a time."""
    left, done = iter(operations), Done()
    if isinstance(operations[0], Awaitable):
        await asyncio.gather(*(_await_each(left, done) for _ in range(parallel)))
    else:
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(threads, _call_each, left, done) for _ in range(parallel)))
    return done


async def _await_each(left: Iterator[Any], done: Done) -> None:
    for operation in left:
        started = time.perf_counter()
        result = await operation
        done.append((time.perf_counter() - started, result))


def _call_each(left: Iterator[Any], done: Done) -> None:
    for operation in left:
        started = time.perf_counter()
        result = operation()
        done.append((time.perf_counter() - started, result))


async def serve(name: str, size: int, values: int, isolated: bool) -> None:
    """Start, say so, and do what is asked until this process is ended."""
    chance = random.Random(SEED)
    orders = make_orders(values, 10, chance)
    memory = memory_kib()
    verbs = await start(name, size, orders, chance)
    meter = Meter()
    await meter.settle(size)
    gc.collect()
    gc.freeze()  # nobody else has so many nodes in one heap
    _say({"ready": (memory_kib() - memory) / size, "isolated": isolated})
    with ThreadPoolExecutor(PARALLEL_MAX) as threads:
        while line := await asyncio.get_running_loop().run_in_executor(threads, sys.stdin.readline):
            command = json.loads(line)
            verb = verbs[command["verb"]]
            numbers = range(command["first"], command["first"] + command["count"])
            operations = [verb(index) for index in numbers]
            _say(await meter.measure(batch(operations, command["parallel"], threads)))


def _say(what: dict[str, Any]) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    isolated = isolate()
    asyncio.run(serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), isolated))
