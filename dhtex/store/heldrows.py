"""The rows of held records: how they are written, and what is made of a row that was spoilt.

A row is believed when its bytes hash to its id and belong to its key: see `dhtex.market.kept`. Who could change all
three could as well change the program.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from dhtex.market.admission import place
from dhtex.market.ids import DhtKey, RecordId
from dhtex.market.kept import reopen
from dhtex.market.records import AnyRecord
from dhtex.store.database import Database
from dhtex.store.held import Held

HeldAt = tuple[DhtKey, RecordId]


class Row(NamedTuple):
    """A row as it was read; without a record when it cannot be used."""

    at: HeldAt
    prefix: str | None
    anchored: bool
    record: AnyRecord | None


def read(database: Database, network: str) -> Iterator[Row]:
    """All rows, in the order in which they were written. Raises StateError."""
    for key, record_id, prefix, anchored, wire in database.stream(
        "SELECT dht_key, record_id, prefix, anchored, wire FROM held ORDER BY rowid"
    ):
        record = reopen(wire, record_id, network)
        if record is not None and not _belongs(record, prefix, key):
            record = None
        yield Row((key, record_id), prefix, bool(anchored), record)


def _belongs(record: AnyRecord, prefix: object, key: object) -> bool:
    if not isinstance(prefix, str | None):
        return False
    try:
        return place(record, prefix) == key
    except ValueError:  # no price
        return False


def write(connection: sqlite3.Connection, rows: Iterable[tuple[HeldAt, Held | None]]) -> None:
    """Insert or replace what is held, delete what is not (None)."""
    rows = list(rows)
    gone = (at for at, held in rows if held is None)
    connection.executemany("DELETE FROM held WHERE dht_key = ? AND record_id = ?", gone)
    connection.executemany(
        "INSERT OR REPLACE INTO held(dht_key, record_id, prefix, anchored, wire) VALUES(?, ?, ?, ?, ?)",
        ((*at, held.place.prefix, held.anchored, held.wire) for at, held in rows if held is not None),
    )
