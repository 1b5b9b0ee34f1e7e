"""The journal: decided once, on disk before anyone is told, and nothing half done."""

import random
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from dhtex import limits
from dhtex.errors import StateError
from dhtex.store import schema
from dhtex.store.database import Database
from dhtex.store.journal import Journal
from dhtex.store.rows import Answer, Sequel
from tests.builders import NOW
from tests.unit.store.samples import REFUSAL, STATUS, name, own_order, pending, trade


@pytest.fixture
def journal() -> Journal:
    return Journal(Database.open(None))


def test_identity_is_made_once(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "node.db")
    first = Journal(database).identity(random.Random(1))
    assert (len(first.seed), len(first.node_id), first.epoch) == (32, 20, 1)
    database.close()
    database = Database.open(tmp_path / "node.db")
    assert Journal(database).identity(random.Random(2)) == first
    database.close()


def test_orders_come_back_as_they_were_in_order(journal: Journal) -> None:
    rows = [own_order(5), own_order(3, replaced_by=name(9)), own_order(4, state="publishing")]
    for row in rows:
        journal.add_order(row)
    assert journal.orders() == rows
    assert journal.orders("open") == rows[:2]
    assert journal.order(name(3)) == rows[1]
    assert journal.order(name(77)) is None


def test_an_order_is_not_kept_twice(journal: Journal) -> None:
    journal.add_order(own_order())
    with pytest.raises(StateError):
        journal.add_order(own_order(reply_text="other"))
    assert journal.orders() == [own_order()]


def test_ids_are_found_by_their_first_digits(journal: Journal) -> None:
    row = own_order(order_id=bytes.fromhex("abcdef" + "0" * 58))
    journal.add_order(row)
    journal.add_trade(trade(order_id=row.order_id, accept_id=bytes.fromhex("123456" + "0" * 58)))
    assert journal.find_orders("ABCDe") == [row]
    assert journal.find_orders("abce") == []
    assert [found.order_id for found in journal.find_trades("12345")] == [row.order_id]
    assert [found.order_id for found in journal.find_trades("abcdef")] == [row.order_id]
    assert journal.find_trades("f") == []


def test_first_digits_are_looked_up_in_an_index() -> None:
    database = Database.open(None)
    queries: list[str] = []
    database._journal.set_trace_callback(queries.append)
    Journal(database).find_orders("abcdef")
    Journal(database).find_trades("abcdef")
    database._journal.set_trace_callback(None)
    assert len(queries) == 2
    for query in queries:
        assert not any("SCAN" in step for *_, step in database.rows(f"EXPLAIN QUERY PLAN {query}"))


def test_a_page_of_trades_costs_no_sorting_of_all() -> None:
    database = Database.open(None)
    queries: list[str] = []
    database._journal.set_trace_callback(queries.append)
    for last in (None, name(1)):
        Journal(database).trades_behind(last, 10)
    database._journal.set_trace_callback(None)
    assert len(queries) == 2
    for query in queries:
        plan = [step for *_, step in database.rows(f"EXPLAIN QUERY PLAN {query}")]
        assert any("trades_by_age" in step for step in plan)
        assert not any("TEMP B-TREE" in step for step in plan)


def test_publishing_becomes_open_once(journal: Journal) -> None:
    journal.add_order(own_order(state="publishing"))
    assert journal.stamp_order(name(1), b"stamped")
    assert not journal.stamp_order(name(1), b"again")
    assert journal.order(name(1)) == own_order(wire=b"stamped")


def test_the_remainder_is_written_with_the_fill_or_not_at_all(journal: Journal) -> None:
    journal.add_order(own_order())
    child = own_order(2, state="publishing", parent=name(1))
    assert not journal.decide_fill(name(9), name(100), STATUS, trade(), Sequel(child=child))
    assert journal.child(name(1)) is None
    assert journal.decide_fill(name(1), name(100), STATUS, trade(), Sequel(child=child))
    assert not journal.decide_fill(name(1), name(101), STATUS, trade(101), Sequel(child=own_order(3, parent=name(1))))
    assert journal.child(name(1)) == child
    assert journal.orders() == [own_order(state="filled", seq=1, status_wire=STATUS), child]
    assert journal.child(name(2)) is None


