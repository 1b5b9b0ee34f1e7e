"""Plays histories one after the other and says what came of them: `python -m dhtex.sim.run --seeds 20`."""

import argparse
import gc
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

from dhtex.sim import sabotage
from dhtex.sim.history import History
from dhtex.sim.loop import StuckError, VirtualLoop
from dhtex.sim.shrink import shrink
from dhtex.sim.workload import EMPHASES
from dhtex.sim.world import Outcome, Settings, live

VIOLATIONS_SHOWN: Final = 12


def play_history(settings: Settings, trace: Callable[[str], None] | None = None, planted: str = "") -> Outcome:
    """Play one history from its seed; `planted` names a bug to put into the product for that time."""
    history = History()
    history.trace = trace
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()  # what is collected when must not depend on what else the process did
    loop = VirtualLoop()
    try:
        with sabotage.planted(planted):
            return loop.run_until_complete(live(settings, history))
    except StuckError as error:
        history.violation(loop.time(), "no_exception", str(error))
        return Outcome(settings, history.digest, loop.time(), history.counts, history.violations)
    finally:
        loop.close()
        if collecting:
            gc.enable()


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/sim", description="Simulate whole networks and check what must hold."
    )
    parser.add_argument("--seeds", type=int, default=20, metavar="N", help="how many histories (20)")
    parser.add_argument("--seed", type=int, metavar="S", help="play this one history, or begin with this one")
    parser.add_argument("--nodes", type=int, default=0, metavar="N", help="machines in each (3 to 6, by chance)")
    parser.add_argument("--hours", type=float, default=0.05, metavar="H", help="virtual hours of trouble (0.05)")
    parser.add_argument("--faults", default="", metavar="NAMES", help="which faults, with commas; none; else by chance")
    parser.add_argument("--actions", type=int, default=0, metavar="N", help="end people's doings after so many")
    parser.add_argument("--emphasis", default="", metavar="NAMES", help=f"done more often, of {','.join(EMPHASES)}")
    parser.add_argument("--shrink", action="store_true", help="look for a shorter history that breaks the same")
    parser.add_argument("--sabotage", default="", choices=["", *sabotage.NAMES], metavar="NAME", help="plant a bug")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="histories played at the same time (1)")
    parser.add_argument("--trace", metavar="FILE", help="write everything that happens, of one history")
    parser.add_argument("--list-sabotages", action="store_true", help="name the bugs that can be planted, and end")
    return parser.parse_args(arguments)


def _settings(options: argparse.Namespace, seed: int) -> Settings:
    return Settings(
        seed=seed,
        nodes=options.nodes,
        hours=options.hours,
        faults=options.faults,
        actions=options.actions,
        emphasis=options.emphasis,
        stop_early=bool(options.sabotage or options.shrink),
    )


def _play(options: argparse.Namespace, seed: int) -> Outcome:
    settings = _settings(options, seed)
    if options.trace is None:
        return play_history(settings, planted=options.sabotage)
    with Path(options.trace).open("w", encoding="utf-8") as file:
        return play_history(settings, lambda line: print(line, file=file), options.sabotage)


def replay_command(settings: Settings, planted: str = "") -> str:
    """The one command that plays a history again."""
    words = [f"scripts/sim --seeds 1 --seed {settings.seed} --nodes {settings.nodes} --hours {settings.hours:g}"]
    words += [f"--faults {settings.faults}"] if settings.faults else []
    words += [f"--actions {settings.actions}"] if settings.actions else []
    words += [f"--emphasis {settings.emphasis}"] if settings.emphasis else []
    words += [f"--sabotage {planted}"] if planted else []
    return " ".join(words)


def _commit() -> str:
    git = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return git.stdout.strip() or "unknown"


def _outcomes(options: argparse.Namespace, seeds: range) -> Iterator[Outcome]:
    if options.jobs == 1:
        yield from (_play(options, seed) for seed in seeds)
        return
    with ProcessPoolExecutor(options.jobs, max_tasks_per_child=None) as pool:
        yield from pool.map(partial(_play, options), seeds)


