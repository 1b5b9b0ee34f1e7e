"""How many nodes there are, told from how close to a point the closest of them lie; and whether they lie too close.

Theory of operation. Ids are spread evenly, so the distance from any point to the k-th closest of N ids is about k/N of
the whole range; its median is (k - 1/3)/(N + 1/3), nearly exactly, down to N = k. Each search for a point that nobody
could foresee is one sample. A node searches each of its buckets as often as the others, though one is half of the range
and the next half of the rest: so a sample weighs as much as the part of the range for which it speaks (up to a bound:
no single one is to decide), or most would tell of our own neighbourhood, again and again. Of the room that a node has
by each sample the mean of the middle half is taken, which errs less than a median: whoever wants to shift it by much
must crowd the neighbourhoods of nearly half of all points. A search that found fewer than HOLDERS nodes tells of
trouble, and nothing of the network, unless all did.

Whoever wants a key for himself makes ids that are closer to it than all others. Then more ids lie near the key than
chance would put there: their number is Poisson distributed around N times the distance. Where that is less likely than
CROWDED_CHANCE, the crowd is suspected, and holders are looked for *beside* it: in the neighbouring ranges where chance
puts HOLDERS nodes, at points drawn anew each time, so that these cannot be crowded in advance. An attacker who stays
just unsuspected has his eighth id where 2.5 honest ones are expected: at one key in 12 none of these happens to exist.
"""

import math
from collections import deque
from collections.abc import Iterable
from typing import Final

from dhtex import limits

ID_BITS: Final = 160
CROWDED_CHANCE: Final = 0.01  # so often an honest neighbourhood is suspected, which costs three more searches
_WEIGHT_MAX: Final = 1 / 8  # of a sample: of the first eight, one to a bucket, none has more than a quarter of all
SAMPLES_MIN: Final = 4  # before anybody is suspected
_DRIFT: Final = 1.5  # of our neighbourhood, since the samples were taken: a network that has grown looks crowded
_ERROR_OF_ONE: Final = 0.4  # of a sample, relative: 1/sqrt(8), and the middle half is a tenth less exact than all


def span(target: bytes, ids: Iterable[bytes]) -> float:
    """The distance from a point to the farthest of these ids, as a part of the whole range."""
    goal = int.from_bytes(target)
    return (max(int.from_bytes(one) ^ goal for one in ids) + 1) / (1 << ID_BITS)


def nodes_for(count: int, width: float) -> float:
    """How many ids there are when the `count` closest to a point lie within `width` of it."""
    return (count - 1 / 3) / width - 1 / 3


def chance_of(count: int, expected: float) -> float:
    """The probability of `count` or more where `expected` are, by Poisson's law."""
    term = below = math.exp(-expected)
    for number in range(1, count):
        term *= expected / number
        below += term
    return max(0.0, 1.0 - below)


class SizeEstimate:
    """The estimate of one node. Add what searches found, best for points that a stranger could not foresee."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, float]] = deque(maxlen=limits.SIZE_SAMPLES_MAX)  # number of others, weight
        self._number = self._error = 0.0  # what they tell together, and how far it may be off, relative
        self._around = 0.0  # what the neighbourhood of our own id told when we began to take samples

    def __len__(self) -> int:
        return len(self._samples)

    def add(self, target: bytes, closest: list[bytes], weight: float = 1.0) -> None:
        """Learn from a search: the ids of the HOLDERS closest other nodes that answered, of all if there are fewer.
        `weight` is the part of all points for which this one was drawn."""
        near = closest[: limits.HOLDERS]
        self._samples.append((_others(target, near, limits.HOLDERS), min(weight, _WEIGHT_MAX)))
        whole = sorted(sample for sample in self._samples if sample[0] >= limits.HOLDERS) or sorted(self._samples)
        weights = [weight for _, weight in whole]
        quarter, seen, room = sum(weights) / 4, 0.0, 0.0  # room: what one node has of the range
        for others, weight in whole:
            middle = min(seen + weight, 3 * quarter) - max(seen, quarter)
            room += max(0.0, middle) / (2 * quarter) / (others + 1 / 3)
            seen += weight
        self._number = 1 / room - 1 / 3
        self._error = _ERROR_OF_ONE * math.hypot(*weights) / sum(weights)

    def begin(self, own_id: bytes, near: list[bytes]) -> None:
        """Forget all samples, and note our neighbourhood (the BUCKET_SIZE closest, or all)."""
        self._samples.clear()
        self._number = 0.0
        self._around = _others(own_id, near, limits.BUCKET_SIZE)

    def others(self) -> float:
        """How many nodes there are beside us; 0 without any sample."""
        return self._number

    def nodes(self, own_id: bytes, near: list[bytes]) -> int:
        """How many nodes there are with us; before SAMPLES_MIN samples, by the neighbourhood of our own id."""
        few = len(self._samples) < SAMPLES_MIN
        return 1 + round(_others(own_id, near, limits.BUCKET_SIZE) if few else self.others())

    def outdated(self, own_id: bytes, near: list[bytes]) -> bool:
        """Whether our neighbourhood has become much denser or thinner since we began to take samples.

        It is known at any time, but whoever wants to mislead us may crowd it: it is no sample, only a reason for new
        ones.
        """
        now, then = _others(own_id, near, limits.BUCKET_SIZE), self._around
        return len(self._samples) >= SAMPLES_MIN and not then / _DRIFT <= now <= then * _DRIFT

    def crowded(self, target: bytes, closest: list[bytes]) -> bool:
        """Whether the HOLDERS closest nodes to a key lie closer than chance puts them in a network of this size."""
        count, others = limits.HOLDERS, self.others()
        if len(closest) < count or len(self._samples) < SAMPLES_MIN or others < 2 * count:
            return False
        expected = others * (1 + 2 * self._error) * span(target, closest[:count])
        return chance_of(count, expected) < CROWDED_CHANCE

    def detours(self) -> list[int]:
        """The ranges in which to look for holders beside a crowded key, as numbers of first bits shared with it.

        In the middle one chance puts half of HOLDERS nodes, in its neighbours twice and half as many.
        """
        depth = max(1, int(math.log2(max(1.0, self.others() / limits.HOLDERS))))
        return [depth - 1, depth, depth + 1]


def _others(target: bytes, near: list[bytes], full: int) -> float:
    """The number of nodes, given the `full` closest ones to a point, or all of them if there are fewer."""
    if len(near) < full:
        return float(len(near))
    return max(float(full), nodes_for(full, span(target, near)))
