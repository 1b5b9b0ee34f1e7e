"""What this node holds for others: records by key, admitted, merged, bounded, expired, and written behind to disk.

Theory of operation. Memory is the book of record for reads. The disk follows in batches (`flush`): records are held by
several nodes, so the last fifth of a second may be lost when one is killed, and comes back from the others. A Status
takes its order off the index and stays as its tombstone until a day after the order's own expiry: a late copy of the
order is answered with it. At the order's own key both stay, so that a reader can check who signed.

Nothing grows without bound: each key has its quota (`Shelf.loser`), all keys together and each address have one
(`Eviction`), and records that no order here is known to vouch for have a small one for each neighbourhood that they
came from.
"""

import asyncio
import heapq
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from dhtex import limits
from dhtex.market.admission import Verifier, admit, place
from dhtex.market.asking import asked_bits
from dhtex.market.branches import pack
from dhtex.market.holding import MOVED, NO_DIGEST, WHOLE, Page, PutVerdict, Span, Taken, TreeNode
from dhtex.market.ids import ID_DIGITS, DhtKey, PublicKey, RecordId, order_key
from dhtex.market.merge import Meeting, meet
from dhtex.market.records import Accept, AnyRecord, Beat, Code, Fault, Kind, Order, Receipt, Status, is_a, parse_record
from dhtex.market.stamp import bits_of, required_bits
from dhtex.store import heldrows
from dhtex.store.database import Database
from dhtex.store.eviction import COUNTED, Eviction
from dhtex.store.held import Held
from dhtex.store.indexshelf import IndexShelf, empty_shelf
from dhtex.store.orphans import Orphans
from dhtex.store.shelf import OrderShelf, Shelf, count_down, count_up, is_stamped, may_ask_again, order_of

WRONG_KEY: Final = "wrong_key"
FULL: Final = "full"
_STALE_MAX: Final = 1024  # entries of the expiry heap whose record is gone, before it is built anew


class _Author:
    """One key that all records of an author share, and how many these are."""

    __slots__ = ("held", "key", "orders")

    def __init__(self, key: PublicKey) -> None:
        self.key = key
        self.held = 0
        self.orders = 0


