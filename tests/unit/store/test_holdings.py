"""What a holder takes, keeps, hides and hands out."""

from typing import Any

import pytest

from dhtex import limits
from dhtex.errors import StateError
from dhtex.market.admission import Verifier
from dhtex.market.holding import ANY_KIND, NO_DIGEST, NO_KIND, PutVerdict, Taken
from dhtex.market.ids import index_key, order_key
from dhtex.market.records import AnyRecord, Closing, Code, Kind, Order, Record
from dhtex.store.database import Database
from dhtex.store.holdings import Holdings
from dhtex.store.shelf import OrderShelf
from tests.builders import (
    NETWORK,
    NOW,
    identity,
    make_accept,
    make_beat,
    make_order,
    make_refusal,
    make_status,
    one_of_each,
)

INDEX = index_key(NETWORK, "BTC/USD", "sell", "")
ROOM = 1 << 30


@pytest.fixture
def holdings() -> Holdings:
    return Holdings(Database.open(None), NETWORK, 0)


def put(holdings: Holdings, record: AnyRecord, prefix: str | None = None, now: float = NOW + 5) -> PutVerdict:
    return holdings.put(record.wire, prefix, now, "10.0.0.1")


def stored(holdings: Holdings, *records: AnyRecord, prefix: str | None = None) -> None:
    for record in records:
        assert put(holdings, record, prefix).taken is Taken.STORED


def listed(holdings: Holdings, key: Any = INDEX, kind: int = Kind.ORDER, now: float = NOW + 5) -> list[bytes]:
    page = holdings.page(key, kind, 0, ROOM, now)
    assert page.total == len(page.wires)
    return page.wires


def wires(*records: AnyRecord) -> list[bytes]:
    return [record.wire for record in records]


def test_a_record_is_stored_once_and_known_then(holdings: Holdings) -> None:
    for record in one_of_each().values():
        prefix = "" if record.kind is Kind.BEAT else None
        key = INDEX if record.kind is Kind.BEAT else order_key(one_of_each()[Kind.ORDER].id)
        expected = PutVerdict(Taken.STORED, key)
        assert put(holdings, record, prefix) == expected
    assert holdings.count == 6
    assert put(holdings, one_of_each()[Kind.ACCEPT]).taken is Taken.KNOWN
    assert holdings.count == 6


def test_an_order_key_lists_order_then_statuses_refusals_accepts(holdings: Holdings) -> None:
    records = one_of_each()
    second = make_accept(make_order(), by=identity(3))
    for record in (records[Kind.ACCEPT], second, records[Kind.REFUSAL], records[Kind.STATUS]):
        put(holdings, record)
    put(holdings, records[Kind.ORDER])
    key = order_key(records[Kind.ORDER].id)
    ordered = [records[kind] for kind in (Kind.ORDER, Kind.STATUS, Kind.REFUSAL, Kind.ACCEPT)]
    assert listed(holdings, key, ANY_KIND) == wires(*ordered, second)
    assert listed(holdings, key, Kind.ACCEPT) == wires(records[Kind.ACCEPT], second)
    assert holdings.page(key, NO_KIND, 0, ROOM, NOW) == holdings.page(INDEX, ANY_KIND, 0, ROOM, NOW)
    assert holdings.page(key, NO_KIND, 0, ROOM, NOW).digest == NO_DIGEST


def test_nonsense_is_refused_and_not_kept(holdings: Holdings) -> None:
    order = make_order()
    forged = Record(order.kind, order.id, order.body, bytes(64), order.stamp, b"")
    spoilt = order.wire.replace(order.signature, forged.signature)
    elsewhere = make_order(network="other")
    refusals = {
        b"": "malformed",
        b"\xc1" * 2000: "too_large",
        elsewhere.wire: "wrong_network",
        spoilt: "bad_signature",
        make_order(created=NOW - 90_000).wire: "expired",
        make_order(created=NOW + 1000).wire: "not_live",
        make_beat().wire: "wrong_key",
    }
    for wire, code in refusals.items():
        verdict = holdings.put(wire, None, NOW, "10.0.0.1")
        assert (verdict.taken, verdict.code) == (Taken.REFUSED, code)
    assert put(holdings, order, "0000").code == "wrong_key"
    assert holdings.count == 0
    assert holdings.flush(NOW) == 0


