"""The path of a price in the price tree."""

from decimal import Decimal

import pytest
from hypothesis import given

from dhtex.market.pricebits import PRICE_BITS, price_bits
from tests.strategies import numbers


@given(first=numbers(), second=numbers())
def test_bits_sort_as_prices_do(first: str, second: str) -> None:
    bits, prices = (price_bits(first), price_bits(second)), (Decimal(first), Decimal(second))
    assert (bits[0] < bits[1]) == (prices[0] < prices[1])
    assert (bits[0] == bits[1]) == (prices[0] == prices[1])


@given(price=numbers())
def test_every_price_has_the_same_number_of_bits(price: str) -> None:
    bits = price_bits(price)
    assert len(bits) == PRICE_BITS <= 128
    assert not bits.strip("01")


def test_prices_that_are_hard_to_tell_apart() -> None:
    ascending = [
        "0.000000000000000001",
        "0.000000000000000009",
        "0.00000000000000001",
        "0.09",
        "0.099999999999999999",
        "0.1",
        "0.999999999999999999",
        "1",
        "1.000000000000000001",
        "9.999999999999999999",
        "10",
        "99.999999999999999",
        "100",
        "999999999999999.999999999999998",
        "999999999999999.999999999999999",
    ]
    bits = [price_bits(price) for price in ascending]
    assert bits == sorted(bits)
    assert len(set(bits)) == len(bits)


def test_an_order_of_magnitude_is_one_subtree() -> None:
    assert {price_bits(price)[:6] for price in ("1", "2", "9.99")} == {"100000"}
    assert {price_bits(price)[:6] for price in ("10", "99")} == {"100001"}
    assert price_bits("1") == "100000" + "0" * 100


@pytest.mark.parametrize(
    "price", ["0", "", "-1", "1.0", "1e5", "x", "9" * 31, "0." + "0" * 40 + "1", "9" * 30 + "0" * 9]
)
def test_what_is_no_canonical_price_is_refused(price: str) -> None:
    with pytest.raises(ValueError, match="price"):
        price_bits(price)
