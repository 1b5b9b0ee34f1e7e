"""One SQLite file for each node: opened, checked, and written through two connections.

Theory of operation. The file is in WAL mode. The *journal* connection runs with synchronous=FULL: when a transaction
returns, the write-ahead log was fsynced, so a decision survives SIGKILL and loss of power. The *bulk* connection runs
with NORMAL: cheap commits that a loss of power may undo but never corrupt. Both live in one thread, and a transaction
never spans an await, so they do not wait for each other.

The log is folded into the file (a checkpoint) by a thread of its own with a connection of its own, because that syncs
twice and writes many pages: nobody waits for it, as it takes neither the lock of writers nor that of readers. Only when
it has not come through for long does SQLite do it itself, within a commit.

A file that cannot be trusted is never repaired or overwritten: opening it fails, and only when `fresh` is asked for is
it put aside under a new name. So is a log whose file is gone: SQLite would replay it into whatever gets that name, and
it may hold the last that a node decided.

A node decides in WAL mode only. So a *rollback journal* that has to be played back takes no decision away: it undoes
what another program began to write, or the first start after a restore. SQLite does that for whoever opens the file to
write. It is sound unless there is a write-ahead log too: then one of the two belongs to another file.
"""

import contextlib
import logging
import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from dhtex.errors import StateError
from dhtex.store import schema

log = logging.getLogger(__name__)

_BUSY_TIMEOUT_S: Final = 5.0  # another process that reads the file, such as a backup, may hold it for a moment
_ASIDE_TRIES: Final = 10_000
_AHEAD: Final = "-wal"
_LOGS: Final = (_AHEAD, "-journal")
_COMPANIONS: Final = ("", *_LOGS, "-shm")
_CACHE_KIB: Final = 512  # of a connection: what is read often is in memory already, and not as pages
_FOLD_ROWS: Final = 2_000  # written since the last time: some megabytes of log, more while others go on writing
_LOG_PAGES_MAX: Final = 16_384  # 64 MiB: then a commit folds it, however long that takes


class Database:
    """The open file. `set_aside` is where an unusable predecessor was put, or None."""

    _folds_aside = True  # in a thread; else within a commit, as SQLite does

    def __init__(self, journal: sqlite3.Connection, bulk: sqlite3.Connection) -> None:
        self._journal = journal
        self._bulk = bulk
        self._file: Path | None = None
        self._folding: threading.Thread | None = None
        self._folded_at = 0
        self.set_aside: Path | None = None

    @classmethod
    def open(cls, path: Path | None, *, fresh: bool = False) -> "Database":
        """Open or create the file at `path`; None keeps everything in memory.

        Raises StateError when the file is corrupt, foreign or written by a newer version, or when its folder cannot be
        written. With `fresh` an unusable file is renamed (see `set_aside`) and a new one begun; a usable one is kept.
        An empty file is unusable: a new one gets its name only when it has its tables.
        """
        if path is None:
            connection = _connect(":memory:")
            _migrate(connection)
            return cls(connection, connection)
        try:
            return cls._open_checked(path)
        except UnusableError as error:
            if not fresh:
                raise StateError(
                    f"the state file {path} cannot be used: {error}",
                    hint="start with --force to put it aside and begin with an empty one",
                ) from error
        aside = put_aside(path)
        try:
            database = cls._open_checked(path)
        except UnusableError as error:
            raise StateError(f"a new state file {path} cannot be used: {error}") from error
        database.set_aside = aside
        return database

    @classmethod
    def _open_checked(cls, path: Path) -> "Database":
        _prepare(path)
        opened: list[sqlite3.Connection] = []
        try:
            check(path)
            for synchronous in ("FULL", "NORMAL"):
                opened.append(_connect(str(path)))
                _configure(opened[-1], synchronous)
                if cls._folds_aside:
                    opened[-1].execute(f"PRAGMA wal_autocheckpoint={_LOG_PAGES_MAX}")
            _migrate(opened[0])
        except (sqlite3.DatabaseError, UnusableError) as error:
            for connection in opened:
                connection.close()
            if isinstance(error, sqlite3.OperationalError) and not _is_damage(error):
                raise StateError(f"the state file {path} cannot be opened: {error}") from error
            raise UnusableError(str(error)) from error
        database = cls(opened[0], opened[1])
        database._file = path if cls._folds_aside else None
        return database

    @contextlib.contextmanager
    def decision(self) -> Iterator[sqlite3.Connection]:
        """One transaction that is on disk when the block is left. Any exception undoes all of it.

        Raises StateError when the disk refuses: then nothing happened.
        """
        with _transaction(self._journal) as connection:
            yield connection
        self._fold_if_long()

    @contextlib.contextmanager
    def batch(self) -> Iterator[sqlite3.Connection]:
        """One transaction that a loss of power may undo: for what others hold too. Raises StateError."""
        with _transaction(self._bulk) as connection:
            yield connection
        self._fold_if_long()

    def _fold_if_long(self) -> None:
        """Begin to fold the log into the file when enough was written, and it is not being done."""
        written = self._journal.total_changes + self._bulk.total_changes - self._folded_at
        if self._file is None or written < _FOLD_ROWS or (self._folding is not None and self._folding.is_alive()):
            return
        self._folded_at += written
        folding = threading.Thread(target=_fold, args=(self._file,), name="dhtex-fold", daemon=True)
        with contextlib.suppress(RuntimeError):  # no thread is to be had now: what was written stands all the same
            folding.start()
            self._folding = folding

    def rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """All rows of a query. Raises StateError when the file cannot be read."""
        try:
            return self._journal.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise StateError(f"the state file cannot be read: {error}") from error

    def stream(self, sql: str) -> Iterator[tuple[Any, ...]]:
        """The rows of a query one by one, for tables that are large. Raises StateError."""
        try:
            yield from self._bulk.execute(sql)
        except sqlite3.Error as error:
            raise StateError(f"the state file cannot be read: {error}") from error

    def close(self) -> None:
        """Close both connections; the write-ahead log is folded into the file. Closing twice is no error."""
        if self._folding is not None:
            self._folding.join()
        self._bulk.close()
        self._journal.close()


