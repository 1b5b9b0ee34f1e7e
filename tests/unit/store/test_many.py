"""Many records: little memory for each, and never much work at once."""

import random
import sqlite3
import tracemalloc
from itertools import pairwise
from pathlib import Path

import pytest

from dhtex import limits
from dhtex.market.ids import order_key
from dhtex.market.records import AnyRecord, Closing
from dhtex.store import schema
from dhtex.store.database import Database
from dhtex.store.holdings import Holdings
from tests.builders import NETWORK, NOW, identity, make_accept, make_beat, make_order, make_status

BYTES_MORE = 300  # beside twice its own size


def handed(count: int, prefix: str | None) -> list[tuple[AnyRecord, str | None]]:
    """Orders of many makers, some of them accepted or closed."""
    records: list[tuple[AnyRecord, str | None]] = []
    for number in range(count):
        price = str(1000 + 7 * number)
        order = make_order(by=identity(number % 40), number=number, price=price, created=NOW - number % 1000)
        records.append((order, prefix))
        if number % 8 == 0 and prefix is None:
            accept = make_accept(order)
            records += [(accept, None), (make_status(order, Closing.FILLED, accept=accept), None)]
        elif number % 8 == 1:
            records.append((make_status(order, Closing.CANCELED), prefix))
    return records


@pytest.mark.parametrize("prefix", [None, ""])
def test_a_held_record_takes_twice_its_bytes_and_a_little(tmp_path: Path, prefix: str | None) -> None:
    database = Database.open(tmp_path / "node.db")
    holdings = Holdings(database, NETWORK, 0)
    for record, where in handed(1000, prefix):
        holdings.put(record.wire, where, NOW + 5, "10.0.0.1")
    while holdings.flush(NOW + 5):
        pass
    sizes = [len(wire) for _, _, wire in holdings.replicas(NOW + 5)]
    tracemalloc.start()
    again = Holdings(database, NETWORK, 0)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert again.count == len(sizes) > 800
    assert taken <= 2 * sum(sizes) + BYTES_MORE * len(sizes)
    database.close()


def test_what_ends_at_once_goes_in_turns() -> None:
    holdings = Holdings(Database.open(None), NETWORK, 0)
    count, end = 3 * limits.EXPIRED_PER_TURN_MAX + 1, NOW + 60
    orders = [make_order(by=identity(number % 9), number=number, expires=end) for number in range(count)]
    later = make_order(expires=end + 60)
    for order in (*orders, later):
        holdings.put(order.wire, None, NOW, "10.0.0.1")
    while holdings.flush(NOW):
        pass
    assert not holdings.changed.is_set()
    left: list[int] = []
    while not left or left[-1] > 1:
        holdings.expire(end)
        left.append(holdings.count)
        assert holdings.changed.is_set()
    assert left[0] == count + 1 - limits.EXPIRED_PER_TURN_MAX
    assert all(before - after <= limits.EXPIRED_PER_TURN_MAX for before, after in pairwise(left))
    while holdings.flush(end, limits.WRITTEN_PER_TURN_MAX):
        pass
    assert not holdings.changed.is_set()
    assert holdings.stock_value(order_key(later.id), end) == later.wire


def test_what_waits_for_its_turn_to_go_is_given_to_nobody_who_cannot_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "EXPIRED_PER_TURN_MAX", 1)
    holdings = Holdings(Database.open(None), NETWORK, 0)
    orders = [make_order(number=number, expires=NOW + 60) for number in range(9)]
    for order in orders:
        holdings.put(order.wire, None, NOW, "10.0.0.1")
    assert all(holdings.stock_value(order_key(order.id), NOW + 59) == order.wire for order in orders)
    assert all(holdings.stock_value(order_key(order.id), NOW + 60) is None for order in orders[:8])
    assert holdings.count == 1


