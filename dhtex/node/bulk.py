"""Many own orders withdrawn with one word. Each is closed by itself: one that fails does not keep the others open."""

import asyncio

from dhtex.errors import DhtexError, RefusedError
from dhtex.market.money import Pair
from dhtex.market.records import Order, Record
from dhtex.node.market import Market
from dhtex.node.offers import Offers
from dhtex.views import CancelView, NotCanceledView


async def cancel_all(offers: Offers, market: Market, pair: str) -> CancelView:
    """Cancel the open orders of a pair, or all (empty). Raises UsageError for what is no pair."""
    name = str(Pair.parse(pair)) if pair else ""
    orders = [order for order in offers.open_orders() if name in ("", order.body.pair)]
    # All are closed in the journal before the first put ends, so none can be taken while others are on their way.
    errors = await asyncio.gather(*(_cancel(offers, order) for order in orders))
    outcomes = list(zip(orders, errors, strict=True))
    return CancelView(
        canceled=[market.view(order) for order, error in outcomes if error is None],
        failed=[_failure(order, error) for order, error in outcomes if error is not None],
    )


async def _cancel(offers: Offers, order: Record[Order]) -> DhtexError | None:
    try:
        await offers.cancel(order.id)
    except DhtexError as error:
        return error
    return None


def _failure(order: Record[Order], error: DhtexError) -> NotCanceledView:
    code = error.reason if isinstance(error, RefusedError) else error.code
    return NotCanceledView(id=order.id.hex(), message=error.message, code=code)
