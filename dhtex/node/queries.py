"""What a face may ask about the market as a whole, and do in it: the part of a node that reads trades and pairs, and
takes orders."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from dhtex.clock import Clock
from dhtex.config import NodeConfig
from dhtex.errors import NotRunningError
from dhtex.market.money import Pair
from dhtex.marketviews import (
    BestView,
    ExportView,
    ImportView,
    PairsView,
    QuoteQuery,
    QuoteView,
    StatsQuery,
    StatsView,
    TakeRequest,
    TakeView,
)
from dhtex.node import copies, statistics, taking
from dhtex.node.counter import Progress
from dhtex.node.events import ALL, Stream
from dhtex.node.following import topic_of
from dhtex.node.parts import Parts
from dhtex.node.trades import find_trade, full_view, trades_page
from dhtex.views import BookView, EventView, ListingView, OrderQuery, OrderView, TradeQuery, TradesView, TradeView

FOLLOW_PAUSE_S: Final = 0.1  # nobody reads faster, and a burst of changes is one picture


class Queries:
    """Base of `Node`, which gives it its parts."""

    config: NodeConfig
    _clock: Clock
    _parts: Parts | None = None

    @property
    def _running(self) -> Parts:
        if self._parts is None:
            raise NotRunningError("the node has been stopped")
        return self._parts

    def trades(self) -> list[TradeView]:
        """All trades of this node, newest first."""
        journal = self._running.journal
        return [full_view(journal, trade) for trade in reversed(journal.trades())]

    def list_trades(self, query: TradeQuery) -> TradesView:
        """Some of them, and where the others begin. Raises UsageError, NotFoundError."""
        return trades_page(self._running.journal, query)

    def trade(self, id_prefix: str) -> TradeView:
        """One trade, by the first digits of its accept's or order's id."""
        return full_view(self._running.journal, find_trade(self._running.journal, id_prefix))

    async def events(self) -> AsyncIterator[EventView]:
        """What happens to this node's own orders and trades, until the node stops."""
        async for event in self._running.hub.join(ALL).read():
            yield event

    async def list_orders(self, query: OrderQuery, progress: Progress | None = None) -> ListingView:
        """Orders that pass the filters, and how complete that is."""
        return await self._running.market.listing(query, progress)

    async def show_order(self, id_prefix: str) -> OrderView:
        """One order, by its id or at least 6 first digits of it, in its newest state."""
        found = await self._running.market.find(id_prefix)
        return await self._running.market.show(found.id)

    async def book(self, pair: str, limit: int = 20) -> BookView:
        """The ladder of a pair, its best `limit` prices on each side."""
        return await self._running.market.book(pair, limit)

    async def quote(self, query: QuoteQuery) -> QuoteView:
        """What an amount would cost, and which orders it would be taken from; nothing is taken."""
        return await taking.quote(self._running.market, self._clock, query)

    async def take(
        self, request: TakeRequest, progress: Progress | None = None, tell: taking.Tell = taking.told_nobody
    ) -> TakeView:
        """Take orders for an amount, best first. `tell` hears each step: `plan` (QuoteView), then for each order
        `trying`, `sent` (PlannedView) and `tried` (TryView). Raises NotFoundError when no order fits, IncompleteError
        when none does in what could be read of the book.

        If the call is cancelled, accepts that were sent stay on their way; no further one is sent.
        """
        parts = self._running
        return await taking.Taking(parts.market, parts.desk, request, progress, tell).all(self._clock.now())

    async def accept_best(
        self, request: TakeRequest, progress: Progress | None = None, tell: taking.Tell = taking.told_nobody
    ) -> BestView:
        """Take the best order that fits; where it is refused, the next. `tell` hears of each as with `take`. Raises
        NotFoundError when none fits, IncompleteError when none does in what could be read of the book."""
        parts = self._running
        return await taking.Taking(parts.market, parts.desk, request, progress, tell).best()

    async def pairs(self, progress: Progress | None = None) -> PairsView:
        """All pairs that this node knows, with counts and best prices."""
        return await statistics.pairs(self._running.market, progress)

    async def stats(self, query: StatsQuery) -> StatsView:
        """A pair in figures: spread, depth, latest fills, candles."""
        return await statistics.stats(self._running.market, self._clock, query)

    async def export_orders(self, pair: str) -> ExportView:
        """The shown orders of a pair as their makers signed them."""
        return await copies.export_orders(self._running.market, pair)

    async def import_records(self, records: list[str]) -> ImportView:
        """Check signed records in base64 as if a stranger had sent them, and put those that are sound."""
        parts = self._running
        return await copies.import_records(parts.directory, self.config.network, parts.check, records)

    async def watch(self, pair: str) -> AsyncIterator[EventView]:
        """The visible orders of a pair, then each change, until the node stops."""
        async with self._followed(pair, None) as (topic, stream):
            stream.snapshot(self._running.following.snapshot(topic))
            async for event in stream.read():
                yield event

    async def follow_book(self, pair: str, limit: int = 20) -> AsyncIterator[EventView]:
        """The ladder of a pair now, and whenever it has changed, until the node stops; at most ten times a second.

        Each is the whole ladder of one moment, so a reader that misses some has no torn book.
        """
        async with self._followed(pair, limit) as (topic, stream):
            following, seen, sequence = self._running.following, None, 0
            while True:
                book, shown_at = following.ladder(topic, limit), self._clock.monotonic()
                if seen != (seen := (book.bids, book.asks, book.hidden, book.coverage)):
                    sequence += 1
                    yield EventView(
                        sequence=sequence, type="book", timestamp=book.timestamp, datetime=book.datetime, book=book
                    )
                if not await stream.changed():
                    return
                if (pause := shown_at + FOLLOW_PAUSE_S - self._clock.monotonic()) > 0:
                    await asyncio.sleep(pause)

    @asynccontextmanager
    async def _followed(self, pair: str, levels: int | None) -> AsyncIterator[tuple[str, Stream]]:
        """Follow a pair, or its best prices, for one reader. Raises UsageError, or RefusedError when too many streams
        are open."""
        name, parts = str(Pair.parse(pair)), self._running
        topic = topic_of(name, levels)
        stream = parts.hub.join(topic)
        try:
            await parts.following.begin(name, levels)
            yield topic, stream
        finally:
            parts.hub.leave(stream)
            if parts.hub.readers(topic) == 0:
                parts.following.end(topic)
