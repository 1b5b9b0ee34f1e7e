"""A live book merges records in any order and says which orders look different afterwards."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dhtex import limits
from dhtex.directory.livebook import LiveBook
from dhtex.market.merge import order_state
from dhtex.market.records import AnyRecord, Closing
from dhtex.market.trade import MakerState
from tests.builders import NOW, identity, make_beat, make_order, make_status

ORDER = make_order()
CANCEL = make_status(ORDER, Closing.CANCELED)
FOREIGN = make_status(ORDER, Closing.CANCELED, by=identity(9), maker=identity(9).public)


def state(book: LiveBook) -> MakerState:
    return order_state(book.orders[ORDER.id], book.statuses.get(ORDER.id, ()), NOW + 5).state


def test_an_order_is_news_once() -> None:
    book = LiveBook("BTC/USD")
    assert book.add(ORDER, NOW) == [ORDER.id]
    assert book.add(ORDER, NOW) == []


def test_a_status_closes_an_order_and_is_news_once() -> None:
    book = LiveBook("BTC/USD")
    book.add(ORDER, NOW)
    assert book.add(CANCEL, NOW) == [ORDER.id]
    assert book.add(CANCEL, NOW) == []
    assert state(book) is MakerState.CANCELED


def test_a_cancel_that_overtakes_its_order_still_counts() -> None:
    book = LiveBook("BTC/USD")
    assert book.add(CANCEL, NOW) == []
    assert book.add(ORDER, NOW) == [ORDER.id]
    assert state(book) is MakerState.CANCELED


def test_a_status_by_another_key_closes_nothing() -> None:
    book = LiveBook("BTC/USD")
    book.add(ORDER, NOW)
    book.add(FOREIGN, NOW)
    assert state(book) is MakerState.OPEN


@given(st.permutations([ORDER, CANCEL, FOREIGN, make_status(ORDER, Closing.FILLED), ORDER, CANCEL]))
def test_the_order_of_arrival_does_not_matter(records: list[AnyRecord]) -> None:
    book = LiveBook("BTC/USD")
    for record in records:
        book.add(record, NOW)
    assert state(book) is MakerState.DISPUTED


def test_the_newest_beat_counts_and_publishing_is_a_sign_of_life() -> None:
    book = LiveBook("BTC/USD")
    book.add(ORDER, NOW)
    assert book.heard_of(ORDER) == NOW
    for at in (NOW + 60, NOW + 30):
        book.add(make_beat(at=at), NOW)
    assert book.heard_of(ORDER) == NOW + 60


def test_open_is_of_one_side_what_no_end_is_known_of() -> None:
    book, other, buy = LiveBook("BTC/USD"), make_order(number=7), make_order(side="buy")
    for record in (ORDER, other, buy, CANCEL):
        book.add(record, NOW)
    assert book.open_orders("sell", NOW) == [other]
    assert book.open_orders("sell", other.body.expires) == []


def test_expired_orders_are_forgotten_with_all_that_is_known_of_them() -> None:
    book = LiveBook("BTC/USD")
    book.add(ORDER, NOW)
    book.add(CANCEL, NOW)
    book.forget_before(ORDER.body.expires, [ORDER.id])
    assert ORDER.id in book.orders
    book.forget_before(ORDER.body.expires + 61, [ORDER.id])
    assert not book.orders
    assert not book.statuses


def test_what_costs_its_sender_nothing_does_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ORPHANS_HELD_MAX", 5)
    book, order = LiveBook("BTC/USD"), make_order()
    book.add(order, NOW)
    book.add(make_status(order, Closing.CANCELED), NOW)
    for number in range(10, 30):
        book.add(make_status(make_order(number=number), Closing.CANCELED), NOW)
        book.add(make_status(order, Closing.CANCELED, by=identity(number), maker=identity(number).public), NOW)
        stranger = identity(number)
        book.add(make_status(make_order(number=99), Closing.CANCELED, by=stranger, maker=stranger.public), NOW)
        book.add(make_beat(by=stranger), NOW)
    assert len(book.statuses) <= 1 + 5
    assert max(map(len, book.statuses.values())) <= limits.STATUSES_PER_ORDER_MAX
    assert [status.body.maker for status in book.statuses[order.id]] == [order.body.maker]
    book.forget_before(NOW + limits.BEAT_AGE_S_MAX + 1, ())
    assert not book.beats
