"""dhtex beside the stock package, OpenDHT and libtorrent, on the same work, at 16, 64 and 256 nodes.

Each contestant has processes and, where the kernel allows it, a loopback of its own (see `peer`); they take turns.
"""

import random
import statistics
import time
from collections import Counter
from math import log2
from typing import Final

from bench.contestants import PARALLEL, SIZES, Contestant, Sum, comparison, installed, lost, networks
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

INTRO: Final = """## Beside other DHTs

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


def run(quick: bool) -> str:
    """Measure; the report's section."""
    there, missing = installed()
    tables, hops, isolated, misses = [], [], True, Counter[str]()
    for size in SIZES[:2] if quick else SIZES:
        rounds, single, many = (2, 10, 50) if quick else (6, 60, 160)
        with networks(there, size, (rounds + 1) * (single + many)) as contestants:
            for turn in range(rounds + 1):  # the first makes everybody warm
                _take_turns(contestants, turn, single, many)
            tables.append(f"{size} nodes:\n\n{comparison(size, contestants)}")
            hops.append(_hops(size, contestants[0].sums["search", 1]))
            isolated &= all(contestant.isolated for contestant in contestants)
            misses.update(lost(contestants))
    notes = [f"\nNot installed here: {'; '.join(missing)} (see `scripts/bench --peers`)."] if missing else []
    notes += [] if isolated else ["\nDatagrams are those of the whole machine."]
    notes += [f"\nPuts and gets of {name} that failed: {count}." for name, count in misses.items() if count]
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


def _take_turns(contestants: list[Contestant], turn: int, single: int, many: int) -> None:
    first, warm, begins = turn * (single + many), turn > 0, turn % len(contestants)
    for contestant in contestants[begins:] + contestants[:begins]:
        for verb in contestant.verbs:
            contestant.do(verb, first, single, warm=warm)
            contestant.do(verb, first + single, many, PARALLEL, warm=warm)
        if contestant.name == "dhtex":
            contestant.do("search", 0, many, warm=warm)


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
