"""What holding many records costs: memory, start-up, reading, and how long writing them keeps the event loop waiting.

Each measurement runs in a process of its own (`python -m bench.storage <what> <file> ...`), so that memory is clean;
only the two shelves whose answers are compared share one, and take turns.
"""

import asyncio
import contextlib
import gc
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench import faces, gets, heldrecords
from bench.heldrecords import Handed, Market
from bench.measure import Stay, microseconds, table
from bench.records import NETWORK
from dhtex import limits
from dhtex.config import NodeConfig
from dhtex.market.admission import Verifier
from dhtex.market.ids import DhtKey
from dhtex.market.records import Kind
from dhtex.node import Node
from dhtex.store.database import Database
from dhtex.store.holdings import Holdings

SEED = 20_261_129
FEW, MANY = 1_000, 100_000
INFLOW_PER_S = 500
INFLOW_S = 20
BURST = 20_000  # orders that end in the same second
BURST_LIFE_S = 100
DECISIONS_PER_S = 5
PAGE_BYTES = 1000
WORTH_S = 1e-4  # shorter turns had nothing to do
HOST = "127.0.0.1"
INTRO = """## Storage

A holder's records in a live market, of all kinds, {wire:.0f} bytes each on average, in a SQLite file on this machine's
disk. Memory is what the process has more than one that holds nothing (RSS), of which the allocations of Python were
counted apart; the memory of good signatures, which is bounded by itself, is left out. Start-up is from nothing: the
file is checked, opened and read, and every row compared with its id and its key. CPU beside the times, because other
processes wanted the processor too.

{memory}

CPU time of a page of {page} bytes, and of a put without writing, at keys that are as large in both; rounds take turns.

{speed}

A `fetch` of an order by its key over loopback, and a `get` of all that is there, by a client that knows nobody but the
holder, both in one process; rounds take turns. Time without that in which another process had the processor. The aim:
unchanged.

{gets}

A whole node with {many} records takes {inflow} new ones a second for {seconds} s, then {burst} expire within one
second and their rows are deleted; {decisions} times a second it decides something, which waits for the disk. Times that
the event loop is held up, without those in which another process had the processor.

{writes}
"""


# --- in a process of its own --------------------------------------------------------------------------------------


def rss_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def put_all(holdings: Holdings, records: Iterator[Handed], write_each: int = 1000) -> list[float]:
    """Hand over records; the CPU time that each took."""
    times = []
    for number, (wire, prefix, source) in enumerate(records):
        now, started = time.time(), time.thread_time()
        holdings.put(wire, prefix, now, source)
        times.append(time.thread_time() - started)
        if number % write_each == 0:
            write_out(holdings)
    write_out(holdings)
    return times


def write_out(holdings: Holdings) -> None:
    while holdings.flush(time.time()):
        pass


def fill(corpus: Path, database_path: Path) -> dict[str, Any]:
    """Take all records of a corpus, and write them."""
    with contextlib.closing(Database.open(database_path)) as database:
        holdings = Holdings(database, NETWORK, 0, Verifier(1))
        before = rss_bytes()
        times = put_all(holdings, heldrecords.saved(corpus))
        grown = rss_bytes() - before
        wires = [len(wire) for _, _, wire in holdings.replicas(time.time())]
    return {
        "count": len(wires),
        "wire": sum(wires) / len(wires),
        "rss": grown / len(wires),
        "put": microseconds(times),
        "file": database_path.stat().st_size / len(wires),
    }


