"""The market as this node sees it: listings, books, single orders.

Everything read or heard of a pair goes through a `LiveBook`; own orders are added from the journal, so a maker always
sees them, whether or not anyone else does yet.
"""

import asyncio
import dataclasses
import math
from collections import Counter, OrderedDict
from collections.abc import Iterable
from typing import Final

import msgspec

from dhtex import limits
from dhtex.clock import Clock
from dhtex.coverage import Coverage
from dhtex.directory.livebook import LiveBook
from dhtex.directory.pricetree import Wish
from dhtex.directory.reading import IndexReading, add_coverage
from dhtex.directory.service import Directory
from dhtex.directory.treereading import Counts
from dhtex.errors import NotFoundError
from dhtex.market import book, paging
from dhtex.market.book import Matcher
from dhtex.market.ids import RecordId
from dhtex.market.keyring import Keyring
from dhtex.market.merge import OrderState, order_state
from dhtex.market.money import Pair
from dhtex.market.present import is_live, milliseconds, order_look, order_view, public_receipts, silent_from
from dhtex.market.pricebits import price_bits, price_bound
from dhtex.market.records import Closing, Order, Record, Side, Status, is_a, parse_record
from dhtex.market.trade import MakerState
from dhtex.node.counter import Progress
from dhtex.node.naming import digits_of, only, whole
from dhtex.node.offers import LIVE, Offers
from dhtex.node.ownpairs import OwnPairs
from dhtex.store.holdings import Holdings
from dhtex.store.journal import Journal
from dhtex.store.rows import OwnOrder
from dhtex.views import BookView, ListingView, OrderQuery, OrderView

ORDERS_REMEMBERED_MAX: Final = 20_000  # so that an id's first digits are enough after a listing
SPARE: Final = 8  # orders that a reading asks for beyond what is shown
SIDES: Final = tuple(Side)


