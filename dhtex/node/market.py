"""The market as this node sees it: listings, books, single orders, and what changes in a pair while somebody watches.

Everything read or heard of a pair goes through a `LiveBook`; own orders are added from the journal, so a maker always
sees them, whether or not anyone else does yet.
"""

import asyncio
import dataclasses
from collections import OrderedDict
from collections.abc import Iterable, Set
from dataclasses import dataclass, field
from typing import Final

import msgspec

from dhtex import limits
from dhtex.clock import Clock
from dhtex.coverage import Coverage
from dhtex.directory.livebook import LiveBook
from dhtex.directory.pricetree import ROOT, Wish
from dhtex.directory.reading import IndexReading, add_coverage
from dhtex.directory.service import Directory
from dhtex.directory.treereading import Counts
from dhtex.errors import NotFoundError
from dhtex.market import book, paging
from dhtex.market.book import Matcher
from dhtex.market.ids import DhtKey, PublicKey, RecordId
from dhtex.market.merge import OrderState, order_state
from dhtex.market.money import Pair
from dhtex.market.present import is_live, milliseconds, order_view, public_receipts
from dhtex.market.pricebits import price_bits, price_bound
from dhtex.market.records import AnyRecord, Beat, Closing, Order, Record, Side, Status, is_a, parse_record
from dhtex.market.trade import MakerState
from dhtex.node.events import Hub
from dhtex.node.naming import digits_of, only, whole
from dhtex.node.offers import LIVE, Offers
from dhtex.store.holdings import Holdings
from dhtex.store.journal import Journal
from dhtex.tasks import Again
from dhtex.views import BookView, ListingView, OrderQuery, OrderView

ORDERS_REMEMBERED_MAX: Final = 20_000  # so that an id's first digits are enough after a listing
SPARE: Final = 8  # orders that a reading asks for beyond what is shown
SIDES: Final = tuple(Side)


@dataclass(slots=True)
class Watched:
    """A pair that somebody watches, and what its readers were last told of each order."""

    book: LiveBook
    keys: dict[DhtKey, Side]
    told: dict[RecordId, tuple[str, bool]] = field(default_factory=dict)
    coverage: dict[Side, Coverage] = field(default_factory=dict)
    ready: bool = False
    walk_due: float = 0.0
    catching_up: Again = field(default_factory=lambda: Again(limits.CATCH_UP_PAUSE_S))


