"""Which orders are shown, in what order, what a ladder adds up to, and how records look to a face."""

import random
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dhtex import limits
from dhtex.coverage import Coverage
from dhtex.errors import UsageError
from dhtex.market.book import Matcher, arrange, best, book_view, levels
from dhtex.market.merge import OrderState, order_state
from dhtex.market.present import cost, iso_time, milliseconds, order_view, trade_view
from dhtex.market.records import AnyRecord, Closing, Liveness, Order, Record, Side, Status
from dhtex.market.trade import MakerState
from dhtex.views import OrderQuery, OrderView
from tests.builders import NOW, identity, make_accept, make_order, make_status
from tests.strategies import numbers, orders

FULL = Coverage(nodes=1, asked=3, answered=3, agreed=3, complete=True)
SILENT = NOW - limits.BEAT_AGE_S_MAX - 1


def view(
    order: Record[Order],
    *statuses: Record[Status],
    now: float = NOW,
    heard_of: float = NOW,
    mine: bool = False,
    holders: int | None = None,
) -> OrderView:
    state = order_state(order, statuses, now)
    return order_view(order, state, heard_of=heard_of, now=now, mine=mine, holders=holders)


def offer(price: str, amount: str = "1", side: Side = Side.SELL, **fields: Any) -> OrderView:
    return view(make_order(price=price, amount=amount, side=side, **fields))


def prices(views: list[OrderView]) -> list[tuple[str, str]]:
    return [(each.side, each.price) for each in views]


def test_each_reason_to_hide_an_order_is_counted() -> None:
    order = make_order()
    canceled, filled = make_status(order, Closing.CANCELED), make_status(order, Closing.FILLED)
    views = [
        view(order),
        view(make_order(number=1), now=order.body.expires, heard_of=order.body.expires),
        view(make_order(number=2), heard_of=SILENT),
        view(make_order(number=3), heard_of=SILENT),
        view(make_order(number=4, liveness=Liveness.MAILBOX), heard_of=SILENT),
        view(make_order(number=5), heard_of=SILENT, mine=True),
        view(order, canceled),
        view(order, filled),
        view(order, canceled, filled),
    ]
    shown, hidden = arrange(views)
    assert [each.status for each in shown] == ["open"] * 3
    assert hidden == {"expired": 1, "silent": 2, "closed": 2, "disputed": 1}
    everything, nothing = arrange(views, everything=True)
    assert len(everything) == len(views)
    assert nothing == {}


def test_a_maker_is_silent_only_after_three_missed_beats() -> None:
    order = make_order()
    assert view(order, heard_of=NOW - limits.BEAT_AGE_S_MAX).live
    assert not view(order, heard_of=SILENT).live


def test_an_own_order_that_nobody_else_holds_is_being_published() -> None:
    order = make_order()
    assert view(order, mine=True, holders=0).status == "publishing"
    assert view(order, mine=True, holders=1).status == "open"
    assert view(order, mine=True).status == "open"
    assert view(order, make_status(order, Closing.CANCELED), mine=True, holders=0).status == "canceled"
    assert arrange([view(order, mine=True, holders=0)])[1] == {}


def test_best_first_on_both_sides() -> None:
    made = [
        offer("100"),
        offer("9"),
        offer("1000.5"),
        *(offer(price, side=Side.BUY) for price in ("8", "0.5", "10")),
        offer("1", pair="BTC/EUR"),
    ]
    random.Random(1).shuffle(made)
    shown, _ = arrange(made)
    assert [each.symbol for each in shown] == ["BTC/EUR"] + ["BTC/USD"] * 6
    assert prices(shown[1:]) == [
        ("sell", "9"),
        ("sell", "100"),
        ("sell", "1000.5"),
        ("buy", "10"),
        ("buy", "8"),
        ("buy", "0.5"),
    ]


def test_at_one_price_the_older_order_comes_first_then_the_smaller_id() -> None:
    for side in Side:
        young, *twins = (
            offer("5", side=side, created=NOW - age, number=number) for number, age in ((1, 0), (2, 9), (3, 9), (4, 9))
        )
        shown, _ = arrange([young, *twins])
        assert shown == [*sorted(twins, key=lambda each: each.id), young]


@given(first=orders(), second=orders())
def test_the_arrangement_does_not_depend_on_the_order_of_arrival(first: Record[Order], second: Record[Order]) -> None:
    views = [view(first), view(second)]
    assert arrange(views) == arrange(views[::-1])


