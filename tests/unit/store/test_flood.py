"""A flood costs its sender more and more, leaves everyone else listed, and is forgotten when it ebbs."""

import random

import pytest

from dhtex import limits
from dhtex.market.asking import asked_bits
from dhtex.market.holding import PutVerdict, Taken
from dhtex.market.ids import DhtKey
from dhtex.market.records import Code, Kind, Order, Record
from dhtex.market.stamp import bits_to_mint
from dhtex.store.database import Database
from dhtex.store.holdings import Holdings
from tests.builders import NETWORK, NOW, identity, make_order

BITS = 1


@pytest.fixture
def holdings(monkeypatch: pytest.MonkeyPatch) -> Holdings:
    """A shelf of little room in a network whose stamps cost little."""
    monkeypatch.setattr(limits, "RECORDS_HELD_MAX", 400)
    monkeypatch.setattr(limits, "MAKER_ORDERS_FREE", 20)
    return Holdings(Database.open(None), NETWORK, BITS, None)


def put(holdings: Holdings, order: Record[Order], now: float = NOW + 5) -> PutVerdict:
    return holdings.put(order.wire, "", now, "10.0.0.1")


def test_one_key_pays_more_for_each_order_and_nobody_else_does(holdings: Holdings) -> None:
    others = [make_order(by=identity(number), number=number, bits=BITS) for number in range(10, 20)]
    for order in others[:5]:
        assert put(holdings, order).taken is Taken.STORED
    taken = [put(holdings, make_order(number=number, bits=BITS)) for number in range(100)]
    stored = sum(verdict.taken is Taken.STORED for verdict in taken)
    assert stored == limits.MAKER_ORDERS_FREE
    assert (taken[-1].code, taken[-1].bits) == (Code.STAMP_TOO_LOW, BITS + 1)
    assert put(holdings, make_order(number=100, bits=BITS + 1)).taken is Taken.STORED, "who pays comes in"
    for order in others[5:]:
        assert put(holdings, order).taken is Taken.STORED
    listed = set(holdings.page(_key(holdings), Kind.ORDER, 0, 1 << 20, NOW + 5).wires)
    assert {order.wire for order in others} <= listed


def _key(holdings: Holdings) -> DhtKey:
    (key,) = holdings.tree_keys()
    return key


def test_many_keys_of_minimum_stamps_meet_rising_prices_and_an_honest_maker_pays_them(holdings: Holdings) -> None:
    honest = make_order(by=identity(5), number=1, bits=BITS)
    assert put(holdings, honest).taken is Taken.STORED
    verdicts = [
        put(holdings, make_order(by=identity(1000 + number), number=number, bits=BITS)) for number in range(600)
    ]
    assert sum(verdict.taken is Taken.STORED for verdict in verdicts) < 300
    assert holdings.count <= limits.RECORDS_HELD_MAX
    assert verdicts[-1].code == Code.STAMP_TOO_LOW
    asked = verdicts[-1].bits
    assert asked > BITS
    assert put(holdings, make_order(by=identity(6), number=2, bits=asked)).taken is Taken.STORED
    assert put(holdings, honest).taken is Taken.KNOWN, "what was there before stays"


def test_when_the_flood_has_expired_the_price_falls_again(holdings: Holdings) -> None:
    for number in range(600):
        put(holdings, make_order(by=identity(2000 + number), number=number, bits=BITS, expires=NOW + 60))
    assert put(holdings, make_order(number=1, bits=BITS)).code == Code.STAMP_TOO_LOW
    assert put(holdings, make_order(number=1, bits=BITS), NOW + 61).taken is Taken.STORED


def test_what_is_asked_rises_with_room_and_orders_and_never_where_nothing_is_asked() -> None:
    chance = random.Random(1)
    full = limits.RECORDS_HELD_MAX
    assert asked_bits(0, full, 10**6) == 0
    assert asked_bits(16, full // 2, 0) == 16
    assert asked_bits(16, full * 5 // 8, 0) == 18
    assert asked_bits(16, full, 0) == 20
    steps = sorted(chance.randrange(full) for _ in range(100))
    assert [asked_bits(16, held, 0) for held in steps] == sorted(asked_bits(16, held, 0) for held in steps)
    asked = [asked_bits(16, 0, count * limits.MAKER_ORDERS_FREE) for count in (0, 1, 2, 4, 8, 10**9)]
    assert asked == [16, 17, 18, 19, 20, 20]


@pytest.mark.parametrize("network_bits", [0, 1, limits.STAMP_BITS_PUBLIC, limits.STAMP_BITS_MAX])
@pytest.mark.parametrize("held", [0, limits.RECORDS_HELD_MAX])
@pytest.mark.parametrize("of_maker", [0, 10**6])
def test_no_holder_asks_for_more_than_a_maker_mints(network_bits: int, held: int, of_maker: int) -> None:
    asked = asked_bits(network_bits, held, of_maker)
    assert asked == network_bits or bits_to_mint(asked, network_bits, network_bits) == asked
