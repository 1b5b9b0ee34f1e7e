"""A node's file copied out and put back.

A copy is made through SQLite's backup interface, from a connection of its own: it is of one moment, whatever the node
writes meanwhile. What others hold too is left out. A copy that is put back gets a higher epoch, which is how the node
knows that another copy of it may have gone on since; and a new id in the overlay, so that two copies that run at once
are at least two nodes there.
"""

import contextlib
import os
import random
import sqlite3
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
    with _made(source, target) as connection:
        return _count(connection)


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
    former = _facts_of(target) if target.exists() else {}
    with _made(source, target, replace=True) as connection:
        facts = dict(connection.execute("SELECT name, value FROM facts"))
        known = [facts["epoch"], former.get("epoch", 0) if former.get("seed") == facts["seed"] else 0]
        values = [(max(known) + 1, "epoch"), (entropy.randbytes(20), "node_id")]
        connection.executemany("UPDATE facts SET value = ? WHERE name = ?", values)
        copied = _count(connection)
        aside = database.put_aside(target) if taken else None
    return copied._replace(set_aside=aside)


def check(source: Path) -> None:
    """Raise NotFoundError for a copy that is not there, StateError for one that cannot be used."""
    if not source.exists():
        raise NotFoundError(f"there is no {source}", hint="name a file that dhtex backup has made")
    _check(source)


@contextlib.contextmanager
def _made(source: Path, target: Path, *, replace: bool = False) -> Iterator[sqlite3.Connection]:
    """A copy that gets its name when the block is left and everything is on disk; on an error nothing is left."""
    partial = target.with_name(target.name + ".part")
    try:
        partial.unlink(missing_ok=True)
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        with contextlib.closing(sqlite3.connect(partial, isolation_level=None)) as connection:
            with contextlib.closing(sqlite3.connect(source)) as original:
                original.backup(connection)
            connection.execute("PRAGMA journal_mode=DELETE")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("DELETE FROM held")
            connection.execute("VACUUM")
            yield connection
        if replace:
            partial.rename(target)
        else:
            os.link(partial, target)  # unlike a rename, it fails if somebody made the file meanwhile
            partial.unlink()
        database.sync_folder(target.parent)
    except (sqlite3.Error, OSError) as error:
        raise StateError(f"{target} cannot be written: {error}", hint="nothing was changed") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def _check(path: Path) -> None:
    try:
        database.check(path)
        usable = {"seed", "node_id", "epoch"} <= set(_facts_of(path))
    except (sqlite3.Error, database.UnusableError) as error:
        raise StateError(f"{path} cannot be used: {error}") from error
    if not usable:
        raise StateError(f"{path} is not the state of a node")


def _facts_of(path: Path) -> dict[str, Any]:
    try:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            return dict(connection.execute("SELECT name, value FROM facts"))
    except sqlite3.Error:
        return {}


def _count(connection: sqlite3.Connection) -> Copied:
    epoch, orders, trades = connection.execute(
        "SELECT (SELECT value FROM facts WHERE name = 'epoch'), (SELECT count(*) FROM orders),"
        " (SELECT count(*) FROM trades)"
    ).fetchone()
    return Copied(int(epoch), int(orders), int(trades))
