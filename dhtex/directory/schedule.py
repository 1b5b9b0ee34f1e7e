"""When each of this node's own records is put into the network again.

Theory of operation. A *placement* is one record at one key. It is due at once when it is new, again after a short,
growing delay while no other node holds it, and otherwise after the republish interval, jittered so that nodes which
started together do not stay in step. When a peer comes among the nearest of its key while it has few holders, it is due
soon: the first peer of a lonely node ends its waiting. With enough holders it is not: they hand on what they hold, and
a maker who put a thousand orders again for each newcomer would be a storm. A placement ends with its record.
"""

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from dhtex import limits
from dhtex.market.ids import DhtKey, RecordId

RETRY_S_MIN: Final = 2.0
RETRY_S_MAX: Final = 120.0
FEW_HOLDERS: Final = limits.HOLDERS // 2
MOVE_S: Final = 10.0  # the orders of a thousand makers do not move in one moment
SETTLE_S: Final = 1.0  # peers arrive in crowds; one put for all of them


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a record belongs in a price tree: pair and side, and the path of its order. `everywhere`: at all nodes on
    that path where the order may stand, for a Status must find it."""

    market: tuple[str, str]
    path: str
    everywhere: bool


@dataclass(slots=True)
class Placement:
    """One record at one key; `holders` counts the other nodes that took it at the last put, None before the first, and
    `refusals` those that did not, by reason.

    In a price tree (`prefix` and `spot` are not None) the record may move: `key` and `prefix` are where it was put
    last.
    """

    record_id: RecordId
    key: DhtKey
    prefix: str | None
    wire: bytes
    until: float
    due: float
    spot: Spot | None = None
    holders: int | None = None
    refusals: dict[str, int] = field(default_factory=dict)
    tries: int = 0
    nearest: frozenset[bytes] = field(default_factory=frozenset)


class Schedule:
    """The placements of one node. Pure: `now` is monotonic seconds, randomness is given."""

    def __init__(self, entropy: random.Random) -> None:
        self._entropy = entropy
        self._placements: dict[tuple[RecordId, bool], Placement] = {}

    def add(self, placement: Placement) -> Placement:
        """Take a record into care; it is put at `placement.due`. One that is there already stays as it is."""
        return self._placements.setdefault((placement.record_id, placement.prefix is None), placement)

    def drop(self, record_id: RecordId) -> None:
        """Stop caring for a record, at all its keys."""
        for at_order in (True, False):
            self._placements.pop((record_id, at_order), None)

    def due(self, now: float, wall: float) -> list[Placement]:
        """The placements to put now, most urgent first. Those whose record has ended (`wall`, Unix s) are dropped."""
        ended = [place for place, placement in self._placements.items() if placement.until <= wall]
        for place in ended:
            del self._placements[place]
        return sorted((p for p in self._placements.values() if p.due <= now), key=lambda p: p.due)

    def next_due(self) -> float | None:
        """When to look again, or None when there is nothing to care for."""
        return min((p.due for p in self._placements.values()), default=None)

    def done(self, placement: Placement, holders: int, nearest: frozenset[bytes], now: float) -> None:
        """Note how a put went and when the next one is due."""
        placement.holders, placement.nearest = holders, nearest
        if holders == 0:
            delay = min(RETRY_S_MIN * 2**placement.tries, RETRY_S_MAX)
            placement.tries = min(placement.tries + 1, 16)
        else:
            delay, placement.tries = limits.REPUBLISH_INTERVAL_S, 0
        placement.due = now + delay * self._entropy.uniform(0.75, 1.25)

    def peers_changed(self, placement: Placement, nearest: frozenset[bytes], now: float) -> None:
        """Hasten a put that has few holders when a peer came among the nearest of its key; a first one has its time."""
        if placement.holders is not None and placement.holders < FEW_HOLDERS and nearest - placement.nearest:
            placement.due = min(placement.due, now + SETTLE_S * self._entropy.uniform(0.2, 1.0))

    def moved(self, market: tuple[str, str], prefix: str, branches: list[str], now: float) -> int:
        """Hasten what stands at a node of a price tree and belongs to one of its branches; how many those are."""
        moving = [
            placement
            for placement in self._placements.values()
            if placement.spot is not None
            and (placement.spot.market, placement.prefix) == (market, prefix)
            and placement.spot.path.startswith(tuple(branches))
        ]
        for placement in moving:
            placement.due = min(placement.due, now + MOVE_S * self._entropy.uniform(0.1, 1.0))
        return len(moving)

    def hasten(self, now: float, within_s: float) -> None:
        """Put everything again within a while: the network may have forgotten it."""
        for placement in self._placements.values():
            placement.due = min(placement.due, now + within_s * self._entropy.random())

    def placements(self) -> list[Placement]:
        """All placements, in no order."""
        return list(self._placements.values())

    def few_held(self) -> list[Placement]:
        """The placements that have few holders: a peer that comes near is of use to these only."""
        return [p for p in self._placements.values() if p.holders is not None and p.holders < FEW_HOLDERS]

    def prefix(self, record_id: RecordId) -> str | None:
        """The node of the price tree where a record was put last; None if it is not in care."""
        placement = self._placements.get((record_id, False))
        return None if placement is None else placement.prefix

    def refusals(self, record_id: RecordId) -> dict[str, int]:
        """How many other nodes did not take a record at its last puts, by reason, at the worse of its keys."""
        return most_refused(place.refusals for place in self._places(record_id))

    def _places(self, record_id: RecordId) -> list[Placement]:
        places = (self._placements.get((record_id, at_order)) for at_order in (True, False))
        return [place for place in places if place is not None]

    def holders(self, record_id: RecordId) -> int | None:
        """How many other nodes hold a record at each of its keys, at least; None while that is not known."""
        counts = [place.holders for place in self._places(record_id)]
        known_counts = [count for count in counts if count is not None]
        return min(known_counts) if counts and len(known_counts) == len(counts) else None


def most_refused(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Refusals at several keys as one: of each reason the most."""
    refusals: dict[str, int] = {}
    for part in parts:
        for code, count in part.items():
            refusals[code] = max(count, refusals.get(code, 0))
    return refusals