def test_a_limit_cuts_no_side_off() -> None:
    shown, _ = arrange([offer(str(n)) for n in range(10, 15)] + [offer(str(n), side=Side.BUY) for n in range(5, 8)])
    assert prices(best(shown, 4)) == [("sell", "10"), ("sell", "11"), ("buy", "7"), ("buy", "6")]
    assert prices(best(shown, 3)) == [("sell", "10"), ("sell", "11"), ("buy", "7")]
    assert best(shown, 7) == [each for each in shown if each.price != "14"]
    assert best(shown, 100) == shown
    assert best([], 5) == []


@pytest.mark.parametrize(
    ("query", "fits"),
    [
        ({}, True),
        ({"pair": "btc/usd"}, True),
        ({"pair": "BTC/EUR"}, False),
        ({"side": "sell"}, True),
        ({"side": "buy"}, False),
        ({"min_price": "50000"}, True),
        ({"min_price": "50000.001"}, False),
        ({"max_price": "50000"}, True),
        ({"max_price": "49999.999"}, False),
        ({"amount": "0.1"}, True),
        ({"amount": "2"}, True),
        ({"amount": "0.09"}, False),
        ({"amount": "2.1"}, False),
        ({"payment": "SEPA"}, True),
        ({"payment": "sep"}, False),
        ({"mine": True}, False),
    ],
)
def test_filters(query: dict[str, Any], fits: bool) -> None:
    each = view(make_order(amount="2", minimum="0.1", payments=("cash", "Sepa")))
    assert Matcher.of(OrderQuery(**query)).matches(each) is fits


def test_own_orders_only() -> None:
    matcher = Matcher.of(OrderQuery(mine=True))
    assert matcher.matches(view(make_order(), mine=True))