def test_too_little_work_is_told_how_much_is_asked() -> None:
    holdings = Holdings(Database.open(None), NETWORK, 7)
    verdict = put(holdings, make_order(bits=5))
    assert (verdict.taken, verdict.code, verdict.bits) == (Taken.REFUSED, "stamp_too_low", 7)
    order = make_order(bits=7)
    assert put(holdings, order).taken is Taken.STORED
    verdict = put(holdings, make_accept(order, bits=2))
    assert (verdict.code, verdict.bits) == ("stamp_too_low", 3)
    assert put(holdings, make_accept(order, bits=3)).taken is Taken.STORED


def test_a_record_that_is_known_is_not_verified_again() -> None:
    class Counting(Verifier):
        calls = 0

        def check(self, record: AnyRecord) -> bool:
            self.calls += 1
            return super().check(record)

    verifier = Counting()
    holdings = Holdings(Database.open(None), NETWORK, 0, verifier)
    for _ in range(3):
        put(holdings, make_order())
    assert verifier.calls == 1


# --- closing ------------------------------------------------------------------------------------------------------


def test_a_status_takes_its_order_off_the_index_and_stays(holdings: Holdings) -> None:
    order, other = make_order(), make_order(number=1)
    stored(holdings, order, other, prefix="")
    status = make_status(order, Closing.CANCELED)
    stored(holdings, status, prefix="")
    assert listed(holdings) == wires(other)
    assert listed(holdings, kind=Kind.STATUS) == wires(status)
    verdict = put(holdings, order, "")
    assert (verdict.taken, verdict.newer) == (Taken.SUPERSEDED, status.wire)
    assert listed(holdings) == wires(other)


@pytest.mark.parametrize("prefix", [None, ""])
def test_an_order_that_comes_after_its_status_is_answered_with_it(holdings: Holdings, prefix: str | None) -> None:
    order = make_order()
    status = make_status(order, Closing.CANCELED)
    stored(holdings, status, prefix=prefix)
    for _ in range(2):
        verdict = put(holdings, order, prefix)
        assert (verdict.taken, verdict.newer) == (Taken.SUPERSEDED, status.wire)
    assert listed(holdings, kind=Kind.ORDER) == []
    # At its own key it stays beside the Status, as the proof of who may close it.
    at_order = listed(holdings, order_key(order.id), ANY_KIND)
    assert at_order == (wires(order, status) if prefix is None else [])


def test_a_tombstone_lasts_until_the_order_could_not_be_put_any_more(holdings: Holdings) -> None:
    order = make_order()
    status = make_status(order, Closing.CANCELED)
    stored(holdings, order, status, prefix="")
    for now in range(NOW + 10, order.body.expires + limits.TOMBSTONE_S, 3600):
        assert put(holdings, order, "", now).taken in (Taken.SUPERSEDED, Taken.REFUSED)
        assert listed(holdings, now=now) == []
        assert listed(holdings, kind=Kind.STATUS, now=now) == wires(status)
    end = order.body.expires + limits.TOMBSTONE_S
    assert put(holdings, order, "", end).code == "expired"
    assert holdings.count == 0


def test_a_strangers_status_closes_nothing(holdings: Holdings) -> None:
    order = make_order()
    foreign = make_status(order, Closing.CANCELED, by=identity(66), maker=identity(66).public)
    for prefix in (None, ""):
        stored(holdings, foreign, prefix=prefix)  # nobody here knows better yet
        assert put(holdings, order, prefix).taken is Taken.STORED
        key = order_key(order.id) if prefix is None else INDEX
        assert listed(holdings, key, ANY_KIND) == wires(order)
        verdict = put(holdings, foreign, prefix)
        assert (verdict.taken, verdict.code) == (Taken.REFUSED, Code.BAD_SIGNATURE)
        status = make_status(order, Closing.CANCELED)
        stored(holdings, status, prefix=prefix)
        assert (
            put(holdings, foreign, prefix).code == Code.BAD_SIGNATURE
        )  # the order is gone, its maker is not forgotten


def test_a_strangers_refusal_is_dropped_when_the_order_comes(holdings: Holdings) -> None:
    order = make_order()
    accept = make_accept(order)
    foreign = make_refusal(order, accept, Code.TAKEN, by=identity(66), maker=identity(66).public)
    own = make_refusal(order, accept, Code.DECLINED)
    stored(holdings, foreign, own, order)
    assert listed(holdings, order_key(order.id), Kind.REFUSAL) == wires(own)
    assert put(holdings, foreign).code == Code.BAD_SIGNATURE


