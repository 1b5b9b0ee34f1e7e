"""Listings and ladders: which orders are shown and why others are not, in what order, and what each price adds up to.

Works on order views, so that what a person filters is what a person sees. Every number is exact.

Best first means: cheapest offer to sell, dearest offer to buy; at one price the older order, then the smaller id.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby
from typing import Final

from dhtex import limits
from dhtex.coverage import Coverage
from dhtex.errors import UsageError
from dhtex.market.money import EXACT, Pair, canonical
from dhtex.market.present import iso_time, milliseconds
from dhtex.market.records import Side
from dhtex.market.trade import MakerState
from dhtex.views import BookView, LevelView, OrderQuery, OrderView

_NUMBER: Final = re.compile(rf"[0-9]{{1,{limits.MONEY_DIGITS_MAX}}}(?:\.[0-9]{{1,{limits.MONEY_DIGITS_MAX}}})?")
_SHOWN: Final = frozenset({MakerState.PUBLISHING.value, MakerState.OPEN.value})
_REASONS: Final = {MakerState.EXPIRED.value: "expired", MakerState.DISPUTED.value: "disputed"}
_HALF: Final = Decimal("0.5")


def hidden_because(view: OrderView) -> str | None:
    """Why an order is left out of listings: expired, disputed, closed or silent; None when it is shown."""
    if view.status not in _SHOWN:
        return _REASONS.get(view.status, "closed")
    return None if view.live else "silent"


def _best_first(view: OrderView) -> tuple[str, bool, Decimal, int, str]:
    price = Decimal(view.price)
    buys = view.side == Side.BUY
    return view.symbol, buys, price.copy_negate() if buys else price, view.timestamp, view.id


def arrange(views: Iterable[OrderView], everything: bool = False) -> tuple[list[OrderView], dict[str, int]]:
    """Orders by pair, offers to sell before offers to buy, best first; and how many were left out, by reason.

    `everything` leaves nothing out.
    """
    shown: list[OrderView] = []
    hidden: Counter[str] = Counter()
    for view in views:
        reason = None if everything else hidden_because(view)
        if reason is None:
            shown.append(view)
        else:
            hidden[reason] += 1
    return sorted(shown, key=_best_first), dict(hidden)


def best(arranged: Sequence[OrderView], limit: int) -> list[OrderView]:
    """The best `limit` of arranged orders, shared evenly: no side or pair is cut off while another is shown deeper."""
    ranked: list[tuple[int, int]] = []
    position = 0
    for _, group in groupby(arranged, key=lambda view: (view.symbol, view.side)):
        for rank, _view in enumerate(group):
            ranked.append((rank, position))
            position += 1
    return [arranged[kept] for kept in sorted(position for _, position in sorted(ranked)[:limit])]


def _number(text: str, what: str) -> Decimal | None:
    if not text:
        return None
    if _NUMBER.fullmatch(text.strip()) is None:
        raise UsageError(f"'{text[:40]}' is not {what}", hint="write a positive number in plain digits, as 0.25")
    return Decimal(text.strip())


@dataclass(frozen=True, slots=True)
class Matcher:
    """The filters of a listing, parsed. None or empty: any."""

    pair: str
    side: str
    price_min: Decimal | None
    price_max: Decimal | None
    amount: Decimal | None
    payment: str
    mine: bool
    not_mine: bool
    live: bool

    @classmethod
    def of(cls, query: OrderQuery) -> "Matcher":
        """Read a query. Raises UsageError for a bad pair, side, number or limit."""
        if query.side and query.side not in {side.value for side in Side}:
            raise UsageError(f"'{query.side[:20]}' is not a side", hint="use buy or sell")
        if not 0 < query.limit <= limits.LISTING_ORDERS_MAX:
            raise UsageError(f"the limit must be between 1 and {limits.LISTING_ORDERS_MAX}")
        if query.mine and query.not_mine:
            raise UsageError("no order is both your own and not", hint="say one of them")
        price_min, price_max = _number(query.min_price, "a price"), _number(query.max_price, "a price")
        if price_min is not None and price_max is not None and price_min > price_max:
            raise UsageError(
                f"no price is between {query.min_price} and {query.max_price}", hint="the lower one comes first"
            )
        return cls(
            pair=str(Pair.parse(query.pair)) if query.pair else "",
            side=query.side,
            price_min=price_min,
            price_max=price_max,
            amount=_number(query.amount, "an amount"),
            payment=query.payment.strip().casefold(),
            mine=query.mine,
            not_mine=query.not_mine,
            live=query.live,
        )

    @property
    def takes_all(self) -> bool:
        """Whether every live order of the pair and side that are asked for passes."""
        bounds = (self.price_min, self.price_max, self.amount)
        return not (self.payment or self.mine or self.not_mine) and all(bound is None for bound in bounds)

    def matches(self, view: OrderView) -> bool:
        """Whether an order passes all filters; `amount` asks whether exactly that much may be taken of it."""
        if (self.pair and view.symbol != self.pair) or (self.side and view.side != self.side):
            return False
        if (self.mine and not view.mine) or (self.not_mine and view.mine) or (self.live and not view.live):
            return False
        if self.payment and self.payment not in (payment.casefold() for payment in view.payment):
            return False
        price = Decimal(view.price)
        if (self.price_min is not None and price < self.price_min) or (
            self.price_max is not None and price > self.price_max
        ):
            return False
        return self.amount is None or Decimal(view.minimum) <= self.amount <= Decimal(view.amount)


def levels(views: Iterable[OrderView], side: Side, limit: int) -> list[LevelView]:
    """One side of the ladder, best price first: what remains of the orders at each price, and the sum down to it."""
    ladder: list[LevelView] = []
    total = Decimal(0)
    ordered = sorted((view for view in views if view.side == side), key=_best_first)
    for price, group in groupby(ordered, key=lambda view: view.price):
        if len(ladder) == limit:
            break
        orders, amount = 0, Decimal(0)
        for view in group:
            orders, amount = orders + 1, EXACT.add(amount, Decimal(view.remaining))
        total = EXACT.add(total, amount)
        ladder.append(LevelView(price=price, amount=canonical(amount), total=canonical(total), orders=orders))
    return ladder


def middle(bid: str, ask: str) -> tuple[str, str]:
    """What is between the best prices, and the price in the middle."""
    spread = EXACT.subtract(Decimal(ask), Decimal(bid))
    return canonical(spread), canonical(EXACT.multiply(EXACT.add(Decimal(ask), Decimal(bid)), _HALF))


def book_view(
    symbol: str, views: Sequence[OrderView], limit: int, coverage: Coverage, hidden: dict[str, int], now: float
) -> BookView:
    """The ladder of a pair from its shown orders, `limit` prices a side.

    Orders at prices beyond that are counted as hidden by the limit. `spread` is the best ask less the best bid, below
    zero when the book is crossed: nobody matches orders here.
    """
    bids, asks = levels(views, Side.BUY, limit), levels(views, Side.SELL, limit)
    if left := len(views) - sum(level.orders for level in (*bids, *asks)):
        hidden = {**hidden, "limit": hidden.get("limit", 0) + left}
    spread, mid = middle(bids[0].price, asks[0].price) if bids and asks else (None, None)
    return BookView(
        symbol=symbol,
        bids=bids,
        asks=asks,
        spread=spread,
        mid=mid,
        timestamp=milliseconds(now),
        datetime=iso_time(now),
        coverage=coverage,
        hidden=hidden,
    )