class Market:
    """Reads the network on behalf of faces. `own_keys` are the keys this node signs with."""

    def __init__(
        self,
        network: str,
        own_keys: Set[PublicKey],
        directory: Directory,
        journal: Journal,
        holdings: Holdings,
        offers: Offers,
        hub: Hub,
        clock: Clock,
    ) -> None:
        self._network = network
        self._own_keys = own_keys
        self._directory = directory
        self._journal = journal
        self._holdings = holdings
        self._offers = offers
        self._hub = hub
        self._clock = clock
        self._known: OrderedDict[RecordId, Record[Order]] = OrderedDict()
        self._pairs: set[str] = set()
        self._watched: dict[str, Watched] = {}

    async def listing(self, query: OrderQuery) -> ListingView:
        """Orders that pass the query's filters, best first within each side, and how complete that is."""
        matcher = book.Matcher.of(query)
        pairs = [str(Pair.parse(query.pair))] if query.pair else sorted(self.known_pairs())
        sides = [Side(query.side)] if query.side else list(SIDES)
        read = await asyncio.gather(*(self._read(pair, sides, *self._wish(query, matcher)) for pair in pairs))
        orders: list[OrderView] = []
        hidden: dict[str, int] = {}
        unread = 0
        for live, _coverage, rejected in read:
            unread += rejected.pop("limit", 0)
            views, closed = self._views(live, query.all, query.mine)
            orders += [view for view in views if matcher.matches(view)]
            for reasons in (rejected, closed):
                for reason, count in reasons.items():
                    hidden[reason] = hidden.get(reason, 0) + count
        shown, left, goes_on = paging.page(orders, query)
        if left or unread:
            hidden["limit"] = left + unread
        return ListingView(orders=shown, coverage=add_coverage(row for _, row, _ in read), hidden=hidden, next=goes_on)

    def known_pairs(self) -> dict[str, list[str]]:
        """The pairs that this node knows of, each with the reasons: held, own, watched, listed."""
        sources = {
            "held": self._holdings.pairs(),
            "own": self._own_pairs(),
            "watched": set(self._watched),
            "listed": self._pairs,
        }
        names = sorted(set().union(*sources.values()))
        return {name: [why for why, pairs in sources.items() if name in pairs] for name in names}

    async def fills(self, pair: str) -> list[Record[Status]]:
        """What makers have signed about filled orders of a pair, as far as holders keep it: whoever signed it."""
        ends = await asyncio.gather(*(self._directory.read_ends(pair, side) for side in SIDES))
        return [status for side in ends for status in side if status.body.closing is Closing.FILLED]

    async def order(self, order_id: RecordId) -> Record[Order] | None:
        """An order by its whole id, from memory or from whoever has it."""
        known = self._known.get(order_id) or await self._directory.fetch_order(order_id)
        self._remember([] if known is None else [known])
        return known

    async def copy(self, pair: str) -> tuple[list[Record[Order]], ListingView]:
        """The shown orders of a pair as they were signed, and the listing that shows them."""
        listing = await self.listing(OrderQuery(pair=pair, limit=limits.LISTING_ORDERS_MAX))
        ids = [RecordId(bytes.fromhex(view.id)) for view in listing.orders]
        return [order for order in map(self._known.get, ids) if order is not None], listing

    async def book(self, pair: str, limit: int) -> BookView:
        """The ladder of a pair: its best `limit` prices on each side."""
        name = str(Pair.parse(pair))
        wish = Wish(limit=limit + SPARE, levels=True)
        live, coverage, rejected = await self._read(name, list(SIDES), wish, self._is_shown)
        views, hidden = self._views(live, False, False)
        for reason, count in rejected.items():
            hidden[reason] = hidden.get(reason, 0) + count
        return book.book_view(name, views, limit, coverage, hidden, self._clock.now())

    async def find(self, prefix: str) -> Record[Order]:
        """The order whose id begins with `prefix`. Raises UsageError for a bad or ambiguous one, else NotFoundError."""
        digits = digits_of(prefix)
        candidates = self._candidates(digits)
        order_id = whole(digits)
        if not candidates and order_id is not None:
            order = await self._directory.fetch_order(order_id)
            candidates = [] if order is None else [order]
            self._remember(candidates)
        hint = "list its pair first, or give all digits of the id"
        return only(digits, ((order.id, order) for order in candidates), "order", hint)

    async def show(self, order_id: RecordId) -> OrderView:
        """One order with its newest state: own journal, the order's key, and the maker's signs of life."""
        reading = await self._directory.read_order(order_id)
        own = self._journal.order(order_id)
        if own is not None:
            order = parse_record(own.wire, self._network)
            extra = [parse_record(own.status_wire, self._network)] if own.status_wire else []
            reading = dataclasses.replace(reading, order=order if is_a(order, Order) else None)
            reading.statuses += [status for status in extra if is_a(status, Status)]
        order_record = reading.order or self._known.get(order_id)
        if order_record is None:
            raise NotFoundError(f"order {order_id.hex()[:12]} is not in the network", hint="it may have expired")
        live = LiveBook(order_record.body.pair, {order_id: order_record})
        in_part = any(s.body.amount not in ("", order_record.body.amount) for s in reading.statuses)
        body = order_record.body
        price = price_bits(body.price)
        index = await self._directory.read_index(body.pair, body.side, Wish(low=price, high=price, skim=not in_part))
        live.merge(body.side, index, self._clock.now())
        live.statuses[order_id] = [*live.statuses.get(order_id, []), *reading.statuses]
        view = self._view(live, live.orders[order_id])
        children = (
            o.id.hex() for o in index.orders.values() if (o.body.parent, o.body.maker) == (order_id, body.maker)
        )
        due = self._offers.cancel_at(order_id)
        return msgspec.structs.replace(
            view,
            child=self._own_child(order_id) or next(children, None),
            cancelAt=None if due is None else milliseconds(due),
            receipts=public_receipts(body, reading.receipts, self._clock.now()),
        )

    def view(self, order: Record[Order]) -> OrderView:
        """An own order, as the journal has it."""
        live = LiveBook(order.body.pair)
        self._add_own(live, [order.body.side])
        live.orders.setdefault(order.id, order)
        due = self._offers.cancel_at(order.id)
        return msgspec.structs.replace(
            self._view(live, order),
            child=self._own_child(order.id),
            cancelAt=None if due is None else milliseconds(due),
        )

    def _own_child(self, order_id: RecordId) -> str | None:
        child = self._journal.child(order_id)
        return None if child is None else child.order_id.hex()

    def own_view(self, order_id: RecordId) -> OrderView | None:
        """One of this node's orders, as the journal has it; None if it is none."""
        own = self._journal.order(order_id)
        order = None if own is None else parse_record(own.wire, self._network)
        return self.view(order) if order is not None and is_a(order, Order) else None

    async def watch(self, pair: str) -> None:
        """Begin to follow a pair, unless it is followed already; its orders come to the hub's readers of that topic."""
        watched = self._watched.get(pair)
        if watched is None:
            keys = {self._directory.watch_node(pair, side, ROOT): side for side in SIDES}
            watched = self._watched[pair] = Watched(LiveBook(pair), keys)
        if not watched.ready:  # each reader reads for itself: whoever came first may leave before it is done
            await self.pull(watched)
            watched.ready = True

    def snapshot(self, pair: str) -> list[OrderView]:
        """The visible orders of a followed pair, for a reader that has just come."""
        watched = self._watched[pair]
        return self._views(watched.book, False, False)[0]

    def live_book(self, pair: str, limit: int) -> BookView:
        """The ladder of a followed pair as it is now, with the coverage of its last reading."""
        watched = self._watched[pair]
        views, hidden = self._views(watched.book, False, False)
        coverage = add_coverage(watched.coverage.values())
        return book.book_view(pair, views, limit, coverage, hidden, self._clock.now())

    def unwatch(self, pair: str) -> None:
        """Stop following a pair."""
        if (watched := self._watched.pop(pair, None)) is not None:
            for key in watched.keys:
                self._directory.unwatch_node(key)

    def heard(self, key: DhtKey, record: AnyRecord) -> None:
        """Take in a record that was pushed, or that this node holds, under an index key."""
        for watched in self._watched.values():
            if key in watched.keys:
                changed = watched.book.add(record, self._clock.now())
                if is_a(record, Beat):
                    self._tell_changes(watched, by=record.body.author)
                else:
                    self._tell(watched, changed)

    def watched_at(self, key: DhtKey) -> "Watched | None":
        """The followed pair to which a key belongs, if any: it has to be pulled."""
        return next((watched for watched in self._watched.values() if key in watched.keys), None)

    async def pull(self, watched: Watched) -> None:
        """Read a followed pair again and tell what is new, and what has ended."""
        for side in SIDES:
            known = watched.book.open_orders(side, self._clock.now())
            reading = await self._directory.read_index(watched.book.pair, side, known=known)
            self._remember(reading.orders.values())
            self._follow(watched, side, reading)
            watched.coverage[side] = reading.coverage
            self._tell(watched, watched.book.merge(side, reading, self._clock.now()))

    async def run(self) -> None:
        """Follow trees for ever; cancelled when the node stops."""
        while True:
            await asyncio.sleep(1.0)
            await self.follow()

    async def follow(self) -> None:
        """Now and then look whether the price trees of followed pairs have grown or shrunk, and read them if so."""
        now = self._clock.monotonic()
        for pair, watched in list(self._watched.items()):
            if not watched.ready or watched.walk_due > now:
                continue
            watched.walk_due = now + limits.WATCH_WALK_S
            before = list(watched.keys)
            for side in SIDES:
                reading = await self._directory.read_index(pair, side, Wish(skim=True))
                if self._watched.get(pair) is watched:
                    self._follow(watched, side, reading)
            if any(key not in before for key in watched.keys):
                await self.pull(watched)

    def _follow(self, watched: Watched, side: Side, reading: IndexReading) -> None:
        """Watch the nodes of a tree that were found, and no others."""
        if self._watched.get(watched.book.pair) is not watched or reading.coverage.missing:
            return
        found = [self._directory.watch_node(watched.book.pair, side, prefix) for prefix in reading.visited]
        for key in [key for key, of in watched.keys.items() if of == side and key not in found]:
            self._directory.unwatch_node(key)
            del watched.keys[key]
        watched.keys.update(dict.fromkeys(found, side))

    def tick(self) -> None:
        """Let time pass: tell of orders that expired or fell silent meanwhile."""
        for watched in self._watched.values():
            self._tell_changes(watched)
            watched.book.forget_before(self._clock.now())

    def _tell_changes(self, watched: Watched, by: PublicKey | None = None) -> None:
        orders = watched.book.orders.values()
        self._tell(watched, [order.id for order in orders if by is None or order.body.author == by])

    def _tell(self, watched: Watched, order_ids: Iterable[RecordId]) -> None:
        for order_id in order_ids:
            view = self._view(watched.book, watched.book.orders[order_id])
            looks = (view.status, view.live and view.status == "open")  # who made what is over may fall silent
            before = watched.told.get(order_id)
            if looks == before or (before is None and view.status != "open"):
                continue
            watched.told[order_id] = looks
            if watched.ready:
                self._hub.tell((watched.book.pair,), type="order", order=view)

    def _wish(self, query: OrderQuery, matcher: Matcher) -> tuple[Wish, Counts]:
        """What a listing needs of each side: a few more than it shows, as some may turn out to be closed."""
        whole = query.mine or query.sort or query.after or query.limit >= limits.LISTING_ORDERS_MAX
        limit = None if whole else query.limit + SPARE
        wish = Wish(limit=limit, low=price_bound(matcher.price_min), high=price_bound(matcher.price_max))

        def counts(reading: IndexReading, order: Record[Order]) -> bool:
            if query.all or not self._is_shown(reading, order):
                return query.all
            return matcher.takes_all or matcher.matches(self._found(reading, order))

        return wish, counts

    def _is_shown(self, reading: IndexReading, order: Record[Order]) -> bool:
        body = order.body
        return body.author in self._own_keys or is_live(body, self._heard_of(reading, body), self._clock.now())

    def _heard_of(self, reading: IndexReading, body: Order) -> int:
        return max(body.created, reading.beats.get(body.author, 0))

    def _found(self, reading: IndexReading, order: Record[Order]) -> OrderView:
        heard_of, mine = self._heard_of(reading, order.body), order.body.author in self._own_keys
        return order_view(order, OrderState(MakerState.OPEN), heard_of=heard_of, now=self._clock.now(), mine=mine)

    async def _read(
        self, pair: str, sides: list[Side], wish: Wish, counts: Counts
    ) -> tuple[LiveBook, Coverage, dict[str, int]]:
        live, rejected = LiveBook(pair), dict[str, int]()
        readings = await asyncio.gather(*(self._directory.read_index(pair, side, wish, counts) for side in sides))
        for side, reading in zip(sides, readings, strict=True):
            live.merge(side, reading, self._clock.now())
            self._remember(reading.orders.values())
            for reason, count in reading.rejected.items():
                rejected[reason] = rejected.get(reason, 0) + count
            if reading.unread:
                rejected["limit"] = rejected.get("limit", 0) + reading.unread
        self._add_own(live, sides)
        if live.orders:
            self._pairs.add(pair)
        return live, add_coverage(reading.coverage for reading in readings), rejected

    def _add_own(self, live: LiveBook, sides: list[Side]) -> None:
        now = self._clock.now()
        for own in self._journal.orders():
            untold = own.state not in LIVE and not own.status_wire and own.expires > now  # ended with its group
            if untold or own.expires + limits.TOMBSTONE_S <= now:
                continue
            order = parse_record(own.wire, self._network)
            if not is_a(order, Order) or order.body.pair != live.pair or order.body.side not in sides:
                continue
            live.add(order, now)
            live.beats[order.body.author, order.body.side] = int(now)
            if own.status_wire and is_a(status := parse_record(own.status_wire, self._network), Status):
                live.add(status, now)

    def _own_pairs(self) -> set[str]:
        return {order.body.pair for order in self._offers.open_orders()}

    def _views(self, live: LiveBook, everything: bool, mine: bool) -> tuple[list[OrderView], dict[str, int]]:
        views = [self._view(live, order) for order in live.orders.values()]
        if mine:
            views = [view for view in views if view.mine]
        return book.arrange(views, everything)

    def _view(self, live: LiveBook, order: Record[Order]) -> OrderView:
        now = self._clock.now()
        state = order_state(order, live.statuses.get(order.id, ()), now)
        mine, holders = order.body.author in self._own_keys, self._directory.holders(order.id)
        if mine and holders is None and (own := self._journal.order(order.id)) is not None:
            holders = 0 if own.state == MakerState.PUBLISHING else None
        return order_view(order, state, heard_of=live.heard_of(order), now=now, mine=mine, holders=holders)

    def _remember(self, orders: Iterable[Record[Order]]) -> None:
        for order in orders:
            self._known[order.id] = order
            self._known.move_to_end(order.id)
        while len(self._known) > ORDERS_REMEMBERED_MAX:
            self._known.popitem(last=False)

    def _candidates(self, digits: str) -> list[Record[Order]]:
        wires = [own.wire for own in self._journal.find_orders(digits)]
        wires += [trade.order_wire for trade in self._journal.trades()]
        wires += self._holdings.find_orders(digits)
        records = [parse_record(wire, self._network) for wire in wires]
        known = list(self._known.values())
        return [order for order in [*records, *known] if is_a(order, Order) and order.id.hex().startswith(digits)]
