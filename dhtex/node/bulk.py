"""Many own orders withdrawn with one word. Each is closed by itself: one that fails does not keep the others open."""

import asyncio
from collections import deque
from collections.abc import Awaitable
from typing import Final

from dhtex.errors import DhtexError, RefusedError, StateError
from dhtex.market.ids import RecordId
from dhtex.market.money import Pair
from dhtex.market.records import Order, Record, Status
from dhtex.node.market import Market
from dhtex.node.offers import Offers
from dhtex.tasks import by_turns
from dhtex.views import CancelView, NotCanceledView

SAID_PER_TURN: Final = 8  # ends that are put and told; some milliseconds
SHOWN_PER_TURN: Final = 32


async def cancel_all(offers: Offers, market: Market, pair: str) -> CancelView:
    """Cancel the open orders of a pair, or all (empty). Raises UsageError for what is no pair."""
    name = str(Pair.parse(pair)) if pair else ""
    orders = [order for order in offers.open_orders() if name in ("", order.body.pair)]
    # All are closed in the journal before the first put ends, so none can be taken while others are on their way.
    try:
        ended = offers.close_at_once(orders)
    except StateError:
        ended = {}  # each is tried, and says so
    others = [order for order in orders if order.id not in ended]
    closing = asyncio.gather(*(_failed(offers.cancel(order.id)) for order in others))
    try:
        await _say_closed(offers, ended)
        errors = await closing
    finally:
        closing.cancel()
    failures = {order.id: error for order, error in zip(others, errors, strict=True) if error is not None}
    return CancelView(
        canceled=[market.view(order) async for order in by_turns(orders, SHOWN_PER_TURN) if order.id not in failures],
        failed=[_failure(order, failures[order.id]) for order in others if order.id in failures],
    )


async def _say_closed(offers: Offers, ended: dict[RecordId, Record[Status]]) -> None:
    """Say the ends of orders, some at a time; of all of them, even if nobody waits for it any more."""
    left, puts = deque(ended.items()), list[asyncio.Task[object]]()
    try:
        async for _ in by_turns(range(len(left)), SAID_PER_TURN):
            puts.append(asyncio.create_task(offers.say_closed(*left.popleft())))
        await asyncio.gather(*puts)
    finally:
        for order_id, status in left:
            offers.say_closed(order_id, status).close()  # its first put comes when its turn has come


async def _failed(cancel: Awaitable[object]) -> DhtexError | None:
    try:
        await cancel
    except DhtexError as error:
        return error
    return None


def _failure(order: Record[Order], error: DhtexError) -> NotCanceledView:
    code = error.reason if isinstance(error, RefusedError) else error.code
    return NotCanceledView(id=order.id.hex(), message=error.message, code=code)
