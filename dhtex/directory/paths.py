"""What this node has learnt of price trees while it put records: where an order belongs. Pure; `now` is monotonic.

Holders answer a put with `moved` and a branch. A publisher that goes through a thousand orders of one pair asks the
root once and goes to the right node with all others; after TREE_PATH_FRESH_S it asks the root again, since trees shrink
too. Old branches are kept, because the end of an order is told wherever it may stand.
"""

from collections import OrderedDict

from dhtex import limits
from dhtex.directory.pricetree import ROOT, votes
from dhtex.market.branches import is_below, unpack
from dhtex.overlay.results import GetResult

Market = tuple[str, str]


class Paths:
    """Branches by pair and side."""

    def __init__(self) -> None:
        self._rows: OrderedDict[tuple[Market, str], float] = OrderedDict()
        self._lengths: dict[Market, set[int]] = {}

    def learn(self, market: Market, branch: str, now: float) -> None:
        """Note that a branch exists."""
        self._rows[market, branch] = now
        self._rows.move_to_end((market, branch))
        self._lengths.setdefault(market, set()).add(len(branch))
        if len(self._rows) > limits.TREE_PATHS_MAX:
            (crowded, _), _ = self._rows.popitem(last=False)
            self._lengths[crowded] = {len(known) for other, known in self._rows if other == crowded}

    def of(self, market: Market, path: str, now: float) -> str:
        """Where to begin with a record: at the deepest node that was named a moment ago, else at the root."""
        fresh = [
            branch for branch in self.all(market, path)
            if self._rows.get((market, branch), 0.0) + limits.TREE_PATH_FRESH_S > now
        ]  # fmt: skip
        return max(fresh, key=len, default=ROOT)

    def all(self, market: Market, path: str) -> list[str]:
        """All nodes ever named on a path, the root first."""
        named = (path[:length] for length in sorted(self._lengths.get(market, ())))
        return [ROOT, *(branch for branch in named if (market, branch) in self._rows)]


def deeper(moved: dict[bytes, int], prefix: str, path: str, answers: int) -> str | None:
    """The branch to which a record should go on, after a put at `prefix`: the one that most holders name, if at least
    two do, or all of fewer. A single holder cannot send a publisher astray; who branches first is soon followed."""
    named: dict[str, int] = {}
    for packed, count in moved.items():
        for branch in unpack(packed, prefix) or []:
            if is_below(branch, prefix) and path.startswith(branch):
                named[branch] = named.get(branch, 0) + count
    most = max(named, key=lambda branch: (named[branch], -len(branch)), default=None)
    return most if most is not None and named[most] >= min(2, max(1, answers)) else None


def agreed(answer: GetResult, prefix: str) -> list[str]:
    """The branches of a node that two of its holders name, or all of fewer."""
    named = [
        (holder.id, unpack(holder.branches, prefix) or [])
        for version in answer.versions
        for holder in version.by
    ]  # fmt: skip
    return sorted(branch for branch, voters in votes(named).items() if len(voters) >= min(2, len(named)))