class Holdings:
    """The records held, of one network whose orders bear stamps of `pow_bits`. Reads what was held when it closed."""

    def __init__(self, database: Database, network: str, pow_bits: int, verifier: Verifier | None = None) -> None:
        self._database = database
        self._network = network
        self._pow_bits = pow_bits
        self._verifier = Verifier() if verifier is None else verifier
        self._shelves: dict[DhtKey, Shelf] = {}
        self._trees: dict[DhtKey, IndexShelf] = {}  # those of them that are nodes of price trees
        self._count = 0
        self._last_row = self._written_row = 0  # rows are written as they came: after the latter, none ever was
        self._pairs: Counter[str] = Counter()
        self._places: Counter[RecordId] = Counter()
        self._authors: dict[PublicKey, _Author] = {}
        self._expiries: list[Held] = []
        self._orphans = Orphans()
        self._unwritten: dict[int, Held | None] = {}
        self.changed = asyncio.Event()  # set while something is to be written
        self._eviction = Eviction(lambda: (held for shelf in self._shelves.values() for held in shelf))
        self._load()

    @property
    def count(self) -> int:
        """How many records are held, at all keys."""
        return self._count

    # --- the overlay's port ---------------------------------------------------------------------------------------

    def put(self, wire: bytes, prefix: str | None, now: float, source: str) -> PutVerdict:
        """Take a record from anyone, if it is valid, belongs to the key that `prefix` names, and finds room."""
        self.expire(now)
        record = parse_record(wire, self._network)
        if isinstance(record, Fault):
            return PutVerdict(Taken.REFUSED, code=record)
        key = place(record, prefix)
        if key is None:
            return PutVerdict(Taken.REFUSED, code=WRONG_KEY)
        shelf = self._shelves[key] if key in self._shelves else empty_shelf(key, prefix)
        below, held = shelf.branch_of(record), shelf.get(record.id)
        if held is not None and (not is_stamped(record) or bits_of(record.stamp) <= held.number):
            return self._superseded(shelf, record) or _moved(PutVerdict(Taken.KNOWN, key), below)
        bits = self._asked_bits(record)
        fault = admit(record, now, bits, self._verifier.check)
        if fault is not None:
            wanted = required_bits(record.kind, bits) if fault is Code.STAMP_TOO_LOW else 0
            return PutVerdict(Taken.REFUSED, key, fault, wanted)
        if is_a(record, Order) and prefix is not None:
            if below is not None and shelf.has_witnesses:
                return _moved(PutVerdict(Taken.REFUSED, key), below)
            if held is None and self._places[record.id] >= limits.TREE_PLACES_MAX:
                return PutVerdict(Taken.REFUSED, key, FULL)
        if is_a(record, Status) and below is not None and shelf.get(RecordId(record.body.order_id)) is None:
            return _moved(PutVerdict(Taken.REFUSED, key), below)
        if is_a(record, Beat) and isinstance(shelf, IndexShelf) and shelf.has_moved(record.body.author):
            below = shelf.branch_names()[0]  # any: its maker asks for each order
        return _moved(self._settle(shelf, record, now, source), below)

    def _asked_bits(self, record: AnyRecord) -> int:
        """What a stamp must have here and now; for an order more than elsewhere, if room is scarce."""
        if not is_a(record, Order):
            return self._pow_bits
        author = self._authors.get(record.body.author)
        return asked_bits(self._pow_bits, self._count, 0 if author is None else author.orders)

    def page(self, key: DhtKey, kind: int, rank: int, room_bytes: int, now: float, span: Span = WHOLE) -> Page:
        """Records of a key from `rank` on in its listing order, as many as fit into `room_bytes` of MessagePack."""
        self.expire(now)
        shelf = self._shelves.get(key)
        return Page(0, NO_DIGEST, []) if shelf is None else shelf.page(kind, rank, room_bytes, span)

    def stock_value(self, key: DhtKey, now: float) -> bytes | None:
        """The bytes of an open order, for peers that cannot see from a Status that it is not."""
        self.expire(now)
        shelf = self._shelves.get(key)
        order = shelf.order() if isinstance(shelf, OrderShelf) else None
        if shelf is None or order is None or order.expires <= now or shelf.closed(order.id, order.author) is not None:
            return None
        return order.wire

    def stock_put(self, key: DhtKey, value: object, now: float, source: str) -> bool:
        """Take a value from a stock peer: only the bytes of a valid order, only at that order's key."""
        if not isinstance(value, bytes):
            return False
        record = parse_record(value, self._network)
        if not is_a(record, Order) or place(record, None) != key:
            return False
        return self.put(value, None, now, source).taken in (Taken.STORED, Taken.KNOWN)

    def keys(self, now: float) -> dict[DhtKey, str | None]:
        """Where something is held, with the prefix of what is a node of a tree."""
        self.expire(now)
        return {key: shelf.prefix for key, shelf in self._shelves.items()}

    def replicas(self, now: float) -> Iterator[tuple[DhtKey, str | None, bytes]]:
        """Everything held: key, prefix and bytes, orders before what speaks about them. May be read slowly."""
        for key, prefix in self.keys(now).items():
            for wire in [held.wire for held in self._shelves.get(key) or ()]:
                yield key, prefix, wire

    # --- reading for this node ------------------------------------------------------------------------------------

    def find_orders(self, hex_prefix: str) -> list[bytes]:
        """The bytes of held orders whose id begins with these hex digits."""
        found: dict[RecordId, bytes] = {}
        if len(hex_prefix) == ID_DIGITS:
            order_id = RecordId(bytes.fromhex(hex_prefix))
            places = [self._shelves.get(order_key(order_id)), *self._trees.values()]
            whole = (place.get(order_id) for place in places if place is not None)
            return [held.wire for held in whole if held is not None][:1]
        for shelf in self._shelves.values():
            for held in shelf:
                if held.kind is not Kind.ORDER:
                    break
                if held.id.hex().startswith(hex_prefix):
                    found[held.id] = held.wire
        return list(found.values())

    def pairs(self) -> set[str]:
        """The pairs of held orders."""
        return set(self._pairs)

    # --- the price tree -------------------------------------------------------------------------------------------

    def tree_keys(self) -> list[DhtKey]:
        """The keys of all nodes of price trees that are held here."""
        return [key for key, shelf in self._trees.items() if shelf.market is not None]

    def tree_node(self, key: DhtKey) -> TreeNode | None:
        """One of them as it is now, orders best first."""
        shelf = self._shelves.get(key)
        return shelf.node() if isinstance(shelf, IndexShelf) else None

    def branches(self, key: DhtKey) -> tuple[str, ...]:
        """To whom a node delegates."""
        shelf = self._shelves.get(key)
        return () if shelf is None else tuple(shelf.branch_names())

    def rebranch(self, key: DhtKey, add: list[str], drop: list[str]) -> None:
        """Change to whom a node delegates; one that has neither records nor branches is forgotten."""
        if isinstance(shelf := self._shelves.get(key), IndexShelf):
            shelf.rebranch(add, drop)
            self._forget_if_empty(shelf)

    def release(self, key: DhtKey, order_id: RecordId) -> None:
        """Let an order go that is held at another node of its tree."""
        shelf = self._shelves.get(key)
        held = None if shelf is None else shelf.get(order_id)
        if held is not None:
            self._drop(held)

    # --- time and disk --------------------------------------------------------------------------------------------

    def expire(self, now: float) -> None:
        """Drop what is of no use any more, EXPIRED_PER_TURN_MAX records at once. Costs nothing while there is nothing
        to drop."""
        for _ in range(limits.EXPIRED_PER_TURN_MAX):
            if not self._expiries or self._expiries[0].expires > now:
                return
            held = heapq.heappop(self._expiries)
            if not held.gone:
                self._drop(held)
        self.changed.set()  # whoever writes comes back for the others

    def flush(self, now: float, rows_max: int | None = None) -> int:
        """Write what changed to disk, all of it or about `rows_max` rows; how many were written. Raises StateError."""
        self.expire(now)
        batch = list(self._unwritten.items())[:rows_max]
        if batch:
            with self._database.batch() as connection:
                heldrows.write(connection, batch)
            for row, _ in batch:
                del self._unwritten[row]
                self._written_row = max(self._written_row, row)
        if not self._unwritten and not (self._expiries and self._expiries[0].expires <= now):
            self.changed.clear()
        return len(batch)

    def _load(self) -> None:
        restored = heldrows.read(self._database, self._network)
        self._shelves, self._pairs = restored.shelves, restored.pairs
        self._trees = {key: shelf for key, shelf in self._shelves.items() if isinstance(shelf, IndexShelf)}
        self._expiries = [held for shelf in self._shelves.values() for held in shelf]
        for held in self._expiries:
            self._book(held)
        self._eviction.recount()
        self._expiries.sort(key=lambda held: held.expires)  # a heap too
        self._last_row = max((held.row for held in self._expiries), default=0)
        self._written_row = max([self._last_row, *restored.spoilt])
        orphans = [held for held in self._expiries if not held.anchored]
        for held in sorted(orphans, key=lambda held: held.row):
            self._note_orphan(held)
        for row in restored.spoilt:
            self._write_later(row, None)

    # --- settling a new record ------------------------------------------------------------------------------------

    def _settle(self, shelf: Shelf, record: AnyRecord, now: float, source: str) -> PutVerdict:
        order_id = order_of(record)
        maker = None if order_id is None else shelf.maker_of(order_id)
        if is_a(record, Receipt):
            if not shelf.vouches_for(record.body):  # it costs nothing, so it is taken beside a certificate only
                return PutVerdict(Taken.REFUSED, shelf.key, Code.UNKNOWN_ORDER)
        elif maker not in (None, record.body.author) and not is_a(record, Accept):
            return PutVerdict(Taken.REFUSED, shelf.key, Code.BAD_SIGNATURE)  # not by the order's maker
        if is_a(record, Order):
            self._believe_maker(shelf, record)
            if shelf.prefix is not None and (refusal := self._superseded(shelf, record)) is not None:
                return refusal
        beaten: list[Held] = []
        for rival in shelf.rivals(record):
            old = rival.record
            meeting = meet(record, old, now)
            if meeting is Meeting.OLD_STAYS and not may_ask_again(shelf, record, old):
                return PutVerdict(Taken.SUPERSEDED, shelf.key, newer=rival.wire)
            if meeting is not Meeting.BOTH_STAY:  # the same one comes again with a better stamp only
                beaten.append(rival)
        anchored = self._is_anchored(shelf, record, maker is not None)
        if is_a(record, Status) and shelf.prefix is not None and anchored and order_id is not None:
            listed = shelf.get(order_id)
            beaten += [listed] if listed is not None else []
        if not beaten and not self._make_room(shelf, record, anchored, now, source):
            return PutVerdict(Taken.REFUSED, shelf.key, FULL)
        for held in beaten:
            self._drop(held)
        self._add(shelf, record, anchored, source)
        return self._superseded(shelf, record) or PutVerdict(Taken.STORED, shelf.key)

    def _superseded(self, shelf: Shelf, record: AnyRecord) -> PutVerdict | None:
        status = shelf.closed(record.id, record.body.author) if is_a(record, Order) else None
        return None if status is None else PutVerdict(Taken.SUPERSEDED, shelf.key, newer=status.wire)

    def _is_anchored(self, shelf: Shelf, record: AnyRecord, order_known: bool) -> bool:
        if is_a(record, Beat):
            return shelf.has_orders_of(record.body.author)
        return order_known or is_a(record, Order)

    def _believe_maker(self, shelf: Shelf, order: AnyRecord) -> None:
        """An order has come: believe accepts of it and what its maker said about it, and drop what others did."""
        for held in shelf.spoke_of(order.id):
            if held.kind is not Kind.ACCEPT and held.author != order.body.author:
                self._drop(held)
            elif not held.anchored:
                shelf.anchor(held)
                self._orphans.forget(held)
                self._write_later(held.row, held)

    def _make_room(self, shelf: Shelf, record: AnyRecord, anchored: bool, now: float, source: str) -> bool:
        evicted = self._eviction.loser(record, source, self._count) if record.kind in COUNTED else None
        if evicted is record:
            return False
        loser = shelf.loser(record, anchored, now)
        if is_a(record, Status):
            told = shelf.statuses(RecordId(record.body.order_id))
            if len(told) >= limits.STATUSES_PER_ORDER_MAX:
                # The last of strangers stays, so that a maker whose order is not known here can be heard again.
                loser = next((held for held in told if not held.anchored), record)
        if loser is record:
            return False
        goes = loser if loser is not None else evicted
        if isinstance(goes, Held):
            self._drop(goes)
        return True

    # --- keeping the books ------------------------------------------------------------------------------------------

    def _add(self, shelf: Shelf, record: AnyRecord, anchored: bool, source: str) -> None:
        self._last_row += 1
        self._shelves[shelf.key] = shelf
        if isinstance(shelf, IndexShelf):
            self._trees[shelf.key] = shelf
        held = Held(record, shelf, anchored, sys.intern(source), self._last_row)
        self._book(held)
        shelf.add(held, record)
        self._eviction.added(held, self._count)
        if is_a(record, Order):
            self._pairs[record.body.pair] += 1
        if not anchored:
            self._note_orphan(held)
        if len(self._expiries) > 2 * self._count + _STALE_MAX:
            self._expiries = [other for other in self._expiries if not other.gone]
            heapq.heapify(self._expiries)
        heapq.heappush(self._expiries, held)
        if record.kind is not Kind.BEAT and not held.gone:  # a beat is stale before a restart is over
            self._write_later(held.row, held)

    def _book(self, held: Held) -> None:
        author = self._authors.get(held.author)
        if author is None:
            author = self._authors[held.author] = _Author(held.author)
        held.author = author.key
        author.held += 1
        self._count += 1
        if held.kind is Kind.ORDER:
            author.orders += 1
            if held.place.prefix is not None:
                count_up(self._places, held.id)

    def _note_orphan(self, held: Held) -> None:
        if (loser := self._orphans.note(held)) is not None:
            self._drop(loser)

    def _drop(self, held: Held) -> None:
        shelf = self._shelves[held.place.key]
        shelf.remove(held)
        self._count -= 1
        self._eviction.removed(held, self._count)
        self._forget_if_empty(shelf)
        author = self._authors[held.author]
        author.held -= 1
        if held.kind is Kind.ORDER:
            author.orders -= 1
            count_down(self._pairs, _pair_of(held, shelf))
            if shelf.prefix is not None:
                count_down(self._places, held.id)
        if not author.held:
            del self._authors[held.author]
        if held.row > self._written_row:
            self._unwritten.pop(held.row, None)
        elif held.kind is not Kind.BEAT:
            self._write_later(held.row, None)
        self._orphans.forget(held)
        held.wire = b""

    def _forget_if_empty(self, shelf: Shelf) -> None:
        if not shelf and not shelf.branch_names():
            self._shelves.pop(shelf.key, None)
            self._trees.pop(shelf.key, None)

    def _write_later(self, row: int, held: Held | None) -> None:
        self._unwritten[row] = held
        self.changed.set()


def _pair_of(held: Held, shelf: Shelf) -> str:
    """The pair of a held order: all orders of a node of an index have one."""
    if shelf.market is not None:
        return shelf.market[0]
    record = held.record
    return record.body.pair if is_a(record, Order) else ""


def _moved(verdict: PutVerdict, below: str | None) -> PutVerdict:
    """Say as well to which branch a record belongs."""
    if below is None or verdict.newer or verdict.code:
        return verdict
    return replace(verdict, code=MOVED, newer=pack((below,)))
