"""An accept of ours on its way: what its order's maker was heard to say, and when to ask next."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from dhtex import limits
from dhtex.market.ids import RecordId
from dhtex.market.records import AnyRecord, Order, Record, Refusal, Status, is_a
from dhtex.trading.maker import GoodSignature
from dhtex.trading.taker import Plan


@dataclass(slots=True, eq=False)
class Followed:
    """One accept. `wake` ends a rest of its plan."""

    accept_id: RecordId
    order: Record[Order]
    plan: Plan
    heard: dict[RecordId, AnyRecord] = field(default_factory=dict)
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    def hear(self, records: Iterable[AnyRecord], good: GoodSignature) -> None:
        """Keep what concerns this accept and was signed by the maker; of much, the newest."""
        for record in records:
            if is_a(record, Refusal) and record.body.accept_id != self.accept_id:
                continue
            by_maker = record.body.author == self.order.body.maker
            if (is_a(record, Status) or is_a(record, Refusal)) and by_maker and good(record):
                self.heard[record.id] = record
        while len(self.heard) > limits.RECORDS_PER_ORDER_KEY_MAX:
            del self.heard[next(iter(self.heard))]