class Market:
    """Reads the network on behalf of faces. `keys` are those this node signs with."""

    def __init__(
        self,
        network: str,
        keys: Keyring,
        directory: Directory,
        journal: Journal,
        holdings: Holdings,
        offers: Offers,
        clock: Clock,
    ) -> None:
        self._network = network
        self._keys = keys
        self._own_keys = keys.publics
        self._directory = directory
        self._journal = journal
        self._holdings = holdings
        self._offers = offers
        self._clock = clock
        self._known: OrderedDict[RecordId, Record[Order]] = OrderedDict()
        self._own = OwnPairs(journal, offers)
        self._pairs: set[str] = set()
        self.watched: set[str] = set()  # pairs that somebody follows

    async def listing(self, query: OrderQuery, progress: Progress | None = None) -> ListingView:
        """Orders that pass the query's filters, best first within each side, and how complete that is.

        Of many pairs no more are read than fill the list, unless it is sorted: the best order of each side comes before
        any second one, side by side in the order of the pairs.
        """
        matcher = book.Matcher.of(query)
        pairs = [str(Pair.parse(query.pair))] if query.pair else sorted(self.known_pairs())
        sides = [Side(query.side)] if query.side else list(SIDES)
        gate, is_sorted = asyncio.Semaphore(limits.PAIRS_PARALLEL), bool(paging.beginning(query)[0])
        hidden, begun, best = Counter[str](), 0, 0

        async def read_one(pair: str) -> tuple[list[OrderView], Coverage] | None:
            nonlocal begun, best
            async with gate:
                if best > query.limit and not is_sorted:
                    hidden["pairs"] += 1
                    return None
                begun += 1
                if progress is not None:
                    progress(begun / len(pairs))
                live, coverage, rejected = await self._read(pair, sides, *self._wish(query, matcher))
            views, closed = self.views(live, query.all, query.mine)
            found = [view for view in views if matcher.matches(view)]
            best += len({view.side for view in found})
            hidden.update(rejected)
            hidden.update(closed)
            return found, coverage

        read = [part for part in await asyncio.gather(*map(read_one, pairs)) if part is not None]
        shown, left, goes_on = paging.page([view for found, _ in read for view in found], query)
        if any(view.mine for view in shown):
            switches = self._offers.switches()
            shown = [msgspec.structs.replace(view, cancelAt=switches.get(view.id)) for view in shown]
        hidden["limit"] += left
        return ListingView(
            orders=shown, coverage=add_coverage(row for _, row in read), hidden=dict(+hidden), next=goes_on
        )

    def known_pairs(self) -> dict[str, list[str]]:
        """The pairs that this node knows of, each with the reasons: held, own, watched, listed."""
        sources = {
            "held": self._holdings.pairs(),
            "own": self._own_pairs(),
            "watched": self.watched,
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
        self.remember([] if known is None else [known])
        return known

    def is_own(self, view: OrderView) -> bool:
        """Whether an order that was listed is of this node, or of another one of the same person."""
        known = self._known.get(RecordId(bytes.fromhex(view.id)))
        return view.mine or (known is not None and self._keys.is_tagged(known.body))

    async def copy(self, pair: str) -> tuple[list[Record[Order]], ListingView]:
        """The shown orders of a pair as they were signed, and the listing that shows them."""
        listing = await self.listing(OrderQuery(pair=pair, limit=limits.LISTING_ORDERS_MAX))
        ids = [RecordId(bytes.fromhex(view.id)) for view in listing.orders]
        return [order for order in map(self._known.get, ids) if order is not None], listing

    async def book(self, pair: str, limit: int) -> BookView:
        """The ladder of a pair: its best `limit` prices on each side."""
        name = str(Pair.parse(pair))
        wish = Wish(limit=limit + SPARE, levels=True)
        live, coverage, rejected = await self._read(name, list(SIDES), wish, self.is_shown)
        views, hidden = self.views(live)
        read = [view for view in views if live.is_read(view.side, view.price)]
        rejected["limit"] = rejected.get("limit", 0) + len(views) - len(read)
        for reason, count in rejected.items():
            hidden |= {reason: hidden.get(reason, 0) + count} if count else {}
        return book.book_view(name, read, limit, coverage, hidden, self._clock.now())

    async def find(self, prefix: str) -> Record[Order]:
        """The order whose id begins with `prefix`. Raises UsageError for a bad or ambiguous one, else NotFoundError."""
        digits = digits_of(prefix)
        candidates = self._candidates(digits)
        order_id = whole(digits)
        if not candidates and order_id is not None:
            order = await self._directory.fetch_order(order_id)
            candidates = [] if order is None else [order]
            self.remember(candidates)
        hint = "list its pair first, or give all digits of the id"
        return only(digits, ((order.id, order) for order in candidates), "order", hint)

    async def show(self, order_id: RecordId) -> OrderView:
        """One order with its newest state: own journal, both keys of the order, and the maker's signs of life."""
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
        wish = Wish(low=price, high=price, skim=not in_part)
        index, ends = await asyncio.gather(
            self._directory.read_index(body.pair, body.side, wish), self._ends_of(order_record, reading.statuses)
        )
        live.merge(body.side, index, self._clock.now())
        live.statuses[order_id] = [*live.statuses.get(order_id, []), *reading.statuses, *ends]
        view = self.view_of(live, live.orders[order_id])
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

    async def _ends_of(self, order: Record[Order], known: Iterable[Record[Status]]) -> list[Record[Status]]:
        """What only the index knows of the end of an order of somebody else's; of an own one the journal decides."""
        is_own = self._journal.order(order.id) is not None
        return [] if is_own else await self._directory.read_ends_of(order, known)

    def view(self, order: Record[Order]) -> OrderView:
        """An own order, as the journal has it."""
        live, own = LiveBook(order.body.pair, {order.id: order}), self._journal.order(order.id)
        if own is not None and own.status_wire and is_a(status := parse_record(own.status_wire, self._network), Status):
            live.add(status, self._clock.now())
        view, due = self.view_of(live, order), self._offers.cancel_at(order.id)
        return msgspec.structs.replace(
            view,
            status=own.state if own is not None and _is_untold(own) else view.status,
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

    def _wish(self, query: OrderQuery, matcher: Matcher) -> tuple[Wish, Counts]:
        """What a listing needs of each side: a few more than it shows, as some may turn out to be closed."""
        in_order, (_, after) = paging.is_as_in_the_book(query), paging.beginning(query)
        whole = query.mine or not in_order or query.limit >= limits.LISTING_ORDERS_MAX
        low, high = price_bound(matcher.price_min), price_bound(matcher.price_max)
        if in_order and after is not None:
            begin = price_bound(abs(after[0]))
            low, high = (max(low, begin), high) if query.side == Side.SELL else (low, min(high or begin, begin))

        def counts(reading: IndexReading, order: Record[Order]) -> bool:
            if query.all or not self.is_shown(reading, order):
                return query.all
            if after is None and matcher.takes_all:
                return True
            view = self._found(reading, order)
            return matcher.matches(view) and paging.is_behind(view, query)

        return Wish(limit=None if whole else query.limit + SPARE, low=low, high=high), counts

    def is_shown(self, reading: IndexReading, order: Record[Order]) -> bool:
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
            self.remember(reading.orders.values())
            for reason, count in reading.rejected.items():
                rejected[reason] = rejected.get(reason, 0) + count
        added = self._add_own(live, sides)
        for side, reading in zip(sides, readings, strict=True):
            # What the journal has added need not be read, and is not beyond the limit.
            if (unread := sum(reading.unread.values()) - added[side]) > 0:
                rejected["limit"] = rejected.get("limit", 0) + unread
        if live.orders:
            self._pairs.add(pair)
        return live, add_coverage(reading.coverage for reading in readings), rejected

    def _add_own(self, live: LiveBook, sides: list[Side]) -> Counter[Side]:
        """Add own orders from the journal; how many of each side were not there."""
        now, added = self._clock.now(), Counter[Side]()
        for own in self._journal.orders_named(self._own.of(live.pair, now)):
            order = self._offers.parsed(own.wire)
            if (_is_untold(own) and own.expires > now) or order.body.side not in sides:
                continue
            added[order.body.side] += len(live.add(order, now))
            live.beats[order.body.author, order.body.side] = int(now)
            if own.status_wire and is_a(status := parse_record(own.status_wire, self._network), Status):
                live.add(status, now)
        return added

    def _own_pairs(self) -> set[str]:
        return {order.body.pair for order in self._offers.open_orders()}

    def views(
        self, live: LiveBook, everything: bool = False, mine: bool = False
    ) -> tuple[list[OrderView], dict[str, int]]:
        views = [self.view_of(live, order) for order in live.orders.values()]
        if mine:
            views = [view for view in views if view.mine]
        return book.arrange(views, everything)

    def view_of(self, live: LiveBook, order: Record[Order]) -> OrderView:
        now = self._clock.now()
        state = order_state(order, live.statuses.get(order.id, ()), now)
        mine, holders = self._mine_and_holders(order, state)
        return order_view(order, state, heard_of=live.heard_of(order), now=now, mine=mine, holders=holders)

    def look_of(self, live: LiveBook, order: Record[Order]) -> tuple[tuple[str, bool], float]:
        """With which status an order is shown and whether it is live, and until when that cannot change by time alone:
        an own order is published in the course of time, and held by nobody again."""
        now = self._clock.now()
        state = order_state(order, live.statuses.get(order.id, ()), now)
        mine, holders = self._mine_and_holders(order, state)
        body, heard_of = order.body, live.heard_of(order)
        look = order_look(body, state, heard_of=heard_of, now=now, mine=mine, holders=holders)
        if state.state is not MakerState.OPEN:
            return look, math.inf
        if mine:
            return look, now
        return look, min(body.expires, silent_from(body, heard_of) if look[1] else math.inf)

    def _mine_and_holders(self, order: Record[Order], state: OrderState) -> tuple[bool, int | None]:
        mine, kept = order.body.author in self._own_keys, state.status or order
        holders = self._directory.holders(kept.id)
        if mine and holders is None and state.state is MakerState.OPEN:
            own = self._journal.order(order.id)
            holders = 0 if own is not None and own.state == MakerState.PUBLISHING else None
        return mine, holders

    def remember(self, orders: Iterable[Record[Order]]) -> None:
        for order in orders:
            self._known[order.id] = order
            self._known.move_to_end(order.id)
        while len(self._known) > ORDERS_REMEMBERED_MAX:
            self._known.popitem(last=False)

    def _candidates(self, digits: str) -> list[Record[Order]]:
        order_id = whole(digits)
        if order_id is not None and (known := self._known.get(order_id)) is not None:
            return [known]
        wires = [own.wire for own in self._journal.find_orders(digits)]
        wires += [trade.order_wire for trade in self._journal.find_trades(digits)]
        if not wires or order_id is None:
            wires += self._holdings.find_orders(digits)
        records = [parse_record(wire, self._network) for wire in wires]
        start = bytes.fromhex(digits[: len(digits) // 2 * 2])
        records += [known for known_id, known in self._known.items() if known_id.startswith(start)]
        return [order for order in records if is_a(order, Order) and order.id.hex().startswith(digits)]


def _is_untold(own: OwnOrder) -> bool:
    """Whether an order has ended with its group, and its own Status is still to be signed."""
    return own.state not in LIVE and not own.status_wire
