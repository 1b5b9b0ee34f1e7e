"""The records of one node of a price tree: thousands, so everything that is asked often has a table of its own.

Theory of operation. Each kind has a list kept sorted by bisection, so a page is a slice: orders by price, best first,
then age; statuses and beats by arrival, but beats of makers without orders last. A rank is one number: of an order the
bits of its price (see `dhtex.market.pricebits`; of buys inverted) and its time, so that the branch to which an order
belongs can be told without decoding it. The digest of a kind is kept up to date with each record that comes or goes;
that of a span of prices is the difference of two sums, which are made anew when somebody asks after a change.
"""

import heapq
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import reduce
from itertools import accumulate
from operator import xor
from typing import Final

from dhtex import limits
from dhtex.market.admission import tree_path
from dhtex.market.branches import Branches, divide
from dhtex.market.holding import ANY_KIND, WHOLE, Span, TreeNode, TreeOrder
from dhtex.market.ids import DhtKey, PublicKey, RecordId
from dhtex.market.pricebits import PRICE_BITS, path_behind, price_number, unpacked
from dhtex.market.records import AnyRecord, Kind, Order, Side, Status, is_a
from dhtex.store.held import NUMBER_MAX, Held
from dhtex.store.shelf import OrderShelf, Shelf, count_down, count_up, short

_ORDER, _STATUS, _BEAT = Kind.ORDER, Kind.STATUS, Kind.BEAT  # by these names, because those are slow in Python 3.11
_KINDS: Final[tuple[int, ...]] = (_ORDER, _STATUS, _BEAT)
_TIME_BITS: Final = 40  # no time of a record is larger
_BITS_MAX: Final = (1 << PRICE_BITS) - 1
_IDLE: Final = NUMBER_MAX  # more than any row's number
_STALE_MAX: Final = 64  # entries of a heap that may be gone, before it is built anew
_Entry = tuple[tuple[int, int, int], int, RecordId]


