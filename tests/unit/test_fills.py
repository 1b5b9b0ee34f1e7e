"""Fills: which ones count, what they add up to, and their candles."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dhtex.errors import UsageError
from dhtex.market.fills import belongs, candles, fill_view, sums, timeframe_s
from dhtex.market.money import Pair, canonical
from dhtex.market.records import Closing, Side
from dhtex.marketviews import FillView
from tests.builders import NOW, identity, make_accept, make_order, make_status

ORDER = make_order(amount="2", minimum="0.5", side=Side.BUY)
FILL = make_status(ORDER, Closing.FILLED, accept=make_accept(ORDER, amount="1.5"))


def fill(at: int, price: str, amount: str) -> FillView:
    order = make_order(price=price, amount=amount, created=at)
    return fill_view(make_status(order, Closing.FILLED, at=at))


def test_a_fill_has_the_orders_price_and_the_statuss_amount_and_the_takers_side() -> None:
    view = fill_view(FILL)
    assert (view.side, view.price, view.amount, view.cost) == ("sell", "50000", "1.5", "75000")
    assert (view.order, view.maker, view.taker) == (
        *(ORDER.id.hex(), identity(1).public.hex(), identity(2).public.hex()),
    )


@pytest.mark.parametrize(
    "change",
    [
        {"by": identity(3), "maker": identity(3).public},
        {"price": "50001"},
        {"pair": "BTC/EUR"},
        {"side": Side.SELL},
        {"amount": "2.5"},
        {"amount": "0.4"},
        {"taker": identity(1).public},
    ],
)
def test_a_fill_counts_only_beside_the_order_that_it_fits(change: dict[str, Any]) -> None:
    assert belongs(FILL, ORDER)
    assert not belongs(FILL, None)
    assert not belongs(make_status(ORDER, Closing.CANCELED), ORDER)
    accept = make_accept(ORDER, amount="1.5")
    assert not belongs(make_status(ORDER, Closing.FILLED, accept=accept, **change), ORDER)
    assert not belongs(FILL, make_order(amount="2", minimum="0.5", side=Side.BUY, number=1))


def test_candles_are_one_for_each_stretch_with_a_fill() -> None:
    hour = NOW - NOW % 3600
    rows = [(hour + 1, "5", "1"), (hour + 2, "9", "0.5"), (hour + 3599, "7", "1"), (hour + 7200, "10", "2")]
    fills = [fill(*row) for row in rows]
    assert candles(fills, 3600) == [
        (hour * 1000, "5", "9", "5", "7", "2.5"),
        ((hour + 7200) * 1000, "10", "10", "10", "10", "2"),
    ]
    assert sums(fills, Pair("BTC", "USD")) == ("5", "10", "5", "10", "8.11", "4.5", "36.5")
    assert sums([], Pair("BTC", "USD")) == (None, None, None, None, None, "0", "0")


@given(st.lists(st.tuples(st.integers(0, 10**5), st.integers(1, 99), st.integers(1, 99)), min_size=1, max_size=9))
def test_candles_lose_nothing(rows: list[tuple[int, int, int]]) -> None:
    fills = [fill(NOW + at, canonical(Decimal(p)), canonical(Decimal(a))) for at, p, a in sorted(rows)]
    made = candles(fills, 900)
    assert sum(Decimal(volume) for *_, volume in made) == sum(Decimal(each.amount) for each in fills)
    assert [row[0] for row in made] == sorted({each.timestamp // 900_000 * 900_000 for each in fills})
    for _, opened, high, low, close, _ in made:
        assert Decimal(low) <= min(Decimal(opened), Decimal(close)) <= max(Decimal(opened), Decimal(close))
        assert Decimal(high) >= max(Decimal(opened), Decimal(close))


def test_a_timeframe_is_a_number_and_a_unit() -> None:
    assert [timeframe_s(text) for text in ("1m", "15m", "4h", "1d")] == [60, 900, 14_400, 86_400]
    for text in ("", "0m", "1", "h", "1w", "9999m", "1.5h"):
        with pytest.raises(UsageError):
            timeframe_s(text)
