"""Who takes part beside dhtex, what each needed for its work, and how the tables compare them.

Each contestant has processes and, where the kernel allows it, a network of its own (see `peer`).
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Final

from bench import compiled
from bench.measure import percentile, table
from bench.place import FAR

SIZES: Final = (16, 64, 256)
PARALLEL: Final = 16
CONTESTANTS: Final = {
    "dhtex": "dhtex",
    "dhtex-compiled": "compiled",
    "floor": "floor",
    "kademlia": "kademlia",
    "opendht": "OpenDHT",
    "libtorrent": "libtorrent",
    "libtorrent-signed": "libtorrent, signed",
}
OURS: Final = ("dhtex", "dhtex-compiled")
FLOOR: Final = "floor"  # no other, but what none in Python could be quicker than
EQUAL: Final = "libtorrent-signed"  # does what ours does
VERBS: Final = ("put", "get", "get of all")
STOCK_COPIES: Final = 20


@dataclass(slots=True)
class Sum:
    """What a contestant needed for one kind of work."""

    wall_s: list[float] = field(default_factory=list)
    results: list[Any] = field(default_factory=list)
    batch_s: float = 0.0
    datagrams: list[float] = field(default_factory=list)  # of one operation, by batch
    cpu_s: list[float] = field(default_factory=list)

    def add(self, answer: dict[str, Any]) -> None:
        self.wall_s += answer["wall_s"]
        self.results += answer["results"]
        self.batch_s += answer["batch_s"]
        self.datagrams.append(answer["datagrams"] / len(answer["wall_s"]))
        self.cpu_s.append(answer["cpu_s"] / len(answer["wall_s"]))

    @property
    def per_s(self) -> float:
        """Operations a second."""
        return len(self.wall_s) / self.batch_s

    @property
    def cpu_ms(self) -> float:
        """CPU of one operation; the median of the batches, as nodes that began together look around together, and one
        batch meets that."""
        return statistics.median(self.cpu_s) * 1000

    @property
    def datagrams_each(self) -> float:
        """Datagrams of one operation, the median of the batches too."""
        return statistics.median(self.datagrams)


class Contestant:
    """The other end of a `peer` process."""

    def __init__(self, name: str, size: int, values: int, far: bool) -> None:
        self.name = name
        self.verbs = VERBS if name in (*OURS, EQUAL) else VERBS[:-1]
        self.sums: dict[tuple[str, int], Sum] = defaultdict(Sum)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.peer", name, str(size), str(values)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | ({FAR: "1"} if far else {}),
        )
        self.memory_kib = 0.0
        self.isolated = False

    def wait(self) -> None:
        """Until the network has settled."""
        answer = self._read()
        self.memory_kib, self.isolated = answer["ready"], answer["isolated"]

    def do(self, verb: str, first: int, count: int, parallel: int = 1, *, warm: bool = True) -> None:
        """One batch; one that is not `warm` is not counted."""
        self.order(verb, first, count, parallel)
        self.gather(verb, parallel, warm)

    def order(self, verb: str, first: int, count: int, parallel: int) -> None:
        """Let a batch begin."""
        assert self.process.stdin is not None
        command = {"verb": verb, "first": first, "count": count, "parallel": parallel}
        print(json.dumps(command), file=self.process.stdin, flush=True)

    def gather(self, verb: str, parallel: int, warm: bool) -> None:
        """Wait for the end of the batch."""
        answer = self._read()
        if warm:
            self.sums[verb, parallel].add(answer)

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the process of {self.name} has ended"
        answer: dict[str, Any] = json.loads(line)
        return answer


def installed() -> tuple[list[str], list[str]]:
    """Who can take part, and how those are called that cannot."""
    there = [name for name in CONTESTANTS if name == FLOOR or find_spec(name.partition("-")[0]) is not None]
    if not compiled.is_there():
        there.remove(OURS[1])
    return there, [CONTESTANTS[name] for name in CONTESTANTS if name not in there]


@contextlib.contextmanager
def networks(names: list[str], size: int, values: int, far: bool = False) -> Iterator[list[Contestant]]:
    """Networks of one size that have settled; end with this."""
    contestants: list[Contestant] = []
    try:
        contestants += [Contestant(name, size, values, far) for name in names]
        for contestant in contestants:
            contestant.wait()
        yield contestants
    finally:
        for contestant in contestants:
            contestant.process.kill()
            contestant.process.communicate()


def lost(contestants: list[Contestant]) -> dict[str, int]:
    """How many puts failed and gets found nothing, of those that say so."""
    sums = {it.name: list(it.sums.values()) for it in contestants}
    return {CONTESTANTS[name]: sum(each.results.count(False) for each in its) for name, its in sums.items()}


def comparison(size: int, contestants: list[Contestant], *, times_alone: bool = False) -> str:
    """A table of what they needed, and of our ratios to the others."""
    rows: list[list[object]] = []
    for verb in VERBS:
        for what, figure in _FIGURES.items():
            if times_alone and ("CPU" in what or what == "datagrams"):
                continue
            figures = {it.name: figure(it.sums, verb) for it in contestants if (verb, 1) in it.sums}
            if verb == "get" and size <= STOCK_COPIES:
                del figures["kademlia"]  # every node holds all
            local = {"kademlia": "local"} if verb == "get" else {}
            cells = [figures.get(it.name, local.get(it.name, "")) for it in contestants]
            best = max if what.endswith("/s") else min
            rows.append([f"{verb}, {what}", *cells, *_ratios(figures, best)])
    memory = {it.name: it.memory_kib for it in contestants}
    if not times_alone:
        rows.append(["memory of an empty node, KiB", *memory.values(), *_ratios(memory, min)])
    names = [CONTESTANTS[it.name] for it in contestants]
    beside = ("best other", CONTESTANTS[EQUAL])
    ratios = [f"{CONTESTANTS[ours]} / {them}" for ours in OURS if ours in memory for them in beside]
    ratios += [f"{FLOOR} / {beside[0]}"] if FLOOR in memory else []
    return table(["", *names, *ratios], rows)


def _ratios(figures: dict[str, float], best: Callable[[list[float]], float]) -> list[object]:
    """Of each of ours: over the best other, and over the one that does the same; of the floor, if it takes part, over
    the best; empty where there is none."""
    others = [figure for name, figure in figures.items() if name not in (*OURS, FLOOR)]
    beside = ([best(others)] if others else [], [figures[EQUAL]] if EQUAL in figures else [])
    ratios = [figures[ours] / them[0] if them else "" for ours in OURS if ours in figures for them in beside]
    return [*ratios, figures[FLOOR] / beside[0][0] if FLOOR in figures and others else ""]


Sums = dict[tuple[str, int], Sum]
_FIGURES: Final[dict[str, Callable[[Sums, str], float]]] = {
    "p50, ms": lambda sums, verb: percentile(sums[verb, 1].wall_s, 0.5) * 1000,
    "p95, ms": lambda sums, verb: percentile(sums[verb, 1].wall_s, 0.95) * 1000,
    "p99, ms": lambda sums, verb: percentile(sums[verb, 1].wall_s, 0.99) * 1000,
    f"{PARALLEL} at a time, operations/s": lambda sums, verb: sums[verb, PARALLEL].per_s,
    "CPU, ms": lambda sums, verb: sums[verb, 1].cpu_ms,
    f"{PARALLEL} at a time, CPU, ms": lambda sums, verb: sums[verb, PARALLEL].cpu_ms,
    "datagrams": lambda sums, verb: sums[verb, 1].datagrams_each,
}
