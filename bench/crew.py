"""A network in Python, its nodes dealt out to as many processes as there are cores.

In one process all nodes would share one core, while the contestants in C++, whose nodes have threads, use all; in real
life every node is a process. The processes are children of this one (see `worker`), and share its network.
"""

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from bench import compiled
from bench.place import port_of
from bench.worker import Done

COMPILED = "-compiled"  # behind a name
CORES = len(os.sched_getaffinity(0))
_ANYWHERE = ("put", "search")  # all else begins where the value is not held


@dataclass(frozen=True, slots=True)
class Batch:
    """Operations that were done, and how long they took together."""

    done: Done
    took_s: float


Work = Callable[[], Awaitable[Batch]]


class Crew:
    """The processes of one network. What they need is theirs; this one only waits for them."""

    def __init__(self, name: str, size: int, values: int, chance: random.Random) -> None:
        self._chance = chance
        self._size = size
        self._sizes = [len(range(number, size, CORES)) for number in range(CORES)]
        created = str(int(time.time()))
        self._environment = compiled.environment(name.endswith(COMPILED))
        self._argv = [
            (
                sys.executable,
                "-m",
                "bench.worker",
                name.removesuffix(COMPILED),
                str(share),
                str(values),
                created,
                str(number),
            )
            for number, share in enumerate(self._sizes)
        ]
        self._workers: list[asyncio.subprocess.Process] = []

    @property
    def pids(self) -> list[int]:
        """The processes that do the work."""
        return [worker.pid for worker in self._workers]

    async def start(self) -> None:
        """Let node after node join through the first and another one, whichever process they are in."""
        pipe, ports = asyncio.subprocess.PIPE, list[int]()
        for argv in self._argv:
            self._workers.append(
                await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe, env=self._environment)
            )
        for number in range(self._size):
            known = [ports[0], self._chance.choice(ports)] if ports else []
            ports.append(await _ask(self._workers[number % CORES], "join", known=known, port=port_of(number)))

    async def settled(self) -> int:
        """Say that the network has settled; KiB in memory of all nodes."""
        return sum(await self._ask_all("settled"))

    async def prepare(self, verb: str, indexes: list[int], parallel: int) -> Work:
        """Make everything ready; the work."""
        shares = self._deal(indexes, await self._eligible(verb, indexes), parallel)
        await asyncio.gather(*map(_prepare, self._workers, [verb] * CORES, shares))
        busy = [worker for worker, share in zip(self._workers, shares, strict=True) if share]
        return (lambda: _together(busy, parallel)) if parallel > 1 else (lambda: _in_turns(busy))

    async def _eligible(self, verb: str, indexes: list[int]) -> list[list[int]]:
        """At how many nodes of each process each operation may begin."""
        if verb in _ANYWHERE:
            return [self._sizes for _ in indexes]
        strangers = zip(*await self._ask_all("strangers", indexes=indexes), strict=True)
        return [list(counts) if any(counts) else self._sizes for counts in strangers]

    def _deal(self, indexes: list[int], eligible: list[list[int]], parallel: int) -> list[list[int]]:
        """Which process does what: each node may be the one, but of what is done at a time each process has a part."""
        shares: list[list[int]] = [[] for _ in range(CORES)]
        for index, counts in zip(indexes, eligible, strict=True):
            if parallel > 1:
                least = min((share for share, count in zip(shares, counts, strict=True) if count), key=len)
            else:
                least = self._chance.choices(shares, counts)[0]
            least.append(index)
        return shares

    async def _ask_all(self, do: str, **what: object) -> list[Any]:
        return await asyncio.gather(*(_ask(worker, do, **what) for worker in self._workers))


async def _prepare(worker: asyncio.subprocess.Process, verb: str, indexes: list[int]) -> None:
    await _ask(worker, "prepare", verb=verb, indexes=indexes)


async def _together(workers: list[asyncio.subprocess.Process], parallel: int) -> Batch:
    """All processes at once, so many operations at a time in all of them together."""
    parts = [len(range(number, parallel, len(workers))) for number in range(len(workers))]
    answers = await asyncio.gather(
        *(_ask(worker, "go", parallel=part) for worker, part in zip(workers, parts, strict=True))
    )
    done = [operation for answer in answers for operation in answer["done"]]
    return Batch(done, max(answer["ended"] for answer in answers) - min(answer["began"] for answer in answers))


async def _in_turns(workers: list[asyncio.subprocess.Process]) -> Batch:
    """One operation at a time, those of one process after those of another."""
    answers = [await _ask(worker, "go", parallel=1) for worker in workers]
    done = [operation for answer in answers for operation in answer["done"]]
    return Batch(done, sum(answer["ended"] - answer["began"] for answer in answers))


async def _ask(worker: asyncio.subprocess.Process, do: str, **what: object) -> Any:
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(json.dumps({"do": do, **what}).encode() + b"\n")
    line = await worker.stdout.readline()
    assert line, "a part of the network has ended"
    return json.loads(line)
