"""Pages of a listing: every order once, in order, whatever comes or goes between two pages."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dhtex.errors import UsageError
from dhtex.market.book import Matcher, arrange
from dhtex.market.paging import WORDS, page
from dhtex.views import OrderQuery, OrderView
from tests.unit.control.fakes import order_view


@st.composite
def books(draw: st.DrawFn) -> list[OrderView]:
    """Orders with much in common, of some pairs and sides."""
    made = []
    for number in range(draw(st.integers(0, 15))):
        price, amount = draw(st.sampled_from(("1", "9.5", "10"))), draw(st.sampled_from(("1", "2", "0.3")))
        when = {"timestamp": draw(st.integers(1, 3)), "expires": draw(st.integers(4, 6))}
        side, symbol = draw(st.sampled_from(("buy", "sell"))), draw(st.sampled_from(("BTC/USD", "XMR/EUR")))
        made.append(
            order_view(
                id=f"{number:064x}", price=price, amount=amount, remaining=amount, side=side, symbol=symbol, **when
            )
        )
    return arrange(made)[0]


@given(books(), st.sampled_from(WORDS), st.integers(1, 4))
def test_pages_together_are_the_list(orders: list[OrderView], word: str, limit: int) -> None:
    whole, left, goes_on = page(orders, OrderQuery(sort=word))
    assert (sorted(each.id for each in whole), left, goes_on) == (sorted(each.id for each in orders), 0, None)
    pages: list[OrderView] = []
    query = OrderQuery(sort=word, limit=limit)
    while True:
        shown, left, goes_on = page(orders, query)
        pages += shown
        assert len(pages) + left == len(orders)
        assert (goes_on is None) == (left == 0)
        if goes_on is None:
            break
        query = OrderQuery(limit=limit, after=goes_on)
    assert pages == whole


@given(books(), st.sampled_from(WORDS), st.data())
def test_what_goes_between_two_pages_moves_nothing_else(
    orders: list[OrderView], word: str, data: st.DataObject
) -> None:
    first, _, goes_on = page(orders, OrderQuery(sort=word, limit=3))
    if goes_on is not None:
        gone = data.draw(st.sampled_from(orders))
        rest = [each for each in orders if each != gone]
        second, _, _ = page(rest, OrderQuery(after=goes_on))
        assert {each.id for each in second} == {each.id for each in rest} - {each.id for each in first}


def test_one_side_of_a_pair_is_one_line_and_two_are_not() -> None:
    asks = [order_view(id=f"{n:064x}", price=str(5 + n)) for n in range(3)]
    bids = [order_view(id=f"{n:064x}", price=str(5 - n), side="buy") for n in range(3, 5)]
    shown, left, goes_on = page(asks, OrderQuery(limit=2))
    assert ([each.price for each in shown], left, goes_on) == (["5", "6"], 1, f"cheapest~6~1700000000000~{1:064x}")
    assert page(bids, OrderQuery(limit=1))[2] == f"dearest~2~1700000000000~{3:064x}"
    assert page(asks + bids, OrderQuery(limit=2))[1:] == (3, None)
    assert page([], OrderQuery()) == ([], 0, None)


@pytest.mark.parametrize(
    "wrong",
    [
        {"sort": "odd"},
        {"after": "x"},
        {"after": f"odd~1~1~{1:064x}"},
        {"sort": "newest", "after": f"oldest~1~1~{1:064x}"},
    ],
)
def test_a_wrong_place_or_sort_is_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        page([order_view()], OrderQuery(**wrong))


def test_filters_by_owner_and_by_life() -> None:
    own, silent = order_view(mine=True), order_view(mine=False, live=False)
    assert [Matcher.of(OrderQuery(not_mine=True)).matches(each) for each in (own, silent)] == [False, True]
    assert [Matcher.of(OrderQuery(live=True)).matches(each) for each in (own, silent)] == [True, False]
    with pytest.raises(UsageError):
        Matcher.of(OrderQuery(mine=True, not_mine=True))
