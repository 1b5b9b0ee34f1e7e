"""dhtex beside the stock package, OpenDHT and libtorrent, on the same work, at 16, 64 and 256 nodes.

Each contestant has a process and, where the kernel allows it, a loopback of its own (see `peer`); they take turns.
"""

import contextlib
import json
import random
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from math import log2
from typing import Any, Final

from bench.measure import percentile, table
from bench.records import NETWORK, make_orders
from dhtex import limits
from dhtex.clock import SystemClock
from dhtex.market.holding import Taken
from dhtex.market.identity import verify
from dhtex.market.records import signed_message
from dhtex.store.database import Database
from dhtex.store.holdings import Holdings

SIZES: Final = (16, 64, 256)
PARALLEL: Final = 16
CONTESTANTS: Final = {"dhtex": "dhtex", "kademlia": "kademlia", "opendht": "OpenDHT", "libtorrent": "libtorrent"}
VERBS: Final = ("put", "get")
STOCK_COPIES: Final = 20
INTRO = """## Beside other DHTs

The same work on networks of dhtex's overlay, the stock package as shipped, OpenDHT and libtorrent, each network in a
process of its own: values of about 500 bytes are put from random nodes, then read at nodes that do not hold them. One
at a time for the percentiles, then {parallel} at a time. dhtex checks each value at each of its 8 holders (stamp,
signature, rules) and a `put` waits for all of them; libtorrent waits for its 8 holders and checks a hash; stock waits
for 20 and checks nothing; OpenDHT's put ends with the first of 8 that answers. A `get` fetches an order by its id. A
`get of all` asks all holders and compares their answers, which none of the others can. CPU and datagrams are those of
all nodes together, without what the idle network does. The nodes in C++ have threads and use both cores, those in
Python one: compare the CPU too. Our eight holders, in this one process, check and keep an order one after the other:
{keep_us:.0f} µs each, {verify_us:.0f} of them for the signature, so {least_ms:.2f} ms of a put are theirs.{notes}

{tables}

How far a search of dhtex goes: nodes asked one after the other until the nearest to a random point was, and nodes asked
in all before the nearest {holders} had answered.

{hops}
"""


@dataclass(slots=True)
class Sum:
    """What a contestant needed for one kind of work."""

    wall_s: list[float] = field(default_factory=list)
    results: list[Any] = field(default_factory=list)
    batch_s: float = 0.0
    datagrams: float = 0.0
    cpu_s: float = 0.0

    def add(self, answer: dict[str, Any]) -> None:
        self.wall_s += answer["wall_s"]
        self.results += answer["results"]
        self.batch_s += answer["batch_s"]
        self.datagrams += answer["datagrams"]
        self.cpu_s += answer["cpu_s"]

    @property
    def per_s(self) -> float:
        """Operations a second."""
        return len(self.wall_s) / self.batch_s

    @property
    def cpu_ms(self) -> float:
        """CPU of one operation."""
        return self.cpu_s / len(self.wall_s) * 1000

    @property
    def datagrams_each(self) -> float:
        """Datagrams of one operation."""
        return self.datagrams / len(self.wall_s)


class Contestant:
    """The other end of a `peer` process."""

    def __init__(self, name: str, size: int, values: int) -> None:
        self.name = name
        self.sums: dict[tuple[str, int], Sum] = defaultdict(Sum)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.peer", name, str(size), str(values)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.memory_kib = 0.0
        self.isolated = False

    def wait(self) -> None:
        """Until the network has settled."""
        answer = self._read()
        self.memory_kib, self.isolated = answer["ready"], answer["isolated"]

    def do(self, verb: str, first: int, count: int, parallel: int = 1, *, warm: bool = True) -> None:
        """One batch; one that is not `warm` is not counted."""
        assert self.process.stdin is not None
        command = {"verb": verb, "first": first, "count": count, "parallel": parallel}
        print(json.dumps(command), file=self.process.stdin, flush=True)
        answer = self._read()
        if warm:
            self.sums[verb, parallel].add(answer)

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the process of {self.name} has ended"
        answer: dict[str, Any] = json.loads(line)
        return answer


