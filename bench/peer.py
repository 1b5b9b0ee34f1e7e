"""One contestant in a network of its own: `python -m bench.peer NAME NODES VALUES`, driven by `peers`.

It says `{"ready": …}`, then reads one command a line and answers each with one line, both in JSON. A batch is ordered
by `{"verb": "put", "first": 0, "count": 20, "parallel": 1}`. Who reads what, and where from, is chosen before the clock
runs. What is counted (datagrams, CPU of the processes of the nodes) ends when the network is quiet again, and what the
idle network does in the same time is subtracted.

The two in C++ have threads, and live in this process. Those in Python live in others (see `crew`), for which this one
only waits.
"""

import asyncio
import gc
import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any

from bench.crew import COMPILED, Batch, Crew, Work
from bench.distance import lay
from bench.isolate import datagrams_out, isolate
from bench.place import IS_FAR
from bench.records import make_orders
from bench.worker import SEED, SHARES, Done, memory_kib

PARALLEL_MAX = 64
IDLE_S = 1.0 if IS_FAR else 0.2
QUIET_S = 0.5 if IS_FAR else 0.05  # longer than a datagram is on its way
BUSY_S_MAX = 5.0 if IS_FAR else 2.0
SETTLE_S_MIN = 15  # a node of dhtex looks around for eight seconds after it has joined
SETTLE_S_MAX = 120
SETTLED_PER_NODE_AND_S = 4  # dhtex's send sixteen while they meet, and two for ever
THREADED = {
    "opendht": ("opendht", "OpenDhtNetwork"),
    "libtorrent": ("libtorrent", "LibtorrentNetwork"),
    "libtorrent-signed": ("libtorrent", "SignedNetwork"),
}


class Threaded:
    """A network whose nodes have threads of their own: an operation is a call that blocks."""

    def __init__(self, name: str, size: int, values: int, chance: random.Random) -> None:
        self._size, self._chance = size, chance
        self._values = [order.wire for order in make_orders(values, 10, chance)]
        module, network = THREADED[name]
        self._network: Any = getattr(import_module(f"bench.{module}"), network)
        self._memory_kib = memory_kib()
        self._threads = ThreadPoolExecutor(PARALLEL_MAX)
        self._verbs: dict[str, Callable[[int], Callable[[], object]]] = {}
        self.pids = [os.getpid()]

    async def start(self) -> None:
        """Start all nodes."""
        self._verbs = self._network(self._size, self._values, self._chance).verbs

    async def settled(self) -> int:
        """KiB in memory of all nodes."""
        gc.collect()
        gc.freeze()
        return memory_kib() - self._memory_kib

    async def prepare(self, verb: str, indexes: list[int], parallel: int) -> Work:
        """Make everything ready; the work."""
        operations = [self._verbs[verb](index) for index in indexes]
        return lambda: self._do(operations, parallel)

    async def _do(self, operations: list[Callable[[], object]], parallel: int) -> Batch:
        left, done, started = iter(operations), Done(), time.monotonic()
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(self._threads, _call_each, left, done) for _ in range(parallel)))
        return Batch(done, time.monotonic() - started)


def _call_each(left: Iterator[Callable[[], object]], done: Done) -> None:
    for operation in left:
        started = time.perf_counter()
        result = operation()
        done.append((time.perf_counter() - started, result))


class Meter:
    """Counts what a network does beyond what it does anyway, which is measured a little before each batch."""

    def __init__(self, pids: list[int]) -> None:
        self._pids = pids
        self._idle_s = self._idle_datagrams = self._idle_cpu_s = 0.0

    async def settle(self, size: int) -> None:
        """Wait until newcomers have found their places."""
        for second in range(SETTLE_S_MAX):
            before = datagrams_out()
            await asyncio.sleep(1.0)
            if second >= SETTLE_S_MIN and datagrams_out() - before <= SETTLED_PER_NODE_AND_S * size:
                return

    async def measure(self, work: Work) -> dict[str, Any]:
        """Wait for a batch and for the quiet after it."""
        await self._idle()
        started, before, cpu = time.monotonic(), datagrams_out(), self._cpu_s()
        batch = await work()
        await self._quiet()
        idle_times = (time.monotonic() - started) / self._idle_s
        return {
            "wall_s": [wall_s for wall_s, _ in batch.done],
            "results": [result for _, result in batch.done],
            "batch_s": batch.took_s,
            "datagrams": max(0.0, datagrams_out() - before - idle_times * self._idle_datagrams),
            "cpu_s": max(0.0, self._cpu_s() - cpu - idle_times * self._idle_cpu_s),
        }

    async def _idle(self) -> None:
        started, before, cpu = time.monotonic(), datagrams_out(), self._cpu_s()
        await asyncio.sleep(IDLE_S)
        self._idle_s += time.monotonic() - started
        self._idle_datagrams += datagrams_out() - before
        self._idle_cpu_s += self._cpu_s() - cpu

    async def _quiet(self) -> None:
        """Wait until what was begun has ended."""
        usual = 2 * QUIET_S * self._idle_datagrams / self._idle_s + 2
        for _ in range(int(BUSY_S_MAX / QUIET_S)):
            before = datagrams_out()
            await asyncio.sleep(QUIET_S)
            if datagrams_out() - before <= usual:
                return

    def _cpu_s(self) -> float:
        """CPU time of all threads of the processes, read without asking them: Linux names the clock by the process."""
        return sum(time.clock_gettime(~pid << 3 | 2) for pid in self._pids)


async def serve(name: str, size: int, values: int, isolated: bool) -> None:
    """Start, say so, and do what is asked until this process is ended."""
    kind = Crew if name.removesuffix(COMPILED) in SHARES else Threaded
    network = kind(name, size, values, random.Random(SEED))
    await network.start()
    meter = Meter(network.pids)
    await meter.settle(size)
    _say({"ready": await network.settled() / size, "isolated": isolated})
    while line := await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline):
        command = json.loads(line)
        indexes = list(range(command["first"], command["first"] + command["count"]))
        _say(await meter.measure(await network.prepare(command["verb"], indexes, command["parallel"])))


def _say(what: dict[str, Any]) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    isolated = isolate()
    way = lay() if IS_FAR else None  # ends with us
    asyncio.run(serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), isolated))
