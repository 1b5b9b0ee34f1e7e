"""A file that a crash in rollback mode has left half written: undone where that is sound, and nothing is ever lost."""

import errno
import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from dhtex.errors import StateError
from dhtex.store import database as database_module
from dhtex.store.copying import back_up, put_back
from dhtex.store.database import Database
from dhtex.store.journal import Journal
from tests.unit.store.samples import STATUS, name, own_order, trade

SPOIL = "UPDATE orders SET state = 'open'"


def decide(path: Path, entropy: int = 1) -> None:
    """A node that has sold its order, and has stopped."""
    database = Database.open(path)
    journal = Journal(database)
    journal.identity(random.Random(entropy))
    journal.add_order(own_order())
    assert journal.decide_fill(name(1), name(100), STATUS, trade())
    database.close()


@contextmanager
def writing(path: Path) -> Iterator[sqlite3.Connection]:
    """Another program amid a transaction in rollback mode, which has changed the file already."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        assert other.execute("PRAGMA journal_mode=DELETE").fetchone() == ("delete",)
        other.execute("PRAGMA cache_size=1")
        other.execute("BEGIN IMMEDIATE")
        other.execute(SPOIL)
        other.execute("CREATE TABLE junk(x)")
        other.executemany("INSERT INTO junk VALUES(zeroblob(?))", [(3000,)] * 100)
        yield other
        if other.in_transaction:
            other.execute("ROLLBACK")


def leave_half_written(path: Path) -> None:
    """Let another program end in the middle of its transaction."""
    files = [path, path.with_name(f"{path.name}-journal")]
    with writing(path):
        left = [file.read_bytes() for file in files]
    for file, content in zip(files, left, strict=True):
        file.write_bytes(content)


def content_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def states(path: Path) -> list[str]:
    database = Database.open(path)
    found = [row.state for row in Journal(database).orders()]
    assert database.set_aside is None
    database.close()
    return found


def test_what_another_program_left_half_written_is_undone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "node.db"
    decide(path)
    leave_half_written(path)
    before = content_of(tmp_path)
    assert states(path) == ["filled"]
    assert content_of(tmp_path).keys() == {"node.db", "node.db.aside-1", "node.db.aside-1-journal"}
    assert (tmp_path / "node.db.aside-1").read_bytes() == before["node.db"]
    assert (tmp_path / "node.db.aside-1-journal").read_bytes() == before["node.db-journal"]
    assert "left half written, which is undone" in caplog.text
    assert states(tmp_path / "node.db.aside-1") == ["filled"]  # whoever opens that finds the same


def test_a_log_and_a_journal_at_once_are_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "node.db"
    database = Database.open(tmp_path / "other.db")
    Journal(database).identity(random.Random(2))
    log = (tmp_path / "other.db-wal").read_bytes()
    database.close()
    (tmp_path / "other.db").unlink()
    decide(path)
    leave_half_written(path)
    (tmp_path / "node.db-wal").write_bytes(log)
    before = content_of(tmp_path)
    with pytest.raises(StateError, match="a write-ahead log and a rollback journal") as caught:
        Database.open(path)
    assert "--force" in caught.value.hint
    assert content_of(tmp_path) == before
    fresh = Database.open(path, fresh=True)
    fresh.close()
    assert fresh.set_aside == tmp_path / "node.db.aside-1"
    kept = content_of(tmp_path)
    assert {kept[file.replace("node.db", "node.db.aside-1")] for file in before} == set(before.values())


def test_a_journal_of_what_has_ended_is_none(tmp_path: Path) -> None:
    path = tmp_path / "node.db"
    decide(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        assert other.execute("PRAGMA journal_mode=PERSIST").fetchone() == ("persist",)
        other.execute("UPDATE orders SET reply_text = 'call later'")
    assert (tmp_path / "node.db-journal").stat().st_size
    assert states(path) == ["filled"]
    assert content_of(tmp_path).keys() == {"node.db"}


def test_what_another_program_is_writing_is_left_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "_BUSY_TIMEOUT_S", 0.01)
    path = tmp_path / "node.db"
    decide(path)
    with writing(path) as other:
        before = content_of(tmp_path)
        with pytest.raises(StateError, match="locked"):
            Database.open(path)
        assert content_of(tmp_path) == before
        other.execute("COMMIT")
    assert states(path) == ["open"]


def test_where_no_copy_can_be_kept_nothing_is_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "node.db"
    decide(path)
    leave_half_written(path)
    before = content_of(tmp_path)

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfileobj", refuse)
        with pytest.raises(StateError, match="no space left") as caught:
            Database.open(path)
    assert "free some space" in caught.value.hint
    assert content_of(tmp_path) == before
    assert states(path) == ["filled"]


def test_a_half_written_node_is_backed_up_as_it_was_before(tmp_path: Path) -> None:
    path = tmp_path / "node.db"
    decide(path)
    leave_half_written(path)
    assert back_up(path, tmp_path / "copy").trades == 1
    assert states(tmp_path / "copy") == ["filled"]


def test_a_restored_node_is_younger_than_a_half_written_one(tmp_path: Path) -> None:
    path, copy = tmp_path / "node.db", tmp_path / "copy"
    decide(path)
    back_up(path, copy)
    for epoch in (2, 3):
        leave_half_written(path)
        copied = put_back(copy, path, random.Random(epoch), force=True)
        assert copied.epoch == epoch
        assert copied.set_aside is not None
        assert states(copied.set_aside) == states(path) == ["filled"]
