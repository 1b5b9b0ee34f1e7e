"""A full node: a crowd loses its own, whoever came with few keeps them, and one address cannot fill it."""

import random
from collections import Counter

import pytest

from dhtex import limits
from dhtex.market.holding import Taken
from dhtex.market.records import Accept, AnyRecord, Closing, Code, Order, Record
from dhtex.market.stamp import STAMPED
from dhtex.store.database import Database
from dhtex.store.holdings import Holdings
from tests.builders import NETWORK, NOW, identity, make_accept, make_order, make_refusal, make_status


@pytest.fixture
def holdings() -> Holdings:
    return Holdings(Database.open(None), NETWORK, 0)


def put(holdings: Holdings, record: AnyRecord, source: str = "10.0.0.1", now: float = NOW + 5) -> Taken:
    return holdings.put(record.wire, None, now, source).taken


def kept(holdings: Holdings) -> set[bytes]:
    return {wire for _, _, wire in holdings.replicas(NOW + 5)}


def test_a_full_node_takes_from_the_maker_with_most(holdings: Holdings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RECORDS_HELD_MAX", 12)
    crowd = [make_order(by=identity(2), number=n, bits=n % 2, expires=NOW + 900 + n) for n in range(9)]
    few = [make_order(by=identity(n), number=n) for n in (3, 4, 5)]
    for order in (*crowd, *few):
        assert put(holdings, order) is Taken.STORED
    for number in range(6, 9):
        assert put(holdings, make_order(by=identity(number))) is Taken.STORED
    left = kept(holdings)
    assert {order.wire for order in few} <= left
    # The lowest stamps with the farthest expiry went: three of the five without any bits.
    assert [order for order in crowd if order.wire not in left] == [crowd[4], crowd[6], crowd[8]]
    assert holdings.count == 12


def test_what_bears_no_stamp_is_counted_too_and_goes_first(holdings: Holdings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RECORDS_HELD_MAX", 40)
    few = [make_order(by=identity(n), number=n) for n in range(3, 13)]
    orders = [make_order(by=identity(2), number=n) for n in range(2)]
    for order in (*few, *orders):
        assert put(holdings, order) is Taken.STORED
    accepts = [make_accept(order, by=identity(20), number=n) for n in range(60) for order in orders]
    refused = [put(holdings, make_refusal(order_of(accept, orders), accept, Code.TAKEN)) for accept in accepts]
    assert refused.count(Taken.STORED) >= 28
    assert holdings.count == 40
    for number in range(13, 23):
        assert put(holdings, make_order(by=identity(number))) is Taken.STORED
    assert {order.wire for order in (*few, *orders)} <= kept(holdings)
    assert holdings.count == 40


def order_of(accept: Record[Accept], orders: list[Record[Order]]) -> Record[Order]:
    return next(order for order in orders if order.id == accept.body.order_id)


def test_the_maker_with_most_competes_with_his_own(holdings: Holdings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RECORDS_HELD_MAX", 6)
    other = make_order(by=identity(3))
    put(holdings, other)
    crowd = [make_order(by=identity(2), number=n, bits=1) for n in range(5)]
    for order in crowd:
        put(holdings, order)
    assert put(holdings, make_order(by=identity(2), number=50)) is Taken.REFUSED
    assert put(holdings, make_order(by=identity(2), number=51, bits=1)) is Taken.REFUSED
    stronger = make_order(by=identity(2), number=52, bits=2)
    assert put(holdings, stronger) is Taken.STORED
    assert {other.wire, stronger.wire} <= kept(holdings)
    assert put(holdings, make_status(other, Closing.CANCELED)) is Taken.STORED  # an end always comes through
    assert put(holdings, make_accept(other, by=identity(9))) is Taken.STORED  # as does a taker without a crowd


def test_one_address_cannot_fill_a_node_with_fresh_keys(holdings: Holdings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RECORDS_PER_SOURCE_MAX", 5)
    first = [make_order(by=identity(n), number=n, bits=1) for n in range(10, 15)]
    for order in first:
        assert put(holdings, order) is Taken.STORED
    for number in range(20, 40):
        assert put(holdings, make_order(by=identity(number))) is Taken.REFUSED
    assert put(holdings, make_order(by=identity(41)), "10.0.0.2") is Taken.STORED
    assert put(holdings, make_order(by=identity(42)), "self") is Taken.STORED
    assert put(holdings, make_order(by=identity(43), bits=2)) is Taken.STORED
    assert len(kept(holdings) & {order.wire for order in first}) == 4


def test_sixty_four_honest_nodes_on_one_address_pass_all_quotas(holdings: Holdings) -> None:
    orders = [make_order(by=identity(maker), number=n) for maker in range(100, 164) for n in range(30)]
    assert [put(holdings, order, "203.0.113.7") for order in orders] == [Taken.STORED] * len(orders)
    statuses = [make_status(order, Closing.CANCELED) for order in orders[::3]]
    assert [put(holdings, status, "203.0.113.7") for status in statuses] == [Taken.STORED] * len(statuses)
    assert limits.RECORDS_PER_SOURCE_MAX >= 64 * 2 * 390  # each may have 390 orders, at their own keys and the index


def test_whoever_came_and_went_is_forgotten_while_a_node_is_nearly_full(
    holdings: Holdings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RECORDS_HELD_MAX", 40)
    monkeypatch.setattr(limits, "RECORDS_PER_SOURCE_MAX", 19)
    for number in range(600):
        maker = identity(2 if number % 3 else 3 + number)  # one who goes on, and others of whom each comes once
        order = make_order(by=maker, number=number, expires=NOW + 5 + number + 39)
        put(holdings, order, f"10.{number % 2}.{number // 100}.1", NOW + 5 + number)
    books = holdings._eviction
    assert 0.9 * 40 < holdings.count < 40
    assert books._of_maker.keys() == books._makers.keys()
    assert books._of_source.keys() <= books._sources.keys()
    assert len(books._most) <= 2 * len(books._makers) + 20
    assert sum(len(heap) for heap in books._of_maker.values()) <= 2 * holdings.count + 20 * len(books._makers)
    assert max(len(heap) for heap in books._of_source.values()) <= 2 * holdings.count + 20


@pytest.mark.parametrize("seed", range(4))
def test_the_books_are_right_after_any_coming_and_going(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RECORDS_HELD_MAX", 40)
    monkeypatch.setattr(limits, "RECORDS_PER_SOURCE_MAX", 18)
    monkeypatch.setattr("dhtex.store.eviction._STALE_MAX", 4)
    holdings, chance = Holdings(Database.open(None), NETWORK, 0), random.Random(seed)
    for number in range(600):
        maker = identity(2 + min(chance.randrange(9), chance.randrange(9)))
        now = NOW + 5 + number
        order = make_order(
            by=maker, number=number, bits=chance.randrange(2), expires=int(now) + chance.randrange(5, 300)
        )
        put(holdings, order, f"10.0.0.{chance.randrange(4)}", now)
        if chance.random() < 0.1:
            put(holdings, make_accept(order, deadline=int(now) + 10), "10.0.0.9", now)
    books = holdings._eviction
    stamped = [held for held in books._everything() if held.record.kind in STAMPED]
    assert len(stamped) <= 40
    assert books._makers == Counter(held.record.body.author for held in stamped)
    assert books._sources == Counter(held.source for held in stamped)
    assert max(books._sources.values()) <= 18
    for maker_id, heap in books._of_maker.items():
        alive = [entry[-1] for entry in heap if not entry[-1].gone]
        assert len(alive) == books._makers[maker_id]
        assert len(heap) <= 2 * len(alive) + 40