def load(database_path: Path, traced: bool) -> dict[str, Any]:
    """Open a file and read what is held, as a node does when it starts."""
    with contextlib.closing(Database.open(None)) as nothing:
        Holdings(nothing, NETWORK, 0)
        before = rss_bytes()
        if traced:
            tracemalloc.start()
        started, cpu = time.perf_counter(), time.process_time()
        with contextlib.closing(Database.open(database_path)) as database:
            opened = time.perf_counter()
            holdings = Holdings(database, NETWORK, 0)
            ended = time.perf_counter()
            cpu = time.process_time() - cpu
            gc.collect()
            memory = tracemalloc.get_traced_memory()[0] if traced else rss_bytes() - before
            return {
                "count": holdings.count,
                "bytes": memory / holdings.count,
                "open_s": opened - started,
                "load_s": ended - opened,
                "cpu_s": cpu,
            }


def compare(few: Path, many: Path, rounds: int) -> dict[str, Any]:
    """Pages and puts of a small and a large shelf, in turns."""
    shelves = {path: Holdings(Database.open(path), NETWORK, 0) for path in (few, many)}
    chance = random.Random(SEED)
    keys = {path: _keys(holdings) for path, holdings in shelves.items()}
    news = {path: list(heldrecords.saved(path.with_suffix(".more"))) for path in shelves}
    pages: dict[Path, list[float]] = {path: [] for path in shelves}
    puts: dict[Path, list[float]] = {path: [] for path in shelves}
    for turn in range(rounds):
        for path in (few, many) if turn % 2 else (many, few):
            for _ in range(20):
                key, kind = chance.choice(keys[path][chance.randrange(2)]), chance.choice((0, Kind.ORDER))
                now, started = time.time(), time.thread_time()
                shelves[path].page(key, kind, 0, PAGE_BYTES, now)
                pages[path].append(time.thread_time() - started)
            puts[path] += put_all(shelves[path], iter(news[path][turn * 5 : turn * 5 + 5]), rounds)
    return {
        name: {"page": microseconds(pages[path]), "put": microseconds(puts[path])}
        for name, path in (("few", few), ("many", many))
    }


def _keys(holdings: Holdings) -> tuple[list[DhtKey], list[DhtKey]]:
    """Keys of orders, and of index nodes."""
    prefixes = {key: prefix for key, prefix, _ in holdings.replicas(time.time())}
    return [k for k, prefix in prefixes.items() if prefix is None], [k for k, p in prefixes.items() if p is not None]


