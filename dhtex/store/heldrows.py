"""The rows of held records: how they are written, and how all of them are put back on their shelves.

Rows are numbered as their records come, and written and deleted by number. What comes together stands together, and
mostly goes together, so that a batch changes few pages.

A row is believed when its bytes hash to its id and belong to its key: see `dhtex.market.kept`. Who could change all
three could as well change the program. What was weighed when it came is not weighed again: each record is laid on its
shelf as it is read, and each shelf is sorted once, in the end.
"""

import sqlite3
from collections import Counter
from typing import Final, NamedTuple

from dhtex.market.admission import place
from dhtex.market.ids import DhtKey, PublicKey
from dhtex.market.kept import reopen
from dhtex.market.records import AnyRecord, Order, is_a
from dhtex.store.database import Database
from dhtex.store.held import NUMBER_MAX, Held
from dhtex.store.indexshelf import empty_shelf
from dhtex.store.shelf import Shelf

_FROM_DISK: Final = "disk"


class Restored(NamedTuple):
    """Shelves with all that rows could be used for, how many of their orders are of which pair, and the numbers of the
    rows that are of no use."""

    shelves: dict[DhtKey, Shelf]
    pairs: Counter[str]
    spoilt: list[int]


def read(database: Database, network: str) -> Restored:
    """What was held when these rows were written. Raises StateError."""
    shelves: dict[DhtKey, Shelf] = {}
    pairs, spoilt = Counter[str](), list[int]()
    authors: dict[PublicKey, PublicKey] = {}
    for number, key, record_id, prefix, anchored, wire in database.stream(
        "SELECT number, dht_key, record_id, prefix, anchored, wire FROM held ORDER BY number"
    ):
        record = reopen(wire, record_id, network)
        if record is None or not (0 < number < NUMBER_MAX and _belongs(record, prefix, key)):
            spoilt.append(number)
            continue
        shelf = shelves.get(key) or empty_shelf(key, prefix)
        if shelf.get(record_id) is not None:
            spoilt.append(number)
            continue
        held = Held(record, shelf, bool(anchored), _FROM_DISK, number)
        held.author = authors.setdefault(held.author, held.author)  # shelves keep it too
        try:
            shelf.lay(held, record)
        except ValueError:  # no price
            spoilt.append(number)
            continue
        shelves[key] = shelf
        if is_a(record, Order):
            pairs[record.body.pair] += 1
    for shelf in shelves.values():
        shelf.arrange()
    return Restored(shelves, pairs, spoilt)


def _belongs(record: AnyRecord, prefix: object, key: object) -> bool:
    if prefix is not None and not isinstance(prefix, str):
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
