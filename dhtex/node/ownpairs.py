"""Which own orders a pair has: no listing of a pair goes through all that this node has ever published."""

from dhtex import limits
from dhtex.market.ids import RecordId
from dhtex.node.offers import Offers
from dhtex.store.journal import Journal


class OwnPairs:
    """The ids of own orders by pair, oldest first, each read from the journal once."""

    def __init__(self, journal: Journal, offers: Offers) -> None:
        self._journal = journal
        self._offers = offers
        self._last_row = 0
        self._ends: dict[str, dict[RecordId, float]] = {}

    def of(self, pair: str, now: float) -> list[RecordId]:
        """The orders of a pair, unless they expired so long ago that nobody may show them any more."""
        self._last_row, news = self._journal.orders_after(self._last_row, now - limits.TOMBSTONE_S)
        for order_id, expires, wire in news:
            ends = self._ends.setdefault(self._offers.parsed(wire).body.pair, {})
            ends[order_id] = expires + limits.TOMBSTONE_S
        ends = self._ends.get(pair, {})
        for order_id in [order_id for order_id, end in ends.items() if end <= now]:
            del ends[order_id]
        return list(ends)
