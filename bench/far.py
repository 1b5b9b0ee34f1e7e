"""dhtex beside the stock package, OpenDHT and libtorrent, on the same work, where nodes are far apart (see `distance`).

There the way of a datagram decides, and hardly the CPU. So all do their work at the same time when it is one operation
after the other, and take turns only where each has many under way.
"""

import os
import sys
from typing import Final

from bench.contestants import FLOOR, PARALLEL, SIZES, VERBS, Contestant, comparison, installed, lost, networks
from bench.distance import SPREAD, TUNNELS, WAY_S

STOCK: Final = "kademlia"  # everybody else would wait for it
INTRO: Final = """## Beside other DHTs, far apart

The same contestants and the same work as above, but a datagram takes {way_ms:.0f} ms on its way in the median, and as
long back. How long depends on the two nodes: it is spread by e^±{spread} among the pairs, and stays the same, for all
contestants alike. No datagram is lost. It is a tunnel through which each datagram of each contestant passes, all nodes
still being on one machine (`bench/distance.py`). Datagrams and CPU are not told: as long as this takes, most are what
the networks do anyway.

What this shows is what a user waits for on the Internet: how often one has to wait for an answer, and for whose.
{notes}
{tables}
"""


def run(quick: bool) -> str:
    """Measure; the report's section, empty where there can be no tunnel."""
    if os.geteuid() or not TUNNELS.exists():
        print(f"not measured: far needs root and {TUNNELS}", file=sys.stderr)
        return ""
    there, missing = installed()
    there.remove(FLOOR)
    rounds, single, many = (2, 12, 48) if quick else (4, 60, 160)
    tables, notes = [], [f"Not installed here: {'; '.join(missing)} (see `scripts/bench --peers`)."] if missing else []
    for size in SIZES[:2] if quick else SIZES:
        with networks(there, size, (rounds + 1) * (single + many), far=True) as contestants:
            for turn in range(rounds + 1):  # the first makes everybody warm
                for verb in VERBS:
                    able = [contestant for contestant in contestants if verb in contestant.verbs]
                    _do(verb, able, turn, single, many)
            tables.append(f"{size} nodes:\n\n{comparison(size, contestants, times_alone=True)}")
            misses = lost(contestants)
            notes += [f"Puts and gets of {name} that failed: {count}." for name, count in misses.items() if count]
    return INTRO.format(
        way_ms=WAY_S * 1000,
        spread=SPREAD,
        notes="".join(f"{note}\n" for note in notes),
        tables="\n\n".join(tables),
    )


def _do(verb: str, contestants: list[Contestant], turn: int, single: int, many: int) -> None:
    first, warm = turn * (single + many), turn > 0
    for contestant in contestants:
        contestant.order(verb, first, single // (3 if contestant.name == STOCK else 1), 1)
    for contestant in contestants:
        contestant.gather(verb, 1, warm)
    for contestant in contestants:
        contestant.do(verb, first + single, many, PARALLEL, warm=warm)