async def live(home: Path, news: Path, burst: Path, seconds: int) -> dict[str, Any]:
    """A node with many records under load; how long it stays in SQLite each time."""
    turns: dict[str, list[float]] = {"flush": [], "batch": [], "decision": [], "expire": []}
    async with Node(NodeConfig(port=0, host=HOST, network=NETWORK, pow_bits=0, home=home)) as node:
        parts = node._running
        _watch(parts.holdings, "flush", turns["flush"])
        _watch(parts.holdings, "expire", turns["expire"])
        _watch_blocks(parts.database, "batch", turns["batch"])
        for number, one in enumerate(heldrecords.saved(burst)):
            parts.holdings.put(one.wire, one.prefix, time.time(), one.source)
            if number % 50 == 0:
                await asyncio.sleep(0.002)
        started = time.monotonic()
        for number, one in enumerate(heldrecords.saved(news)):
            parts.holdings.put(one.wire, one.prefix, time.time(), one.source)
            if number % (INFLOW_PER_S // DECISIONS_PER_S) == 0:
                stay = Stay()
                with parts.database.decision() as connection:
                    connection.execute("INSERT OR REPLACE INTO facts VALUES('bench', ?)", (number,))
                turns["decision"].append(stay.seconds())
            if number % 5 == 0:
                await asyncio.sleep(max(0.0, started + number / INFLOW_PER_S - time.monotonic()))
        counted = parts.holdings.count
        while parts.holdings.count > counted - BURST * 0.9:
            await asyncio.sleep(0.1)
            assert time.monotonic() < started + seconds + 3 * BURST_LIFE_S, "the burst expires"
        await asyncio.sleep(10.0)
        return {name: {**microseconds(times), "turns": len(times)} for name, times in turns.items() if times} | {
            "log": (home / "node.db-wal").stat().st_size
        }


def _watch(owner: object, name: str, times: list[float]) -> None:
    """Time the calls of a method that did something worth the name."""
    real: Callable[..., Any] = getattr(owner, name)

    def timed(*arguments: Any) -> Any:
        stay = Stay()
        try:
            return real(*arguments)
        finally:
            took = stay.seconds()
            if took > WORTH_S:
                times.append(took)

    setattr(owner, name, timed)


def _watch_blocks(owner: object, name: str, times: list[float]) -> None:
    real: Callable[..., Any] = getattr(owner, name)

    @contextlib.contextmanager
    def timed() -> Iterator[Any]:
        stay = Stay()
        with real() as connection:
            yield connection
        times.append(stay.seconds())

    setattr(owner, name, timed)


def main(what: str, *words: str) -> None:
    paths = [Path(word) for word in words]
    if what == "fill":
        result = fill(paths[0], paths[1])
    elif what in ("load", "trace"):
        result = load(paths[0], what == "trace")
    elif what == "compare":
        result = compare(paths[0], paths[1], int(words[2]))
    elif what == "gets":
        result = asyncio.run(gets.compare(paths[0], paths[1], int(words[2])))
    else:
        result = asyncio.run(live(paths[0], paths[1], paths[2], int(words[3])))
    print(json.dumps(result))


# --- the report ---------------------------------------------------------------------------------------------------


def apart(*words: object) -> dict[str, Any]:
    """Measure in a process of its own."""
    run = subprocess.run(
        [sys.executable, "-m", "bench.storage", *map(str, words)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    found: dict[str, Any] = json.loads(run.stdout)
    return found


def run(quick: bool) -> str:
    """Measure; the report's section."""
    many, seconds = (FEW * 10, 4) if quick else (MANY, INFLOW_S)
    with tempfile.TemporaryDirectory(prefix="dhtex-bench-") as folder:
        paths = {FEW: Path(folder) / "few.db", many: Path(folder) / "home" / "node.db"}
        paths[many].parent.mkdir()
        figures = {count: _hold(path, count, quick) for count, path in paths.items()}
        speed = apart("compare", paths[FEW], paths[many], 50 if quick else 400)
        got = apart("gets", paths[FEW], paths[many], 10 if quick else 200)
        start_s = _start_s(Path(folder), paths[many])
        writes = _write(Path(folder), paths[many].parent, seconds)
    largest = figures[many]
    return INTRO.format(
        wire=largest["fill"]["wire"],
        memory=_memory(figures, start_s),
        page=PAGE_BYTES,
        speed=_ratios(speed),
        gets=_ratios(got),
        many=f"{many:,}",
        inflow=INFLOW_PER_S,
        seconds=seconds,
        burst=f"{BURST:,}",
        decisions=DECISIONS_PER_S,
        writes=_writes(writes),
    )


def _hold(path: Path, count: int, quick: bool) -> dict[str, Any]:
    market = Market(int(time.time()), random.Random(SEED + count), count)
    corpus = path.with_suffix(".records")
    heldrecords.save(corpus, market.records(count * 11 // 10))  # some close others, and beats are not written
    heldrecords.save(path.with_suffix(".more"), market.records(5 * (50 if quick else 400)))
    filled = apart("fill", corpus, path)
    loads = [apart("load", path) for _ in range(1 if quick else 3)]
    return {"fill": filled, "load": min(loads, key=lambda one: float(one["load_s"])), "trace": apart("trace", path)}


def _start_s(folder: Path, database_path: Path) -> tuple[float, float]:
    """How long `dhtex start` takes with this file, until it says that the node is ready; and how much CPU."""
    port = 47_117
    home = folder / "cli" / "nodes" / str(port)
    home.mkdir(parents=True)
    os.link(database_path, home / "node.db")
    environment = {**os.environ, "DHTEX_HOME": str(folder / "cli")}
    words = [sys.executable, "-m", "dhtex"]
    options = ["--port", str(port), "--host", HOST, "--network", NETWORK, "--pow-bits", "0"]
    times = []
    for _ in range(4):  # the first compiles what a start imports
        started, children = time.perf_counter(), os.times().children_user + os.times().children_system
        subprocess.run([*words, "start", *options], env=environment, check=True, capture_output=True)
        took = time.perf_counter() - started
        pid = int(json.loads((home / "node.json").read_text())["pid"])
        cpu = os.times().children_user + os.times().children_system - children + faces.cpu_s(pid)
        times.append((took, cpu))
        subprocess.run([*words, "stop", "--all"], env=environment, check=True, capture_output=True)
    (home / "node.db").unlink()
    return min(times[1:])


def _write(folder: Path, home: Path, seconds: int) -> dict[str, Any]:
    market = Market(int(time.time()), random.Random(SEED), MANY)
    news, burst = folder / "news", folder / "burst"
    heldrecords.save(news, market.records(INFLOW_PER_S * seconds))
    heldrecords.save(burst, market.burst(BURST, BURST_LIFE_S))
    return apart("live", home, news, burst, seconds)


def _memory(figures: dict[int, dict[str, Any]], start_s: tuple[float, float]) -> str:
    def row(what: str, value: Callable[[dict[str, Any]], float], aim: str) -> tuple[object, ...]:
        return (what, *(value(one) for one in figures.values()), aim)

    largest = list(figures.values())[-1]
    rows = [
        row("memory of a record after a start, bytes", lambda one: float(one["load"]["bytes"]), "≤ 2 x size + 300"),
        row("2 x size + 300, bytes", lambda one: 2 * float(one["fill"]["wire"]) + 300, ""),
        row("memory of a record that was put, bytes", lambda one: float(one["fill"]["rss"]), ""),
        row("allocated by Python after a start, bytes", lambda one: float(one["trace"]["bytes"]), ""),
        row("size of the file, bytes a record", lambda one: float(one["fill"]["file"]), ""),
        row("check and open the file, s", lambda one: float(one["load"]["open_s"]), ""),
        row("read all records, s", lambda one: float(one["load"]["load_s"]), ""),
        row("CPU of both, s", lambda one: float(one["load"]["cpu_s"]), ""),
        ("`dhtex start` until it is ready, s", "", start_s[0], "≤ 3"),
        ("CPU of that, both processes, s", "", start_s[1], ""),
    ]
    head = ["what", *(f"{one['load']['count']:,} records" for one in figures.values()), "aim"]
    assert largest["load"]["count"], "something is held"
    return table(head, rows)


def _ratios(measured: dict[str, Any]) -> str:
    rows = []
    for what in measured["few"]:
        for share in ("p50", "p99"):
            few, many = measured["few"][what][share], measured["many"][what][share]
            rows.append((f"{what}, {share}, µs", few, many, f"{many / few:.2f}"))
    return table(["operation", f"{FEW:,} records", "many records", "ratio"], rows)


def _writes(writes: dict[str, Any]) -> str:
    names = {
        "batch": "a batch of held records in SQLite",
        "flush": "a turn of flushing",
        "expire": "a turn of expiring",
        "decision": "a decision, on disk when it returns",
    }
    rows = [
        (f"{text}, ms", one["turns"], one["p50"] / 1000, one["p99"] / 1000, one["max"] / 1000, aim)
        for name, text in names.items()
        for aim in ["≤ 10 at p99" if name in ("batch", "flush") else ""]
        if (one := writes.get(name))
    ]
    rows.append(("size of the write-ahead log, MiB", "", "", "", writes["log"] / (1 << 20), ""))
    return table(["what", "turns", "p50", "p99", "max", "aim"], rows)


if __name__ == "__main__":
    assert limits.RECORDS_HELD_MAX > MANY, "the node takes them all"
    main(*sys.argv[1:])
