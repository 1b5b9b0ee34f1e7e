"""What was traded, in figures: the fills of a pair, their sums, and candles. Pure, and exact.

A fill is the word of a maker: its Status names an accept, a taker and an amount. A Status costs nothing, and a stranger
may sign one about an order that is not there. So a fill counts only beside its order, which bore a stamp, is by the
same maker, and allows the amount. Whoever pays for stamps can still trade with himself.
"""

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import groupby
from typing import Final, NamedTuple

from dhtex.errors import UsageError
from dhtex.market.money import Pair, canonical, total
from dhtex.market.plan import OPPOSITE, average_price, cost_of
from dhtex.market.present import cost, iso_time, milliseconds
from dhtex.market.records import Closing, Order, Record, Side, Status
from dhtex.marketviews import DepthView, FillView
from dhtex.views import OrderView

_UNITS_S: Final = {"m": 60, "h": 3600, "d": 86_400}
_TIMEFRAME: Final = re.compile(r"([1-9][0-9]{0,2})([mhd])")

Candle = tuple[int, str, str, str, str, str]


class Sums(NamedTuple):
    """The figures of some fills; the prices are None when there are none."""

    open: str | None
    high: str | None
    low: str | None
    close: str | None
    vwap: str | None
    base_volume: str
    quote_volume: str


def timeframe_s(text: str) -> int:
    """Seconds of `1m`, `15m`, `1h`, `1d`. Raises UsageError."""
    match = _TIMEFRAME.fullmatch(text)
    if match is None:
        raise UsageError(f"'{text[:20]}' is not a timeframe", hint="write it like 15m, 1h or 1d")
    return int(match[1]) * _UNITS_S[match[2]]


def belongs(status: Record[Status], order: Record[Order] | None) -> bool:
    """Whether a Status speaks truly of a fill of an order, as far as the order tells."""
    said = status.body
    if order is None or said.closing is not Closing.FILLED:
        return False
    body = order.body
    same = (said.order_id, said.maker, said.pair, said.side, said.price)
    if same != (order.id, body.maker, body.pair, body.side, body.price):
        return False
    return Decimal(body.minimum) <= Decimal(said.amount) <= Decimal(body.amount) and said.taker != body.maker


def fill_view(status: Record[Status]) -> FillView:
    """A fill as faces see it."""
    body = status.body
    return FillView(
        id=body.accept_id.hex(),
        order=body.order_id.hex(),
        symbol=body.pair,
        side=OPPOSITE[body.side].value,
        price=body.price,
        amount=body.amount,
        cost=cost(body.amount, body.price),
        timestamp=milliseconds(body.at),
        datetime=iso_time(body.at),
        maker=body.maker.hex(),
        taker=body.taker.hex(),
    )


def depth(orders: Iterable[OrderView]) -> DepthView:
    """What orders of one side add up to."""
    rows = [(Decimal(order.remaining), order.price) for order in orders]
    return DepthView(
        orders=len(rows), amount=canonical(total(amount for amount, _ in rows)), cost=canonical(cost_of(rows))
    )


def sums(fills: Sequence[FillView], pair: Pair) -> Sums:
    """Open, high, low, close, average price by volume, and the volumes of fills, which stand oldest first."""
    amounts = [(Decimal(fill.amount), fill.price) for fill in fills]
    base, quote = total(amount for amount, _ in amounts), cost_of(amounts)
    average = average_price(quote, base, pair, Side.SELL)
    first, high, low, last, _ = _candle(fills) if fills else (None,) * 5
    return Sums(first, high, low, last, average, canonical(base), canonical(quote))


def candles(fills: Sequence[FillView], width_s: int) -> list[Candle]:
    """Open, high, low, close and volume for each stretch of `width_s` with a fill. `fills` stand oldest first."""
    width = width_s * 1000
    found: list[Candle] = []
    for index, group in groupby(fills, key=lambda fill: fill.timestamp // width):
        found.append((index * width, *_candle(list(group))))
    return found


def _candle(fills: Sequence[FillView]) -> tuple[str, str, str, str, str]:
    prices = sorted((fill.price for fill in fills), key=Decimal)
    volume = canonical(total(Decimal(fill.amount) for fill in fills))
    return fills[0].price, prices[-1], prices[0], fills[-1].price, volume
