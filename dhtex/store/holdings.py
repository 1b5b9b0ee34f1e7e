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
import sqlite3
from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from dhtex import limits
from dhtex.market.admission import Verifier, admit, keep_until, place
from dhtex.market.asking import asked_bits
from dhtex.market.branches import pack
from dhtex.market.holding import MOVED, NO_DIGEST, Page, PutVerdict, Taken, TreeNode
from dhtex.market.ids import DhtKey, PublicKey, RecordId
from dhtex.market.merge import Meeting, meet
from dhtex.market.records import Accept, AnyRecord, Beat, Code, Fault, Kind, Order, Receipt, Status, is_a, parse_record
from dhtex.market.stamp import bits_of, required_bits
from dhtex.store.database import Database
from dhtex.store.eviction import Eviction
from dhtex.store.shelf import Held, Shelf, count_down, is_stamped, order_of

WRONG_KEY: Final = "wrong_key"
FULL: Final = "full"
_FROM_DISK: Final = "disk"
_STALE_MAX: Final = 1024  # entries of the expiry heap whose record is gone, before it is built anew

_Place = tuple[DhtKey, RecordId]


class Holdings:
    """The records held, of one network whose orders bear stamps of `pow_bits`. Reads what was held when it closed."""

    def __init__(self, database: Database, network: str, pow_bits: int, verifier: Verifier | None = None) -> None:
        self._database = database
        self._network = network
        self._pow_bits = pow_bits
        self._verifier = Verifier() if verifier is None else verifier
        self._shelves: dict[DhtKey, Shelf] = {}
        self._count = 0
        self._pairs: Counter[str] = Counter()
        self._places: Counter[RecordId] = Counter()
        self._orders_of: Counter[PublicKey] = Counter()
        self._expiries: list[tuple[int, DhtKey, RecordId]] = []
        self._orphans: dict[str, OrderedDict[_Place, None]] = {}
        self._orphan_sources: dict[_Place, str] = {}
        self._unwritten: dict[_Place, Held | None] = {}
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
        shelf = self._shelf(key, prefix)
        below, held = shelf.branch_of(record), shelf.get(record.id)
        if held is not None and (not is_stamped(record) or bits_of(record.stamp) <= bits_of(held.record.stamp)):
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
        if is_a(record, Beat) and shelf.has_moved(record.body.author):
            below = next(iter(shelf.branches))  # any: its maker asks for each order
        return _moved(self._settle(shelf, record, now, source), below)

    def _asked_bits(self, record: AnyRecord) -> int:
        """What a stamp must have here and now; for an order more than elsewhere, if room is scarce."""
        if not is_a(record, Order):
            return self._pow_bits
        return asked_bits(self._pow_bits, self._count, self._orders_of[record.body.author])

    def page(self, key: DhtKey, kind: int, rank: int, room_bytes: int, now: float) -> Page:
        """Records of a key from `rank` on in its listing order, as many as fit into `room_bytes` of MessagePack."""
        self.expire(now)
        shelf = self._shelves.get(key)
        return Page(0, NO_DIGEST, []) if shelf is None else shelf.page(kind, rank, room_bytes)

    def stock_value(self, key: DhtKey, now: float) -> bytes | None:
        """The bytes of an open order, for peers that cannot see from a Status that it is not."""
        self.expire(now)
        shelf = self._shelves.get(key)
        order = None if shelf is None or shelf.prefix is not None else shelf.order()
        return order.wire if order is not None and shelf is not None and shelf.closed(order) is None else None

    def stock_put(self, key: DhtKey, value: object, now: float, source: str) -> bool:
        """Take a value from a stock peer: only the bytes of a valid order, only at that order's key."""
        if not isinstance(value, bytes):
            return False
        record = parse_record(value, self._network)
        if not is_a(record, Order) or place(record, None) != key:
            return False
        return self.put(value, None, now, source).taken in (Taken.STORED, Taken.KNOWN)

    def replicas(self, now: float) -> Iterator[tuple[DhtKey, str | None, bytes]]:
        """Everything held, to be handed on: key, prefix and bytes, orders before what speaks about them.

        May be read slowly: records that come or go meanwhile do no harm.
        """
        self.expire(now)
        for key in list(self._shelves):
            shelf = self._shelves.get(key)
            for held in list(shelf or ()):
                yield key, held.prefix, held.record.wire

    # --- reading for this node ------------------------------------------------------------------------------------

    def find_orders(self, hex_prefix: str) -> list[bytes]:
        """The bytes of held orders whose id begins with these hex digits."""
        found: dict[RecordId, bytes] = {}
        for shelf in self._shelves.values():
            for held in shelf:
                if held.record.kind is not Kind.ORDER:
                    break
                if held.record.id.hex().startswith(hex_prefix):
                    found[held.record.id] = held.record.wire
        return list(found.values())

    def pairs(self) -> set[str]:
        """The pairs of held orders."""
        return set(self._pairs)

    # --- the price tree -------------------------------------------------------------------------------------------

    def tree_keys(self) -> list[DhtKey]:
        """The keys of all nodes of price trees that are held here."""
        return [key for key, shelf in self._shelves.items() if shelf.market is not None]

    def tree_node(self, key: DhtKey) -> TreeNode | None:
        """One of them as it is now, orders best first."""
        shelf = self._shelves.get(key)
        if shelf is None or shelf.market is None:
            return None
        return TreeNode(key, *shelf.market, shelf.prefix or "", shelf.orders(), tuple(shelf.branches))

    def rebranch(self, key: DhtKey, add: list[str], drop: list[str]) -> None:
        """Change to whom a node delegates; one that has neither records nor branches is forgotten."""
        if (shelf := self._shelves.get(key)) is not None:
            shelf.rebranch(add, drop)
            self._forget_if_empty(shelf)

    def release(self, key: DhtKey, order_id: RecordId) -> None:
        """Let an order go that is held at another node of its tree."""
        shelf = self._shelves.get(key)
        held = None if shelf is None else shelf.get(order_id)
        if shelf is not None and held is not None:
            self._drop(shelf, held)

    # --- time and disk --------------------------------------------------------------------------------------------

    def expire(self, now: float) -> None:
        """Drop what is of no use any more. Costs nothing while there is nothing to drop."""
        while self._expiries and self._expiries[0][0] <= now:
            _, key, record_id = heapq.heappop(self._expiries)
            shelf = self._shelves.get(key)
            held = None if shelf is None else shelf.get(record_id)
            if held is not None and shelf is not None:
                self._drop(shelf, held)

    def flush(self, now: float, rows_max: int | None = None) -> int:
        """Write what changed to disk, all of it or about `rows_max` rows; how many were written. Raises StateError."""
        self.expire(now)
        batch = list(self._unwritten.items())[:rows_max]
        if batch:
            with self._database.batch() as connection:
                gone = (at for at, held in batch if held is None)
                connection.executemany("DELETE FROM held WHERE dht_key = ? AND record_id = ?", gone)
                _insert(connection, [held for _, held in batch if held is not None])
            for at, written in batch:
                if self._unwritten.get(at) is written:
                    del self._unwritten[at]
        if not self._unwritten:
            self.changed.clear()
        return len(batch)

    def _load(self) -> None:
        unreadable: list[_Place] = []
        for key, record_id, prefix, anchored, wire in self._database.stream(
            "SELECT dht_key, record_id, prefix, anchored, wire FROM held ORDER BY rowid"
        ):
            record = parse_record(wire, self._network)
            if isinstance(record, Fault) or record.id != record_id or place(record, prefix) != key:
                unreadable.append((key, record_id))
                continue
            shelf = self._shelf(key, prefix)
            self._add(shelf, record, bool(anchored), _FROM_DISK)
        dropped = [at for at, held in self._unwritten.items() if held is None]
        self._unwritten.clear()
        for at in (*dropped, *unreadable):
            self._write_later(at, None)

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
            meeting = meet(record, rival.record, now)
            if meeting is Meeting.OLD_STAYS and not _may_ask_again(shelf, record, rival.record):
                return PutVerdict(Taken.SUPERSEDED, shelf.key, newer=rival.record.wire)
            if meeting is not Meeting.BOTH_STAY:  # the same one comes again with a better stamp only
                beaten.append(rival)
        anchored = self._is_anchored(shelf, record, maker is not None)
        if is_a(record, Status) and shelf.prefix is not None and anchored and order_id is not None:
            listed = shelf.get(order_id)
            beaten += [listed] if listed is not None else []
        if not beaten and not self._make_room(shelf, record, anchored, now, source):
            return PutVerdict(Taken.REFUSED, shelf.key, FULL)
        for held in beaten:
            self._drop(shelf, held)
        self._add(shelf, record, anchored, source)
        return self._superseded(shelf, record) or PutVerdict(Taken.STORED, shelf.key)

    def _superseded(self, shelf: Shelf, record: AnyRecord) -> PutVerdict | None:
        status = shelf.closed(record) if is_a(record, Order) else None
        return None if status is None else PutVerdict(Taken.SUPERSEDED, shelf.key, newer=status.record.wire)

    def _is_anchored(self, shelf: Shelf, record: AnyRecord, order_known: bool) -> bool:
        if is_a(record, Beat):
            return shelf.has_orders_of(record.body.author)
        return order_known or is_a(record, Order)

    def _believe_maker(self, shelf: Shelf, order: AnyRecord) -> None:
        """An order has come: believe accepts of it and what its maker said about it, and drop what others did."""
        for held in shelf.spoke_of(order.id):
            if held.record.kind is not Kind.ACCEPT and held.record.body.author != order.body.author:
                self._drop(shelf, held)
            elif not held.anchored:
                shelf.anchor(held)
                self._forget_orphan((shelf.key, held.record.id))
                self._write_later((shelf.key, held.record.id), held)

    def _make_room(self, shelf: Shelf, record: AnyRecord, anchored: bool, now: float, source: str) -> bool:
        evicted = self._eviction.loser(record, source, self._count) if is_stamped(record) else None
        if evicted is record:
            return False
        loser = shelf.loser(record, anchored, now)
        if is_a(record, Status):
            told = shelf.statuses(RecordId(record.body.order_id))
            if len(told) >= limits.STATUSES_PER_ORDER_MAX:
                # The last of strangers stays, so that a maker whose order is not known here can be heard again.
                loser = next((held for held in told if not held.anchored), None)
                if loser is None:
                    return False
        if loser is not None:
            if loser.record is record:
                return False
            self._drop(shelf, loser)
        elif isinstance(evicted, Held):
            self._drop(self._shelves[evicted.key], evicted)
        return True

    # --- keeping the books ------------------------------------------------------------------------------------------

    def _add(self, shelf: Shelf, record: AnyRecord, anchored: bool, source: str) -> None:
        self._shelves[shelf.key] = shelf
        held = shelf.add(record, anchored, source)
        self._count += 1
        self._eviction.added(held, self._count)
        if is_a(record, Order):
            self._pairs[record.body.pair] += 1
            self._places[record.id] += shelf.prefix is not None
            self._orders_of[record.body.author] += 1
        if len(self._expiries) > 2 * self._count + _STALE_MAX:
            self._rebuild_expiries()
        heapq.heappush(self._expiries, (keep_until(record), shelf.key, record.id))
        if record.kind is not Kind.BEAT:  # stale before a restart is over
            self._write_later((shelf.key, record.id), held)
        if not anchored:
            self._note_orphan((shelf.key, record.id), source)

    def _drop(self, shelf: Shelf, held: Held) -> None:
        record, at = held.record, (shelf.key, held.record.id)
        shelf.remove(held)
        self._count -= 1
        self._eviction.removed(held, self._count)
        self._forget_if_empty(shelf)
        if is_a(record, Order):
            count_down(self._pairs, record.body.pair)
            count_down(self._orders_of, record.body.author)
            if shelf.prefix is not None:
                count_down(self._places, record.id)
        if record.kind is not Kind.BEAT:
            self._write_later(at, None)
        self._forget_orphan(at)

    def _shelf(self, key: DhtKey, prefix: str | None) -> Shelf:
        shelf = self._shelves.get(key)
        return Shelf(key, prefix) if shelf is None else shelf  # one with branches only is empty, and counts

    def _forget_if_empty(self, shelf: Shelf) -> None:
        if not shelf and not shelf.branches:
            self._shelves.pop(shelf.key, None)

    def _write_later(self, at: _Place, held: Held | None) -> None:
        self._unwritten[at] = held
        self.changed.set()

    def _rebuild_expiries(self) -> None:
        self._expiries = [
            (keep_until(held.record), shelf.key, held.record.id) for shelf in self._shelves.values() for held in shelf
        ]
        heapq.heapify(self._expiries)

    def _note_orphan(self, at: _Place, source: str) -> None:
        self._orphans.setdefault(source, OrderedDict())[at] = None
        self._orphan_sources[at] = source
        crowder = source
        if len(self._orphan_sources) > limits.ORPHANS_HELD_MAX:
            crowder = max(self._orphans, key=lambda name: len(self._orphans[name]))
        elif len(self._orphans[source]) <= limits.ORPHANS_PER_SOURCE_MAX:
            return
        key, record_id = next(iter(self._orphans[crowder]))
        shelf = self._shelves[key]
        oldest = shelf.get(record_id)
        assert oldest is not None, "an orphan is on its shelf"
        self._drop(shelf, oldest)

    def _forget_orphan(self, at: _Place) -> None:
        source = self._orphan_sources.pop(at, None)
        if source is not None:
            del self._orphans[source][at]
            if not self._orphans[source]:
                del self._orphans[source]


def _moved(verdict: PutVerdict, below: str | None) -> PutVerdict:
    """Say as well to which branch a record belongs."""
    if below is None or verdict.newer or verdict.code:
        return verdict
    return replace(verdict, code=MOVED, newer=pack((below,)))


def _may_ask_again(shelf: Shelf, new: AnyRecord, old: AnyRecord) -> bool:
    """Whether a taker's accept takes the place of an earlier one because the maker has refused that."""
    return is_a(new, Accept) and is_a(old, Accept) and shelf.is_refused(old) and not shelf.is_refused(new)


def _insert(connection: sqlite3.Connection, rows: list[Held]) -> None:
    connection.executemany(
        "INSERT OR REPLACE INTO held(dht_key, record_id, prefix, anchored, wire) VALUES(?, ?, ?, ?, ?)",
        ((held.key, held.record.id, held.prefix, held.anchored, held.record.wire) for held in rows),
    )