@pytest.mark.parametrize("before", ["open", "publishing"])
@pytest.mark.parametrize("after", ["canceled", "expired"])
def test_an_order_ends_once(journal: Journal, before: str, after: str) -> None:
    journal.add_order(own_order(state=before))
    wire = STATUS if after == "canceled" else b""
    assert journal.close_order(name(1), after, wire)
    ended = own_order(state=after, seq=1 if wire else 0, status_wire=wire)
    assert journal.order(name(1)) == ended
    assert not journal.close_order(name(1), "canceled", b"other")
    assert not journal.replace_order(name(1), own_order(2), b"other")
    assert not journal.decide_fill(name(1), name(100), b"other", trade())
    assert journal.order(name(1)) == ended
    assert journal.orders() == [ended]
    assert journal.trades() == []


def test_replacing_opens_the_successor_in_the_same_step(journal: Journal) -> None:
    journal.add_order(own_order())
    assert journal.replace_order(name(1), own_order(2), STATUS)
    assert journal.order(name(1)) == own_order(state="replaced", seq=1, status_wire=STATUS, replaced_by=name(2))
    assert journal.order(name(2)) == own_order(2)


def test_a_replacement_that_cannot_be_kept_leaves_the_old_order_open(journal: Journal) -> None:
    journal.add_order(own_order())
    journal.add_order(own_order(2))
    with pytest.raises(StateError):
        journal.replace_order(name(1), own_order(2), STATUS)
    assert journal.order(name(1)) == own_order()


def test_a_fill_writes_order_answer_and_trade_together(journal: Journal) -> None:
    journal.add_order(own_order())
    assert journal.add_pending(pending(), trade(state="pending"))
    assert journal.decide_fill(name(1), name(100), STATUS, trade())
    assert journal.order(name(1)) == own_order(state="filled", seq=1, status_wire=STATUS)
    assert journal.answer(name(100)) == STATUS
    assert journal.trades() == [trade()]
    assert journal.pending() == []
    assert journal.unpublished() == [Answer(name(100), name(1), STATUS)]


def test_a_second_fill_loses_and_leaves_no_trace(journal: Journal) -> None:
    journal.add_order(own_order())
    assert journal.decide_fill(name(1), name(100), STATUS, trade())
    assert not journal.decide_fill(name(1), name(101), b"other", trade(101))
    assert not journal.decide_fill(name(1), name(100), b"other", trade())
    assert journal.order(name(1)) == own_order(state="filled", seq=1, status_wire=STATUS)
    assert journal.answer(name(101)) is None
    assert journal.trades() == [trade()]


def test_an_accept_is_answered_once(journal: Journal) -> None:
    journal.add_order(own_order())
    refused = trade(state="refused", code="amount_out_of_range", answer_wire=REFUSAL)
    assert journal.keep_answer(name(1), name(100), REFUSAL, refused)
    assert not journal.keep_answer(name(1), name(100), b"other", trade())
    assert not journal.decide_fill(name(1), name(100), STATUS, trade())
    assert journal.order(name(1)) == own_order()
    assert journal.answer(name(100)) == REFUSAL
    assert journal.trades() == [refused]
    assert journal.accepts_count(name(1)) == 1


def test_a_fill_that_fails_midway_leaves_the_order_open(journal: Journal) -> None:
    journal.add_order(own_order())
    broken = replace(trade(), message=None)  # type: ignore[arg-type]
    with pytest.raises(StateError):
        journal.decide_fill(name(1), name(100), STATUS, broken)
    assert journal.order(name(1)) == own_order()
    assert journal.answer(name(100)) is None


def test_two_desks_on_one_file_decide_once(tmp_path: Path) -> None:
    databases = [Database.open(tmp_path / "node.db") for _ in range(2)]
    journals = [Journal(database) for database in databases]
    journals[0].add_order(own_order())
    won = [journals[n].decide_fill(name(1), name(100 + n), STATUS, trade(100 + n)) for n in (1, 0)]
    assert won == [True, False]
    assert [row.accept_id for row in journals[0].trades()] == [name(101)]
    for database in databases:
        database.close()


def test_pending_accepts_wait_once_and_in_order(journal: Journal) -> None:
    waiting = trade(state="pending", answer_wire=b"")
    assert journal.add_pending(pending(), waiting)
    assert not journal.add_pending(pending(), trade())
    assert journal.add_pending(pending(99), trade(99))
    assert journal.add_pending(pending(98, order=2), trade(98, order=2))
    assert journal.pending(name(1)) == [pending(), pending(99)]
    assert len(journal.pending()) == 3
    assert journal.trade(name(100)) == waiting
    assert journal.drop_pending(name(100), trade(state="void"))
    assert not journal.drop_pending(name(100), trade())
    assert journal.trade(name(100)) == trade(state="void")


