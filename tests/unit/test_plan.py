"""Plans: what they promise whatever the book looks like, and the rule by which they are made."""

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from hypothesis import given
from hypothesis import strategies as st

from dhtex.market.book import arrange
from dhtex.market.money import Pair, canonical, total
from dhtex.market.plan import Fill, average_price, cost_of, plan, takeable, whole
from dhtex.market.records import Side
from dhtex.views import OrderView
from tests.unit.control.fakes import order_view

PAIR = Pair("BTC", "USD")
MOST = 8
Number = Decimal | str
amounts = st.integers(1, 400).map(lambda hundredths: Decimal(hundredths) / 100)


def offer(number: int, price: Number, amount: Number, minimum: Number, side: str = "sell") -> OrderView:
    size = canonical(Decimal(amount))
    numbers = {"price": canonical(Decimal(price)), "amount": size, "minimum": canonical(Decimal(minimum))}
    return order_view(id=f"{number:064x}", timestamp=number, side=side, mine=False, remaining=size, **numbers)


@st.composite
def books(draw: st.DrawFn, divisible: bool = False) -> list[OrderView]:
    """Offers of one side, best first; some can be taken in part, some only whole, unless all are `divisible`."""
    side = draw(st.sampled_from(("buy", "sell")))
    made = []
    for number in range(draw(st.integers(0, 12))):
        amount = draw(amounts)
        least = Decimal("0.01") if divisible else min(amount, draw(st.one_of(amounts, st.just(amount))))
        made.append(offer(number, draw(st.integers(1, 9).map(Decimal)), amount, least, side))
    return arrange(made)[0]


def sums(fills: list[Fill]) -> tuple[Decimal, Decimal]:
    return total(fill.amount for fill in fills), cost_of((fill.amount, fill.order.price) for fill in fills)


@given(books(), amounts)
def test_a_plan_takes_no_more_than_is_wanted_and_of_each_order_what_it_allows(
    orders: list[OrderView], wanted: Decimal
) -> None:
    fills = plan(orders, wanted, MOST)
    assert total(fill.amount for fill in fills) <= wanted
    assert len({fill.order.id for fill in fills}) == len(fills) <= MOST
    for fill in fills:
        assert Decimal(fill.order.minimum) <= fill.amount <= Decimal(fill.order.remaining)
    assert [fill.order for fill in fills] == [order for order in orders if order in [fill.order for fill in fills]]


@given(books(), amounts)
def test_a_plan_leaves_nothing_over_that_one_more_order_could_fill(orders: list[OrderView], wanted: Decimal) -> None:
    fills = plan(orders, wanted, len(orders))
    rest = wanted - sums(fills)[0]
    room = sum((fill.amount - Decimal(fill.order.minimum) for fill in fills), Decimal(0))
    chosen = {fill.order.id for fill in fills}
    for order in orders:
        if rest and order.id not in chosen:
            assert Decimal(order.minimum) > rest + room
        elif rest:
            assert next(f.amount for f in fills if f.order.id == order.id) == Decimal(order.remaining)


@given(books(divisible=True), amounts)
def test_of_divisible_orders_the_plan_is_full_and_the_cheapest(orders: list[OrderView], wanted: Decimal) -> None:
    """Every hundredth is bought at the best price that is left: no other choice can be better."""
    cents = [Decimal(order.price) for order in orders for _ in range(int(Decimal(order.remaining) * 100))]
    best = sorted(cents, reverse=bool(orders) and orders[0].side == "buy")[: int(wanted * 100)]
    filled, costs = sums(plan(orders, wanted, len(orders)))
    assert filled == Decimal(len(best)) / 100
    assert costs == sum(best) / Decimal(100)


@given(books(), amounts, st.sampled_from(Side))
def test_the_average_is_between_the_prices_and_never_flatters(
    orders: list[OrderView], wanted: Decimal, side: Side
) -> None:
    fills = plan(orders, wanted, MOST)
    filled, costs = sums(fills)
    average = average_price(costs, filled, PAIR, side)
    assert (average is None) == (not fills)
    if average is not None:
        prices = [Decimal(fill.order.price) for fill in fills]
        assert min(prices) <= Decimal(average) <= max(prices)
        rounding = ROUND_CEILING if side is Side.BUY else ROUND_FLOOR
        assert Decimal(average) == (costs / filled).quantize(Decimal("0.01"), rounding=rounding)
        assert Decimal(average) * filled >= costs if side is Side.BUY else Decimal(average) * filled <= costs


def decimals(*numbers: str) -> list[Decimal]:
    return list(map(Decimal, numbers))


def test_an_order_that_is_too_large_is_passed_over() -> None:
    cheap, large, dear = (offer(n, *row) for n, row in enumerate([("1", "2", "1"), ("2", "9", "9"), ("3", "2", "1")]))
    fills = plan([cheap, large, dear], Decimal(3), MOST)
    assert [(fill.order, fill.amount) for fill in fills] == [(cheap, Decimal(2)), (dear, Decimal(1))]


def test_less_of_the_others_makes_room_for_an_order_that_completes_the_plan() -> None:
    first, second, last = (
        offer(n, *row) for n, row in enumerate([("1", "2", "0.5"), ("2", "2", "1.5"), ("3", "2", "2")])
    )
    fills = plan([first, second, last], Decimal(5), MOST)
    assert [fill.amount for fill in fills] == decimals("1.5", "1.5", "2")
    assert [fill.amount for fill in plan([first, second], Decimal("1.9"), MOST)] == decimals("1.9")
    assert [fill.amount for fill in plan([first, last], Decimal("3.6"), MOST)] == decimals("1.6", "2")
    assert [fill.amount for fill in plan([first, last], Decimal("2.4"), MOST)] == decimals("2")


def test_amounts_of_thirty_digits_are_added_up_without_rounding() -> None:
    least = "0.00000000000000001"
    first, last = (offer(n, "1", f"100000000000.0000000000000000{end}", least) for n, end in enumerate(("7", "85")))
    large = offer(1, "2", last.amount, last.amount)
    fills = plan([first, large], Decimal("100000000000.000000000000000075"), MOST)
    assert [fill.amount for fill in fills] == decimals(first.amount)


def test_no_more_orders_are_taken_than_allowed() -> None:
    orders = [offer(n, "1", "1", "0.1") for n in range(9)]
    assert len(plan(orders, Decimal(9), 3)) == 3


def test_only_what_can_be_had_at_once_is_considered() -> None:
    fine = offer(0, "1", "1", "1")
    changes = ({"mine": True}, {"confirm": "ask"}, {"status": "disputed"}, {"live": False})
    others = [order_view(**{"mine": False, **change}) for change in changes]
    assert takeable([fine, *others], lambda order: order.mine) == (
        [fine],
        {"mine": 1, "ask": 1, "closed": 1, "silent": 1},
    )


def test_a_single_order_is_the_best_that_allows_exactly_the_amount() -> None:
    rows = [("1", "2", "2"), ("2", "5", "1"), ("3", "1", "1")]
    orders = [offer(n, *row) for n, row in enumerate(rows)]
    assert [fill.order.price for fill in whole(orders, Decimal(1))] == ["2"]
    assert [fill.order.price for fill in whole(orders, Decimal(2))] == ["1"]
    assert whole(orders, Decimal(6)) == []
