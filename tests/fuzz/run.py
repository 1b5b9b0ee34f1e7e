"""The long run: `scripts/fuzz --datagrams 10000000 --seed 7`. Ends with 1 if it found anything."""

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.fuzz import flood
from tests.fuzz.datagrams import Siege
from tests.fuzz.decoders import fuzz_files, fuzz_records

GROWTH_MB_MAX = 64  # after the first tenth, when caches and tables have filled, and beside the records that are held
HELD_BYTES = 2700  # of one in memory and in a database in memory, measured; it may hold 200,000
PAGE_BYTES = 4096


def memory_mb() -> float:
    """What this process has in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES / 1e6


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    options = _options(arguments)
    if options.flood:
        return flood.main(options.flood, options.seconds)
    print(f"seed {options.seed}", flush=True)
    findings: list[str] = []
    counts: Counter[str] = Counter()
    began, memory = time.monotonic(), list[float]()

    def progress(siege: Siege, done: int) -> None:
        now, held = memory_mb(), siege.held
        memory.append(now - held * HELD_BYTES / 1e6)
        per_s, found = done / (time.monotonic() - began), len(siege.findings.rows)
        print(f"{done} datagrams, {per_s:.0f}/s, {now:.0f} MB, {held} records held, {found} findings", flush=True)

    siege = Siege(options.seed)
    siege.run(options.datagrams, progress)
    findings += siege.findings.rows
    counts.update(siege.counts)
    counts.update(fuzz_records(options.records, options.seed, findings))
    with tempfile.TemporaryDirectory() as folder:
        counts.update(fuzz_files(options.files, options.seed, Path(folder), findings))
    for name, count in sorted(counts.items()):
        print(f"{name:28}{count:>12}")
    if len(memory) >= 10:
        growth = memory[-1] - memory[len(memory) // 10]
        print(f"{'memory growth, MB, beside':28}{growth:>12.1f}")
        if growth > GROWTH_MB_MAX:
            findings.append(f"memory grew by {growth:.0f} MB; {GROWTH_MB_MAX} are allowed")
    for finding in findings[:20]:
        print(finding)
    print(f"{len(findings)} findings with seed {options.seed} in {time.monotonic() - began:.0f} s")
    return 1 if findings else 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description="Send spoilt bytes wherever a stranger may.")
    parser.add_argument("--datagrams", type=int, default=200_000, metavar="N", help="how many datagrams (200000)")
    parser.add_argument("--records", type=int, default=50_000, metavar="N", help="records at a holder (50000)")
    parser.add_argument("--files", type=int, default=500, metavar="N", help="state files (500)")
    parser.add_argument(
        "--seed", type=int, default=random.SystemRandom().randrange(1 << 32), metavar="S", help="chance"
    )
    flood.options(parser)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
