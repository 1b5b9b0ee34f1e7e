"""Trades as a person names and sees them."""

from dhtex.errors import UsageError
from dhtex.market.ids import RecordId
from dhtex.market.present import trade_view
from dhtex.market.records import Outcome
from dhtex.node.naming import digits_of, only
from dhtex.store.journal import Journal
from dhtex.store.rows import Trade
from dhtex.trading.settling import Settling
from dhtex.views import ReceiptRequest, TradeQuery, TradesView, TradeView

_HINT = "see: dhtex trade list"


def find_trade(journal: Journal, prefix: str) -> Trade:
    """A trade by the first digits of its accept's or order's id. Raises UsageError, NotFoundError."""
    digits = digits_of(prefix)
    trades = journal.find_trades(digits)
    found = [(trade.accept_id, trade) for trade in trades if trade.accept_id.hex().startswith(digits)]
    return only(digits, found or [(trade.order_id, trade) for trade in trades], "trade", _HINT)


def find_pending(journal: Journal, order_id: RecordId, prefix: str) -> RecordId | None:
    """The accept of an order that waits for a person and is meant; None for an empty prefix: the only one."""
    if not prefix:
        return None
    waiting = ((row.accept_id, row.accept_id) for row in journal.pending(order_id))
    return only(digits_of(prefix), waiting, "waiting accept", _HINT)


def full_view(journal: Journal, trade: Trade) -> TradeView:
    """A trade with what both sides say became of it."""
    return trade_view(trade, journal.receipts_of(trade.accept_id))


def trades_page(journal: Journal, query: TradeQuery) -> TradesView:
    """Trades newest first, from a place on. A place is the last trade before it: each comes once, whatever is new.

    Raises UsageError, NotFoundError for a place that is none.
    """
    last = find_trade(journal, query.after).accept_id if query.after else None
    found = journal.trades_behind(last, query.limit + 1)
    shown = found[: query.limit]
    goes_on = shown[-1].accept_id.hex() if len(found) > len(shown) else None
    return TradesView(trades=[full_view(journal, trade) for trade in shown], next=goes_on)


def settle(journal: Journal, settling: Settling, prefix: str, request: ReceiptRequest) -> TradeView:
    """Sign a receipt for a trade. Raises UsageError, NotFoundError, RefusedError."""
    if request.outcome not in set(Outcome):
        raise UsageError(f"'{request.outcome[:20]}' is not an outcome", hint="settled or failed")
    if request.reason and request.outcome != Outcome.FAILED:
        raise UsageError("only a failure has a reason")
    trade = find_trade(journal, prefix)
    return full_view(journal, settling.say(trade.accept_id, Outcome(request.outcome), request.reason))
