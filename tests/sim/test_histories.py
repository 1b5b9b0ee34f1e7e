"""Whole histories: repeatable to the byte, hours long, without a violation; and every planted bug is found."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dhtex.sim import sabotage
from dhtex.sim.run import main, play_history, replay_command
from dhtex.sim.world import Settings

ROOT = Path(__file__).resolve().parents[2]
SEEDS_MAX = 8
ALL = "loss,tail,doubling,replay,garble,cuts,crashes,power,clocks,slow,disk_full"
ONE = """
import sys
from dhtex.sim.run import play_history
from dhtex.sim.world import Settings
outcome = play_history(Settings(seed=int(sys.argv[1]), nodes=3, hours=0.1, faults=sys.argv[2], judged=False))
print(outcome.digest, outcome.counts["datagrams"])
"""


def history_elsewhere(seed: int, hash_seed: int) -> str:
    """The hash of a history that another process plays."""
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", ONE, str(seed), ALL]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=ROOT).stdout


def test_a_seed_is_one_history_in_every_process_and_another_seed_another() -> None:
    first, again, other = history_elsewhere(1, 1), history_elsewhere(1, 2), history_elsewhere(2, 1)
    assert first == again
    assert first != other
    here = play_history(Settings(seed=1, nodes=3, hours=0.1, faults=ALL, judged=False))
    assert first.split()[0] == here.digest


def test_periodic_work_is_done_through_all_virtual_hours() -> None:
    lines: list[str] = []
    outcome = play_history(Settings(seed=3, nodes=2, hours=1.0, faults="none", judged=False), lines.append)
    assert not outcome.violations
    assert outcome.virtual_s > 3600
    quarters = range(int(outcome.virtual_s) // 900)
    for what in (" > ", " batch "):
        done = [float(line.split(" ", 1)[0]) for line in lines if what in line]
        for quarter in quarters:
            assert sum(quarter * 900 <= at < (quarter + 1) * 900 for at in done) > 20, (what, quarter)


@pytest.mark.parametrize(("seed", "faults"), [(11, "loss,cuts,clocks"), (12, "crashes,power,disk_full")])
def test_what_must_hold_holds(seed: int, faults: str) -> None:
    outcome = play_history(Settings(seed=seed, nodes=3, hours=0.1, faults=faults))
    assert outcome.violations == []
    assert outcome.counts["accepts_confirmed"] > 0


FIRST_SEEDS = {
    "self_accept": 2,
    "unsynced_decisions": 2,
    "no_idempotency": 11,
    "no_replay": 2,
}  # others from 1; saves time only
HOURS = {"no_idempotency": 0.3}  # the overlay drops copies too, so this one shows seldom
ONLY_SEEN_AT_THE_END = {"no_replay"}


@pytest.mark.parametrize("name", sorted(sabotage.NAMES))
def test_every_planted_bug_is_found(name: str) -> None:
    faults, first = sabotage.NAMES[name][1], FIRST_SEEDS.get(name, 1)
    for seed in range(first, first + SEEDS_MAX):
        judged = name in ONLY_SEEN_AT_THE_END
        hours = HOURS.get(name, 0.2)
        settings = Settings(seed=seed, nodes=4, hours=hours, faults=faults, stop_early=True, judged=judged)
        if play_history(settings, planted=name).violations:
            return
    pytest.fail(f"{name} was not found")


def test_a_broken_history_says_how_to_play_it_again(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--seeds", "1", "--seed", "1", "--nodes", "4", "--hours", "0.2", "--sabotage", "two_fills"]
    assert main(arguments) == 1
    said = capsys.readouterr().out
    command = replay_command(Settings(seed=1, nodes=4, hours=0.2, faults="none"), "two_fills")
    assert f"    {command}\n" in said
    assert "BROKEN (commit " in said
