"""Carries receipts between the two sides of a trade: puts ours, watches for theirs. Tasks and the network, no rule.

A confirmed trade is followed until its certificate leaves the holders, a day after the order's own expiry. What is put
at its order's key comes by push; a reading at the start, after a gap and now and then closes what was missed.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Final

from dhtex import limits
from dhtex.clock import Clock
from dhtex.errors import NoPeerError, NotFoundError, StateError
from dhtex.market.ids import RecordId
from dhtex.market.records import AnyRecord, Outcome, Receipt, is_a
from dhtex.store.rows import Trade
from dhtex.tasks import Tasks, woken
from dhtex.trading.effects import Changed, Effect, Publish
from dhtex.trading.ports import RECEIPTS, Publisher
from dhtex.trading.receipts import Receipts

log = logging.getLogger(__name__)

READ_ROUND_S: Final = 1800.0  # in which each followed trade is read once
READ_PAUSE_S_MIN: Final = 2.0
PUT_PAUSE_S_MIN: Final = 1.0
PUT_PAUSE_S_MAX: Final = 300.0
JITTER: Final = (0.75, 1.25)


class Settling:
    """Receipts of one node. `on_change` hears of a trade about which something new was said, after it is on disk."""

    def __init__(self, receipts: Receipts, publisher: Publisher, clock: Clock, entropy: random.Random) -> None:
        self.on_change: Callable[[Trade], None] = lambda trade: None
        self._receipts = receipts
        self._publisher = publisher
        self._clock = clock
        self._entropy = entropy
        self._followed: dict[RecordId, Trade] = {}  # by accept, in the order in which they are read
        self._by_order: dict[RecordId, dict[RecordId, None]] = {}
        self._soon: dict[RecordId, None] = {}
        self._wake = asyncio.Event()
        self._publishing: set[bytes] = set()
        self._tasks = Tasks()

    async def start(self) -> None:
        """Go on with the trades of the journal."""
        for trade in self._receipts.open(self._clock.now()):
            self.follow(trade)
        self._tasks.keep_up(self._read_in_rotation)

    async def stop(self) -> None:
        """End all tasks. Stopping twice is no error."""
        await self._tasks.end()

    def follow(self, trade: Trade) -> None:
        """Listen for what is said about a trade, if it is confirmed; it is read once soon."""
        if trade.accept_id in self._followed or self._clock.now() >= self._receipts.until(trade):
            return
        if len(self._followed) >= limits.TRADES_FOLLOWED_MAX:
            self._forget(min(self._followed.values(), key=lambda old: old.created))
        self._followed[trade.accept_id] = trade
        self._by_order.setdefault(trade.order_id, {})[trade.accept_id] = None
        self._publisher.watch(trade.order_id, RECEIPTS)
        self.on_gap(trade.order_id)

    def on_record(self, record: AnyRecord) -> None:
        """Take in a receipt that was heard at an order's key. Anything else is ignored."""
        if is_a(record, Receipt):
            self._safely(lambda: self._receipts.hear(record, self._clock.now()))

    def on_gap(self, order_id: RecordId) -> None:
        """Something put at an order's key may have been missed: read it soon."""
        for accept_id in self._by_order.get(order_id, ()):
            self._soon[accept_id] = None
            self._wake.set()

    def say(self, accept_id: RecordId, outcome: Outcome, reason: str) -> Trade:
        """Sign what became of a trade, and tell the other side. Raises NotFoundError, and as `Receipts.say`."""
        effects = self._receipts.say(accept_id, outcome, reason, self._clock.now())
        self._carry_out(effects)
        changed = [effect.trade for effect in effects if isinstance(effect, Changed)]
        if not changed:
            raise NotFoundError("there is no such trade", hint="see: dhtex trade list")
        return changed[0]

    async def _read_in_rotation(self) -> None:
        while True:
            pause_s = max(READ_PAUSE_S_MIN, READ_ROUND_S / max(1, len(self._followed)))
            if not self._soon:
                if not await woken(self._wake, pause_s * self._entropy.uniform(*JITTER)):
                    self._soon = dict.fromkeys(list(self._followed)[:1])
                continue
            accept_id = next(iter(self._soon))
            del self._soon[accept_id]
            trade = self._followed.pop(accept_id, None)
            if trade is not None:
                self._followed[accept_id] = trade
                await self._read(trade)

    async def _read(self, trade: Trade) -> None:
        if self._clock.now() >= self._receipts.until(trade):
            self._forget(trade)
            return
        try:
            records = await self._publisher.read(trade.order_id)
        except NoPeerError:
            return  # the rotation comes back to it
        for record in records:
            self.on_record(record)
        self._safely(lambda: self._receipts.missing(trade, records))

    def _forget(self, trade: Trade) -> None:
        del self._followed[trade.accept_id]
        del self._by_order[trade.order_id][trade.accept_id]
        if not self._by_order[trade.order_id]:
            del self._by_order[trade.order_id]
            self._publisher.unwatch(trade.order_id, RECEIPTS)

    def _safely(self, step: Callable[[], list[Effect]]) -> None:
        try:
            self._carry_out(step())
        except StateError as error:
            log.error("the journal cannot be written: %s", error)

    def _carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Publish) and effect.wire not in self._publishing:
                self._publishing.add(effect.wire)
                self._tasks.spawn(self._publish(effect))
            if isinstance(effect, Changed):
                self.on_change(effect.trade)

    async def _publish(self, effect: Publish) -> None:
        pause_s = PUT_PAUSE_S_MIN
        try:
            while self._clock.now() < effect.until:
                if await self._publisher.put_order_key(effect.order.id, effect.wire) > 0:
                    self._receipts.published(effect.accept_id, effect.wire)
                    return
                await asyncio.sleep(pause_s * self._entropy.uniform(*JITTER))
                pause_s = min(2 * pause_s, PUT_PAUSE_S_MAX)
        except StateError as error:
            log.error("the journal cannot be written: %s", error)
        finally:
            self._publishing.discard(effect.wire)
