"""Who has to go when a node holds as much as it can: fair to makers and to addresses. Pure.

Theory of operation. What pays for its place by a stamp, and the refusals and receipts that stand beside it for nothing,
are counted by author and by the address that brought them. When the node is full, the author who has most here loses
what is worth least: what bears no stamp, then the lowest stamp, among equals the farthest expiry. A newcomer whose
author has most himself competes with his own. So a crowd costs its author, and others nothing. One address may bring no
more than RECORDS_PER_SOURCE_MAX; beyond that, what it brings competes with what it brought. Ends of orders and signs of
life always find room: there are a few for each order, and one for each author at a node of a tree.

Ranking costs memory, so makers are ranked only while the node is nearly full, an address only once it reached its
bound. Heaps keep what is gone until it comes up, or until they are half of it: each step costs a logarithm. A heap goes
with the last of its records.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from dhtex import limits
from dhtex.market.admission import keep_until
from dhtex.market.ids import PublicKey
from dhtex.market.records import AnyRecord, Kind
from dhtex.market.stamp import STAMPED, bits_of
from dhtex.store.held import Held
from dhtex.store.shelf import Name, count_down

COUNTED: Final = STAMPED | {Kind.REFUSAL, Kind.RECEIPT}
_OWN_SOURCES: Final = frozenset({"self", "disk"})  # of no address
_NEARLY: Final = 0.9
_STALE_MAX: Final = 16  # entries of a small heap that may be of no use; there is one heap for each maker

_Worth = tuple[int, int]
_Entry = tuple[_Worth, int, Held]
_Heap = list[_Entry]


class Eviction:
    """The books of one node. `everything` walks all that it holds."""

    def __init__(self, everything: Callable[[], Iterable[Held]]) -> None:
        self._everything = everything
        self._makers: Counter[PublicKey] = Counter()
        self._sources: Counter[str] = Counter()
        self._of_maker: dict[PublicKey, _Heap] = {}
        self._of_source: dict[str, _Heap] = {}
        self._most: list[tuple[int, PublicKey]] = []
        self._ranked = False
        self._entries = limits.RECORDS_HELD_MAX  # numbers the entries of all heaps, so that records are not compared

    def added(self, held: Held, count: int) -> None:
        """A record came; `count` are held now."""
        if held.kind not in COUNTED:
            return
        maker, source = held.author, held.source
        self._makers[maker] += 1
        self._sources[source] += 1
        if self._ranked:
            self._enter(self._of_maker.setdefault(maker, []), held)
            heapq.heappush(self._most, (-self._makers[maker], maker))
            if len(self._most) > 2 * len(self._makers) + _STALE_MAX:
                self._rank_makers()
        elif count > _NEARLY * limits.RECORDS_HELD_MAX:
            self._rank()
        if source in self._of_source:
            self._enter(self._of_source[source], held)

    def recount(self) -> None:
        """Everything is there at once, as after a start."""
        counted = list(self._counted())
        self._makers = Counter([held.author for held in counted])
        self._sources = Counter([held.source for held in counted])

    def removed(self, held: Held, count: int) -> None:
        """A record is gone; `count` are left."""
        if held.kind not in COUNTED:
            return
        count_down(self._makers, held.author)
        count_down(self._sources, held.source)
        _thin(self._of_maker, held.author, self._makers[held.author])
        _thin(self._of_source, held.source, self._sources[held.source])
        if self._ranked and count < _NEARLY**2 * limits.RECORDS_HELD_MAX:
            self._ranked = False
            self._of_maker.clear()
            self._most.clear()

    def loser(self, new: AnyRecord, source: str, count: int) -> Held | AnyRecord | None:
        """Who goes if a record comes that is COUNTED: nobody (None), one that is held, or the new one itself."""
        if source not in _OWN_SOURCES and self._sources[source] >= limits.RECORDS_PER_SOURCE_MAX:
            if source not in self._of_source:
                self._of_source[source] = _heap(h for h in self._counted() if h.source == source)
            return _weaker(new, self._of_source[source])
        if count < limits.RECORDS_HELD_MAX:
            return None
        if not self._ranked:
            self._rank()
        maker, most = new.body.author, self._crowder()
        if most is not None and self._makers[most] > self._makers[maker]:
            return _first(self._of_maker[most])
        return _weaker(new, self._of_maker.get(maker, []))

    def _crowder(self) -> PublicKey | None:
        """The maker with most. Each growth made an entry, so an entry that is true is the largest of all."""
        while self._most:
            negative, maker = self._most[0]
            if self._makers[maker] == -negative:
                return maker
            heapq.heappop(self._most)
            if self._makers[maker]:
                heapq.heappush(self._most, (-self._makers[maker], maker))
        return None

    def _rank(self) -> None:
        self._ranked = True
        of_maker: dict[PublicKey, list[Held]] = {}
        for held in self._counted():
            of_maker.setdefault(held.author, []).append(held)
        self._of_maker = {maker: _heap(rows) for maker, rows in of_maker.items()}
        self._rank_makers()

    def _rank_makers(self) -> None:
        self._most = [(-count, maker) for maker, count in self._makers.items()]
        heapq.heapify(self._most)

    def _counted(self) -> Iterator[Held]:
        return (held for held in self._everything() if held.kind in COUNTED)

    def _enter(self, heap: _Heap, held: Held) -> None:
        self._entries += 1
        heapq.heappush(heap, (_worth(held), self._entries, held))


def _worth(held: Held) -> _Worth:
    return _worth_of(held.kind, held.number, held.expires)


def _worth_of(kind: Kind, bits: int, expires: int) -> _Worth:
    """What is worth least comes first. An accept is asked for less work than an order, and is worth as much."""
    if kind not in STAMPED:
        return -1, -expires
    return bits + (limits.STAMP_ACCEPT_BITS_LESS if kind is Kind.ACCEPT else 0), -expires


def _heap(rows: Iterable[Held]) -> _Heap:
    heap = [(_worth(held), number, held) for number, held in enumerate(rows)]
    heapq.heapify(heap)
    return heap


def _thin(heaps: dict[Name, _Heap], name: Name, alive: int) -> None:
    """Forget a heap of which nothing is alive any more, and what is gone of one that is mostly that."""
    heap = heaps.get(name, [])
    if not alive:
        heaps.pop(name, None)
    elif len(heap) > 2 * alive + _STALE_MAX:
        heap[:] = [entry for entry in heap if not entry[-1].gone]
        heapq.heapify(heap)


def _first(heap: _Heap) -> Held | None:
    while heap and heap[0][-1].gone:
        heapq.heappop(heap)
    return heap[0][-1] if heap else None


def _weaker(new: AnyRecord, heap: _Heap) -> Held | AnyRecord:
    weakest = _first(heap)
    worth = _worth_of(new.kind, bits_of(new.stamp), keep_until(new))
    return new if weakest is None or worth <= _worth(weakest) else weakest
