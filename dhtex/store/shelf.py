"""The records of one key, in listing order, with what competes for the same place. Pure: no clock, no disk.

Theory of operation. Each kind has a list kept sorted by bisection, so a page is a slice: orders of an index by price,
best first, then age; everything else by arrival, but beats of makers without orders last. The digest of a kind is the
exclusive or of its ids, kept up to date with each record that comes or goes.

Who may speak about an order is known from the order itself, or from a Status that came while the order was known. A
record is *anchored* when it is an order, which paid with its stamp, or speaks about one that is known. What is not
anchored is kept in case its order comes later, and is the first to go.
"""

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, TypeVar

from dhtex import limits
from dhtex.market.admission import tree_path
from dhtex.market.branches import Branches, divide
from dhtex.market.holding import ANY_KIND, IDS, SHORT_ID_BYTES, Page
from dhtex.market.ids import DhtKey, PublicKey, RecordId
from dhtex.market.merge import may_sign_receipt, refusal_slot, slot
from dhtex.market.records import Accept, AnyRecord, Beat, Kind, Order, Receipt, Record, Refusal, Side, Status, is_a
from dhtex.market.stamp import STAMPED, bits_of

Name = TypeVar("Name")
_WIRE_HEAD_BYTES: Final = 3  # MessagePack's head of a byte string of up to 64 KiB
_WIRE_BYTES_MIN: Final = 128  # no record is shorter: a signature and an id alone take 96
_ORDER_KEY_KINDS: Final = (Kind.ORDER, Kind.STATUS, Kind.REFUSAL, Kind.ACCEPT, Kind.RECEIPT)
_INDEX_KINDS: Final = (Kind.ORDER, Kind.STATUS, Kind.BEAT)

Rank = tuple[Decimal, int, bytes]


@dataclass(slots=True, eq=False)
class Held:
    """A record at one key. `rank` is its place in the listing order of its kind, `source` the IP that brought it."""

    record: AnyRecord
    key: DhtKey
    prefix: str | None
    anchored: bool
    rank: Rank
    source: str = "self"
    gone: bool = False


