"""A node's file copied out and put back.

A copy is made through SQLite's backup interface, from a connection of its own: it is of one moment, whatever the node
writes meanwhile. What others hold too is left out. A copy that is put back gets a higher epoch, which is how the node
knows that another copy of it may have gone on since; and a new id in the overlay, so that two copies that run at once
are at least two nodes there.

A node whose file is missing begins as a new one, so where a copy takes the place of a file, that place is never empty,
whatever moment the machine ends at. The order of steps:

1. The copy is written beside it under a name of its own, and synced.
2. The old file's log is folded into it: the file alone is the old node.
3. The old file is copied to a name aside, and synced.
4. Only for a file that is damaged or gone, whose log cannot be folded: it is emptied, so that a start refuses it, and
   then its log is removed, which would be replayed into the new file.
5. The copy is renamed over it.
"""

import contextlib
import fcntl
import glob
import os
import random
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from dhtex.errors import NotFoundError, StateError, UsageError
from dhtex.store import database


class Copied(NamedTuple):
    """What a copy holds: its epoch, how many orders and trades, and where the file in its place was put, or None."""

    epoch: int
    orders: int
    trades: int
    set_aside: Path | None = None


def back_up(source: Path, target: Path) -> Copied:
    """Copy the file of a node, which may be running, to a new file that only its owner can read.

    Raises NotFoundError for a node without a file, UsageError when `target` exists, StateError when it cannot be done.
    """
    if not source.exists():
        raise NotFoundError("this node has no state yet", hint="start it once: dhtex start")
    for taken in (target, *database.logs_of(target)):
        if taken.exists():
            raise UsageError(f"{taken} exists already", hint="name a new file: a backup never overwrites")
    _check(source)
    with _draft(source, target) as (draft, connection):
        copied = _count(connection)
        connection.close()
        _name(draft, target)
    return copied


def put_back(source: Path, target: Path, entropy: random.Random, *, force: bool = False) -> Copied:
    """Make a copy the file of a node that does not run, one epoch later.

    A file in its place is an error, a UsageError, unless `force` is given: then it is put aside. Raises NotFoundError
    for a copy that is not there, StateError for one that cannot be used or a disk that refuses.
    """
    check(source)
    taken = target.exists() or bool(database.logs_of(target))
    if taken and not force:
        what = "a node" if target.exists() else "the log of a node"
        raise UsageError(
            f"there is {what} in {target.parent} already", hint="with --force its state is put aside and kept"
        )
    former = _facts_of(target)
    with _draft(source, target) as (draft, connection):
        facts = dict(connection.execute("SELECT name, value FROM facts"))
        known = [facts["epoch"], former.get("epoch", 0) if former.get("seed") == facts["seed"] else 0]
        values = [(max(known) + 1, "epoch"), (entropy.randbytes(20), "node_id")]
        connection.executemany("UPDATE facts SET value = ? WHERE name = ?", values)
        copied = _count(connection)
        connection.close()
        if taken:
            return copied._replace(set_aside=_replace(draft, target))
        _name(draft, target)
    return copied


def check(source: Path) -> None:
    """Raise NotFoundError for a copy that is not there, StateError for one that cannot be used."""
    if not source.exists():
        raise NotFoundError(f"there is no {source}", hint="name a file that dhtex backup has made")
    _check(source)


@contextlib.contextmanager
def _draft(source: Path, target: Path) -> Iterator[tuple[Path, sqlite3.Connection]]:
    """A copy in the folder of `target`, under a name that nobody has and on disk; gone when the block is left."""
    draft = folder = None
    try:
        folder = os.open(target.parent, os.O_RDONLY | os.O_CLOEXEC)
        _sweep(folder, target)
        descriptor, name = tempfile.mkstemp(".part", f"{target.name}.dhtex-", target.parent)
        os.close(descriptor)
        draft = Path(name)
        with contextlib.closing(sqlite3.connect(draft, isolation_level=None)) as connection:
            with contextlib.closing(sqlite3.connect(source)) as original:
                original.backup(connection)
            connection.execute("PRAGMA journal_mode=DELETE")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("DELETE FROM held")
            connection.execute("VACUUM")
            yield draft, connection
    except (sqlite3.Error, OSError) as error:
        raise StateError(f"{target} cannot be written: {_reason(error)}", hint="nothing was changed") from error
    finally:
        if draft is not None:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
        if folder is not None:
            os.close(folder)


def _sweep(folder: int, target: Path) -> None:
    """Remove drafts for `target` whose processes were killed. All who have a draft in a folder share its lock until
    they close it, so nobody has one while somebody has that lock alone."""
    with contextlib.suppress(OSError):  # others are at work here, or this disk has no locks
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for left in target.parent.glob(f"{glob.escape(target.name)}.dhtex-*.part*"):
            left.unlink()
    with contextlib.suppress(OSError):
        fcntl.flock(folder, fcntl.LOCK_SH)


def _name(draft: Path, target: Path) -> None:
    """Give a copy its name, unless somebody has taken that meanwhile; without a hard link, which not every disk has."""
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        draft.replace(target)
        database.sync_folder(target.parent)
    except OSError:
        target.unlink()
        raise


def _replace(draft: Path, target: Path) -> Path:
    """Put a copy into the place of a file or its log, which is kept; where. Raises sqlite3.Error and OSError while
    nothing was changed, StateError afterwards."""
    if target.exists():
        database.fold_all(target)
    aside = database.copy_aside(target)
    try:
        if logs := database.logs_of(target):
            with target.open("wb") as emptied:
                os.fsync(emptied.fileno())
            database.sync_folder(target.parent)
            for log in logs:
                log.unlink()
            database.sync_folder(target.parent)
        draft.replace(target)
        database.sync_folder(target.parent)
    except OSError as error:
        raise StateError(
            f"{target} cannot be written: {_reason(error)}", hint=f"what was there is kept as {aside}"
        ) from error
    return aside


def _check(path: Path) -> None:
    try:
        database.check(path)
        usable = {"seed", "node_id", "epoch"} <= set(_facts_of(path))
    except (sqlite3.Error, database.UnusableError) as error:
        raise StateError(f"{path} cannot be used: {error}") from error
    if not usable:
        raise StateError(f"{path} is not the state of a node")


def _facts_of(path: Path) -> dict[str, Any]:
    if not path.exists() or not path.stat().st_size:  # SQLite would remove the log beside an empty file
        return {}
    try:
        with contextlib.closing(database.connect_to_read(path)) as connection:
            return dict(connection.execute("SELECT name, value FROM facts"))
    except (sqlite3.Error, database.UnusableError):
        return {}


def _count(connection: sqlite3.Connection) -> Copied:
    epoch, orders, trades = connection.execute(
        "SELECT (SELECT value FROM facts WHERE name = 'epoch'), (SELECT count(*) FROM orders),"
        " (SELECT count(*) FROM trades)"
    ).fetchone()
    return Copied(int(epoch), int(orders), int(trades))


def _reason(error: Exception) -> str:
    """Why it failed, without the name of a file that nobody asked for."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