class IndexShelf(Shelf):
    """A node of a price tree; `prefix` is empty for the root."""

    __slots__ = (
        "_anchored", "_anchored_by_maker", "_branches", "_digests", "_divide_above", "_held", "_lists",
        "_loose", "_orders_by_maker", "_spoken", "_sums", "_worst", "market", "prefix",
    )  # fmt: skip

    def __init__(self, key: DhtKey, prefix: str) -> None:
        super().__init__(key)
        self.prefix: str = prefix
        self.market: tuple[str, str] | None = None
        self._held: dict[RecordId, Held] = {}
        self._lists: dict[int, list[Held]] = {kind: [] for kind in _KINDS}
        self._digests: dict[int, int] = dict.fromkeys(_KINDS, 0)
        self._sums: list[int] = []  # the digest of the first so many orders; empty after a change
        self._spoken: dict[bytes, tuple[Held, ...]] = {}  # statuses by order, beats by maker
        self._orders_by_maker: Counter[PublicKey] = Counter()
        self._anchored_by_maker: Counter[PublicKey] = Counter()
        self._worst: dict[PublicKey, list[_Entry]] = {}
        self._anchored = 0
        self._branches = Branches(prefix)
        self._loose = 0
        self._divide_above = limits.TREE_NODE_ORDERS_MAX

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Held]:
        for listed in self._lists.values():
            yield from listed

    def get(self, record_id: RecordId) -> Held | None:
        return self._held.get(record_id)

    def rivals(self, record: AnyRecord) -> list[Held]:
        if record.kind is _ORDER:
            same = self._held.get(record.id)
            return [] if same is None else [same]
        spoken = self._spoken.get(_spoken_of(record), ())
        return [held for held in spoken if held.kind is record.kind and held.author == record.body.author]

    def statuses(self, order_id: RecordId) -> list[Held]:
        return [held for held in self._spoken.get(order_id, ()) if held.kind is _STATUS]

    def spoke_of(self, order_id: RecordId) -> list[Held]:
        return self.statuses(order_id)

    def has_orders_of(self, maker: PublicKey) -> bool:
        return maker in self._orders_by_maker

    def add(self, held: Held, record: AnyRecord) -> None:
        assert held.id not in self._held, "a record is held once"
        self._rank(held, record)
        insort(self._lists[held.kind], held, key=_rank_of)
        self._note(held, record)
        self._keep_in_heap(held)

    def lay(self, held: Held, record: AnyRecord) -> None:
        self._rank(held, record)
        self._lists[held.kind].append(held)
        self._note(held, record)

    def arrange(self) -> None:
        for listed in self._lists.values():
            listed.sort(key=_rank_of)

    def _note(self, held: Held, record: AnyRecord) -> None:
        self._held[held.id] = held
        self._digests[held.kind] ^= short(held.id)
        if held.kind is not _ORDER:
            name = held.subject if held.kind is _STATUS else held.author
            self._spoken[name] = (*self._spoken.get(name, ()), held)
        self._count(held, 1)
        if held.kind is _ORDER:
            self._sums = []
            self._loose += self.branch_of(record) is None
            if self._loose > self._divide_above:
                self._divide()

    def remove(self, held: Held) -> None:
        del self._held[held.id]
        listed = self._lists[held.kind]
        del listed[bisect_left(listed, _rank_of(held), key=_rank_of)]
        self._digests[held.kind] ^= short(held.id)
        if held.kind is _ORDER:
            self._sums = []
            self._loose -= self._branch(held) is None
        else:
            name = held.subject if held.kind is _STATUS else held.author
            left = tuple(other for other in self._spoken[name] if other is not held)
            if left:
                self._spoken[name] = left
            else:
                del self._spoken[name]
        self._count(held, -1)
        if held.author not in self._anchored_by_maker:
            self._worst.pop(held.author, None)

    def anchor(self, held: Held) -> None:
        """Believe a record whose order has come."""
        held.anchored = True
        self._count(held, 1)
        self._keep_in_heap(held)

    def _listed(self, kind: int) -> list[Sequence[Held]]:
        return [listed for known, listed in self._lists.items() if kind in (known, ANY_KIND)]

    def _extent(self, kind: int, lists: list[Sequence[Held]], span: Span) -> tuple[int, int, int]:
        if kind == ANY_KIND:
            return 0, len(self._held), reduce(xor, self._digests.values())
        orders = self._lists[_ORDER]
        if kind != _ORDER or span == WHOLE:
            return 0, sum(map(len, lists)), self._digests.get(kind, 0)
        first = bisect_left(orders, unpacked(span.best, fill=b"\0") << _TIME_BITS, key=_rank)
        end = bisect_left(orders, unpacked(span.worst, fill=b"\xff") + 1 << _TIME_BITS, lo=first, key=_rank)
        if len(self._sums) <= len(orders):
            self._sums = list(accumulate((short(held.id) for held in orders), xor, initial=0))
        return first, end - first, self._sums[first] ^ self._sums[end]

    # --- the price tree -----------------------------------------------------------------------------------------

    def branch_of(self, record: AnyRecord) -> str | None:
        return self._branches.of(tree_path(record)) if self._branches else None

    def branch_names(self) -> list[str]:
        return list(self._branches)

    @property
    def has_witnesses(self) -> bool:
        return len(self._lists[_ORDER]) >= limits.TREE_WITNESSES

    def _packed(self) -> bytes:
        return self._branches.packed

    def _branch(self, order: Held) -> str | None:
        return self._branches.of(self._path(order)) if self._branches else None

    def _path(self, order: Held) -> str:
        bits = order.rank >> _TIME_BITS
        if self.market is not None and self.market[1] == Side.BUY:
            bits = _BITS_MAX - bits
        return path_behind(f"{bits:0{PRICE_BITS}b}", order.id)

    def has_moved(self, maker: PublicKey) -> bool:
        """Whether a maker that says it is alive here has no order here, or one that belongs to a branch."""
        if not self._branches:
            return False
        own = [order for order in self._lists[_ORDER] if order.author == maker]
        return not own or any(self._branch(order) is not None for order in own)

    def node(self) -> TreeNode | None:
        """This node as it is now; None while no order has shown of which market it is."""
        if self.market is None:
            return None
        orders = [TreeOrder(held.id, self._path(held), held.wire) for held in self._lists[_ORDER]]
        return TreeNode(self.key, *self.market, self.prefix, orders, tuple(self._branches))

    def rebranch(self, add: list[str], drop: list[str]) -> None:
        """Change to whom this node delegates."""
        for branch in drop:
            self._branches.drop(branch)
        self._branches.add(add)
        self._loose = sum(self._branch(order) is None for order in self._lists[_ORDER])

    def _divide(self) -> None:
        loose = [self._path(order) for order in self._lists[_ORDER] if self._branch(order) is None]
        self.rebranch(divide(loose), [])
        # Where there is no room for more branches, to try again with each order would cost a look at all of them.
        self._divide_above = max(limits.TREE_NODE_ORDERS_MAX, self._loose + limits.TREE_NODE_ORDERS_MAX // 8)

    # --- quotas -------------------------------------------------------------------------------------------------

    def loser(self, new: AnyRecord, anchored: bool, now: float) -> Held | AnyRecord | None:
        if not anchored:
            return None
        maker, is_order = new.body.author, new.kind is _ORDER
        if is_order and self._orders_by_maker.get(maker, 0) >= limits.ORDERS_PER_MAKER_AND_INDEX_KEY_MAX:
            crowder = maker
        elif self._anchored >= limits.RECORDS_PER_INDEX_KEY_MAX:
            most = max(self._anchored_by_maker, key=self._anchored_by_maker.__getitem__)
            crowder = most if self._anchored_by_maker[most] > self._anchored_by_maker.get(maker, 0) else maker
        else:
            return None
        loser = self._worst_of(crowder)
        if crowder == maker and is_order:
            candidate = Held(new, self, anchored, "self", 0)
            if loser is None or loser.id == new.id or _worth(candidate) < _worth(loser):
                return new
        return loser

    def _worst_of(self, maker: PublicKey) -> Held | None:
        """Of the anchored records of a maker the one that goes first. Whoever has too many once may go on for long, so
        from then on they are kept in a heap, in which what is gone, or was put in twice, stands until it comes up."""
        heap = self._worst.get(maker)
        if heap is None or len(heap) > 2 * self._anchored_by_maker[maker] + _STALE_MAX:
            heap = self._worst[maker] = [_entry(held) for held in self if held.anchored and held.author == maker]
            heapq.heapify(heap)
        while heap:
            held = self._held.get(heap[0][-1])
            if held is not None and held.anchored and _entry(held) == heap[0]:
                return held
            heapq.heappop(heap)
        return None

    def _keep_in_heap(self, held: Held) -> None:
        if held.anchored and (heap := self._worst.get(held.author)) is not None:
            heapq.heappush(heap, _entry(held))

    def _count(self, held: Held, change: int) -> None:
        # Beats are one for each maker and index: those of makers with orders need no quota of their own.
        if not held.anchored or held.kind is _BEAT:
            return
        self._anchored += change
        count = count_up if change > 0 else count_down
        count(self._anchored_by_maker, held.author)
        if held.kind is _ORDER:
            count(self._orders_by_maker, held.author)

    def _rank(self, held: Held, record: AnyRecord) -> None:
        if is_a(record, Order):
            body = record.body
            bits = price_number(body.price)
            if self.market is None:
                self.market = (body.pair, body.side)
            held.rank = (_BITS_MAX - bits if body.side is Side.BUY else bits) << _TIME_BITS | body.created
        elif record.kind is _BEAT and not self.has_orders_of(record.body.author):
            # Beats cost nothing: those of makers who have no order here must not stand before the others.
            held.rank = _IDLE + held.row


def empty_shelf(key: DhtKey, prefix: str | None) -> Shelf:
    """A shelf for the records of a key: of a node of a price tree, or of an order (None)."""
    return OrderShelf(key) if prefix is None else IndexShelf(key, prefix)


def _rank(held: Held) -> int:
    return held.rank


def _rank_of(held: Held) -> tuple[int, RecordId]:
    return held.rank, held.id


def _spoken_of(record: AnyRecord) -> bytes:
    return record.body.order_id if is_a(record, Status) else record.body.author


def _worth(held: Held) -> tuple[int, int, int]:
    """Orders go before tombstones; of orders the lowest stamp with the farthest expiry, of tombstones the nearest."""
    if held.kind is _ORDER:
        return (0, held.number, -held.expires)
    return (1, 0, held.expires if held.kind is _STATUS else 0)


def _entry(held: Held) -> _Entry:
    """The worst first, of equal ones the first in listing order."""
    return _worth(held), held.rank, held.id
