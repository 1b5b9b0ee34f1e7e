"""A shelf that is filled at once, when a node starts, is as one to which its records came one by one."""

import random

import pytest

from dhtex import limits
from dhtex.market.ids import index_key, order_key
from dhtex.market.records import AnyRecord, Closing, Code, Fault, Kind, Order, Side, is_a, parse_record
from dhtex.store.held import Held
from dhtex.store.indexshelf import IndexShelf, empty_shelf
from dhtex.store.shelf import OrderShelf, Shelf
from tests.builders import NETWORK, identity, make_accept, make_order, make_refusal, make_status

INDEX = index_key(NETWORK, "BTC/USD", "sell", "")


def both(empty: Shelf, other: Shelf, records: list[AnyRecord], anchored: list[bool]) -> tuple[Shelf, Shelf]:
    """Two shelves with the same records, the second one filled at once."""
    rows = list(enumerate(zip(records, anchored, strict=True), start=1))
    for row, (record, known) in rows:
        empty.add(Held(record, empty, known, "disk", row), record)
    for row, (record, known) in rows:
        other.lay(Held(record, other, known, "disk", row), record)
    other.arrange()
    return empty, other


def reread(record: AnyRecord) -> AnyRecord:
    """A record that shares nothing with others."""
    again = parse_record(record.wire, NETWORK)
    assert not isinstance(again, Fault)
    return again


def seen(value: object) -> object:
    """What a shelf remembers, as something that can be compared."""
    if isinstance(value, Held):
        return [seen(getattr(value, name)) for name in Held.__slots__ if name != "place"]
    if isinstance(value, dict):
        return {name: seen(each) for name, each in value.items()}
    return [seen(each) for each in value] if isinstance(value, list | tuple) else value


def state(shelf: Shelf, *but: str) -> dict[str, object]:
    names = {name for each in type(shelf).__mro__ for name in getattr(each, "__slots__", ())} - {"_branches", *but}
    return {name: seen(getattr(shelf, name)) for name in names}


@pytest.mark.parametrize("seed", range(5))
def test_an_orders_shelf(seed: int) -> None:
    chance = random.Random(seed)
    order = make_order()
    accepts = [make_accept(order, by=identity(number)) for number in range(5)]
    records: list[AnyRecord] = [order, *accepts, *(make_refusal(order, each, Code.TAKEN) for each in accepts[:2])]
    records += [make_status(order, Closing.CANCELED, seq=seq) for seq in (2, 1)]
    chance.shuffle(records)
    records = [reread(record) for record in records[: chance.randrange(1, len(records) + 1)]]
    key = order_key(order.id)
    one, other = both(OrderShelf(key), empty_shelf(key, None), records, [True] * len(records))
    assert state(one) == state(other)
    assert one.page(0, 0, 10_000) == other.page(0, 0, 10_000)
    about = {held.subject for held in other if held.kind in (Kind.ACCEPT, Kind.STATUS)}
    assert len({id(held.subject) for held in other if held.subject in about}) == len(about)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("side", Side)
def test_a_shelf_of_an_index(seed: int, side: Side) -> None:
    chance = random.Random(seed)
    makers = [identity(number) for number in range(4)]
    records: list[AnyRecord] = []
    for number in range(40):
        maker, price = chance.choice(makers), str(chance.randrange(1, 12) * 10)
        order = make_order(by=maker, number=number, price=price, side=side)
        closed = chance.random() < 0.3
        records.append(make_status(order, Closing.CANCELED, by=maker) if closed else order)
    known = [is_a(record, Order) or record.body.author != makers[0].public for record in records]
    one, other = both(IndexShelf(INDEX, ""), empty_shelf(INDEX, ""), records, known)
    assert state(one) == state(other)
    assert other.market == ("BTC/USD", side)
    for kind in (0, 1, 2):
        assert one.page(kind, 0, 100_000) == other.page(kind, 0, 100_000)


@pytest.mark.parametrize("count", [limits.TREE_NODE_ORDERS_MAX, limits.TREE_NODE_ORDERS_MAX + 1, 1400])
def test_an_index_that_is_too_large_divides_when_it_is_filled(count: int) -> None:
    orders: list[AnyRecord] = [make_order(number=number, price=str(1000 + number)) for number in range(count)]
    one, other = both(IndexShelf(INDEX, ""), empty_shelf(INDEX, ""), orders, [True] * count)
    assert one.branch_names() == other.branch_names()
    assert bool(other.branch_names()) is (count > limits.TREE_NODE_ORDERS_MAX)
    assert state(one) == state(other)