def run(quick: bool) -> str:
    """Measure; the report's section."""
    there = [name for name in CONTESTANTS if find_spec(name) is not None]
    missing = [CONTESTANTS[name] for name in CONTESTANTS if name not in there]
    tables, hops, isolated = [], [], True
    for size in SIZES[:2] if quick else SIZES:
        with networks(there, size, *((2, 10, 50) if quick else (6, 60, 160))) as contestants:
            tables.append(f"{size} nodes:\n\n{_table(size, contestants)}")
            hops.append(_hops(size, contestants[0].sums["search", 1]))
            isolated &= all(contestant.isolated for contestant in contestants)
    notes = [f"\nNot installed here: {' and '.join(missing)} (see `scripts/bench --peers`)."] if missing else []
    notes += [] if isolated else ["\nDatagrams are those of the whole machine."]
    keep_us, verify_us = _holder_us()
    head = ["nodes", "log2", "hops, median", "90 %", "most", "asked, median", "most"]
    return INTRO.format(
        parallel=PARALLEL,
        notes="".join(notes),
        keep_us=keep_us,
        verify_us=verify_us,
        least_ms=limits.HOLDERS * keep_us / 1000,
        tables="\n\n".join(tables),
        holders=limits.HOLDERS,
        hops=table(head, hops),
    )


@contextlib.contextmanager
def networks(names: list[str], size: int, rounds: int, single: int, many: int) -> Iterator[list[Contestant]]:
    """Networks of one size that have done all the work in turns."""
    values = (rounds + 1) * (single + many)
    contestants: list[Contestant] = []
    try:
        contestants += [Contestant(name, size, values) for name in names]
        for contestant in contestants:
            contestant.wait()
        for turn in range(rounds + 1):  # the first makes everybody warm
            first, warm = turn * (single + many), turn > 0
            for contestant in contestants[turn % len(names) :] + contestants[: turn % len(names)]:
                for verb in (*VERBS, "get of all") if contestant.name == "dhtex" else VERBS:
                    contestant.do(verb, first, single, warm=warm)
                    contestant.do(verb, first + single, many, PARALLEL, warm=warm)
                if contestant.name == "dhtex":
                    contestant.do("search", 0, many, warm=warm)
        yield contestants
    finally:
        for contestant in contestants:
            contestant.process.kill()
            contestant.process.communicate()


def _table(size: int, contestants: list[Contestant]) -> str:
    rows: list[list[object]] = []
    for verb in VERBS:
        for what, figure in _FIGURES.items():
            ours, *others = (figure(contestant.sums, verb) for contestant in contestants)
            peers = dict(zip((contestant.name for contestant in contestants[1:]), others, strict=True))
            if verb == "get" and size <= STOCK_COPIES:
                peers.pop("kademlia")  # every node holds all
            best = (max if what.endswith("/s") else min)(peers.values(), default=None)
            of_all = figure(contestants[0].sums, "get of all") if verb == "get" else ""
            cells = [peers.get(contestant.name, "local") for contestant in contestants[1:]]
            rows.append([f"{verb}, {what}", ours, of_all, *cells, "" if best is None else ours / best])
    memory = [contestant.memory_kib for contestant in contestants]
    rows.append(["memory of an empty node, KiB", memory[0], "", *memory[1:], memory[0] / min(memory[1:])])
    names = [CONTESTANTS[contestant.name] for contestant in contestants[1:]]
    return table(["", "dhtex", "dhtex, of all", *names, "dhtex / best other"], rows)


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


def _holder_us() -> tuple[float, float]:
    """CPU microseconds of checking and keeping an order: all in all, and of its signature alone."""
    orders = make_orders(500, 10, random.Random(len(SIZES)))
    holdings, now = Holdings(Database.open(None), NETWORK, 0), SystemClock().now()
    started = time.process_time()
    for order in orders:
        assert holdings.put(order.wire, None, now, "somebody").taken is Taken.STORED
    kept = time.process_time()
    for order in orders:
        assert verify(order.body.maker, signed_message(order.id), order.signature)
    return (kept - started) / len(orders) * 1e6, (time.process_time() - kept) / len(orders) * 1e6


def _hops(size: int, searches: Sum) -> list[object]:
    hops = [hops for hops, _ in searches.results]
    asked = [asked for _, asked in searches.results]
    return [
        size, f"{log2(size):.0f}", f"{statistics.median(hops):.0f}", percentile(hops, 0.9), max(hops),
        f"{statistics.median(asked):.0f}", max(asked),
    ]  # fmt: skip
