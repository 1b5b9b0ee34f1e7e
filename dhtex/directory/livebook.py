"""What one node knows about one pair: every record it read or heard, merged, and told again only when it changed.

The same machine serves a listing (fill it once, look) and a watch (fill it, then add what is pushed, and say after each
addition what looks different now). Pure: time is an argument.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from dhtex import limits
from dhtex.directory.reading import IndexReading
from dhtex.market.ids import PublicKey, RecordId
from dhtex.market.merge import Meeting, meet, order_state
from dhtex.market.pricebits import best_first, price_bits
from dhtex.market.records import AnyRecord, Beat, Order, Record, Side, Status, is_a
from dhtex.market.trade import MakerState

EXPIRED_SHOWN_S: Final = 60.0  # as expired, then it is forgotten


@dataclass(slots=True)
class LiveBook:
    """Orders of a pair by id, the statuses known of each, when each maker was last heard of, by side, and the price
    from which on a side was not read (`horizon`, as bits that are smaller the better; empty: everything was)."""

    pair: str
    orders: dict[RecordId, Record[Order]] = field(default_factory=dict)
    statuses: dict[RecordId, list[Record[Status]]] = field(default_factory=dict)
    beats: dict[tuple[PublicKey, str], int] = field(default_factory=dict)
    horizon: dict[str, str] = field(default_factory=dict)

    def add(self, record: AnyRecord, now: float) -> list[RecordId]:
        """Merge one checked record; the orders that may look different now."""
        if is_a(record, Order):
            known = record.id in self.orders
            self.orders[record.id] = record
            return [] if known else [record.id]
        if is_a(record, Status):
            order_id = RecordId(record.body.order_id)
            return [order_id] if self._add_status(order_id, record, now) and order_id in self.orders else []
        if is_a(record, Beat):
            heard = (record.body.author, str(record.body.side))
            if record.body.at > self.beats.get(heard, 0):
                self.beats[heard] = record.body.at
        return []

    def _add_status(self, order_id: RecordId, status: Record[Status], now: float) -> bool:
        order = self.orders.get(order_id)
        if order is None:
            self._make_room(order_id)
        elif status.body.maker != order.body.maker:
            return False
        kept = self.statuses.setdefault(order_id, [])
        rivals = [old for old in kept if old.body.maker == status.body.maker]
        meetings = [meet(status, old, now) for old in rivals]
        if any(meeting in (Meeting.OLD_STAYS, Meeting.SAME) for meeting in meetings):
            return False
        losers = [old for old, meeting in zip(rivals, meetings, strict=True) if meeting is Meeting.NEW_WINS]
        stay = [old for old in kept if old not in losers] + [status]
        self.statuses[order_id] = stay[-limits.STATUSES_PER_ORDER_MAX :]  # strangers' words, or contradictions
        return True

    def _make_room(self, order_id: RecordId) -> None:
        """Statuses of orders that never come cost their sender nothing: forget the oldest."""
        if order_id not in self.statuses and len(self.statuses) - len(self.orders) >= limits.ORPHANS_HELD_MAX:
            del self.statuses[next(known for known in self.statuses if known not in self.orders)]

    def merge(self, side: str, reading: IndexReading, now: float) -> list[RecordId]:
        """Merge what the holders of one side answered; the orders that may look different now."""
        changed: list[RecordId] = []
        self.horizon[side] = reading.beyond
        for maker, at in reading.beats.items():
            self.beats[maker, side] = max(at, self.beats.get((maker, side), 0))
        for order in reading.orders.values():
            changed += self.add(order, now)
        for statuses in reading.statuses.values():
            for status in statuses:
                changed += self.add(status, now)
        return changed

    def open_orders(self, side: str, now: float) -> list[Record[Order]]:
        """The orders of one side of which no end is known."""
        return [
            order
            for order in self.orders.values()
            if order.body.side == side
            and order_state(order, self.statuses.get(order.id, ()), now).state is MakerState.OPEN
        ]

    def is_read(self, side: str, price: str) -> bool:
        """Whether all orders of a price are here, as far as holders tell."""
        horizon = self.horizon.get(side, "")
        return not horizon or best_first(price_bits(price), buys=side == Side.BUY) < horizon

    def forget_behind(self, side: str, reading: IndexReading) -> None:
        """Drop the orders that a reading stopped before, and that it did not bring."""
        for order in list(self.orders.values()):
            body = order.body
            if body.side == side and order.id not in reading.orders and not self.is_read(side, body.price):
                del self.orders[order.id]
                self.statuses.pop(order.id, None)

    def heard_of(self, order: Record[Order]) -> int:
        """When the maker of an order was last known to be alive; publishing is a sign of life too."""
        body = order.body
        return max(body.created, self.beats.get((body.author, str(body.side)), 0))

    def forget_before(self, now: float, among: Iterable[RecordId]) -> None:
        """Drop those of these orders that have been expired for a while, with all that is known of them, and beats
        that are stale."""
        self.beats = {heard: at for heard, at in self.beats.items() if at + limits.BEAT_AGE_S_MAX >= now}
        for order_id in among:
            order = self.orders.get(order_id)
            if order is not None and order.body.expires + EXPIRED_SHOWN_S < now:
                del self.orders[order_id]
                self.statuses.pop(order_id, None)