class Shelf:
    """All records of one key; `prefix` None is an order key, anything else a node of an index."""

    def __init__(self, key: DhtKey, prefix: str | None) -> None:
        self.key = key
        self.prefix = prefix
        self._held: dict[RecordId, Held] = {}
        self._slots: dict[bytes, list[Held]] = {}
        kinds = _ORDER_KEY_KINDS if prefix is None else _INDEX_KINDS
        self._lists: dict[int, list[tuple[Rank, Held]]] = {kind: [] for kind in kinds}
        self._digests: dict[int, int] = dict.fromkeys(kinds, 0)
        self._statuses: dict[bytes, list[Held]] = {}
        self._orders_by_maker: Counter[PublicKey] = Counter()
        self._anchored_by_maker: Counter[PublicKey] = Counter()
        self._arrivals = 0
        self.market: tuple[str, str] | None = None  # pair and side of a node of an index
        self.branches = Branches(prefix or "")
        self._loose = 0
        self._divide_above = limits.TREE_NODE_ORDERS_MAX

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Held]:
        """All of them, orders first, so that whoever is handed them one by one knows whom to believe."""
        for listed in self._lists.values():
            yield from (held for _, held in listed)

    def get(self, record_id: RecordId) -> Held | None:
        return self._held.get(record_id)

    def rivals(self, record: AnyRecord) -> list[Held]:
        """What competes with a record for its slot."""
        return list(self._slots.get(slot(record), ()))

    def order(self) -> Record[Order] | None:
        """The order of an order key."""
        listed = self._lists[Kind.ORDER]
        return record if listed and is_a(record := listed[0][1].record, Order) else None

    def statuses(self, order_id: RecordId) -> list[Held]:
        """All statuses of an order, by its maker or not, as they came."""
        return list(self._statuses.get(order_id, ()))

    def spoke_of(self, order_id: RecordId) -> list[Held]:
        """What may have come before its order, and could not be judged then."""
        if self.prefix is not None:
            return self.statuses(order_id)
        return [held for held in self if held.record.kind in (Kind.STATUS, Kind.REFUSAL, Kind.ACCEPT)]

    def vouches_for(self, receipt: Receipt) -> bool:
        """Whether a certificate by the order's maker makes the signer of a receipt a side of the trade."""
        statuses = (held.record for held in self.statuses(RecordId(receipt.order_id)) if held.anchored)
        return may_sign_receipt(receipt, (record for record in statuses if is_a(record, Status)))

    def has_orders_of(self, maker: PublicKey) -> bool:
        """Whether this index lists an order of a maker."""
        return self._orders_by_maker[maker] > 0

    def maker_of(self, order_id: RecordId) -> PublicKey | None:
        """Who may speak about an order, when that is known."""
        order = self._held.get(order_id)
        if order is not None:
            return order.record.body.author
        anchored = (held.record.body.author for held in self._statuses.get(order_id, ()) if held.anchored)
        return next(anchored, None)

    def is_refused(self, accept: Record[Accept]) -> bool:
        """Whether the order's maker has said no to an accept: it waits for nothing any more."""
        maker = self.maker_of(RecordId(accept.body.order_id))
        return maker is not None and refusal_slot(accept.id, maker) in self._slots

    def maker_has_closed(self) -> bool:
        """Whether the order of an order key has been ended by its maker."""
        order = self.order()
        return order is not None and self.closed(order) is not None

    def closed(self, record: Record[Order]) -> Held | None:
        """The Status with the highest sequence by which its own maker ended an order."""
        own = [held for held in self._statuses.get(record.id, ()) if held.record.body.author == record.body.author]
        return max(own, key=_sequence, default=None)

    def add(self, record: AnyRecord, anchored: bool, source: str = "self") -> Held:
        """Put a record in its place. The caller has settled what becomes of its rivals."""
        assert record.id not in self._held, "a record is held once"
        held = Held(record, self.key, self.prefix, anchored, self._rank(record), source)
        self._held[record.id] = held
        self._slots.setdefault(slot(record), []).append(held)
        insort(self._lists[record.kind], (held.rank, held), key=_rank_of)
        self._digests[record.kind] ^= _short(record.id)
        if is_a(record, Status):
            self._statuses.setdefault(record.body.order_id, []).append(held)
        self._count(held, 1)
        if self.prefix is not None and is_a(record, Order):
            self.market = (record.body.pair, record.body.side)
            self._loose += self.branch_of(record) is None
            if self._loose > self._divide_above:
                self._divide()
        return held

    def remove(self, held: Held) -> None:
        """Take a record away."""
        record = held.record
        del self._held[record.id]
        _discard(self._slots, slot(record), held)
        listed = self._lists[record.kind]
        del listed[bisect_left(listed, held.rank, key=_rank_of)]
        self._digests[record.kind] ^= _short(record.id)
        if is_a(record, Status):
            _discard(self._statuses, record.body.order_id, held)
        self._count(held, -1)
        if self.prefix is not None and is_a(record, Order):
            self._loose -= self.branch_of(record) is None

    def anchor(self, held: Held) -> None:
        """Believe a record whose order has come."""
        self._count(held, -1)
        held.anchored = True
        self._count(held, 1)

    def page(self, kind: int, rank: int, room_bytes: int) -> Page:
        """Records from `rank` on, as many as fit; their short ids, if `kind` has IDS beside it."""
        only_ids, kind = bool(kind & IDS), kind & ~IDS
        kinds = list(self._lists) if kind == ANY_KIND else [kind] if kind in self._lists else []
        room = max(0, room_bytes)
        if only_ids:
            count = max(0, room - _WIRE_HEAD_BYTES) // SHORT_ID_BYTES
            ids = b"".join(held.record.id[:SHORT_ID_BYTES] for held in self._listed(kinds, rank, count))
            wires = [ids] if ids else []
        else:
            wires = []
            for held in self._listed(kinds, rank, room // _WIRE_BYTES_MIN):
                room -= len(held.record.wire) + _WIRE_HEAD_BYTES
                if room < 0:
                    break  # and nothing smaller that comes later fits: a page has no holes
                wires.append(held.record.wire)
        digest = 0
        for known in kinds:
            digest ^= self._digests[known]
        branches = self.branches.packed if kind == Kind.ORDER and not only_ids else b""
        return Page(sum(len(self._lists[known]) for known in kinds), digest.to_bytes(8), wires, branches)

    def _listed(self, kinds: list[int], rank: int, count: int) -> Iterator[Held]:
        """At most `count` records from `rank` on in the lists of these kinds, one list after the other."""
        for kind in kinds:
            listed = self._lists[kind]
            part = listed[rank : rank + count]
            yield from (held for _, held in part)
            rank, count = max(0, rank - len(listed)), count - len(part)

    # --- the price tree -----------------------------------------------------------------------------------------

    def branch_of(self, record: AnyRecord) -> str | None:
        """The branch to which an order, or a Status of it, belongs; None while that is this node."""
        return self.branches.of(tree_path(record)) if self.branches else None

    @property
    def has_witnesses(self) -> bool:
        """Whether enough orders stand here to be handed on, so that whoever becomes a holder hears of this node."""
        return len(self._lists[Kind.ORDER]) >= limits.TREE_WITNESSES

    def has_moved(self, maker: PublicKey) -> bool:
        """Whether a maker that says it is alive here has no order here, or one that belongs to a branch."""
        if not self.branches:
            return False
        own = [order for order in self.orders() if order.body.author == maker]
        return not own or any(self.branch_of(order) is not None for order in own)

    def orders(self) -> list[Record[Order]]:
        """The orders of an index node, best first."""
        return [held.record for _, held in self._lists[Kind.ORDER] if is_a(held.record, Order)]

    def rebranch(self, add: list[str], drop: list[str]) -> None:
        """Change to whom this node delegates."""
        for branch in drop:
            self.branches.drop(branch)
        self.branches.add(add)
        self._loose = sum(self.branch_of(order) is None for order in self.orders())

    def _divide(self) -> None:
        loose = [tree_path(order) for order in self.orders() if self.branch_of(order) is None]
        self.rebranch(divide(loose), [])
        # Where there is no room for more branches, to try again with each order would cost a look at all of them.
        self._divide_above = max(limits.TREE_NODE_ORDERS_MAX, self._loose + limits.TREE_NODE_ORDERS_MAX // 8)

    # --- quotas -------------------------------------------------------------------------------------------------

    def loser(self, new: AnyRecord, anchored: bool, now: float) -> Held | None:
        """Who has to go when a record is added: nobody (None), one that is held, or the new one itself.

        In the last case a `Held` of it is returned, which is not on the shelf.
        """
        candidate = Held(new, self.key, self.prefix, anchored, self._rank(new))
        if self.prefix is not None:
            return self._loser_at_index(candidate) if anchored else None
        if len(self._held) < limits.RECORDS_PER_ORDER_KEY_MAX:
            return None
        # Among equals the one that came last: a crowd must not push out those who were first.
        return min([candidate, *reversed(list(self))], key=lambda held: self._worth_at_order(held, new, now))

    def _worth_at_order(self, held: Held, new: AnyRecord, now: float) -> tuple[int, int]:
        """What is worth keeping at an order's key: the order and its end first, then what may still be answered.

        A refusal takes the place of its accept, and gives way to accepts of an open order: else a crowd of accepts
        that have to be refused would shut out all others. What a Status closed needs no answer beside it.
        """
        record, body = held.record, held.record.body
        if isinstance(body, Order):
            return (5, 0)
        if is_a(record, Accept):
            refused = self.is_refused(record) or (is_a(new, Refusal) and new.body.accept_id == record.id)
            if refused or now > record.body.deadline:
                return (0, 0)
            closed = is_a(new, Status) or self.maker_has_closed()
            return (1 if closed else 3, bits_of(record.stamp))
        if not held.anchored:
            return (1, 0)
        if isinstance(body, Refusal):
            return (2, body.at) if now <= body.expires else (1, 0)
        return (4, 0)

    def _loser_at_index(self, candidate: Held) -> Held | None:
        new, maker = candidate.record, candidate.record.body.author
        if is_a(new, Order) and self._orders_by_maker[maker] >= limits.ORDERS_PER_MAKER_AND_INDEX_KEY_MAX:
            crowder = maker
        elif self._anchored_by_maker.total() >= limits.RECORDS_PER_INDEX_KEY_MAX:
            most = max(self._anchored_by_maker, key=self._anchored_by_maker.__getitem__)
            crowder = most if self._anchored_by_maker[most] > self._anchored_by_maker[maker] else maker
        else:
            return None
        own = [held for held in self if held.anchored and held.record.body.author == crowder]
        if crowder == maker and is_a(new, Order):
            own.append(candidate)
        return min(own, key=_worth_at_index, default=None)

    def _count(self, held: Held, change: int) -> None:
        # Beats are one for each maker and index: those of makers with orders need no quota of their own.
        if self.prefix is None or not held.anchored or held.record.kind is Kind.BEAT:
            return
        for counter in (self._anchored_by_maker, *([self._orders_by_maker] if held.record.kind is Kind.ORDER else [])):
            counter[held.record.body.author] += change
            if not counter[held.record.body.author]:
                del counter[held.record.body.author]

    def _rank(self, record: AnyRecord) -> Rank:
        if self.prefix is not None and is_a(record, Order):
            price = Decimal(record.body.price)
            return (price if record.body.side is Side.SELL else -price, record.body.created, record.id)
        self._arrivals += 1
        # Beats cost nothing: those of makers who have no order here must not stand before the others.
        idle = is_a(record, Beat) and not self.has_orders_of(record.body.author)
        return (Decimal(idle), self._arrivals, record.id)


def is_stamped(record: AnyRecord) -> bool:
    """Whether a record paid for its place itself."""
    return record.kind in STAMPED


def order_of(record: AnyRecord) -> RecordId | None:
    """The order that a record speaks of; None for a Beat."""
    body = record.body
    if isinstance(body, Beat):
        return None
    return record.id if isinstance(body, Order) else RecordId(body.order_id)


def _rank_of(entry: tuple[Rank, Held]) -> Rank:
    return entry[0]


def _short(record_id: RecordId) -> int:
    return int.from_bytes(record_id[:8])


def _sequence(held: Held) -> int:
    return held.record.body.seq if is_a(held.record, Status) else 0


def count_down(counter: Counter[Name], name: Name) -> None:
    """One less; what has none left is forgotten."""
    counter[name] -= 1
    if not counter[name]:
        del counter[name]


def _discard(lists: dict[bytes, list[Held]], name: bytes, held: Held) -> None:
    lists[name].remove(held)
    if not lists[name]:
        del lists[name]


def _worth_at_index(held: Held) -> tuple[int, int, int]:
    """Orders go before tombstones; of orders the lowest stamp with the farthest expiry, of tombstones the nearest."""
    body = held.record.body
    if isinstance(body, Order):
        return (0, bits_of(held.record.stamp), -body.expires)
    return (1, 0, body.expires if isinstance(body, Status) else 0)