def test_what_was_published_is_not_published_again(journal: Journal) -> None:
    journal.add_order(own_order())
    journal.decide_fill(name(1), name(100), STATUS, trade())
    journal.keep_answer(name(1), name(101), REFUSAL, trade(101))
    journal.mark_published(name(100))
    assert journal.unpublished() == [Answer(name(101), name(1), REFUSAL)]
    assert journal.answer(name(100)) == STATUS


def test_a_trade_changes_only_from_the_expected_state(journal: Journal) -> None:
    sent = trade(role="taker", state="sent", answer_wire=b"")
    journal.add_trade(sent)
    confirmed = replace(sent, state="confirmed", answer_wire=STATUS, reply="thanks")
    assert not journal.update_trade(sent.accept_id, "pending", confirmed)
    assert journal.trade(sent.accept_id) == sent
    assert journal.update_trade(sent.accept_id, "sent", confirmed)
    assert not journal.update_trade(sent.accept_id, "sent", replace(sent, state="void"))
    assert journal.trades_of(name(1)) == [confirmed]


def test_a_status_from_elsewhere_is_adopted(journal: Journal) -> None:
    journal.add_order(own_order())
    assert journal.adopt_status(name(1), "canceled", 4, STATUS)
    assert not journal.adopt_status(name(1), "canceled", 5, b"other")
    assert journal.order(name(1)) == own_order(state="canceled", seq=4, status_wire=STATUS)


def test_what_strangers_did_not_get_is_forgotten_and_fills_are_not(journal: Journal) -> None:
    journal.add_order(own_order())
    journal.keep_answer(name(1), name(101), REFUSAL, trade(101, state="refused"))
    journal.add_pending(pending(102), trade(102, state="pending", answer_wire=b""))
    journal.drop_pending(name(102), trade(102, state="void", answer_wire=b""))
    own = trade(103, role="taker", state="void", answer_wire=b"")
    journal.add_trade(own)
    journal.decide_fill(name(1), name(100), STATUS, trade())
    journal.prune(NOW + 3600 + limits.TOMBSTONE_S)
    assert len(journal.trades()) == 4
    journal.prune(NOW + 3601 + limits.TOMBSTONE_S)
    assert journal.trades() == [trade(), own]
    assert journal.answer(name(100)) == STATUS
    assert journal.answer(name(101)) is None


def test_peers_are_those_that_were_saved_last(journal: Journal) -> None:
    first, second = (bytes([n]) * 20 for n in (1, 2))
    journal.save_peers([(first, "10.0.0.1", 1), (second, "::1", 65_535)])  # type: ignore[list-item]
    journal.save_peers([(second, "::1", 65_535)])  # type: ignore[list-item]
    assert journal.peers() == [(second, "::1", 65_535)]


def test_a_file_of_the_first_format_keeps_its_orders(tmp_path: Path) -> None:
    path = tmp_path / "node.db"
    old = sqlite3.connect(path)
    old.executescript(f"{schema.MIGRATIONS[1]} PRAGMA application_id={schema.APPLICATION_ID}; PRAGMA user_version=1;")
    row = own_order()
    values = (row.order_id, row.wire, row.state, row.seq, row.status_wire, row.reply_text, row.created, row.expires)
    old.execute("INSERT INTO orders VALUES(?, ?, ?, ?, ?, ?, ?, ?, x'')", values)
    old.commit()
    old.close()
    database = Database.open(path)
    assert Journal(database).orders() == [row]
    database.close()


def test_what_is_overdue_is_neither_over_nor_without_a_switch(journal: Journal) -> None:
    """An order that expired before it could be withdrawn was tried again every second, for ever."""
    switched = own_order(1, cancel_after=60, cancel_at=NOW + 60, expires=NOW + 100)
    for row in (switched, own_order(2), own_order(3, state="canceled", cancel_after=5, cancel_at=NOW + 5)):
        journal.add_order(row)
    assert journal.overdue(NOW + 59) == []
    assert journal.overdue(NOW + 60) == [switched]
    assert journal.overdue(NOW + 100) == []
