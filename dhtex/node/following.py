"""Pairs that somebody follows: what was read of them, what is pushed since, and what their readers were told.

Theory of operation. Who follows a pair has leases at the nodes of its price trees that the view needs: all of them for
every order of a pair, for a ladder those where its best prices stand. Reading and pushes meet in a `LiveBook`; each
change of it is told to the readers. A reading of a ladder ends at a *horizon*: at prices from there on there may be
orders that nobody asked for, so nothing is shown of them. When the ladder has become too short before its horizon, and
now and then in any case, it is read again; the nodes of a whole pair are looked at now and then, and read if there are
new ones, or if something could not be read the last time.
"""

import asyncio
import heapq
import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from dhtex import limits
from dhtex.clock import Clock
from dhtex.coverage import Coverage
from dhtex.directory.livebook import EXPIRED_SHOWN_S, LiveBook
from dhtex.directory.pricetree import ROOT, Wish
from dhtex.directory.reading import IndexReading, add_coverage
from dhtex.directory.service import Directory
from dhtex.market import book
from dhtex.market.ids import DhtKey, PublicKey, RecordId
from dhtex.market.records import AnyRecord, Beat, Order, Record, Side, Status
from dhtex.node.events import Hub
from dhtex.node.market import SIDES, SPARE, Market
from dhtex.tasks import Again
from dhtex.views import BookView, OrderView


@dataclass(slots=True)
class Followed:
    """A pair that somebody follows, all of it or the best `levels` prices of each side, and what its readers were last
    told of each order. By `turns` (Unix s) each is looked at again; `due` is the heap of them."""

    book: LiveBook
    levels: int | None
    keys: dict[DhtKey, Side] = field(default_factory=dict)
    told: dict[RecordId, tuple[str, bool]] = field(default_factory=dict)
    turns: dict[RecordId, float] = field(default_factory=dict)
    due: list[tuple[float, RecordId]] = field(default_factory=list)
    coverage: dict[Side, Coverage] = field(default_factory=dict)
    unread: dict[Side, int] = field(default_factory=dict)
    asked_about: dict[RecordId, float] = field(default_factory=dict)
    too_short: bool = False
    stuck: bool = False
    ready: bool = False
    walk_due: float = 0.0
    catching_up: Again = field(default_factory=lambda: Again(limits.CATCH_UP_PAUSE_S))

    @property
    def topic(self) -> str:
        """Under which its readers hear of changes."""
        return topic_of(self.book.pair, self.levels)

    @property
    def wish(self) -> Wish:
        """What is read of each side."""
        return Wish() if self.levels is None else Wish(limit=self.levels + SPARE, levels=True)

    def unexplained(self, side: Side, now: float) -> list[Record[Order]]:
        """Shown orders whose end is to be looked up if nobody lists them."""
        self.asked_about = {one: at for one, at in self.asked_about.items() if at + limits.ASK_AGAIN_S > now}
        return [order for order in self.book.open_orders(side, now) if order.id not in self.asked_about]

    def look_again(self, order_id: RecordId, when: float) -> None:
        """Have an order looked at again at a time, or before."""
        if when < self.turns.get(order_id, math.inf):
            self.turns[order_id] = when
            heapq.heappush(self.due, (when, order_id))

    def due_by(self, now: float) -> list[RecordId]:
        """The orders that are to be looked at again by now."""
        found: dict[RecordId, None] = {}
        while self.due and self.due[0][0] <= now:
            _, order_id = heapq.heappop(self.due)
            self.turns.pop(order_id, None)
            found[order_id] = None
        return [order_id for order_id in found if order_id in self.book.orders]

    def forget_gone(self) -> None:
        """Let an order that comes back be news again."""
        orders = self.book.orders
        self.told = {one: look for one, look in self.told.items() if one in orders}
        self.turns = {one: when for one, when in self.turns.items() if one in orders}
        self.due = [row for row in self.due if row[1] in orders]
        heapq.heapify(self.due)


def topic_of(pair: str, levels: int | None) -> str:
    """The topic of a pair, or of its best `levels` prices."""
    return pair if levels is None else f"{pair} {levels}"


