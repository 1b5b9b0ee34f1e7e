"""A machine's disk: a real SQLite file that survives crashes as far as SQLite promises, and no further.

Theory of operation. A *kill* keeps what was written: the file and its log are copied as they are, as the system would
have them after SIGKILL. A *loss of power* also takes what was not synced: the log is cut behind the last frame that is
known to be on disk (the last decision, or what a checkpoint has folded in), or anywhere after that, in the middle of a
frame too. Which frames are there is read from SQLite's wal-index (https://sqlite.org/walformat.html, section 2.1).
"""

import contextlib
import random
import shutil
import sqlite3
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from dhtex.errors import StateError
from dhtex.sim.loop import Crash, Life
from dhtex.store.database import Database

_WAL_HEAD_BYTES: Final = 32
_FRAME_HEAD_BYTES: Final = 24
_INDEX_HEAD: Final = struct.Struct(
    "=IIIBBHIIII8s8s"
)  # version, -, change, init, endian, page, frames, pages, sums, salt
_BACKFILL_AT: Final = 96


class Disk(Database):
    """A database on a machine that may end before or after any write. `attach` it before it is used."""

    _folds_aside = False  # a thread would not repeat itself

    def __init__(self, journal: sqlite3.Connection, bulk: sqlite3.Connection) -> None:
        super().__init__(journal, bulk)
        self._life: Life | None = None
        self._path: Path | None = None
        self._before: Callable[[str], bool] = lambda kind: True
        self._after: Callable[[str], None] = lambda kind: None
        self._unsynced: Callable[[str], None] = lambda kind: None
        self._durable = 0
        self._salt = b""

    def attach(
        self,
        path: Path,
        life: Life,
        before: Callable[[str], bool],
        after: Callable[[str], None],
        unsynced: Callable[[str], None] = lambda kind: None,
    ) -> None:
        """`before` is called before each transaction and says whether the disk takes it, `after` when it is done, and
        `unsynced` when it is written, and on its way to the platter. All hear its kind, decision or batch."""
        self._path, self._life = path, life
        self._before, self._after, self._unsynced = before, after, unsynced
        self._synced()

    @contextlib.contextmanager
    def decision(self) -> Iterator[sqlite3.Connection]:
        self._begin("decision")
        with super().decision() as connection:
            yield connection
        self._unsynced("decision")
        self._synced()
        self._after("decision")

    @contextlib.contextmanager
    def batch(self) -> Iterator[sqlite3.Connection]:
        self._begin("batch")
        with super().batch() as connection:
            yield connection
        self._after("batch")

    def _begin(self, kind: str) -> None:
        if self._life is not None and not self._life.alive:
            raise Crash
        if not self._before(kind):
            raise StateError("the state file cannot be written: database or disk is full")

    def close(self) -> None:
        if self._life is None or self._life.alive:
            super().close()

    # --- crashes ------------------------------------------------------------------------------------------------------

    def _frames(self) -> tuple[bytes, int, int, int]:
        """Salt, page size, frames in the log, and how many of them are in the file already."""
        assert self._path is not None
        shared = self._path.with_name(self._path.name + "-shm")
        index = shared.read_bytes()[: _BACKFILL_AT + 4] if shared.exists() else b""  # gone with a node that has stopped
        if len(index) < _BACKFILL_AT + 4:
            return b"", 4096, 0, 0
        _, _, _, _, _, page, frames, _, _, _, salt, _ = _INDEX_HEAD.unpack_from(index)
        return salt, page or 65536, frames, int.from_bytes(index[_BACKFILL_AT : _BACKFILL_AT + 4], "little")

    def _synced(self) -> None:
        self._salt, _, self._durable, _ = self._frames()

    def salvage(self, target: Path, power_lost: bool, entropy: random.Random) -> None:
        """Copy into `target` what a crash at this moment leaves, and close the files."""
        assert self._path is not None
        salt, page, frames, folded = self._frames()
        durable = max(self._durable if salt == self._salt else 0, folded)
        shutil.copyfile(self._path, target)
        log = self._path.with_name(self._path.name + "-wal")
        if log.exists():
            data = log.read_bytes()
            if power_lost and frames > durable:
                kept = entropy.randint(durable, frames)
                whole = _WAL_HEAD_BYTES + kept * (_FRAME_HEAD_BYTES + page)
                data = data[: whole + entropy.randrange(_FRAME_HEAD_BYTES + page)]
            target.with_name(target.name + "-wal").write_bytes(data)
        super().close()


HELD: Final = "SELECT dht_key, record_id, prefix, anchored, wire FROM held ORDER BY rowid"


def roll_back_held(path: Path, rows: list[tuple[object, ...]]) -> None:
    """Let a file that nobody has open hold for others what it held at another time."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        connection.execute("DELETE FROM held")
        connection.executemany(
            "INSERT INTO held(dht_key, record_id, prefix, anchored, wire) VALUES(?, ?, ?, ?, ?)", rows
        )
        connection.execute("COMMIT")