class UnusableError(Exception):
    """The file is there, but is not one that this version can work with."""


def _is_damage(error: sqlite3.OperationalError) -> bool:
    # An I/O error of the disk and a full disk are operational too, but the file may be whole.
    return error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)


def _prepare(path: Path) -> None:
    """Make the folder, and a new file if there is none; only its owner can read it. Raises UnusableError for a log that
    has no file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            if logs := logs_of(path):
                raise UnusableError(f"only its log {logs[0].name} is left")
            _create(path)
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)
    except (OSError, sqlite3.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise StateError(
            f"the state file {path} cannot be written: {reason}", hint="choose another folder with DHTEX_HOME"
        ) from error


def _create(path: Path) -> None:
    """Make a file with its tables, which gets its name when all of it is on disk."""
    partial = path.with_name(f"{path.name}.new")
    for suffix in _COMPANIONS:
        partial.with_name(partial.name + suffix).unlink(missing_ok=True)
    os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with contextlib.closing(_connect(str(partial))) as connection:
        _configure(connection, "FULL")
        _migrate(connection)
    partial.rename(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make sure that the names in a folder are on disk."""
    # The name of a new file is on disk only when its folder was synced.
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def logs_of(path: Path) -> list[Path]:
    """The logs beside a file that hold something: SQLite replays them into whatever has its name."""
    logs = [path.with_name(path.name + suffix) for suffix in _LOGS]
    return [log for log in logs if log.exists() and log.stat().st_size]


def put_aside(path: Path) -> Path:
    """Rename the file and its companions; the new name of the first. The logs go last: a file without them may look
    whole and be of an earlier moment, while logs without their file are refused."""
    asides = _asides(path)
    try:
        for companion, aside in asides.items():
            companion.rename(aside)
        sync_folder(path.parent)
    except OSError as error:
        raise StateError(f"the state file {path} cannot be put aside: {error.strerror}") from error
    return next(iter(asides.values()))


def copy_aside(path: Path) -> Path:
    """As `put_aside`, but what is there stays as well. On an OSError no copy is left."""
    asides = _asides(path)
    try:
        for companion, aside in asides.items():
            descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as copy, companion.open("rb") as original:
                shutil.copyfileobj(original, copy)
                copy.flush()
                os.fsync(copy.fileno())
        sync_folder(path.parent)
    except OSError:
        for aside in asides.values():
            aside.unlink(missing_ok=True)
        raise
    return next(iter(asides.values()))


