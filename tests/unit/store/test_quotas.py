"""Nobody can make a holder forget others, or grow without bound."""

import random

import pytest

from dhtex import limits
from dhtex.market.holding import ANY_KIND, Taken
from dhtex.market.ids import PublicKey, RecordId, index_key, order_key
from dhtex.market.pricebits import price_bits
from dhtex.market.records import AnyRecord, Closing, Code, Kind, Order, Record
from dhtex.store import indexshelf
from dhtex.store.database import Database
from dhtex.store.held import Held
from dhtex.store.holdings import Holdings
from dhtex.store.indexshelf import IndexShelf
from tests.builders import NETWORK, NOW, identity, make_accept, make_beat, make_order, make_refusal, make_status

INDEX = index_key(NETWORK, "BTC/USD", "sell", "")


@pytest.fixture
def holdings() -> Holdings:
    return Holdings(Database.open(None), NETWORK, 0)


def listed(holdings: Holdings, kind: int = Kind.ORDER, key: bytes = INDEX) -> list[bytes]:
    return holdings.page(key, kind, 0, 1 << 30, NOW + 5).wires  # type: ignore[arg-type]


def put(holdings: Holdings, record: AnyRecord, prefix: str | None = "", source: str = "10.0.0.1") -> Taken:
    return holdings.put(record.wire, prefix, NOW + 5, source).taken


def test_one_key_with_thousands_of_orders_leaves_all_others_listed(
    holdings: Holdings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "TREE_NODE_ORDERS_MAX", 1 << 20)  # as if their paths could not be told apart
    others = [make_order(by=identity(number), number=number) for number in range(10, 30)]
    for order in others[:10]:
        put(holdings, order)
    for number in range(limits.ORDERS_PER_MAKER_AND_INDEX_KEY_MAX + 500):
        put(holdings, make_order(number=number, price="1"))
    for order in others[10:]:
        assert put(holdings, order) is Taken.STORED
    wires = listed(holdings)
    assert {order.wire for order in others} <= set(wires)
    assert len(wires) == limits.ORDERS_PER_MAKER_AND_INDEX_KEY_MAX + len(others)


