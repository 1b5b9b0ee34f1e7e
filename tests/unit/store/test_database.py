"""Opening the file of a node: what it must refuse, what it must keep, and that a block is all or nothing."""

import shutil
import sqlite3
import stat
from pathlib import Path

import pytest

from dhtex.errors import StateError
from dhtex.store import schema
from dhtex.store.database import Database, put_aside


def add_fact(database: Database, name: str = "x") -> None:
    with database.decision() as connection:
        connection.execute("INSERT INTO facts VALUES(?, 'v')", (name,))


def facts(database: Database) -> list[str]:
    return [row[0] for row in database.rows("SELECT name FROM facts ORDER BY name")]


def write_two(database: Database, second: str) -> None:
    with database.decision() as connection:
        connection.execute("INSERT INTO facts VALUES('lost', 'v')")
        if not second:
            raise RuntimeError
        connection.execute(second)


def write_one(path: Path) -> None:
    database = Database.open(path)
    add_fact(database)
    database.close()


def leave_log(folder: Path) -> None:
    """The log of a node that was killed, whose file somebody has moved away."""
    killed = folder / "killed" / "node.db"
    database = Database.open(killed)
    add_fact(database)
    (folder / "node.db-wal").write_bytes(killed.with_name("node.db-wal").read_bytes())
    database.close()
    shutil.rmtree(killed.parent)


def test_what_was_written_is_there_when_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "made" / "node.db"
    write_one(path)
    database = Database.open(path)
    assert facts(database) == ["x"]
    assert database.set_aside is None
    database.close()


def test_only_the_owner_can_read_the_files(tmp_path: Path) -> None:
    path = tmp_path / "node.db"
    Database.open(path).close()
    path.chmod(0o644)
    database = Database.open(path)
    add_fact(database)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert modes == {"node.db": 0o600, "node.db-wal": 0o600, "node.db-shm": 0o600}
    database.close()


def test_an_empty_file_is_no_new_node(tmp_path: Path) -> None:
    path = tmp_path / "node.db"
    path.touch()
    with pytest.raises(StateError, match="it is empty"):
        Database.open(path)
    assert path.stat().st_size == 0
    database = Database.open(path, fresh=True)
    assert database.set_aside is not None
    database.close()


def test_a_beginning_that_was_broken_off_is_begun_again(tmp_path: Path) -> None:
    for left_behind in ("node.db.new", "node.db.new-wal"):
        (tmp_path / left_behind).write_bytes(b"half a file")
    database = Database.open(tmp_path / "node.db")
    add_fact(database)
    database.close()
    assert [path.name for path in tmp_path.iterdir()] == ["node.db"]


def test_a_decision_is_synced_and_a_batch_is_not(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "node.db")
    with database.decision() as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    with database.batch() as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (1,)
    database.close()


@pytest.mark.parametrize("where", ["file", None])
def test_a_failing_block_changes_nothing(tmp_path: Path, where: str | None) -> None:
    database = Database.open(tmp_path / where if where else None)
    for second in ("INSERT INTO nothing VALUES(1)", "INSERT INTO facts VALUES('lost', 'w')"):
        with pytest.raises(StateError, match="cannot be written"):
            write_two(database, second)
    with pytest.raises(RuntimeError):
        write_two(database, "")
    assert facts(database) == []
    add_fact(database)
    with database.batch() as connection:
        connection.execute("INSERT INTO facts VALUES('y', 'v')")
    assert facts(database) == ["x", "y"]
    database.close()


def test_a_query_that_fails_is_a_state_error() -> None:
    database = Database.open(None)
    with pytest.raises(StateError, match="cannot be read"):
        database.rows("SELECT * FROM nothing")
    with pytest.raises(StateError, match="cannot be read"):
        list(database.stream("SELECT * FROM nothing"))
    database.close()
    with pytest.raises(StateError), database.decision():
        pass


def spoil_header(path: Path) -> None:
    path.write_bytes(b"this is no database, " * 400)


