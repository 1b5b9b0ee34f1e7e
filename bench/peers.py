"""dhtex beside the stock package, OpenDHT and libtorrent, on the same work, at 16, 64 and 256 nodes.

Each contestant has processes and, where the kernel allows it, a loopback of its own (see `peer`); they take turns.
"""

import contextlib
import json
import random
import statistics
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from math import log2
from typing import Any, Final

from bench import compiled
from bench.crew import CORES
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
INTRO = """## Beside other DHTs

The same work on networks of dhtex's overlay, the stock package as shipped, OpenDHT and libtorrent: values of about 500
bytes are put from random nodes, then read at nodes that do not hold them. One at a time for the percentiles, then
{parallel} at a time. CPU and datagrams are those of all nodes together, without what the idle network does: medians of
some batches.

All may use the same cores. The nodes in C++ share one process for each network, in which they have threads of their
own. Those in Python have none, so they are dealt out evenly to {workers}, one for each core, which divide
what is done at a time between them; in real life every node is a process.

What is checked, and what is waited for:

- dhtex, and dhtex with its busiest modules compiled: each of 8 holders checks stamp, signature and rules, and a `put`
  waits for all of them; the value was signed before. A `get` fetches an order by its id and ends with the first whose
  hash is right. A `get of all` asks all holders and compares what they have.
- libtorrent, signed (mutable items of BEP 44): each of 8 holders checks the signature, and a `put`, which makes that
  signature too, waits for all of them. A `get` ends with the first value whose signature is right; its search goes on
  to all holders, which may have a newer version, and its CPU and datagrams contain that. A `get of all` waits for it.
- libtorrent (immutable items): the same with a hash in place of a signature, and a `get` is over with the first value.
- kademlia: a `put` waits for 20 holders, a `get` for all three that it asks at a time. Nothing is checked.
- OpenDHT: a `put` ends with the first of 8 holders that answers, a `get` with the first value. Nothing is checked: the
  values are not signed for it.
- floor, in Python too, is no network: everybody knows everybody, and who holds what. A `put` is two questions for each
  hop of a search (see below), and then the record for each of 8 holders, which check its signature; a `get` is one
  question, and a hash. Nothing is done with the answers of the search, and there are no rules, time-outs, rates and
  tokens. Who checks signatures in Python can do no more than this.

The aim is to be no slower than the best of the others. What of that a `put` in Python can reach at all shows the last
column: where the floor is at or above 1 (for operations a second: at or below), nothing that does more can reach it.

So a `put` of dhtex does what one of libtorrent, signed, does; the others do less. To check and keep an order takes a
holder of dhtex {keep_us:.0f} µs of CPU (not compiled), {verify_us:.0f} of them for the signature: of a put,
{all_ms:.2f} ms of CPU are those of its {holders} holders. They wait for each other only where they are in one
process.{notes}

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
    there = [name for name in CONTESTANTS if name == FLOOR or find_spec(name.partition("-")[0]) is not None]
    if not compiled.is_there():
        there.remove(OURS[1])
    missing = [CONTESTANTS[name] for name in CONTESTANTS if name not in there]
    tables, hops, isolated, lost = [], [], True, Counter[str]()
    for size in SIZES[:2] if quick else SIZES:
        with networks(there, size, *((2, 10, 50) if quick else (6, 60, 160))) as contestants:
            tables.append(f"{size} nodes:\n\n{_table(size, contestants)}")
            hops.append(_hops(size, contestants[0].sums["search", 1]))
            isolated &= all(contestant.isolated for contestant in contestants)
            lost.update(_lost(contestants))
    notes = [f"\nNot installed here: {'; '.join(missing)} (see `scripts/bench --peers`)."] if missing else []
    notes += [] if isolated else ["\nDatagrams are those of the whole machine."]
    notes += [f"\nGets of {name} that found nothing: {count}." for name, count in lost.items() if count]
    keep_us, verify_us = _holder_us()
    head = ["nodes", "log2", "hops, median", "90 %", "most", "asked, median", "most"]
    return INTRO.format(
        parallel=PARALLEL,
        notes="".join(notes),
        keep_us=keep_us,
        verify_us=verify_us,
        workers="one process" if CORES == 1 else f"{CORES} processes",
        all_ms=limits.HOLDERS * keep_us / 1000,
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
                for verb in VERBS if contestant.name in (*OURS, EQUAL) else VERBS[:-1]:
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
            figures = {it.name: figure(it.sums, verb) for it in contestants if (verb, 1) in it.sums}
            if verb == "get" and size <= STOCK_COPIES:
                del figures["kademlia"]  # every node holds all
            local = {"kademlia": "local"} if verb == "get" else {}
            cells = [figures.get(it.name, local.get(it.name, "")) for it in contestants]
            best = max if what.endswith("/s") else min
            rows.append([f"{verb}, {what}", *cells, *_ratios(figures, best)])
    memory = {it.name: it.memory_kib for it in contestants}
    rows.append(["memory of an empty node, KiB", *memory.values(), *_ratios(memory, min)])
    names = [CONTESTANTS[it.name] for it in contestants]
    beside = ("best other", CONTESTANTS[EQUAL])
    ratios = [f"{CONTESTANTS[ours]} / {them}" for ours in OURS if ours in memory for them in beside]
    ratios.append(f"{FLOOR} / {beside[0]}")
    return table(["", *names, *ratios], rows)


def _lost(contestants: list[Contestant]) -> dict[str, int]:
    """How many gets found nothing, of those that say so."""
    gets = {it.name: [it.sums[key] for key in list(it.sums) if key[0] in VERBS[1:]] for it in contestants}
    return {CONTESTANTS[name]: sum(each.results.count(False) for each in sums) for name, sums in gets.items()}


def _ratios(figures: dict[str, float], best: Callable[[list[float]], float]) -> list[object]:
    """Of each of ours: over the best other, and over the one that does the same; of the floor over the best; empty
    where there is none."""
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
