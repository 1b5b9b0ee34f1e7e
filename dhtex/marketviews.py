"""What every face sees of a market as a whole: plans and their execution, pairs, statistics, signed copies.

The conventions are those of `dhtex.views`.
"""

import msgspec

from dhtex.views import AcceptView, Coverage, OrderView, TradeView


class QuoteQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An amount of the base that somebody wants to `side` (buy or sell), at what price at most or at least."""

    pair: str
    side: str
    amount: str
    min_price: str = ""
    max_price: str = ""


class TakeRequest(QuoteQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A wish to take orders. `wait_s`: how long the outcome of each is waited for."""

    message: str = ""
    wait_s: float = 30.0


class PlannedView(msgspec.Struct, frozen=True, kw_only=True):
    """One order of a plan: how much of it would be taken, and what that costs in the quote."""

    order: OrderView
    amount: str
    cost: str


class QuoteView(msgspec.Struct, frozen=True, kw_only=True):
    """What an amount would cost. `filled` of the `amount` can be had now, `remaining` cannot; `depth` is all that the
    book has within the price limit.

    `average` is rounded to the decimals of the quote, against the taker; `cost` is exact. `worst` is the price of the
    last order. All three are null when nothing can be had. `left_out` counts orders that were passed over, by reason:
    mine, ask (their maker confirms by hand), whole (cannot be taken in so small a part).
    """

    symbol: str
    side: str
    amount: str
    filled: str
    remaining: str
    depth: str
    average: str | None
    worst: str | None
    cost: str | None
    makers: list[str]
    plan: list[PlannedView]
    left_out: dict[str, int]
    timestamp: int
    datetime: str
    coverage: Coverage
    hidden: dict[str, int]


class TryView(msgspec.Struct, frozen=True, kw_only=True):
    """One order that was tried. `state` as in TradeView, `code`: why it was refused; `trade` is null when it was
    refused before an accept was sent."""

    order: OrderView
    amount: str
    state: str
    code: str | None
    trade: TradeView | None = None


class BestView(msgspec.Struct, frozen=True, kw_only=True):
    """The orders that were tried, one after the other; `outcome` of the last, null when all were refused."""

    tries: list[TryView]
    outcome: AcceptView | None


class TakeView(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a wish to take an amount: the orders that were tried, one after the other.

    `filled` is confirmed; `outstanding` is in accepts without an answer, which may still win; `remaining` is neither.
    `average` and `cost` speak of what is filled, as in QuoteView.
    """

    symbol: str
    side: str
    amount: str
    filled: str
    outstanding: str
    remaining: str
    average: str | None
    cost: str | None
    tries: list[TryView]
