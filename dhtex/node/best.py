"""Taking the best order of a pair, and the next one when it is refused.

Only a refusal is a reason to go on: it is signed by the maker, and final. An accept without an answer may still win, so
to send another beside it would be to buy twice. For the same reason orders that a person confirms are passed over.
"""

from collections.abc import Callable
from typing import Final

from dhtex import limits
from dhtex.errors import NotFoundError, RefusedError, UsageError
from dhtex.market.ids import RecordId
from dhtex.market.present import trade_view
from dhtex.market.records import Code, Confirm, Side
from dhtex.market.trade import TakerState
from dhtex.node.counter import Progress
from dhtex.node.market import Market
from dhtex.store.rows import Trade
from dhtex.trading.service import Desk
from dhtex.views import AcceptRequest, AcceptView, BestRequest, BestView, OrderQuery, OrderView, TryView

OnTry = Callable[[TryView], None]
_OPPOSITE: Final = {Side.BUY: Side.SELL, Side.SELL: Side.BUY}


async def accept_best(
    market: Market, desk: Desk, request: BestRequest, progress: Progress | None, on_try: OnTry
) -> BestView:
    """Try the fitting orders, best price first, until one is confirmed or does not answer; `on_try` hears of each as it
    ends. Raises UsageError for the request, NotFoundError when no order fits."""
    query = _query(request)
    wish = AcceptRequest(amount=request.amount, message=request.message, wait_s=request.wait_s)
    tries: list[TryView] = []
    while sum(attempt.code != Code.SELF_TRADE for attempt in tries) < limits.ACCEPT_TRIES_MAX:
        # Listed anew each time: what a part fill left of one order may be the best offer now.
        tried = {attempt.order.id for attempt in tries}
        listing = await market.listing(query)
        found = next((o for o in listing.orders if _is_to_be_had(o) and o.id not in tried), None)
        if found is None:
            break
        view, code = await _attempt(market, desk, found, wish, progress)
        state = view.state if view is not None else TakerState.REFUSED
        tries.append(TryView(order=found, state=state, code=code))
        on_try(tries[-1])
        if state != TakerState.REFUSED:
            return BestView(tries=tries, outcome=view)
    if not tries:
        raise NotFoundError("no order fits that can be had at once", hint=f"see: dhtex order list {query.pair}")
    return BestView(tries=tries, outcome=None)


def _query(request: BestRequest) -> OrderQuery:
    if request.side not in set(Side):
        raise UsageError(f"'{request.side[:20]}' is not a side", hint="buy or sell: what you do")
    if not request.amount:
        raise UsageError("the amount is missing", hint="say how much of the base")
    wrong = request.min_price if request.side == Side.BUY else request.max_price
    if wrong:
        raise UsageError("this limit is no protection", hint="a buyer names a highest price, a seller a lowest")
    return OrderQuery(
        pair=request.pair,
        side=_OPPOSITE[Side(request.side)],
        amount=request.amount,
        min_price=request.min_price,
        max_price=request.max_price,
        limit=limits.LISTING_ORDERS_MAX,
    )


def _is_to_be_had(order: OrderView) -> bool:
    return order.status == "open" and order.live and not order.mine and order.confirm == Confirm.AUTO


async def _attempt(
    market: Market, desk: Desk, found: OrderView, wish: AcceptRequest, progress: Progress | None
) -> tuple[AcceptView | None, str | None]:
    """The outcome, and the code of a refusal, which may come before anything is sent."""
    try:
        order = await market.find(found.id)
        trade = await desk.accept(order, wish, progress)
    except RefusedError as error:
        return None, error.reason
    view = accept_view(await desk.wait(RecordId(trade.accept_id), wish.wait_s))
    return view, view.code


def accept_view(trade: Trade) -> AcceptView:
    """The outcome of an accept as far as it is known."""
    view = trade_view(trade)
    return AcceptView(
        accept=view.accept,
        order=view.order,
        state=view.state,
        code=view.code,
        retryable=view.retryable,
        trade=view,
    )
