"""Pages: sorted without sorting, packed without holes, with a digest that follows every change."""

import random
from decimal import Decimal
from functools import reduce

from hypothesis import given, settings
from hypothesis import strategies as st

from dhtex.market.holding import ANY_KIND, IDS, Span
from dhtex.market.ids import DhtKey, RecordId, index_key
from dhtex.market.pricebits import PRICE_BYTES, best_first, packed, price_bits
from dhtex.market.records import AnyRecord, Closing, Kind, Order, Record, Side, is_a, parse_record
from dhtex.store.database import Database
from dhtex.store.holdings import Holdings
from tests.builders import NETWORK, NOW, identity, make_beat, make_order, make_status

HEAD_BYTES = 3


def fresh() -> Holdings:
    return Holdings(Database.open(None), NETWORK, 0)


def key_of(side: Side) -> DhtKey:
    return index_key(NETWORK, "BTC/USD", side, "")


def digest_of(records: list[AnyRecord]) -> bytes:
    return reduce(lambda so_far, record: so_far ^ int.from_bytes(record.id[:8]), records, 0).to_bytes(8)


def read_all(holdings: Holdings, side: Side, kind: int, room_bytes: int, now: float) -> list[bytes]:
    wires: list[bytes] = []
    while True:
        page = holdings.page(key_of(side), kind, len(wires), room_bytes, now)
        assert sum(len(wire) + HEAD_BYTES for wire in page.wires) <= room_bytes
        wires += page.wires
        if len(wires) >= page.total:
            return wires
        assert page.wires, "a page with room for any record makes progress"


ORDERS = [
    make_order(number=n, price=price, created=NOW - age, side=side, note="x" * (n % 7) * 20)
    for n, (price, age, side) in enumerate(
        (price, age, side)
        for side in Side
        for price in ("0.5", "9", "10", "49999.99", "50000", "100000")
        for age in (0, 0, 7, 300)
    )
]
SIDES = {order.id: order.body.side for order in ORDERS}
STEPS = st.lists(st.tuples(st.sampled_from(ORDERS), st.sampled_from(["put", "close", "put again"])), max_size=60)


@given(steps=STEPS, room_bytes=st.integers(450, 2000))
@settings(max_examples=60, deadline=None)
def test_pages_always_equal_a_plain_sort_of_what_is_open(
    steps: list[tuple[Record[Order], str]], room_bytes: int
) -> None:
    holdings, open_orders, closed = fresh(), dict[bytes, Record[Order]](), dict[RecordId, AnyRecord]()
    for order, step in steps:
        if step == "close":
            status = make_status(order, Closing.CANCELED)
            holdings.put(status.wire, "", NOW, "self")
            closed[order.id] = status
            open_orders.pop(order.id, None)
        else:
            holdings.put(order.wire, "", NOW, "self")
            if order.id not in closed:
                open_orders[order.id] = order
    for side in Side:
        sign = 1 if side is Side.SELL else -1
        expected = sorted(
            (order for order in open_orders.values() if order.body.side is side),
            key=lambda order: (sign * Decimal(order.body.price), order.body.created, order.id),
        )
        assert read_all(holdings, side, Kind.ORDER, room_bytes, NOW) == [order.wire for order in expected]
        page = holdings.page(key_of(side), Kind.ORDER, 0, 0, NOW)
        assert (page.total, page.digest, page.wires) == (len(expected), digest_of(list(expected)), [])
        ended = [status for number, status in closed.items() if SIDES[number] is side]
        everything: list[AnyRecord] = [*expected, *ended]
        page = holdings.page(key_of(side), ANY_KIND, 0, 0, NOW)
        assert (page.total, page.digest) == (len(everything), digest_of(everything))


BOUNDS = [b"", *(packed(best_first(price_bits(price), buys=False)) for price in ("0.1", "9", "9.5", "50000", "100001"))]


@given(steps=STEPS, best=st.sampled_from(BOUNDS), worst=st.sampled_from(BOUNDS), length=st.integers(0, PRICE_BYTES))
@settings(max_examples=60, deadline=None)
def test_a_span_is_listed_as_if_there_were_nothing_else(
    steps: list[tuple[Record[Order], str]], best: bytes, worst: bytes, length: int
) -> None:
    holdings = fresh()
    for order, step in steps:
        record = make_status(order, Closing.CANCELED) if step == "close" else order
        holdings.put(record.wire, "", NOW, "self")
        span = Span(best, worst[:length])
        for side in Side:
            whole = holdings.page(key_of(side), Kind.ORDER, 0, 1 << 20, NOW).wires
            orders = [order for order in map(parse_order, whole) if is_within(order, span)]
            for rank in (0, 1, 100):
                page = holdings.page(key_of(side), Kind.ORDER, rank, 1 << 20, NOW, span)
                assert page.wires == [order.wire for order in orders[rank:]]
                assert (page.total, page.digest) == (len(orders), digest_of(list(orders)))
                ids = holdings.page(key_of(side), Kind.ORDER | IDS, rank, 1 << 20, NOW, span).wires
                assert b"".join(ids) == b"".join(order.id[:8] for order in orders[rank:])


def parse_order(wire: bytes) -> Record[Order]:
    record = parse_record(wire, NETWORK)
    assert is_a(record, Order)
    return record


def is_within(order: Record[Order], span: Span) -> bool:
    bound = packed(best_first(price_bits(order.body.price), buys=order.body.side is Side.BUY))
    return span.best <= bound <= span.worst.ljust(PRICE_BYTES, b"\xff")


def test_a_page_is_packed_greedily_and_runs_across_kinds() -> None:
    holdings = fresh()
    orders = [make_order(number=n, price=str(100 + n)) for n in range(6)]
    beats = [make_beat(by=identity(n)) for n in (1, 2)]
    records: list[AnyRecord] = [*orders, *beats]
    for record in records:
        holdings.put(record.wire, "", NOW, "self")
    size = len(orders[0].wire) + HEAD_BYTES
    key = key_of(Side.SELL)
    for room in (size - 1, size, 4 * size - 1, 4 * size):
        page = holdings.page(key, ANY_KIND, 1, room, NOW)
        assert page.wires == [order.wire for order in orders[1 : 1 + room // size]]
    page = holdings.page(key, ANY_KIND, 5, 4 * size, NOW)
    assert page.wires == [record.wire for record in records[5:]]
    assert page.total == 8
    assert holdings.page(key, ANY_KIND, 8, 4 * size, NOW).wires == []
    assert holdings.page(key, ANY_KIND, 10**9, 4 * size, NOW).wires == []


def test_expired_orders_leave_page_and_digest_at_once() -> None:
    holdings = fresh()
    orders = [make_order(number=n, expires=NOW + 10 + n) for n in range(30)]
    shuffled = list(orders)
    random.Random(1).shuffle(shuffled)
    for order in shuffled:
        holdings.put(order.wire, "", NOW, "self")
    for gone in range(31):
        page = holdings.page(key_of(Side.SELL), Kind.ORDER, 0, 1 << 20, NOW + 9 + gone)
        left: list[AnyRecord] = list(orders[gone:])
        assert (page.total, page.digest) == (len(left), digest_of(left))
    assert holdings.count == 0