def main(arguments: list[str] | None = None) -> int:
    """The command; 1 when an invariant was broken."""
    options = _options(arguments)
    if options.list_sabotages:
        print("\n".join(f"{name:24} {bug.__doc__}" for name, (bug, *_) in sabotage.NAMES.items()))
        return 0
    if options.sabotage and not options.faults:
        _, options.faults, options.emphasis = sabotage.NAMES[options.sabotage]
    first = 1 if options.seed is None else options.seed
    seeds = range(first, first + (1 if options.trace else options.seeds))
    began, totals, virtual_s, bad = time.monotonic(), Counter[str](), 0.0, list[Outcome]()
    for done, outcome in enumerate(_outcomes(options, seeds), 1):
        totals.update(outcome.counts)
        virtual_s += outcome.virtual_s
        if outcome.violations:
            bad.append(outcome)
            _report(outcome, options.sabotage)
            if options.shrink:
                _shrink(outcome, options.sabotage)
        seconds = time.monotonic() - began
        line = f"{done}/{len(seeds)} histories, {virtual_s / 3600:.1f} virtual hours, {len(bad)} bad, {seconds:.0f} s"
        sent, rate = outcome.counts["datagrams"], outcome.counts["rate_max"]
        print(f"seed {outcome.settings.seed}: {outcome.digest} {sent} sent, {rate}/s  {line}", flush=True)
    _summarise(totals, len(seeds), virtual_s, sum(len(outcome.violations) for outcome in bad), time.monotonic() - began)
    return 1 if bad else 0


def _report(outcome: Outcome, planted: str) -> None:
    print(f"seed {outcome.settings.seed} is BROKEN (commit {_commit()}); play it again with:")
    print(f"    {replay_command(outcome.settings, planted)}")
    for violation in outcome.violations[:VIOLATIONS_SHOWN]:
        print(f"  {violation}")
    if len(outcome.violations) > VIOLATIONS_SHOWN:
        print(f"  and {len(outcome.violations) - VIOLATIONS_SHOWN} more")


def _shrink(outcome: Outcome, planted: str) -> None:
    def play(settings: Settings) -> Outcome:
        found = play_history(settings, planted=planted)
        verdict = "broken too" if found.violations else "sound"
        print(f"  {settings.actions or 'all'} actions, {settings.hours:g} h, {settings.faults}: {verdict}", flush=True)
        return found

    best = shrink(outcome, play)
    print(f"  {best.counts['actions']} actions instead of {outcome.counts['actions']} break it, which this plays:")
    print(f"    {replay_command(best.settings, planted)}")
    for violation in best.violations[:VIOLATIONS_SHOWN]:
        print(f"  {violation}")


def _summarise(totals: Counter[str], histories: int, virtual_s: float, violations: int, real_s: float) -> None:
    rows: dict[str, Any] = {
        "histories": histories,
        "virtual hours": f"{virtual_s / 3600:.1f}",
        "datagrams": totals["datagrams"],
        "lost, cut off": totals["lost"] + totals["cut_off"],
        "orders": totals["orders"] + totals["amended"],
        "ends signed": totals["ends"],
        "accepts": sum(count for name, count in totals.items() if name.startswith("accepts_")),
        "confirmed": totals["accepts_confirmed"],
        "decisions": totals["writes_decision"],
        "kills": totals["kills"],
        "power losses": totals["power_losses"],
        "stale returns": totals["stale_returns"],
        "restores": totals["restores"],
        "writes refused": totals["write_errors"],
        "two-faced makers": totals["two_faced"],
        "proofs due, lost": f"{totals['proofs_due']}, {totals['proofs_lost']}",
        "floods of accepts": totals["floods"],
        "violations": violations,
        "virtual : real": f"{virtual_s / max(real_s, 0.001):.0f} : 1",
    }
    print("\n".join(f"{name:18}{value:>14}" for name, value in rows.items()))


if __name__ == "__main__":
    sys.exit(main())