class Following:
    """All pairs that are followed at one node."""

    def __init__(self, market: Market, directory: Directory, hub: Hub, clock: Clock) -> None:
        self._market = market
        self._directory = directory
        self._hub = hub
        self._clock = clock
        self._followed: dict[str, Followed] = {}

    async def begin(self, pair: str, levels: int | None) -> None:
        """Follow a pair, unless it is followed already; its orders come to the hub's readers of its topic."""
        followed = self._followed.get(topic_of(pair, levels))
        if followed is None:
            followed = Followed(LiveBook(pair), levels)
            followed.keys = {self._directory.watch_node(pair, side, ROOT): side for side in SIDES}
            self._followed[followed.topic] = followed
            self._market.watched.add(pair)
        if not followed.ready:  # each reader reads for itself: whoever came first may leave before it is done
            await self.pull(followed)
            followed.ready = True

    def end(self, topic: str) -> None:
        """Stop following what a topic is about."""
        if (followed := self._followed.pop(topic, None)) is not None:
            self._drop(followed.keys)
            pair = followed.book.pair
            if not any(other.book.pair == pair for other in self._followed.values()):
                self._market.watched.discard(pair)

    def _drop(self, keys: Iterable[DhtKey]) -> None:
        for key in keys:
            if not self.at(key):
                self._directory.unwatch_node(key)

    def snapshot(self, topic: str) -> list[OrderView]:
        """The visible orders of what is followed, for a reader that has just come."""
        return self._market.views(self._followed[topic].book)[0]

    def ladder(self, topic: str, limit: int) -> BookView:
        """The ladder of a followed pair as it is now, with the coverage of its last reading."""
        followed = self._followed[topic]
        views, hidden = self._market.views(followed.book)
        known = [view for view in views if followed.book.is_read(view.side, view.price)]
        if behind := len(views) - len(known) + sum(followed.unread.values()):
            hidden = {**hidden, "limit": behind}
        coverage = add_coverage(followed.coverage.values())
        ladder = book.book_view(followed.book.pair, known, limit, coverage, hidden, self._clock.now())
        lengths = {Side.BUY: len(ladder.bids), Side.SELL: len(ladder.asks)}
        followed.too_short = any(followed.book.horizon.get(side) and length < limit for side, length in lengths.items())
        followed.stuck &= followed.too_short
        return ladder

    def heard(self, key: DhtKey, record: AnyRecord) -> None:
        """Take in a record that was pushed, or that this node holds, under an index key."""
        body = record.body
        if not isinstance(body, (Order, Status, Beat)):
            return
        for followed in self.at(key):
            if (body.pair, body.side) == (followed.book.pair, followed.keys[key]):
                changed = followed.book.add(record, self._clock.now())
                if isinstance(body, Beat):
                    self._tell_changes(followed, by=body.author)
                else:
                    self._tell(followed, changed)

    def at(self, key: DhtKey) -> list[Followed]:
        """What is followed at an index key: it has to be pulled when something may have been missed there."""
        return [followed for followed in self._followed.values() if key in followed.keys]

    async def pull(self, followed: Followed) -> None:
        """Read what is followed again and tell what is new, and what has ended."""
        live, before = followed.book, dict(followed.book.horizon)
        for side in SIDES:
            known = followed.unexplained(side, self._clock.now())
            reading = await self._directory.read_index(live.pair, side, followed.wish, self._market.is_shown, known)
            self._market.remember(reading.orders.values())
            self._lease(followed, side, reading)
            followed.coverage[side] = reading.coverage
            followed.unread[side] = sum(reading.unread.values())
            now = self._clock.now()
            followed.asked_about |= dict.fromkeys(reading.standing, now)
            live.merge(side, reading, now)
            live.forget_behind(side, reading)
            followed.forget_gone()
            self._tell_changes(followed)
        followed.stuck = live.horizon == before
        if followed.levels is not None and followed.ready:
            self._hub.tell((followed.topic,), type="book")  # what was pushed before may be before the horizon now

    async def run(self) -> None:
        """Follow trees for ever; cancelled when the node stops."""
        while True:
            await asyncio.sleep(1.0)
            await self.follow()

    async def follow(self) -> None:
        """Now and then look whether price trees have grown or shrunk, and ladders their length, and read them if so."""
        now = self._clock.monotonic()
        for topic, followed in list(self._followed.items()):
            if not followed.ready or (followed.walk_due > now and (followed.stuck or not followed.too_short)):
                continue
            followed.walk_due = now + limits.WATCH_WALK_S
            if followed.levels is not None:
                await self.pull(followed)
                continue
            before = list(followed.keys)
            for side in SIDES:
                reading = await self._directory.read_index(followed.book.pair, side, Wish(skim=True))
                if self._followed.get(topic) is followed:
                    self._lease(followed, side, reading)
            has_gaps = any(coverage.missing for coverage in followed.coverage.values())
            if has_gaps or any(key not in before for key in followed.keys):
                await self.pull(followed)

    def _lease(self, followed: Followed, side: Side, reading: IndexReading) -> None:
        """Watch the nodes of a tree that were found, and no others."""
        if self._followed.get(followed.topic) is not followed or reading.coverage.missing:
            return
        found = [self._directory.watch_node(followed.book.pair, side, prefix) for prefix in reading.visited]
        left = [key for key, of in followed.keys.items() if of == side and key not in found]
        for key in left:
            del followed.keys[key]
        self._drop(left)
        followed.keys.update(dict.fromkeys(found, side))

    def tick(self) -> None:
        """Let time pass: tell of orders that expired or fell silent meanwhile."""
        now = self._clock.now()
        for followed in self._followed.values():
            due, known = followed.due_by(now), len(followed.book.orders)
            self._tell(followed, due)
            followed.book.forget_before(now, due)
            if len(followed.book.orders) < known:
                followed.forget_gone()

    def _tell_changes(self, followed: Followed, by: PublicKey | None = None) -> None:
        orders = followed.book.orders.values()
        self._tell(followed, [order.id for order in orders if by is None or order.body.author == by])

    def _tell(self, followed: Followed, order_ids: Iterable[RecordId]) -> None:
        for order_id in order_ids:
            order = followed.book.orders[order_id]
            (status, live), until = self._market.look_of(followed.book, order)
            followed.look_again(order_id, min(until, order.body.expires + EXPIRED_SHOWN_S))
            look = (status, live and status == "open")  # who made what is over may fall silent
            before = followed.told.get(order_id)
            if look == before or (before is None and status != "open"):
                continue
            followed.told[order_id] = look
            if followed.ready:
                self._hub.tell((followed.topic,), type="order", order=self._market.view_of(followed.book, order))