def spoil_pages(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def make_foreign(path: Path) -> None:
    path.unlink()
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE songs(title)")
    other.commit()
    other.close()


def make_newer(path: Path) -> None:
    other = sqlite3.connect(path)
    other.execute(f"PRAGMA user_version={schema.VERSION + 1}")
    other.close()


SPOILERS = [spoil_header, spoil_pages, truncate, make_foreign, make_newer]


@pytest.mark.parametrize("spoil", SPOILERS)
def test_an_unusable_file_is_refused_and_left_as_it_is(tmp_path: Path, spoil) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "node.db"
    write_one(path)
    spoil(path)
    before = path.read_bytes()
    with pytest.raises(StateError, match="cannot be used") as caught:
        Database.open(path)
    assert "--force" in caught.value.hint
    assert path.read_bytes() == before
    assert list(tmp_path.glob("*aside*")) == []


@pytest.mark.parametrize("spoil", SPOILERS)
def test_fresh_puts_an_unusable_file_aside(tmp_path: Path, spoil) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "node.db"
    for number in (1, 2):
        write_one(path)
        spoil(path)
        before = path.read_bytes()
        database = Database.open(path, fresh=True)
        assert database.set_aside == tmp_path / f"node.db.aside-{number}"
        assert database.set_aside.read_bytes() == before
        assert facts(database) == []
        database.close()
        path.unlink()


def test_fresh_keeps_a_usable_file(tmp_path: Path) -> None:
    path = tmp_path / "node.db"
    write_one(path)
    database = Database.open(path, fresh=True)
    assert database.set_aside is None
    assert facts(database) == ["x"]
    database.close()


def test_the_log_of_a_file_put_aside_is_not_replayed_into_the_new_one(tmp_path: Path) -> None:
    path, copy = tmp_path / "node.db", tmp_path / "copy" / "node.db"
    copy.parent.mkdir()
    write_one(path)
    database = Database.open(path)
    add_fact(database, "y")
    for suffix in ("", "-wal"):  # as a killed node leaves them: what changed last is in the log only
        (copy.parent / f"node.db{suffix}").write_bytes((tmp_path / f"node.db{suffix}").read_bytes())
    database.close()
    spoil_pages(copy)
    fresh = Database.open(copy, fresh=True)
    assert facts(fresh) == []
    assert (copy.parent / "node.db.aside-1-wal").stat().st_size > 0
    fresh.close()


def test_a_log_without_its_file_is_no_new_node(tmp_path: Path) -> None:
    path = tmp_path / "node.db"
    leave_log(tmp_path)
    before = path.with_name("node.db-wal").read_bytes()
    with pytest.raises(StateError, match=r"only its log node\.db-wal is left"):
        Database.open(path)
    assert [file.name for file in tmp_path.iterdir()] == ["node.db-wal"]
    database = Database.open(path, fresh=True)
    assert facts(database) == []
    assert database.set_aside == tmp_path / "node.db.aside-1-wal"
    assert database.set_aside.read_bytes() == before
    database.close()


def test_what_is_put_aside_half_is_not_taken_for_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, copy = tmp_path / "node.db", tmp_path / "copy" / "node.db"
    write_one(path)
    leave_log(tmp_path / "copy")
    copy.write_bytes(path.read_bytes())  # usable without its log too, as it was some time ago
    rename, renamed = Path.rename, list[str]()

    def rename_once(self: Path, target: Path) -> Path:
        if renamed:
            raise OSError(5, "power lost")
        renamed.append(self.name)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", rename_once)
    with pytest.raises(StateError, match="power lost"):
        put_aside(copy)
    monkeypatch.undo()
    with pytest.raises(StateError, match="only its log"):
        Database.open(copy)


def test_an_interrupted_log_loses_only_its_tail(tmp_path: Path) -> None:
    path, copy = tmp_path / "node.db", tmp_path / "copy" / "node.db"
    copy.parent.mkdir()
    database = Database.open(path)
    for number in range(5):
        add_fact(database, str(number))
    copy.write_bytes(path.read_bytes())
    copy.with_name("node.db-wal").write_bytes((tmp_path / "node.db-wal").read_bytes()[:-100])
    database.close()
    torn = Database.open(copy)
    assert facts(torn) == ["0", "1", "2", "3"]
    torn.close()


def test_an_unwritable_place_is_a_state_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match="cannot be written"):
        Database.open(tmp_path / "file" / "node.db")
    with pytest.raises(StateError, match="cannot be written"):
        Database.open(Path("/proc/nowhere/node.db"), fresh=True)
    (tmp_path / "node.db").mkdir()
    with pytest.raises(StateError, match="cannot be written"):
        Database.open(tmp_path / "node.db")


def test_closing_twice_is_no_error() -> None:
    database = Database.open(None)
    database.close()
    database.close()
