"""Pairs, amounts and prices: exact or refused."""

from decimal import Decimal, Inexact

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dhtex import limits
from dhtex.errors import UsageError
from dhtex.market.money import EXACT, Pair, canonical, decimals, is_canonical, parse_amount, parse_price
from tests.strategies import numbers

BTC_USD = Pair("BTC", "USD")
UNKNOWN = Pair("NEWCOIN", "OTHERCOIN")


@pytest.mark.parametrize("text", ["BTC/USD", "btc/usd", " Btc/uSd\n"])
def test_a_pair_is_read_in_any_case(text: str) -> None:
    assert Pair.parse(text) == BTC_USD
    assert str(Pair.parse(text)) == "BTC/USD"


@pytest.mark.parametrize(
    "text",
    ["", "BTC", "BTC/", "/USD", "BTC/USD/EUR", "BTC/BTC", "BTC-USD", "1BTC/USD", "B/USD", "ABCDEFGHIJK/USD", "ß/É"],
)
def test_what_is_no_pair_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Pair.parse(text)


def test_currencies_have_their_decimals() -> None:
    expected = {"JPY": 0, "USD": 2, "KWD": 3, "CLF": 4, "BTC": 8, "ETH": 18, "XMR": 12, "USDT": 6, "NOSUCH": 8}
    assert {ticker: decimals(ticker) for ticker in expected} == expected


@pytest.mark.parametrize(
    "text",
    ["0", "0.0", "-1", "+1", "1e3", "1E-2", "1,5", "1_000", ".5", "5.", "", " ", "nan", "inf", "0x10", "١", "1 2"],
)
def test_what_is_no_positive_plain_number_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_amount(text, BTC_USD)


@pytest.mark.parametrize(
    ("text", "value"), [("007.50", "7.5"), ("1.00000000000", "1"), (" 0.10 ", "0.1"), ("100", "100")]
)
def test_zeros_that_say_nothing_are_dropped(text: str, value: str) -> None:
    assert canonical(parse_price(text, BTC_USD)) == value


def test_an_amount_counts_in_base_and_a_price_in_quote() -> None:
    parse_amount("0.00000001", BTC_USD)
    parse_price("0.01", BTC_USD)
    with pytest.raises(UsageError, match="9 decimals, but BTC has 8"):
        parse_amount("0.000000001", BTC_USD)
    with pytest.raises(UsageError, match="3 decimals, but USD has 2"):
        parse_price("0.001", BTC_USD)
    with pytest.raises(UsageError, match="JPY has 0"):
        parse_price("1.5", Pair("BTC", "JPY"))


def test_absurd_numbers_are_refused() -> None:
    parse_amount("9" * limits.MONEY_INTEGER_DIGITS_MAX, BTC_USD)
    for text in ("9" * (limits.MONEY_INTEGER_DIGITS_MAX + 1), "9" * 15 + "." + "9" * 16, "9" * 100_000):
        with pytest.raises(UsageError, match="absurdly"):
            parse_amount(text, Pair("ETH", "USD"))


@given(text=numbers(18))
def test_canonical_numbers_survive_reading_and_writing(text: str) -> None:
    assert is_canonical(text)
    assert canonical(parse_amount(text, Pair("ETH", "USD"))) == text


@given(text=st.text("0123456789.", max_size=12))
def test_a_number_has_one_canonical_spelling(text: str) -> None:
    try:
        value = parse_amount(text, UNKNOWN)
    except UsageError:
        return
    assert is_canonical(canonical(value))
    assert Decimal(canonical(value)) == Decimal(text)
    assert is_canonical(text) == (canonical(value) == text)


@pytest.mark.parametrize("text", ["00", "01", "1.0", "1.", ".1", "-1", "1e1", "1\n", "", "0.10", "１"])
def test_other_spellings_are_not_canonical(text: str) -> None:
    assert not is_canonical(text)


def test_arithmetic_raises_rather_than_rounds() -> None:
    longest = Decimal("9" * 15 + "." + "9" * 15)
    assert len(canonical(EXACT.multiply(longest, longest))) == 61
    with pytest.raises(Inexact):
        EXACT.divide(Decimal(1), Decimal(3))
