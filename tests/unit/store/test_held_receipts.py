"""Receipts at their holders: only beside the certificate of their trade, two a trade, and accepts without an order."""

from pathlib import Path

import pytest

from dhtex import limits
from dhtex.market.holding import Taken
from dhtex.market.ids import order_key
from dhtex.market.records import Closing, Code, Kind, Outcome, Receipt, is_a, parse_record
from dhtex.overlay.addresses import neighbourhood
from dhtex.store.database import Database
from dhtex.store.holdings import Holdings
from tests.builders import NETWORK, NOW, identity, make_accept, make_order, make_receipt, make_status
from tests.unit.store.test_holdings import holdings, listed, put, stored, wires

__all__ = ["holdings"]

ORDER = make_order()
ACCEPT = make_accept(ORDER)
FILL = make_status(ORDER, Closing.FILLED, accept=ACCEPT)
KEY = order_key(ORDER.id)
BY_MAKER = make_receipt(ORDER, ACCEPT)
BY_TAKER = make_receipt(ORDER, ACCEPT, by=identity(2), outcome=Outcome.FAILED)


def test_both_sides_are_heard_once_the_trade_is_certified(holdings: Holdings) -> None:
    assert put(holdings, BY_MAKER).code == Code.UNKNOWN_ORDER
    stored(holdings, ORDER)
    assert put(holdings, BY_MAKER).code == Code.UNKNOWN_ORDER
    stored(holdings, FILL, BY_MAKER, BY_TAKER)
    assert listed(holdings, KEY, Kind.RECEIPT) == wires(BY_MAKER, BY_TAKER)
    kinds = [parse_record(wire, NETWORK) for _, _, wire in holdings.replicas(NOW + 5)]
    assert [record.kind for record in kinds if not isinstance(record, str)] == [1, 2, 6, 6]  # a new holder can judge


@pytest.mark.parametrize(
    "stranger",
    [
        make_receipt(ORDER, ACCEPT, by=identity(3)),
        make_receipt(ORDER, make_accept(ORDER, by=identity(3)), by=identity(3)),
        make_receipt(ORDER, make_accept(ORDER, by=identity(3))),
        make_receipt(ORDER, ACCEPT, expires=ORDER.body.expires + 60),
    ],
    ids=["a third party", "a loser", "about a loser", "kept for longer"],
)
def test_nobody_else_is(holdings: Holdings, stranger: object) -> None:
    stored(holdings, ORDER, FILL)
    assert put(holdings, stranger).code == Code.UNKNOWN_ORDER  # type: ignore[arg-type]
    assert listed(holdings, KEY, Kind.RECEIPT) == []


def test_a_certificate_whose_maker_nobody_vouches_for_makes_no_sides(holdings: Holdings) -> None:
    stored(holdings, FILL)  # without the order it may be anybody's
    assert put(holdings, BY_TAKER).code == Code.UNKNOWN_ORDER


def test_the_last_word_of_each_stays_and_of_two_last_words_the_same_everywhere(holdings: Holdings) -> None:
    stored(holdings, ORDER, FILL)
    later = make_receipt(ORDER, ACCEPT, seq=2, outcome=Outcome.FAILED)
    twin = make_receipt(ORDER, ACCEPT, seq=2)
    first, second = sorted((later, twin), key=lambda record: record.id)
    stored(holdings, BY_MAKER, second)
    assert put(holdings, BY_MAKER).taken is Taken.SUPERSEDED
    stored(holdings, first)
    assert put(holdings, second).taken is Taken.SUPERSEDED
    assert listed(holdings, KEY, Kind.RECEIPT) == wires(first)


def test_no_side_goes_on_for_ever() -> None:
    for seq in (0, limits.RECEIPT_SEQ_MAX + 1):
        with pytest.raises(ValueError, match="number"):
            make_receipt(ORDER, ACCEPT, seq=seq)
    with pytest.raises(ValueError, match="sealed"):
        make_receipt(ORDER, ACCEPT, sealed=b"x")


def test_receipts_outlive_their_order_and_a_restart_and_an_order_that_comes_again(tmp_path: Path) -> None:
    path = tmp_path / "node.db"
    with_file = Holdings(Database.open(path), NETWORK, 0)
    stored(with_file, ORDER, FILL, BY_MAKER, BY_TAKER)
    late = ORDER.body.expires + limits.TOMBSTONE_S
    with_file.flush(NOW + 5)
    with_file._database.close()
    again = Holdings(Database.open(path), NETWORK, 0)
    assert set(listed(again, KEY, Kind.RECEIPT, NOW + 6)) == set(wires(BY_MAKER, BY_TAKER))
    again.expire(ORDER.body.expires)
    assert listed(again, KEY, Kind.ORDER, late - 1) == []
    assert len(listed(again, KEY, Kind.RECEIPT, late - 1)) == 2
    assert listed(again, KEY, Kind.RECEIPT, late) == []


def test_a_crowd_of_accepts_does_not_push_receipts_out(holdings: Holdings) -> None:
    stored(holdings, ORDER, FILL, BY_MAKER, BY_TAKER)
    for number in range(limits.RECORDS_PER_ORDER_KEY_MAX + 5):
        put(holdings, make_accept(ORDER, by=identity(100 + number)))
    assert listed(holdings, KEY, Kind.RECEIPT) == wires(BY_MAKER, BY_TAKER)
    assert all(is_a(parse_record(wire, NETWORK), Receipt) for wire in listed(holdings, KEY, Kind.RECEIPT))


def test_accepts_of_unknown_orders_count_against_their_sender(
    holdings: Holdings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ORPHANS_PER_SOURCE_MAX", 3)
    orders = [make_order(number=number) for number in range(5)]
    for order in orders:
        assert holdings.put(make_accept(order).wire, None, NOW + 5, "a").taken is Taken.STORED
    kept = [order for order in orders if listed(holdings, order_key(order.id), Kind.ACCEPT)]
    assert kept == orders[2:]
    stored(holdings, *orders[2:])  # once their order is known they are worth what others are
    for number in range(10, 14):
        holdings.put(make_accept(make_order(number=number)).wire, None, NOW + 5, "a")
    assert all(listed(holdings, order_key(order.id), Kind.ACCEPT) for order in orders[2:])


def test_a_neighbourhood_is_what_one_person_easily_owns() -> None:
    assert neighbourhood("2a01:4f8::1") == neighbourhood("2a01:4f8::ffff:1") != neighbourhood("2a01:4f9::1")
    assert neighbourhood("8.8.8.8") == neighbourhood("8.8.8.9") != neighbourhood("8.8.9.8")
    assert neighbourhood("192.168.0.1") != neighbourhood("192.168.0.2")  # a lab of many honest nodes