def test_strangers_cannot_keep_the_maker_out_while_the_order_is_unknown(holdings: Holdings) -> None:
    order = make_order()
    for number in range(20, 40):
        by = identity(number)
        put(holdings, make_status(order, Closing.CANCELED, by=by, maker=by.public))
    status = make_status(order, Closing.CANCELED)
    stored(holdings, status)
    assert len(listed(holdings, order_key(order.id), Kind.STATUS)) == limits.STATUSES_PER_ORDER_MAX
    assert put(holdings, order).newer == status.wire
    assert listed(holdings, order_key(order.id), ANY_KIND) == wires(order, status)


def test_the_higher_sequence_wins_whatever_comes_first(holdings: Holdings) -> None:
    order = make_order()
    first, second = (make_status(order, Closing.CANCELED, seq=seq) for seq in (1, 2))
    stored(holdings, order, second)
    verdict = put(holdings, first)
    assert (verdict.taken, verdict.newer) == (Taken.SUPERSEDED, second.wire)
    third = make_status(order, Closing.CANCELED, seq=3)
    stored(holdings, third)
    assert listed(holdings, order_key(order.id), Kind.STATUS) == wires(third)


@pytest.mark.parametrize("prefix", [None, ""])
def test_a_makers_contradiction_is_kept_as_proof_and_bounded(holdings: Holdings, prefix: str | None) -> None:
    order = make_order()
    put(holdings, order, prefix)
    fills = [
        make_status(order, Closing.FILLED, accept=make_accept(order, by=identity(number))) for number in range(10, 20)
    ]
    stored(holdings, *fills[: limits.STATUSES_PER_ORDER_MAX], prefix=prefix)
    assert put(holdings, fills[-1], prefix).code == "full"
    key = order_key(order.id) if prefix is None else INDEX
    assert listed(holdings, key, Kind.STATUS) == wires(*fills[: limits.STATUSES_PER_ORDER_MAX])


def test_accepts_are_taken_for_closed_orders_so_that_they_can_be_refused(holdings: Holdings) -> None:
    order = make_order()
    stored(holdings, order, make_status(order, Closing.CANCELED))
    accept = make_accept(order)
    stored(holdings, accept)
    again = make_accept(order, number=1)
    assert put(holdings, again).newer == accept.wire  # one live accept for each taker
    assert put(holdings, again, now=accept.body.deadline).taken is Taken.SUPERSEDED
    later = make_accept(order, number=2, created=accept.body.deadline)
    assert put(holdings, later, now=accept.body.deadline + 1).taken is Taken.STORED


def test_a_taker_who_was_refused_may_ask_again(holdings: Holdings) -> None:
    order = make_order()
    accept, again = make_accept(order), make_accept(order, number=1)
    stored(holdings, order, accept)
    assert put(holdings, again).newer == accept.wire
    stored(holdings, make_refusal(order, accept, Code.DECLINED), again)
    assert put(holdings, accept).newer == again.wire  # a late copy does not push the new one out


def test_the_newest_beat_wins(holdings: Holdings) -> None:
    stored(holdings, make_beat(at=NOW), make_beat(at=NOW + 30), prefix="")
    assert put(holdings, make_beat(at=NOW), "").taken is Taken.SUPERSEDED
    stored(holdings, make_beat(at=NOW, by=identity(3)), prefix="")
    assert listed(holdings, kind=Kind.BEAT) == wires(make_beat(at=NOW + 30), make_beat(at=NOW, by=identity(3)))
    assert listed(holdings, kind=Kind.BEAT, now=NOW + 90) == wires(make_beat(at=NOW + 30))


# --- stock peers --------------------------------------------------------------------------------------------------


def test_a_stock_peer_reads_open_orders_only(holdings: Holdings) -> None:
    order = make_order()
    key = order_key(order.id)
    assert holdings.stock_value(key, NOW) is None
    stored(holdings, order)
    stored(holdings, order, prefix="")
    assert holdings.stock_value(key, NOW) == order.wire
    assert holdings.stock_value(INDEX, NOW) is None
    assert holdings.stock_value(key, order.body.expires) is None
    holdings = Holdings(Database.open(None), NETWORK, 0)
    stored(holdings, order, make_accept(order), make_status(order, Closing.CANCELED))
    assert holdings.stock_value(key, NOW) is None


