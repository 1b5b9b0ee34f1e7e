"""`python -m bench`: run the measurements and print the report as Markdown."""

import argparse
import asyncio
import gc
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench import dead, faces, far, floods, market, messages, overlay, peers, scale, storage, tree, watchers
from bench.measure import machine

REPORT = Path(__file__).resolve().parent.parent / "docs" / "BENCHMARKS.md"
SECTIONS: dict[str, Callable[[bool], str]] = {
    "overlay": lambda quick: asyncio.run(overlay.run(quick)),
    "peers": peers.run,
    "far": far.run,
    "scale": scale.run,
    "dead": lambda quick: asyncio.run(dead.run(quick)),
    "faces": faces.run,
    "market": lambda quick: asyncio.run(market.run(quick)),
    "messages": lambda quick: asyncio.run(messages.run(quick)),
    "watchers": lambda quick: asyncio.run(watchers.run(quick)),
    "storage": storage.run,
    "tree": tree.run,
    "floods": floods.run,
}
HEAD = """# Benchmarks

Made by `scripts/bench --write` on {machine}. Everything runs on one machine over loopback, so round
trips cost almost nothing and the CPU decides: take the ratios, which come from contestants that take turns within one
run, and not the times. Each section comes from one run, and may be older than others. Nothing here is asserted by the
tests.
"""


def merged(report: str, sections: list[str]) -> str:
    """A report with these sections in the place of its own of the same headings; new ones come last."""
    _, *old = report.split("\n## ")
    by_heading = {part.partition("\n")[0]: part.strip() for part in old}
    for section in sections:
        part = section.strip().removeprefix("## ")
        by_heading[part.partition("\n")[0]] = part
    return "".join(f"\n## {part}\n" for part in by_heading.values())


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measure dhtex; print the report as Markdown.")
    parser.add_argument("--write", action="store_true", help=f"put what was measured into docs/{REPORT.name} too")
    parser.add_argument("--quick", action="store_true", help="few rounds, to see that everything works")
    parser.add_argument("--only", choices=sorted(SECTIONS), action="append", help="only this section; may be repeated")
    options = parser.parse_args()
    if options.write and options.quick:
        parser.error("--write needs a run that is not quick")
    head, parts = HEAD.format(machine=machine()), list[str]()
    print(head, flush=True)
    for name, section in SECTIONS.items():
        if not options.only or name in options.only:
            started = time.monotonic()
            if part := section(options.quick):
                parts.append(part)
                print(part, flush=True)  # at once: a later section may fail
            gc.collect()
            print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    if options.write:
        REPORT.write_text(head + merged(REPORT.read_text(encoding="utf-8"), parts), encoding="utf-8")


if __name__ == "__main__":
    main()