def test_over_quota_the_lowest_stamp_with_the_farthest_expiry_goes(
    holdings: Holdings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ORDERS_PER_MAKER_AND_INDEX_KEY_MAX", 3)
    weak_far, weak_near, strong = (
        make_order(number=n, bits=bits, expires=NOW + life) for n, bits, life in ((1, 1, 900), (2, 1, 100), (3, 3, 900))
    )
    for order in (weak_far, weak_near, strong):
        assert put(holdings, order) is Taken.STORED
    weaker = make_order(number=4, bits=0, expires=NOW + 50)
    assert put(holdings, weaker) is Taken.REFUSED
    assert put(holdings, make_order(number=5, bits=2)) is Taken.STORED
    assert weak_far.wire not in listed(holdings)
    assert put(holdings, make_order(number=6, bits=2)) is Taken.STORED
    assert weak_near.wire not in listed(holdings)
    assert strong.wire in listed(holdings)
    assert put(holdings, make_order(by=identity(3))) is Taken.STORED
    status = make_status(strong, Closing.CANCELED)
    assert put(holdings, status) is Taken.STORED
    assert len(listed(holdings)) == 3


def test_a_full_index_takes_from_whoever_has_most(holdings: Holdings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RECORDS_PER_INDEX_KEY_MAX", 12)
    crowd = [make_order(by=identity(2), number=n) for n in range(8)]
    few = [make_order(by=identity(n), number=n) for n in (3, 4, 5, 6)]
    for order in (*crowd, *few):
        assert put(holdings, order) is Taken.STORED
    assert put(holdings, make_order(by=identity(7))) is Taken.STORED
    left = set(listed(holdings))
    assert len(left) == 12
    assert len(left & {order.wire for order in crowd}) == 7
    assert {order.wire for order in few} <= left
    # The greatest crowder gains nothing by pushing on, and a closing always comes through.
    for number in range(20, 30):
        put(holdings, make_order(by=identity(2), number=number))
    assert {order.wire for order in few} <= set(listed(holdings))
    closing = make_status(few[0], Closing.CANCELED)
    assert put(holdings, closing) is Taken.STORED
    assert len(listed(holdings, ANY_KIND)) == 12


def test_orders_posted_and_withdrawn_for_ever_do_not_push_others_out(
    holdings: Holdings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RECORDS_PER_INDEX_KEY_MAX", 12)
    few = [make_order(by=identity(n), number=n) for n in (3, 4, 5, 6)]
    for order in few:
        put(holdings, order)
    for number in range(40):
        order = make_order(by=identity(2), number=number)
        if put(holdings, order) is Taken.STORED:
            assert put(holdings, make_status(order, Closing.CANCELED)) is Taken.STORED
    assert listed(holdings) == sorted(
        (order.wire for order in few), key=lambda wire: [order.id for order in few if order.wire == wire]
    )
    assert len(listed(holdings, ANY_KIND)) == 12


def test_a_crowd_of_accepts_leaves_order_end_and_first_takers(holdings: Holdings) -> None:
    order = make_order()
    put(holdings, order, None)
    first = make_accept(order, by=identity(2))
    put(holdings, first, None)
    for number in range(3, 100):
        put(holdings, make_accept(order, by=identity(number)), None)
    key = order_key(order.id)
    assert len(listed(holdings, ANY_KIND, key)) == limits.RECORDS_PER_ORDER_KEY_MAX
    assert put(holdings, make_accept(order, by=identity(200)), None) is Taken.REFUSED
    paid_more = make_accept(order, by=identity(201), bits=1)
    assert put(holdings, paid_more, None) is Taken.STORED
    refusal = make_refusal(order, first, Code.TAKEN)
    status = make_status(order, Closing.CANCELED)
    assert put(holdings, refusal, None) is Taken.STORED
    assert put(holdings, status, None) is Taken.STORED
    wires = listed(holdings, ANY_KIND, key)
    assert len(wires) == limits.RECORDS_PER_ORDER_KEY_MAX
    assert {record.wire for record in (order, paid_more, refusal, status)} <= set(wires)
    assert first.wire not in wires  # the refusal took its place


def test_a_crowd_of_refused_accepts_does_not_shut_others_out(holdings: Holdings) -> None:
    order = make_order()
    put(holdings, order, None)
    for number in range(1000, 1100):
        unwanted = make_accept(order, by=identity(number), amount="7", deadline=NOW + limits.ACCEPT_DEADLINE_S_MAX)
        assert put(holdings, unwanted, None) is Taken.STORED
        assert put(holdings, make_refusal(order, unwanted, Code.AMOUNT_OUT_OF_RANGE), None) is Taken.STORED
    honest = make_accept(order)
    assert put(holdings, honest, None) is Taken.STORED
    assert honest.wire in listed(holdings, Kind.ACCEPT, order_key(order.id))


def test_accepts_whose_time_is_over_make_room(holdings: Holdings) -> None:
    order = make_order()
    put(holdings, order, None)
    for number in range(2, 80):
        put(holdings, make_accept(order, by=identity(number)), None)
    late = NOW + 100
    accept = make_accept(order, by=identity(200), created=late)
    assert holdings.put(accept.wire, None, late, "10.0.0.1").taken is Taken.STORED


def test_what_cost_nothing_is_bounded_for_each_source_and_in_all(
    holdings: Holdings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ORPHANS_PER_SOURCE_MAX", 5)
    monkeypatch.setattr(limits, "ORPHANS_HELD_MAX", 12)
    honest = make_status(make_order(by=identity(9)), Closing.CANCELED)
    assert put(holdings, honest, None, "10.0.0.9") is Taken.STORED
    for number in range(30):
        put(holdings, make_status(make_order(number=number), Closing.CANCELED), None, "10.0.0.1")
    assert holdings.count == 1 + 5
    for number in range(30, 60):
        put(holdings, make_status(make_order(number=number), Closing.CANCELED), None, f"10.0.0.{number % 3}")
        put(holdings, make_beat(by=identity(number)), "", f"10.0.0.{number % 3}")
    assert holdings.count <= 12
    assert listed(holdings, Kind.STATUS, order_key(make_order(by=identity(9)).id)) == [honest.wire]


def test_beats_of_listed_makers_are_not_crowded_out(holdings: Holdings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ORPHANS_PER_SOURCE_MAX", 5)
    put(holdings, make_order(by=identity(9)))
    for number in range(10, 25):
        put(holdings, make_beat(by=identity(number)))
    beat = make_beat(by=identity(9))
    put(holdings, beat)
    for number in range(25, 40):
        put(holdings, make_beat(by=identity(number)))
    assert listed(holdings, Kind.BEAT)[0] == beat.wire  # a reader that stops early has read it
    assert len(listed(holdings, Kind.BEAT)) == 6


def test_one_stamp_pays_for_few_places(holdings: Holdings) -> None:
    order = make_order()
    bits = price_bits(order.body.price)
    taken = [put(holdings, order, prefix) for prefix in (None, *(bits[:end] for end in range(len(bits) + 1)))]
    assert taken.count(Taken.STORED) == holdings.count == 1 + limits.TREE_PLACES_MAX


def test_the_total_is_bounded_and_closings_still_come_through(
    holdings: Holdings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RECORDS_HELD_MAX", 10)
    orders = [make_order(number=n) for n in range(20)]
    taken = [put(holdings, order, None) for order in orders]
    assert taken == [Taken.STORED] * 10 + [Taken.REFUSED] * 10
    assert put(holdings, make_status(orders[0], Closing.CANCELED), None) is Taken.STORED
    assert put(holdings, make_accept(orders[0]), None) is Taken.STORED  # at the cost of the maker with most
    assert holdings.count == 11


def test_replacing_a_record_for_ever_does_not_grow_the_books(holdings: Holdings) -> None:
    order = make_order()
    put(holdings, order)
    for seq in range(1, 4000):
        put(holdings, make_status(order, Closing.CANCELED, seq=seq))
    assert holdings.count == 1
    assert len(holdings._expiries) < 1200


def test_who_has_too_many_loses_what_is_worst_and_nobody_goes_through_all_for_it(
    holdings: Holdings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ORDERS_PER_MAKER_AND_INDEX_KEY_MAX", 60)
    monkeypatch.setattr(limits, "RECORDS_PER_INDEX_KEY_MAX", 90)
    entropy, worst_of, entry = random.Random(1), IndexShelf._worst_of, indexshelf._entry
    looked = 0

    def compared(shelf: IndexShelf, maker: PublicKey) -> Held | None:
        found = worst_of(shelf, maker)
        theirs = [held for held in shelf if held.anchored and held.author == maker]
        assert found is min(theirs, key=indexshelf._worth, default=None)
        return found

    def counted(held: Held) -> tuple[tuple[int, int, int], int, RecordId]:
        nonlocal looked
        looked += 1
        return entry(held)

    orders: list[Record[Order]] = []
    with monkeypatch.context() as patched:
        patched.setattr(IndexShelf, "_worst_of", compared)
        for number in range(600):
            by = identity(entropy.choice((1, 1, 1, 2, 3)))
            bits, life = entropy.randrange(3), entropy.randrange(100, 104)
            orders.append(make_order(by=by, number=number, bits=bits, expires=NOW + life))
            put(holdings, orders[-1])
            if number % 5 == 0:
                order = entropy.choice(orders)
                ended_by = next(identity(n) for n in (1, 2, 3) if identity(n).public == order.body.maker)
                put(holdings, make_status(order, Closing.CANCELED, by=ended_by))
            if number % 7 == 0:
                holdings.release(INDEX, entropy.choice(orders).id)
    for number in range(1000, 1100):
        put(holdings, make_order(number=number, bits=1))
    monkeypatch.setattr(indexshelf, "_entry", counted)
    for number in range(1100, 1200):
        put(holdings, make_order(number=number, bits=1))
    assert looked < 500
