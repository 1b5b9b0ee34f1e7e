"""The rows of held records: how they are written, and what is made of a row that was spoilt.

Rows are numbered as their records come, and written and deleted by number. What comes together stands together, and
mostly goes together, so that a batch changes few pages.

A row is believed when its bytes hash to its id and belong to its key: see `dhtex.market.kept`. Who could change all
three could as well change the program.
"""

import sqlite3
from collections.abc import Iterator
from typing import NamedTuple

from dhtex.market.admission import place
from dhtex.market.ids import DhtKey
from dhtex.market.kept import reopen
from dhtex.market.records import AnyRecord
from dhtex.store.database import Database
from dhtex.store.held import NUMBER_MAX, Held


class Row(NamedTuple):
    """A row as it was read; without a record when it cannot be used."""

    number: int
    key: DhtKey
    prefix: str | None
    anchored: bool
    record: AnyRecord | None


def read(database: Database, network: str) -> Iterator[Row]:
    """All rows, in the order in which they were written. Raises StateError."""
    for number, key, record_id, prefix, anchored, wire in database.stream(
        "SELECT number, dht_key, record_id, prefix, anchored, wire FROM held ORDER BY number"
    ):
        record = reopen(wire, record_id, network)
        if record is not None and not (0 < number < NUMBER_MAX and _belongs(record, prefix, key)):
            record = None
        yield Row(number, key, prefix, bool(anchored), record)


def _belongs(record: AnyRecord, prefix: object, key: object) -> bool:
    if not isinstance(prefix, str | None):
        return False
    try:
        return place(record, prefix) == key
    except ValueError:  # no price
        return False


def write(connection: sqlite3.Connection, rows: list[tuple[int, Held | None]]) -> None:
    """Insert or replace what is held, delete what is not (None), by number."""
    connection.executemany("DELETE FROM held WHERE number = ?", ((number,) for number, held in rows if held is None))
    connection.executemany(
        "INSERT OR REPLACE INTO held(number, dht_key, record_id, prefix, anchored, wire) VALUES(?, ?, ?, ?, ?, ?)",
        (
            (number, held.place.key, held.id, held.place.prefix, held.anchored, held.wire)
            for number, held in rows
            if held is not None
        ),
    )
