"""What every face sees of a market as a whole: plans and their execution, pairs, statistics, signed copies.

The conventions are those of `dhtex.views`.
"""

import msgspec

from dhtex.coverage import Coverage
from dhtex.views import AcceptView, OrderView, TradeView


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
    """The orders that were tried, one after the other; `outcome` of the last, null when all were refused. `coverage` of
    the book from which the last was chosen."""

    tries: list[TryView]
    outcome: AcceptView | None
    coverage: Coverage


class TakeView(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a wish to take an amount: the orders that were tried, one after the other.

    `filled` is confirmed; `outstanding` is in accepts without an answer, which may still win; `remaining` is neither.
    `average` and `cost` speak of what is filled, as in QuoteView, `coverage` of the book as it was read last.
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
    coverage: Coverage


class PairView(msgspec.Struct, frozen=True, kw_only=True):
    """One pair that this node knows, and why: `held` (it keeps orders of it for the network), `own` (it has open orders
    there), `watched` (somebody follows it here now), `listed` (it was listed since the start, and was not empty).

    `bids` and `asks` count the shown orders; `bid` and `ask` are the best prices, null for an empty side.
    """

    symbol: str
    known: list[str]
    bids: int
    asks: int
    bid: str | None
    ask: str | None
    spread: str | None


class PairsView(msgspec.Struct, frozen=True, kw_only=True):
    """All pairs that this node knows. There may be others: nobody has a list of all."""

    pairs: list[PairView]
    coverage: Coverage
    hidden: dict[str, int]


class StatsQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`limit`: how many of the latest fills are read. `timeframe`: of the candles, as 1m, 15m, 1h, 1d."""

    pair: str
    limit: int = 100
    timeframe: str = "1h"


class FillView(msgspec.Struct, frozen=True, kw_only=True):
    """A fill that a maker has signed. `side`: what the taker did. `price` is the order's, `amount` the Status's."""

    id: str
    order: str
    symbol: str
    side: str
    price: str
    amount: str
    cost: str
    timestamp: int
    datetime: str
    maker: str
    taker: str


class DepthView(msgspec.Struct, frozen=True, kw_only=True):
    """One side of a book: orders, their amounts in the base, and these at their prices in the quote."""

    orders: int
    amount: str
    cost: str


class StatsView(msgspec.Struct, frozen=True, kw_only=True):
    """A pair in figures. Spread and depth are of now; `open` to `quoteVolume` of the `fills`, which are the latest
    whose order could be read and fits; null when there are none. `unverified` counts those whose order could not.

    `ohlcv`: [timestamp, open, high, low, close, volume] for each `timeframe` with a fill, oldest first.
    """

    symbol: str
    timestamp: int
    datetime: str
    bid: str | None
    ask: str | None
    spread: str | None
    mid: str | None
    bids: DepthView
    asks: DepthView
    open: str | None
    high: str | None
    low: str | None
    close: str | None
    vwap: str | None
    baseVolume: str
    quoteVolume: str
    timeframe: str
    ohlcv: list[tuple[int, str, str, str, str, str]]
    fills: list[FillView]
    unverified: int
    coverage: Coverage
    hidden: dict[str, int]


class RecordView(msgspec.Struct, frozen=True, kw_only=True):
    """A signed record as it travels, in base64, with some of what it says; only `record` counts."""

    kind: str
    id: str
    symbol: str
    side: str
    price: str
    amount: str
    maker: str
    expires: int
    record: str


class ExportView(msgspec.Struct, frozen=True, kw_only=True):
    """The shown orders of a pair as their makers signed them, best first."""

    records: list[RecordView]
    coverage: Coverage
    hidden: dict[str, int]


class ImportRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Signed records in base64, from wherever."""

    records: list[str]


class ImportedView(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a record. `state`: stored (so many other `holders` have it), refused (it is sound, but nobody took
    it, as when it is closed), or invalid; `code` says why."""

    state: str
    id: str | None = None
    code: str | None = None
    holders: int = 0


class ImportView(msgspec.Struct, frozen=True, kw_only=True):
    """One result for each record, in their order."""

    results: list[ImportedView]