def test_a_stock_peer_stores_valid_orders_at_their_key_only(holdings: Holdings) -> None:
    order, accept = make_order(), make_accept(make_order())
    key = order_key(order.id)
    for value in (b"junk", "text", 7, 1.5, True, None, order.wire.decode("latin-1"), bytearray(order.wire)):
        assert not holdings.stock_put(key, value, NOW, "10.0.0.1")
    assert not holdings.stock_put(key, accept.wire, NOW, "10.0.0.1")
    assert not holdings.stock_put(INDEX, order.wire, NOW, "10.0.0.1")
    assert holdings.count == 0
    assert holdings.stock_put(key, order.wire, NOW, "10.0.0.1")
    assert holdings.stock_put(key, order.wire, NOW, "10.0.0.1")
    put(holdings, make_status(order, Closing.CANCELED))
    assert not holdings.stock_put(key, order.wire, NOW, "10.0.0.1")


def test_replicas_hand_on_everything_orders_first(holdings: Holdings) -> None:
    order, beat = make_order(), make_beat()
    accept, status = make_accept(order), make_status(order, Closing.CANCELED)
    stored(holdings, accept, status)
    put(holdings, order)
    stored(holdings, beat, prefix="")
    stored(holdings, make_order(number=1), prefix="")
    replicas = list(holdings.replicas(NOW))
    key = order_key(order.id)
    assert replicas == [
        *((key, None, record.wire) for record in (order, status, accept)),
        *((INDEX, "", record.wire) for record in (make_order(number=1), beat)),
    ]
    slow = holdings.replicas(NOW)
    next(slow)
    holdings.expire(NOW + 10**9)
    assert len(list(slow)) == 2  # those of the key that was begun
    assert holdings.count == 0


def test_orders_are_found_by_prefix_and_pairs_are_known(holdings: Holdings) -> None:
    orders: list[Record[Order]] = [make_order(number=n) for n in range(20)]
    for order in orders:
        stored(holdings, order)
        stored(holdings, order, prefix="")
    stored(holdings, make_order(pair="XMR/BTC", price="0.005", expires=NOW + 50), prefix="")
    assert holdings.find_orders(orders[3].id.hex()[:8]) == [orders[3].wire]
    assert len(holdings.find_orders("")) == 21
    assert holdings.find_orders("zz") == []
    assert holdings.pairs() == {"BTC/USD", "XMR/BTC"}
    holdings.expire(NOW + 50)
    assert holdings.pairs() == {"BTC/USD"}
    for order in orders:
        stored(holdings, make_status(order, Closing.CANCELED), prefix="")
    assert holdings.pairs() == {"BTC/USD"}  # they are still held at their own keys


def test_whoever_writes_is_told_that_there_is_something_to_write(
    holdings: Holdings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not holdings.changed.is_set()
    stored(holdings, make_order())
    assert holdings.changed.is_set()
    assert holdings.flush(NOW + 5) == 1
    assert not holdings.changed.is_set()
    holdings.expire(NOW + 10**7)
    assert holdings.changed.is_set()
    monkeypatch.setattr(Database, "batch", refuse)
    with pytest.raises(StateError):
        holdings.flush(NOW + 10**7)
    assert holdings.changed.is_set()


def refuse(self: Database) -> None:
    raise StateError("the state file cannot be written: database or disk is full")


def test_nodes_of_trees_and_whole_ids_are_not_searched_for_among_all(
    holdings: Holdings, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = [make_order(number=number) for number in range(6)]
    stored(holdings, *orders[:5])
    stored(holdings, *orders[4:], prefix="")
    monkeypatch.setattr(OrderShelf, "__iter__", None)
    monkeypatch.setattr(OrderShelf, "market", property(lambda shelf: pytest.fail("an order's key was looked at")))
    assert holdings.tree_keys() == [INDEX]
    for order in orders:
        assert holdings.find_orders(order.id.hex()) == [order.wire]
    assert holdings.find_orders("0" * 64) == []
    for order in orders[4:]:
        holdings.release(INDEX, order.id)
    assert holdings.tree_keys() == []