@pytest.mark.parametrize("beats", [False, True])
def test_whoever_writes_is_called_until_everything_that_ended_is_gone(
    beats: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "EXPIRED_PER_TURN_MAX", 8)
    holdings = Holdings(Database.open(None), NETWORK, 0)
    for number in range(40):
        by = identity(number)
        record: AnyRecord = make_beat(by=by) if beats else make_order(by=by, number=number, expires=NOW + 60)
        holdings.put(record.wire, "", NOW, "10.0.0.1")
    while holdings.flush(NOW):
        pass
    holdings.changed.clear()
    holdings.expire(NOW + 100)
    turns = 0
    while holdings.changed.is_set():
        holdings.flush(NOW + 100, limits.WRITTEN_PER_TURN_MAX)
        turns += 1
    assert holdings.count == 0
    assert turns >= 4


def seen_by_author(holdings: Holdings) -> dict[bytes, tuple[int, int]]:
    return {name: (author.held, author.orders) for name, author in holdings._authors.items()}


def test_many_come_and_go_and_none_is_left_behind(tmp_path: Path) -> None:
    database, chance = Database.open(tmp_path / "node.db"), random.Random(1)
    holdings = Holdings(database, NETWORK, 0)
    now = float(NOW)
    for number in range(1500):
        now += chance.random()
        order = make_order(
            by=identity(number % 30), number=number, created=int(now), expires=int(now) + chance.randrange(5, 400)
        )
        holdings.put(order.wire, chance.choice((None, "")), now, f"10.0.0.{number % 5}")
        if chance.random() < 0.2:
            holdings.put(make_status(order, Closing.CANCELED).wire, None, now + 3, "10.0.0.1")
        if chance.random() < 0.05:
            holdings.flush(now, chance.choice((None, 7)))
    while holdings.flush(now):
        pass
    again = Holdings(database, NETWORK, 0)
    assert sorted(again.replicas(now), key=str) == sorted(holdings.replicas(now), key=str)
    assert seen_by_author(again) == seen_by_author(holdings)
    assert sorted(again.tree_keys()) == sorted(holdings.tree_keys()) != []
    for one in (holdings, again):
        for _ in range(one.count):
            one.expire(now + 60)
        assert all(held.expires > now + 60 for shelf in one._shelves.values() for held in shelf)
        while one.count:
            one.expire(now + 10**7)
        assert not one._shelves
        assert not one._authors
        assert not one._places
        assert not one._pairs
        assert not one._expiries
        assert not one._orphans._by_source
        assert not one._eviction._makers
        assert not one._eviction._sources
    while again.flush(now + 10**7):
        pass
    assert database.rows("SELECT * FROM held") == []
    database.close()


def test_the_log_is_folded_into_the_file_while_the_node_runs(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "node.db")
    rows = [(number, b"key", b"id", None, 1, bytes(300)) for number in range(1, 5001)]
    for start in range(0, 5000, 100):
        with database.batch() as connection:
            connection.executemany("INSERT INTO held VALUES(?, ?, ?, ?, ?, ?)", rows[start : start + 100])
    assert database._folding is not None
    database._folding.join()
    (tmp_path / "copy").mkdir()
    copy = tmp_path / "copy" / "node.db"
    copy.write_bytes((tmp_path / "node.db").read_bytes())  # without its log
    with sqlite3.connect(copy) as connection:
        assert connection.execute("SELECT count(*) FROM held").fetchone()[0] >= 1000
    connection.close()
    assert database.rows("SELECT count(*) FROM held") == [(5000,)]
    database.close()


def test_a_file_of_the_former_format_keeps_its_records_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "node.db"
    old = sqlite3.connect(path)
    for step in (1, 2, 3):
        old.executescript(schema.MIGRATIONS[step])
    order = make_order()
    accepts = [make_accept(order, by=identity(number)) for number in (9, 3, 7, 2)]
    records: list[AnyRecord] = [order, *accepts]
    values = [(order_key(order.id), record.id, None, 1, record.wire) for record in records]
    old.executemany("INSERT INTO held(dht_key, record_id, prefix, anchored, wire) VALUES(?, ?, ?, ?, ?)", values)
    old.executescript(f"PRAGMA application_id={schema.APPLICATION_ID}; PRAGMA user_version=3;")
    old.close()
    database = Database.open(path)
    holdings = Holdings(database, NETWORK, 0)
    page = holdings.page(order_key(order.id), 0, 0, 10_000, NOW)
    assert page.wires == [record.wire for record in records]
    assert holdings.flush(NOW) == 0
    database.close()
