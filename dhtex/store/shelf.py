"""The records of one key, in listing order, with what competes for the same place. Pure: no clock, no disk.

Theory of operation. `Shelf` is what both kinds of keys can do; `OrderShelf` is an order's key, `IndexShelf` (in a file
of its own) a node of a price tree. The digest of a kind is the exclusive or of its ids.

An order's key holds few records, usually one, and there are a hundred thousand such keys: so it is one tuple in listing
order (the order, statuses, refusals, accepts, receipts, each by arrival), looked through from its beginning.

Who may speak about an order is known from the order itself, or from a Status that came while the order was known. A
record is *anchored* when it is an order, which paid with its stamp, or speaks about one that is known. What is not
anchored is kept in case its order comes later, and is the first to go.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import reduce
from operator import xor
from typing import Final, TypeVar

from dhtex import limits
from dhtex.market.holding import ANY_KIND, IDS, SHORT_ID_BYTES, WHOLE, WIRE_HEAD_BYTES, Page, Span
from dhtex.market.ids import DhtKey, PublicKey, RecordId
from dhtex.market.merge import may_sign_receipt, slot
from dhtex.market.records import Accept, AnyRecord, Beat, Kind, Order, Receipt, Record, Refusal, Status, is_a
from dhtex.market.stamp import STAMPED
from dhtex.store.held import Held, Place

Name = TypeVar("Name")
_WIRE_BYTES_MIN: Final = 128  # no record is shorter: a signature and an id alone take 96
_LISTED: Final = {Kind.ORDER: 0, Kind.STATUS: 1, Kind.REFUSAL: 2, Kind.ACCEPT: 3, Kind.RECEIPT: 4}


class Shelf(Place, ABC):
    """All records of one key. Branches, and a market, has a node of an index only."""

    __slots__ = ()
    market: tuple[str, str] | None = None  # pair and side of a node of an index

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __iter__(self) -> Iterator[Held]:
        """All of them, orders first, so that whoever is handed them one by one knows whom to believe."""

    @abstractmethod
    def get(self, record_id: RecordId) -> Held | None:
        """The record of this id."""

    @abstractmethod
    def rivals(self, record: AnyRecord) -> list[Held]:
        """What competes with a record for its slot."""

    @abstractmethod
    def statuses(self, order_id: RecordId) -> list[Held]:
        """All statuses of an order, by its maker or not, as they came."""

    @abstractmethod
    def spoke_of(self, order_id: RecordId) -> list[Held]:
        """What may have come before its order, and could not be judged then."""

    @abstractmethod
    def add(self, held: Held, record: AnyRecord) -> None:
        """Put a record in its place. The caller has settled what becomes of its rivals."""

    @abstractmethod
    def lay(self, held: Held, record: AnyRecord) -> None:
        """Put a record back that was here before, as the last one of its kind; `arrange` is to follow. Raises
        ValueError for an order without a price."""

    @abstractmethod
    def arrange(self) -> None:
        """Bring what was laid here, in the order in which it came, into listing order."""

    @abstractmethod
    def remove(self, held: Held) -> None:
        """Take a record away."""

    def anchor(self, held: Held) -> None:
        """Believe a record whose order has come."""
        held.anchored = True

    @abstractmethod
    def loser(self, new: AnyRecord, anchored: bool, now: float) -> Held | AnyRecord | None:
        """Who has to go when a record is added: nobody (None), one that is held, or the new one itself."""

    @abstractmethod
    def _listed(self, kind: int) -> list[Sequence[Held]]:
        """The lists of a kind, or of all."""

    def maker_of(self, order_id: RecordId) -> PublicKey | None:
        """Who may speak about an order, when that is known."""
        order = self.get(order_id)
        if order is not None:
            return order.author
        return next((held.author for held in self.statuses(order_id) if held.anchored), None)

    def closed(self, order_id: RecordId, maker: PublicKey) -> Held | None:
        """The Status with the highest sequence by which its own maker ended an order."""
        return max((held for held in self.statuses(order_id) if held.author == maker), key=_number, default=None)

    def vouches_for(self, receipt: Receipt) -> bool:
        """Whether a certificate by the order's maker makes the signer of a receipt a side of the trade."""
        statuses = (held.record for held in self.statuses(RecordId(receipt.order_id)) if held.anchored)
        return may_sign_receipt(receipt, (record for record in statuses if is_a(record, Status)))

    def is_refused(self, accept: Record[Accept]) -> bool:
        """Whether the order's maker has said no to an accept: it waits for nothing any more."""
        return False

    def has_orders_of(self, maker: PublicKey) -> bool:
        """Whether this index lists an order of a maker."""
        return False

    def branch_of(self, record: AnyRecord) -> str | None:
        """The branch to which an order, or a Status of it, belongs; None while that is this node."""
        return None

    def branch_names(self) -> list[str]:
        """To whom this node delegates."""
        return []

    @property
    def has_witnesses(self) -> bool:
        """Whether enough orders stand here to be handed on, so that whoever becomes a holder hears of this node."""
        return False

    def page(self, kind: int, rank: int, room_bytes: int, span: Span = WHOLE) -> Page:
        """Records from `rank` on, as many as fit; their short ids, if `kind` has IDS beside it. Of orders at a node of
        a price tree those in the span, as if there were no others."""
        only_ids, kind = bool(kind & IDS), kind & ~IDS
        lists = self._listed(kind)
        room = max(0, room_bytes)
        first, total, digest = self._extent(kind, lists, span)
        left, rank = max(0, total - rank), first + rank
        wires: list[bytes] = []
        if only_ids:
            count = min(left, max(0, room - WIRE_HEAD_BYTES) // SHORT_ID_BYTES)
            ids = b"".join(held.id[:SHORT_ID_BYTES] for held in _part(lists, rank, count))
            wires = [ids] if ids else []
        else:
            for held in _part(lists, rank, min(left, room // _WIRE_BYTES_MIN)):
                room -= len(held.wire) + WIRE_HEAD_BYTES
                if room < 0:
                    break  # and nothing smaller that comes later fits: a page has no holes
                wires.append(held.wire)
        branches = self._packed() if kind == Kind.ORDER and not only_ids else b""
        return Page(total, digest.to_bytes(8), wires, branches)

    def _extent(self, kind: int, lists: list[Sequence[Held]], span: Span) -> tuple[int, int, int]:
        """Where a listing begins, how many records it has, and their digest."""
        return 0, sum(map(len, lists)), reduce(xor, (short(held.id) for listed in lists for held in listed), 0)

    def _packed(self) -> bytes:
        return b""


class OrderShelf(Shelf):
    """An order, and what is said about it."""

    __slots__ = ("_held",)

    def __init__(self, key: DhtKey) -> None:
        super().__init__(key)
        self._held: tuple[Held, ...] = ()

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Held]:
        return iter(self._held)

    def get(self, record_id: RecordId) -> Held | None:
        return next((held for held in self._held if held.id == record_id), None)

    def rivals(self, record: AnyRecord) -> list[Held]:
        wanted = slot(record)
        return [held for held in self._held if held.slot == wanted]

    def order(self) -> Held | None:
        """The order of this key."""
        return self._held[0] if self._held and self._held[0].kind is Kind.ORDER else None

    def statuses(self, order_id: RecordId) -> list[Held]:
        return [held for held in self._held if held.kind is Kind.STATUS and held.subject == order_id]

    def spoke_of(self, order_id: RecordId) -> list[Held]:
        return [held for held in self._held if held.kind in (Kind.STATUS, Kind.REFUSAL, Kind.ACCEPT)]

    def is_refused(self, accept: Record[Accept]) -> bool:
        return accept.id in self._refused(self.maker_of(RecordId(accept.body.order_id)))

    def _refused(self, maker: PublicKey | None) -> set[bytes]:
        return {held.subject for held in self._held if held.kind is Kind.REFUSAL and held.author == maker}

    def add(self, held: Held, record: AnyRecord) -> None:
        if not self._held:
            self._held = (held,)
            return
        assert self.get(held.id) is None, "a record is held once"
        held.subject = next((other.subject for other in self._held if other.subject == held.subject), held.subject)
        place = _LISTED[held.kind]
        rank = sum(_LISTED[other.kind] <= place for other in self._held)
        self._held = (*self._held[:rank], held, *self._held[rank:])

    def lay(self, held: Held, record: AnyRecord) -> None:
        self._held = (*self._held, held)

    def arrange(self) -> None:
        if len(self._held) > 1:
            subjects: dict[bytes, bytes] = {}
            for held in self._held:
                held.subject = subjects.setdefault(held.subject, held.subject)
            self._held = tuple(sorted(self._held, key=lambda held: _LISTED[held.kind]))

    def remove(self, held: Held) -> None:
        self._held = tuple(other for other in self._held if other is not held)

    def _listed(self, kind: int) -> list[Sequence[Held]]:
        return [self._held if kind == ANY_KIND else [held for held in self._held if held.kind == kind]]

    # --- quotas -------------------------------------------------------------------------------------------------

    def loser(self, new: AnyRecord, anchored: bool, now: float) -> Held | AnyRecord | None:
        if len(self._held) < limits.RECORDS_PER_ORDER_KEY_MAX:
            return None
        candidate = Held(new, self, anchored, "self", 0)
        order = self.order()
        maker = None if order is None else self.maker_of(order.id)
        refused = self._refused(maker) | ({new.body.accept_id} if is_a(new, Refusal) else set())
        closed = is_a(new, Status) or (order is not None and self.closed(order.id, order.author) is not None)
        # Among equals the one that came last: a crowd must not push out those who were first.
        loser = min([candidate, *reversed(self._held)], key=lambda held: _worth(held, refused, closed, now))
        return new if loser is candidate else loser


def _worth(held: Held, refused: set[bytes], closed: bool, now: float) -> tuple[int, int]:
    """What is worth keeping at an order's key: the order and its end first, then what may still be answered.

    A refusal takes the place of its accept, and gives way to accepts of an open order: else a crowd of accepts
    that have to be refused would shut out all others. What a Status closed needs no answer beside it.
    """
    if held.kind is Kind.ORDER:
        return (5, 0)
    if held.kind is Kind.ACCEPT:
        if held.id in refused or now > held.deadline:
            return (0, 0)
        return (1 if closed else 3, held.number)
    if not held.anchored:
        return (1, 0)
    if held.kind is Kind.REFUSAL:
        return (2, held.number) if now <= held.deadline else (1, 0)
    return (4, 0)


def is_stamped(record: AnyRecord) -> bool:
    """Whether a record paid for its place itself."""
    return record.kind in STAMPED


def order_of(record: AnyRecord) -> RecordId | None:
    """The order that a record speaks of; None for a Beat."""
    body = record.body
    if isinstance(body, Beat):
        return None
    return record.id if isinstance(body, Order) else RecordId(body.order_id)


def short(record_id: RecordId) -> int:
    """What an id adds to a digest."""
    return int.from_bytes(record_id[:8])


def count_up(counter: Counter[Name], name: Name) -> None:
    """One more."""
    counter[name] = counter.get(name, 0) + 1  # for a new name much quicker than `+= 1`


def count_down(counter: Counter[Name], name: Name) -> None:
    """One less; what has none left is forgotten."""
    counter[name] -= 1
    if not counter[name]:
        del counter[name]


def _number(held: Held) -> int:
    return held.number


def _part(lists: list[Sequence[Held]], rank: int, count: int) -> Iterator[Held]:
    """At most `count` records from `rank` on in some lists, one after the other."""
    for listed in lists:
        part = listed[rank : rank + count]
        yield from part
        rank, count = max(0, rank - len(listed)), count - len(part)


def may_ask_again(shelf: Shelf, new: AnyRecord, old: AnyRecord) -> bool:
    """Whether a taker's accept takes the place of an earlier one because the maker has refused that."""
    return is_a(new, Accept) and is_a(old, Accept) and shelf.is_refused(old) and not shelf.is_refused(new)