def _asides(path: Path) -> dict[Path, Path]:
    """The file and its companions, as far as they are there, with free names for them."""
    found = [suffix for suffix in _COMPANIONS if path.with_name(path.name + suffix).exists()]
    for number in range(1, _ASIDE_TRIES):
        aside = f"{path.name}.aside-{number}"
        if not any(path.with_name(aside + suffix).exists() for suffix in _COMPANIONS):
            return {path.with_name(path.name + suffix): path.with_name(aside + suffix) for suffix in found}
    raise StateError(f"{path.parent} is full of files put aside", hint="remove some of them")


def _connect(name: str) -> sqlite3.Connection:
    return sqlite3.connect(name, timeout=_BUSY_TIMEOUT_S, isolation_level=None)


def _fold(path: Path) -> None:
    """Move what the log holds into the file, as far as nobody has to wait. What fails is done the next time."""
    with contextlib.suppress(sqlite3.Error), contextlib.closing(_connect(str(path))) as connection:
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


def connect_to_read(path: Path) -> sqlite3.Connection:
    """A connection that leaves the file as it is, to the byte, and its log too unless the file is empty. Only what was
    left half written is undone before. Raises UnusableError or StateError when it cannot be."""
    if _is_half_written(path):
        _roll_back(path)
    return _connect_only_to_read(path)


def _connect_only_to_read(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_TIMEOUT_S)


def _is_half_written(path: Path) -> bool:
    """Whether a rollback journal has to be played back: not one of a transaction that has ended, or goes on."""
    try:
        with contextlib.closing(_connect_only_to_read(path)) as connection:
            connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.DatabaseError as error:
        return error.sqlite_errorcode == sqlite3.SQLITE_READONLY_ROLLBACK
    return False


def _roll_back(path: Path) -> None:
    """Let SQLite play the journal back. Both are kept as they are now, since a journal would spoil a file that somebody
    has put in the place of its own."""
    if path.with_name(path.name + _AHEAD) in logs_of(path):
        raise UnusableError("it has a write-ahead log and a rollback journal, and one of them is not its own")
    try:
        aside = copy_aside(path)
    except OSError as error:
        raise StateError(
            f"{path} was left half written, and cannot be copied before that is undone: {error.strerror}",
            hint="free some space, or check the rights of its folder",
        ) from error
    with contextlib.closing(_connect(str(path))) as connection:
        connection.execute("PRAGMA user_version").fetchone()
    log.warning("%s was left half written, which is undone; as it was it is kept as %s", path, aside)


def fold_all(path: Path) -> None:
    """Move all of its log into a file, so that the file alone is whole; one that is unusable stays as it is. Raises
    sqlite3.Error when somebody has it open, and that or OSError when the disk refuses."""
    try:
        check(path)
    except (sqlite3.DatabaseError, UnusableError) as error:
        if isinstance(error, sqlite3.OperationalError) and not _is_damage(error):
            raise
        return
    with contextlib.closing(_connect(str(path))) as connection:
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    path.with_name(f"{path.name}-shm").unlink(missing_ok=True)  # SQLite leaves it there when it had the file to itself


def _configure(connection: sqlite3.Connection, synchronous: str) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(f"PRAGMA synchronous={synchronous}")
    connection.execute("PRAGMA trusted_schema=OFF")
    connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")


def check(path: Path) -> None:
    """Raise UnusableError, or sqlite3.Error, for a file that is not one of ours or not whole."""
    if not path.stat().st_size:
        raise UnusableError("it is empty")
    questions = ("user_version", "application_id", "quick_check(1)")
    with contextlib.closing(connect_to_read(path)) as connection:
        try:
            tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
            version, application, verdict = (connection.execute(f"PRAGMA {q}").fetchone()[0] for q in questions)
        except UnicodeDecodeError as error:  # the text of an error message comes from the damaged file itself
            raise UnusableError("it is damaged") from error
    if tables and application != schema.APPLICATION_ID:
        raise UnusableError("it belongs to another program")
    if version > schema.VERSION:
        raise UnusableError(f"it was written by a newer version of dhtex (format {version}, known {schema.VERSION})")
    if verdict != "ok":
        raise UnusableError(f"it is damaged ({verdict.splitlines()[-1]})")


def _migrate(connection: sqlite3.Connection) -> None:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    for step in range(version + 1, schema.VERSION + 1):
        # One script, one transaction: a node killed meanwhile finds the old format or the new one.
        connection.executescript(
            f"BEGIN IMMEDIATE; {schema.MIGRATIONS[step]} PRAGMA application_id={schema.APPLICATION_ID};"
            f" PRAGMA user_version={step}; COMMIT;"
        )


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    try:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        raise StateError(f"the state file cannot be written: {error}") from error
