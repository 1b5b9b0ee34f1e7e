"""What a crash leaves on a simulated disk: all decisions always, batches unless the power was lost."""

import random
from pathlib import Path

import pytest

from dhtex.sim.disk import HELD, Disk, roll_back_held
from dhtex.sim.loop import Life


def opened(path: Path) -> Disk:
    path.parent.mkdir(parents=True, exist_ok=True)
    disk = Disk.open(path)
    assert isinstance(disk, Disk)
    disk.attach(path, Life("machine"), lambda kind: True, lambda kind: None)
    return disk


def kept(disk: Disk) -> set[int]:
    return {port for (port,) in disk.rows("SELECT port FROM peers")}


def write(disk: Disk, number: int, how: str) -> None:
    with getattr(disk, how)() as connection:
        connection.execute("INSERT INTO peers VALUES(?, '10.0.0.1', ?)", (number.to_bytes(20), number))


def after_a_crash(tmp_path: Path, power_lost: bool, seed: int) -> set[int]:
    """What is left of ten decisions (even numbers) and batches (odd), a batch last."""
    disk = opened(tmp_path / f"{seed}" / "node.db")
    for number in range(10):
        write(disk, number, "batch" if number % 2 else "decision")
    target = tmp_path / f"{seed}-after" / "node.db"
    target.parent.mkdir()
    disk.salvage(target, power_lost, random.Random(seed))
    found = opened(target)
    left = kept(found)
    found.close()
    return left


def test_a_kill_loses_nothing_that_was_written(tmp_path: Path) -> None:
    assert after_a_crash(tmp_path, power_lost=False, seed=1) == set(range(10))


def test_a_loss_of_power_loses_no_decision_and_sometimes_the_batch_after_it(tmp_path: Path) -> None:
    left = [after_a_crash(tmp_path, power_lost=True, seed=seed) for seed in range(12)]
    assert all(found >= set(range(9)) for found in left)
    assert {9 in found for found in left} == {True, False}


def test_a_batch_after_a_checkpoint_is_the_only_thing_at_risk(tmp_path: Path) -> None:
    disk = opened(tmp_path / "a" / "node.db")
    for number in range(10):
        write(disk, number, "batch")
    disk.rows("PRAGMA wal_checkpoint(FULL)")
    write(disk, 10, "batch")
    (tmp_path / "b").mkdir()
    disk.salvage(tmp_path / "b" / "node.db", True, random.Random(3))
    found = opened(tmp_path / "b" / "node.db")
    assert kept(found) >= set(range(10))
    found.close()


@pytest.mark.parametrize("seed", range(3))
def test_unsynced_decisions_would_be_lost(tmp_path: Path, seed: int) -> None:
    disk = opened(tmp_path / "a" / "node.db")
    for number in range(10):
        write(disk, number, "batch")
    (tmp_path / "b").mkdir()
    disk.salvage(tmp_path / "b" / "node.db", True, random.Random(seed))
    found = opened(tmp_path / "b" / "node.db")
    assert kept(found) < set(range(10))
    found.close()


def test_a_file_can_hold_what_it_held_at_another_time(tmp_path: Path) -> None:
    path = tmp_path / "a" / "node.db"
    disk = opened(path)
    rows = [(bytes([number]) * 20, bytes([number]) * 32, None, 1, b"record") for number in range(3)]
    with disk.batch() as connection:
        connection.executemany(
            "INSERT INTO held(dht_key, record_id, prefix, anchored, wire) VALUES(?, ?, ?, ?, ?)", rows
        )
    disk.close()
    roll_back_held(path, list(rows[:1]))
    found = opened(path)
    assert found.rows(HELD) == rows[:1]
    found.close()
