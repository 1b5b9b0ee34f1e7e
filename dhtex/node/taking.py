"""Taking orders of a pair: what an amount would cost, the best order, or as many as the amount asks for.

Only a refusal is a reason to try another order for the same amount: it is signed by the maker, and final. An accept
without an answer may still win, so its amount counts as taken: to send another beside it would be to buy twice. Orders
that a person confirms are passed over for the same reason.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from decimal import Decimal
from typing import Any, Final

from dhtex import limits
from dhtex.clock import Clock
from dhtex.directory.reading import add_coverage
from dhtex.errors import IncompleteError, NoPeerError, NotFoundError, RefusedError, UsageError
from dhtex.market import plan
from dhtex.market.ids import RecordId
from dhtex.market.money import EXACT, Pair, canonical, parse_amount, total
from dhtex.market.present import iso_time, milliseconds, trade_view
from dhtex.market.records import Code, Side
from dhtex.market.trade import TakerState
from dhtex.marketviews import BestView, PlannedView, QuoteQuery, QuoteView, TakeRequest, TakeView, TryView
from dhtex.node.counter import Progress
from dhtex.node.market import Market
from dhtex.store.rows import Trade
from dhtex.trading.service import Desk
from dhtex.views import AcceptRequest, AcceptView, ListingView, OrderQuery, OrderView, TradeView

Tell = Callable[[str, Any], None]
"""Told the name of a step and its view while a longer operation goes on."""


def told_nobody(step: str, view: Any) -> None:
    """For operations whose steps nobody follows."""


Choose = Callable[[Sequence[OrderView], Decimal], list[plan.Fill]]

_UNANSWERED: Final = frozenset({TakerState.SENT, TakerState.PENDING, TakerState.VOID})


async def quote(market: Market, clock: Clock, query: QuoteQuery) -> QuoteView:
    """What an amount would cost now. Raises UsageError."""
    pair, wanted = _check(query)
    listing = await market.listing(_offers(query))
    return _quote(market, pair, wanted, query, listing, clock.now())


def _quote(
    market: Market, pair: Pair, wanted: Decimal, query: QuoteQuery, listing: ListingView, now: float
) -> QuoteView:
    orders, left_out = plan.takeable(listing.orders, market.is_own)
    fills = plan.plan(orders, wanted, limits.PLAN_ORDERS_MAX)
    filled = total(fill.amount for fill in fills)
    costs = plan.cost_of((fill.amount, fill.order.price) for fill in fills)
    remaining = EXACT.subtract(wanted, filled)
    chosen = {fill.order.id for fill in fills}
    too_large = sum(1 for order in orders if order.id not in chosen and Decimal(order.minimum) > remaining)
    if remaining and too_large:
        left_out["whole"] = too_large
    return QuoteView(
        symbol=str(pair),
        side=query.side,
        amount=canonical(wanted),
        filled=canonical(filled),
        remaining=canonical(remaining),
        depth=canonical(total(Decimal(order.remaining) for order in orders)),
        average=plan.average_price(costs, filled, pair, Side(query.side)),
        worst=fills[-1].order.price if fills else None,
        cost=canonical(costs) if fills else None,
        makers=list(dict.fromkeys(fill.order.maker for fill in fills)),
        plan=[fill.view() for fill in fills],
        left_out=left_out,
        timestamp=milliseconds(now),
        datetime=iso_time(now),
        coverage=listing.coverage,
        hidden=listing.hidden,
    )


class Taking:
    """One wish to take orders, carried out step by step; `tell` hears of each step as it happens."""

    def __init__(self, market: Market, desk: Desk, request: TakeRequest, progress: Progress | None, tell: Tell) -> None:
        self._market = market
        self._desk = desk
        self._request = request
        self._progress = progress
        self._tell = tell
        self._pair, self._wanted = _check(request)
        self._tries: list[TryView] = []
        self._coverage = add_coverage([])  # of the last reading

    async def best(self) -> BestView:
        """Take the best order that fits; where it is refused, the next. Raises NotFoundError when none fits,
        IncompleteError when none does in what could be read."""
        async for attempt in self._attempts(plan.whole):
            if attempt.trade is not None and attempt.state != TakerState.REFUSED:
                return BestView(tries=self._tries, outcome=_outcome(attempt.trade), coverage=self._coverage)
        return BestView(tries=self._tries, outcome=None, coverage=self._coverage)

    async def all(self, now: float) -> TakeView:
        """Take orders by a plan, which is made anew after a refusal and at its end, until the amount is reached or
        nothing fits any more. Raises NotFoundError or IncompleteError when nothing fits from the beginning."""
        listing = await self._market.listing(_offers(self._request))
        self._tell("plan", _quote(self._market, self._pair, self._wanted, self._request, listing, now))
        async for _ in self._attempts(lambda orders, rest: plan.plan(orders, rest, limits.PLAN_ORDERS_MAX)):
            pass
        won = [(Decimal(t.amount), t.order.price) for t in self._tries if t.state == TakerState.CONFIRMED]
        filled, costs = total(amount for amount, _ in won), plan.cost_of(won)
        open_ = total(Decimal(attempt.amount) for attempt in self._tries if attempt.state in _UNANSWERED)
        return TakeView(
            symbol=str(self._pair),
            side=self._request.side,
            amount=canonical(self._wanted),
            filled=canonical(filled),
            outstanding=canonical(open_),
            remaining=canonical(EXACT.subtract(self._wanted, EXACT.add(filled, open_))),
            average=plan.average_price(costs, filled, self._pair, Side(self._request.side)),
            cost=canonical(costs) if won else None,
            tries=self._tries,
            coverage=self._coverage,
        )

    async def _attempts(self, choose: Choose) -> AsyncIterator[TryView]:
        rest, refused = self._wanted, 0
        fills: list[plan.Fill] = []
        while rest and refused < limits.ACCEPT_TRIES_MAX and len(self._tries) < limits.PLAN_ORDERS_MAX:
            fills = fills or await self._chosen(choose, rest)
            if not fills:
                break
            fill = fills.pop(0)
            self._tell("trying", fill.view())
            try:
                attempt = await self._attempt(fill)
            except NoPeerError:
                if not self._tries:
                    raise
                break
            self._tries.append(attempt)
            self._tell("tried", attempt)
            if attempt.state == TakerState.REFUSED:
                refused += attempt.code != Code.SELF_TRADE  # nothing was sent, so nothing was spent
                fills.clear()
            else:
                refused = 0
                rest = EXACT.subtract(rest, fill.amount)
            yield attempt
        if not self._tries:
            hint = f"see: dhtex order list {self._pair}"
            if self._coverage.missing:
                raise IncompleteError("no order fits in the part of the book that could be read", hint=hint)
            raise NotFoundError("no order fits that can be had at once", hint=hint)

    async def _chosen(self, choose: Choose, rest: Decimal) -> list[plan.Fill]:
        """The plan for what is still wanted, from the book as it is now: a part fill may have left something."""
        listing = await self._market.listing(_offers(self._request))
        self._coverage = listing.coverage
        tried = {attempt.order.id for attempt in self._tries}
        orders, _ = plan.takeable(listing.orders, self._market.is_own)
        return choose([order for order in orders if order.id not in tried], rest)

    async def _attempt(self, fill: plan.Fill) -> TryView:
        """The outcome of one order; a refusal may come before anything is sent."""
        amount = canonical(fill.amount)
        wish = AcceptRequest(amount=amount, message=self._request.message, wait_s=self._request.wait_s)
        try:
            order = await self._market.find(fill.order.id)
            sent = await self._desk.accept(order, wish, self._progress)
        except (RefusedError, NotFoundError) as error:
            code = error.reason if isinstance(error, RefusedError) else Code.UNKNOWN_ORDER
            return TryView(order=fill.order, amount=amount, state=TakerState.REFUSED, code=code)
        self._tell("sent", PlannedView(order=fill.order, amount=amount, cost=fill.view().cost))
        trade = trade_view(await self._desk.wait(RecordId(sent.accept_id), wish.wait_s))
        return TryView(order=fill.order, amount=amount, state=trade.state, code=trade.code, trade=trade)


def _check(query: QuoteQuery) -> tuple[Pair, Decimal]:
    pair = Pair.parse(query.pair)
    if query.side not in set(Side):
        raise UsageError(f"'{query.side[:20]}' is not a side", hint="buy or sell: what you do")
    if not query.amount:
        raise UsageError("the amount is missing", hint="say how much of the base")
    wrong = query.min_price if query.side == Side.BUY else query.max_price
    if wrong:
        raise UsageError("this limit is no protection", hint="a buyer names a highest price, a seller a lowest")
    return pair, parse_amount(query.amount, pair)


def _offers(query: QuoteQuery) -> OrderQuery:
    return OrderQuery(
        pair=query.pair,
        side=plan.OPPOSITE[Side(query.side)],
        min_price=query.min_price,
        max_price=query.max_price,
        limit=limits.LISTING_ORDERS_MAX,
    )


def accept_view(trade: Trade) -> AcceptView:
    """The outcome of an accept as far as it is known."""
    return _outcome(trade_view(trade))


def _outcome(view: TradeView) -> AcceptView:
    return AcceptView(
        accept=view.accept,
        order=view.order,
        state=view.state,
        code=view.code,
        retryable=view.retryable,
        trade=view,
    )
