"""Copies of a node's file: of one moment, private, never over something else, and one epoch later when put back."""

import os
import random
import sqlite3
import stat
from pathlib import Path

import pytest

from dhtex.errors import NotFoundError, StateError, UsageError
from dhtex.store import copying
from dhtex.store import database as database_module
from dhtex.store.copying import back_up, put_back
from dhtex.store.database import Database
from dhtex.store.journal import Journal
from dhtex.store.rows import NodeIdentity
from tests.unit.store.samples import STATUS, name, own_order, trade


def fill(database: Database, count: int = 2) -> NodeIdentity:
    journal = Journal(database)
    for number in range(1, count + 1):
        journal.add_order(own_order(number))
    assert journal.decide_fill(name(1), name(100), STATUS, trade())
    with database.batch() as connection:
        connection.execute("INSERT INTO held VALUES(1, x'01', x'02', NULL, 0, x'03')")
    return journal.identity(random.Random(1))


def identity_in(path: Path) -> NodeIdentity:
    database = Database.open(path)
    identity = Journal(database).identity(random.Random(9))
    database.close()
    return identity


def test_a_running_node_is_copied_as_it_is_now(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "node.db")
    identity = fill(database)
    copied = back_up(tmp_path / "node.db", tmp_path / "copy")
    assert (copied.epoch, copied.orders, copied.trades) == (1, 2, 1)
    Journal(database).add_order(own_order(3))  # goes on undisturbed, and is not in the copy
    database.close()
    assert stat.S_IMODE((tmp_path / "copy").stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "node.db"]
    copy = Database.open(tmp_path / "copy")
    assert [row.state for row in Journal(copy).orders()] == ["filled", "open"]
    assert Journal(copy).identity(random.Random(9)) == identity
    assert copy.rows("SELECT count(*) FROM held") == [(0,)]
    copy.close()


def test_a_copy_is_put_back_one_epoch_later_under_another_id(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "node.db")
    before = fill(database)
    database.close()
    back_up(tmp_path / "node.db", tmp_path / "copy")
    put_back(tmp_path / "copy", tmp_path / "new.db", random.Random(5))
    after = identity_in(tmp_path / "new.db")
    assert (after.seed, after.epoch) == (before.seed, 2)
    assert after.node_id != before.node_id
    assert identity_in(tmp_path / "copy").epoch == 1  # the copy itself stays as it was
    new = Database.open(tmp_path / "new.db")
    assert Journal(new).trades() == [trade()]
    new.close()


def test_a_used_node_is_kept_and_its_epoch_left_behind(tmp_path: Path) -> None:
    path, copy = tmp_path / "node.db", tmp_path / "copy"
    database = Database.open(path)
    fill(database)
    database.close()
    back_up(path, copy)
    with pytest.raises(UsageError, match="already"):
        put_back(copy, path, random.Random(5))
    assert identity_in(path).epoch == 1
    for epoch in (2, 3):
        copied = put_back(copy, path, random.Random(epoch), force=True)
        assert copied.epoch == identity_in(path).epoch == epoch
        assert copied.set_aside is not None
        assert identity_in(copied.set_aside).epoch == epoch - 1
    other = Database.open(tmp_path / "other.db")
    Journal(other).identity(random.Random(77))
    other.close()
    assert put_back(copy, tmp_path / "other.db", random.Random(5), force=True).epoch == 2  # another key: no matter


def test_the_log_of_a_lost_node_is_not_replayed_into_a_copy(tmp_path: Path) -> None:
    path, copy = tmp_path / "node.db", tmp_path / "copy"
    database = Database.open(tmp_path / "other.db")
    seed = fill(database).seed
    database.close()
    back_up(tmp_path / "other.db", copy)
    killed = Database.open(tmp_path / "killed.db")
    Journal(killed).identity(random.Random(77))
    log = (tmp_path / "killed.db-wal").read_bytes()
    killed.close()
    (tmp_path / "node.db-wal").write_bytes(log)
    (tmp_path / "more-wal").write_bytes(log)
    with pytest.raises(UsageError, match="the log of a node"):
        put_back(copy, path, random.Random(5))
    assert not path.exists()
    copied = put_back(copy, path, random.Random(5), force=True)
    assert copied.set_aside == tmp_path / "node.db.aside-1-wal"
    assert copied.set_aside.read_bytes() == log
    assert identity_in(path).seed == seed
    assert identity_in(path).epoch == copied.epoch == 2
    with pytest.raises(UsageError, match="more-wal exists already"):
        back_up(path, tmp_path / "more")


def test_a_backup_takes_no_name_that_somebody_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, part = tmp_path / "node.db", tmp_path / "copy.part"
    database = Database.open(path)
    fill(database)
    database.close()
    part.write_text("mine")

    def refuse(*_: object) -> None:
        raise PermissionError(1, "no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    assert back_up(path, tmp_path / "copy").epoch == identity_in(tmp_path / "copy").epoch == 1
    count = copying._count

    def count_late(connection: sqlite3.Connection) -> copying.Copied:
        (tmp_path / "late").write_text("mine too")  # somebody was quicker
        return count(connection)

    monkeypatch.setattr(copying, "_count", count_late)
    with pytest.raises(StateError, match="exists"):
        back_up(path, tmp_path / "late")
    assert (part.read_text(), (tmp_path / "late").read_text()) == ("mine", "mine too")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["copy", "copy.part", "late", "node.db"]


def test_a_file_that_somebody_has_open_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "_BUSY_TIMEOUT_S", 0.01)
    path, copy = tmp_path / "node.db", tmp_path / "copy"
    database = Database.open(path)
    fill(database)
    back_up(path, copy)
    with pytest.raises(StateError, match="locked") as caught:
        put_back(copy, path, random.Random(5), force=True)
    assert caught.value.hint == "nothing was changed"
    database.close()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["copy", "node.db"]
    assert identity_in(path).epoch == 1


def test_what_cannot_be_copied_is_said_and_nothing_is_left(tmp_path: Path) -> None:
    path = tmp_path / "node.db"
    with pytest.raises(NotFoundError):
        back_up(path, tmp_path / "copy")
    with pytest.raises(NotFoundError):
        put_back(tmp_path / "copy", path, random.Random(1))
    database = Database.open(path)
    fill(database)
    database.close()
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(UsageError, match="never overwrites"):
        back_up(path, tmp_path / "taken")
    with pytest.raises(StateError):
        back_up(path, tmp_path / "no" / "folder")
    assert (tmp_path / "taken").read_text() == "mine"
    foreign = sqlite3.connect(tmp_path / "foreign")
    foreign.execute("CREATE TABLE x(y)")
    foreign.commit()
    foreign.close()
    Database.open(tmp_path / "unused").close()
    (tmp_path / "empty").touch()
    for bad in ("taken", "foreign", "empty", "unused"):
        with pytest.raises(StateError):
            put_back(tmp_path / bad, tmp_path / "new.db", random.Random(1))
    assert not (tmp_path / "new.db").exists()
    assert not list(tmp_path.glob("*.part"))