@pytest.mark.parametrize(
    "query",
    [
        {"side": "ask"},
        {"pair": "BTC"},
        {"min_price": "-1"},
        {"min_price": "10", "max_price": "9.99"},
        {"max_price": "1e5"},
        {"amount": "lots"},
        {"amount": "9" * 31},
        {"limit": 0},
        {"limit": limits.LISTING_ORDERS_MAX + 1},
    ],
)
def test_a_bad_query_is_the_user_s_fault(query: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Matcher.of(OrderQuery(**query))


def test_a_ladder_adds_up_each_price() -> None:
    made = [offer("100", "0.1"), offer("100", "0.2", number=1), offer("99.5", "1"), offer("101", "3"), offer("98", "2")]
    made += [offer("97", "0.00000001", Side.BUY), offer("96", "1", Side.BUY)]
    book = book_view("BTC/USD", made, 3, FULL, {"silent": 2}, NOW + 0.25)
    assert [(level.price, level.amount, level.total, level.orders) for level in book.asks] == [
        ("98", "2", "2", 1),
        ("99.5", "1", "3", 1),
        ("100", "0.3", "3.3", 2),
    ]
    assert [(level.price, level.total) for level in book.bids] == [("97", "0.00000001"), ("96", "1.00000001")]
    assert (book.spread, book.mid) == ("1", "97.5")
    assert (book.timestamp, book.datetime) == (NOW * 1000 + 250, "2027-01-15T08:00:00.250Z")
    assert (book.symbol, book.coverage, book.hidden) == ("BTC/USD", FULL, {"silent": 2, "limit": 1})


def test_a_one_sided_or_empty_book_has_neither_spread_nor_middle() -> None:
    for views in ([], [offer("1")], [offer("1", side=Side.BUY)]):
        book = book_view("BTC/USD", views, 5, FULL, {}, NOW)
        assert book.spread is None
        assert book.mid is None


def test_a_crossed_book_shows_it() -> None:
    book = book_view("BTC/USD", [offer("99"), offer("100.01", side=Side.BUY)], 5, FULL, {}, NOW)
    assert (book.spread, book.mid) == ("-1.01", "99.505")


@given(st.lists(st.tuples(st.sampled_from(("1", "2.5", "3")), numbers(8)), min_size=1, max_size=12))
def test_no_amount_is_lost_in_a_ladder(offers: list[tuple[str, str]]) -> None:
    ladder = levels([offer(price, amount, number=n) for n, (price, amount) in enumerate(offers)], Side.SELL, 5)
    whole = sum((int(Decimal(amount).scaleb(8)) for _, amount in offers), 0)
    assert int(Decimal(ladder[-1].total).scaleb(8)) == whole
    assert sum(level.orders for level in ladder) == len(offers)


def test_an_open_order_looks_like_this() -> None:
    order = make_order(
        amount="2.5",
        minimum="0.1",
        note="cash only",
        reference="ref-1",
        replaces=bytes([1]) * 32,
        group=bytes([2]) * 32,
    )
    assert view(order, holders=None) == OrderView(
        id=order.id.hex(),
        clientOrderId="ref-1",
        symbol="BTC/USD",
        side="sell",
        price="50000",
        amount="2.5",
        minimum="0.1",
        filled="0",
        remaining="2.5",
        status="open",
        timestamp=NOW * 1000,
        datetime="2027-01-15T08:00:00.000Z",
        expires=(NOW + 86_400) * 1000,
        expiresDatetime="2027-01-16T08:00:00.000Z",
        maker=identity(1).public.hex(),
        payment=["sepa"],
        note="cash only",
        liveness="beat",
        confirm="auto",
        live=True,
        mine=False,
        replaces="01" * 32,
        group="02" * 32,
    )


def test_a_part_fill_leaves_the_exact_rest() -> None:
    order = make_order(pair="ETH/USD", amount="999999999999.000000000000000001", minimum="0.1")
    accept = make_accept(order, amount="0.5")
    seen = view(order, make_status(order, Closing.FILLED, accept=accept))
    assert (seen.status, seen.filled, seen.remaining) == ("filled", "0.5", "999999999998.500000000000000001")


def test_a_maker_who_claims_to_have_sold_more_than_there_was_breaks_nothing() -> None:
    order = make_order()
    seen = view(order, make_status(order, Closing.FILLED, amount="7"))
    assert (seen.filled, seen.remaining) == ("7", "0")


def test_a_replaced_order_names_its_successor() -> None:
    order = make_order()
    seen = view(order, make_status(order, Closing.REPLACED, replaced_by=bytes([3]) * 32))
    assert (seen.status, seen.replacedBy) == ("replaced", "03" * 32)


def test_a_disputed_order_says_so() -> None:
    seen = order_view(make_order(), OrderState(MakerState.DISPUTED), heard_of=NOW, now=NOW, mine=False)
    assert seen.status == "disputed"


@dataclass
class Row:
    order_wire: bytes
    accept_wire: bytes
    role: str = "taker"
    state: str = "sent"
    code: str = ""
    message: str = ""
    reply: str = ""


def row(order: Record[Order], accept: AnyRecord, **fields: str) -> Row:
    return Row(order.wire, accept.wire, **fields)


@pytest.mark.parametrize(
    ("side", "role", "mine"),
    [("sell", "taker", "buy"), ("sell", "maker", "sell"), ("buy", "taker", "sell"), ("buy", "maker", "buy")],
)
def test_a_trade_is_shown_from_this_node_s_side(side: str, role: str, mine: str) -> None:
    order = make_order(side=Side(side), price="0.07", pair="DOGE/USD", amount="100.3", minimum="1")
    accept = make_accept(order, amount="33.33333333")
    seen = trade_view(row(order, accept, role=role, state="confirmed", message="hi", reply="pay here"))
    assert (seen.side, seen.price, seen.amount, seen.cost) == (mine, "0.07", "33.33333333", "2.3333333331")
    assert seen.counterparty == identity(2 if role == "maker" else 1).public.hex()
    assert (seen.id, seen.accept, seen.order) == (accept.id.hex(), accept.id.hex(), order.id.hex())
    assert (seen.timestamp, seen.deadlineDatetime) == ((NOW + 1) * 1000, "2027-01-15T08:01:01.000Z")
    assert (seen.code, seen.retryable, seen.message, seen.reply) == (None, False, "hi", "pay here")


def test_a_refusal_says_whether_to_try_again() -> None:
    order = make_order()
    accept = make_accept(order)
    again, final = (trade_view(row(order, accept, state="refused", code=code)) for code in ("not_live", "taken"))
    assert (again.code, again.retryable) == ("not_live", True)
    assert (final.code, final.retryable) == ("taken", False)


@given(amount=numbers(), price=numbers())
def test_a_cost_is_exact(amount: str, price: str) -> None:
    def parts(text: str) -> tuple[int, int]:
        whole, _, fraction = text.partition(".")
        return int(whole + fraction), len(fraction)

    (a, a_places), (p, p_places), (c, c_places) = parts(amount), parts(price), parts(cost(amount, price))
    assert c * 10 ** (a_places + p_places) == a * p * 10**c_places


@given(st.integers(0, 253_402_300_799_999))
def test_times_agree_in_both_forms(shown_ms: int) -> None:
    text = iso_time(shown_ms / 1000)
    assert round(datetime.fromisoformat(text).timestamp() * 1000) == milliseconds(shown_ms / 1000)


def test_a_time_beyond_the_calendar_is_still_shown() -> None:
    assert iso_time(1 << 40) == "9999-12-31T23:59:59.999Z"
