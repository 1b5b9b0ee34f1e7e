"""Which orders to take for an amount, and how much of each. Pure, and exact.

The rule. Best price first (`dhtex.market.book`), as much of each order as is still wanted; an order whose minimum is
more than that is passed over. If something is still wanted at the end, the plan is completed by the best order that was
passed over and whose minimum can be reached by taking less of the orders chosen before, of the last of them first.

What it promises: never more than is wanted, never an amount outside of an order's minimum and amount, and where all
orders can be taken in any part, the cheapest plan there is. Where they cannot, the cheapest or fullest choice is a
knapsack problem; this rule is quick and easy to follow, but may find a dearer plan, or leave something over although
another choice of orders would not.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import Final

from dhtex.market.money import EXACT, Pair, canonical, decimals, total
from dhtex.market.present import cost
from dhtex.market.records import Confirm, Side
from dhtex.market.trade import MakerState
from dhtex.marketviews import PlannedView
from dhtex.views import OrderView

OPPOSITE: Final = {Side.BUY: Side.SELL, Side.SELL: Side.BUY}
_DIGITS: Final = 100


@dataclass(frozen=True, slots=True)
class Fill:
    """An order, and how much of it to take."""

    order: OrderView
    amount: Decimal

    @property
    def least(self) -> Decimal:
        """The smallest part of the order that may be taken."""
        return Decimal(self.order.minimum)

    def view(self) -> PlannedView:
        """As faces see it."""
        amount = canonical(self.amount)
        return PlannedView(order=self.order, amount=amount, cost=cost(amount, self.order.price))


def takeable(
    orders: Iterable[OrderView], is_own: Callable[[OrderView], bool]
) -> tuple[list[OrderView], dict[str, int]]:
    """The orders that can be had at once, and how many cannot, by reason: mine, ask (confirmed by hand), and those that
    are no offers, which a listing hides anyway."""
    found: list[OrderView] = []
    left_out: Counter[str] = Counter()
    for order in orders:
        if is_own(order):
            left_out["mine"] += 1
        elif order.confirm != Confirm.AUTO:
            left_out["ask"] += 1
        elif order.status != MakerState.OPEN:
            left_out["closed"] += 1
        elif not order.live:
            left_out["silent"] += 1
        else:
            found.append(order)
    return found, dict(left_out)


def plan(orders: Sequence[OrderView], wanted: Decimal, most: int) -> list[Fill]:
    """Choose from takeable orders, which stand best first: `wanted` of the base in at most `most` of them."""
    fills: dict[str, Fill] = {}
    rest = wanted
    for order in orders:
        if not rest or len(fills) == most:
            break
        if Decimal(order.minimum) <= rest:
            fills[order.id] = Fill(order, min(rest, Decimal(order.remaining)))
            rest = EXACT.subtract(rest, fills[order.id].amount)
    if rest and len(fills) < most:
        _complete(fills, orders, rest)
    return [fills[order.id] for order in orders if order.id in fills]


def _complete(fills: dict[str, Fill], orders: Sequence[OrderView], rest: Decimal) -> None:
    """Add the best order that was passed over, if less of others makes it large enough."""
    room = total(EXACT.subtract(fill.amount, fill.least) for fill in fills.values())
    for order in orders:
        lack = EXACT.subtract(Decimal(order.minimum), rest)
        if order.id in fills or lack > room:
            continue
        for fill in reversed(list(fills.values())):
            less = min(lack, EXACT.subtract(fill.amount, fill.least))
            fills[fill.order.id] = Fill(fill.order, EXACT.subtract(fill.amount, less))
            lack = EXACT.subtract(lack, less)
        fills[order.id] = Fill(order, Decimal(order.minimum))
        return


def whole(orders: Sequence[OrderView], wanted: Decimal) -> list[Fill]:
    """The best of takeable orders of which exactly `wanted` may be taken, or none."""
    fits = (order for order in orders if Decimal(order.minimum) <= wanted <= Decimal(order.remaining))
    return [Fill(order, wanted) for order in fits][:1]


def cost_of(fills: Iterable[tuple[Decimal, str]]) -> Decimal:
    """What amounts at their prices come to, exactly."""
    return total(EXACT.multiply(amount, Decimal(price)) for amount, price in fills)


def average_price(costs: Decimal, amount: Decimal, pair: Pair, side: Side) -> str | None:
    """The price of one unit on average, in the decimals of the quote, rounded against whoever buys or sells; None for
    no amount."""
    if not amount:
        return None
    rounding = ROUND_CEILING if side is Side.BUY else ROUND_FLOOR
    context = Context(prec=_DIGITS, rounding=rounding)
    return canonical(context.divide(costs, amount).quantize(Decimal(1).scaleb(-decimals(pair.quote)), context=context))
