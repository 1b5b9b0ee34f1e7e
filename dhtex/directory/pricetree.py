"""Which nodes of a price tree to read for an answer, in which order, and when to stop. Pure, one step at a time.

Theory of operation. The orders of one side of a pair live in a prefix tree over their *paths* (`market/pricebits`: the
bits of the price, then bits of the order's id, so that orders of one price can be told apart too). The node at a prefix
holds the orders whose path begins with it, except those that belong to one of its *branches*, longer prefixes with
nodes of their own. No node knows the tree: each holder of a node says to whom that delegates (`market/branches`), and a
walk begins at the root and uses the union of what holders say.

Best first: the frontier is a heap of prefixes by the best price that a path below them can have. A prefix is opened
only while that is better than the worst price of the answer so far (for a ladder, which adds up all orders of a price:
not worse). What lies between a branch and its sisters stays with their parent, so whatever has been read at a node
counts. A node whose first orders are enough is read in part; what is left of it stands in the frontier like any branch,
and four times as much is asked for if it is opened again. Of a node that reaches over the bounds of a wish only what
lies between them is asked for. A walk for the best N opens O(N/B + depth) nodes, one for everything each node once,
several at a time.

How the tree stays in shape is soft state. A holder that has more than B loose orders branches (`Branches`, `divide`),
and answers puts of what belongs below with `moved` and the branch; publishers follow, and begin at the root again at
each refresh. Holders look after their nodes (`directory/tending`): orders that belong elsewhere are moved, whoever put
them; branches that most of the other holders name are adopted, also those of branches, so that the tree stays flat;
empty ones are dropped; a node whose branches hold less than a quarter of B takes the orders back and delegates no more.
Everything is idempotent, and everyone may be wrong for a while: readers use unions, and an order found twice is one
order.

Who lies. A holder can name branches that nobody has. One that at least two holders name, or all of up to two, is
confirmed. The others are opened too, as a holder may be the first to branch; when TREE_STRIKES_MAX of one holder's turn
out to be empty, the rest of its own are not opened, and it is named. In all, a walk opens TREE_OPENS_FREE nodes and
TREE_OPENS_PER_FIND more for each node where it found an order: of an honest tree less than half of the nodes are
without. Branches are longer than their node's prefix and at most a path long, so nobody goes in circles.
"""

from bisect import insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Final

from dhtex import limits
from dhtex.market.branches import is_below
from dhtex.market.ids import NodeId
from dhtex.market.pricebits import PRICE_BITS, best_first

ROOT: Final = ""
_FEW: Final = limits.TREE_NODE_ORDERS_MAX // 4  # orders that a node has, rather too few than too many


@dataclass(frozen=True, slots=True)
class Wish:
    """What of one side is wanted: the best `limit` orders, or all orders of the best `limit` prices (`levels`); None is
    everything. `low` and `high` bound the price, as bits. `skim`: which nodes there are and who is alive, no orders."""

    limit: int | None = None
    levels: bool = False
    low: str = ""
    high: str = ""
    skim: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """Read the node at `prefix`: all of it, or its best `limit` orders; of orders with prices from `best` to `worst`,
    as bits that are smaller the better (`best_first`). Empty: no bound."""

    prefix: str
    limit: int | None
    best: str = ""
    worst: str = ""


@dataclass(frozen=True, slots=True)
class NodeAnswer:
    """What a node's holders said, checked. `counted`: the paths of the orders that count towards the wish; `found`: how
    many valid ones there were; `rest`: the path of the last order read, when there are more behind it. `branches` maps
    a branch to those of the `answered` holders that name it."""

    readable: bool
    answered: int = 0
    found: int = 0
    counted: tuple[str, ...] = ()
    rest: str | None = None
    branches: Mapping[str, frozenset[NodeId]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Walked:
    """How a walk went: nodes visited, how often one was read; `missing` are prefixes that could not be read or were
    not, though they may hold better orders; `liars` maps holders to how many branches they invented. `beyond` is the
    best price, as bits that are smaller the better, where orders may stand that were not wanted; empty: nowhere."""

    visited: tuple[str, ...]
    reads: int
    missing: tuple[str, ...]
    liars: Mapping[NodeId, int]
    beyond: str = ""


class Walk:
    """One walk. Ask `next` until it gives None, report each step to `on_page`, and go on so until `finished`."""

    def __init__(self, buys: bool, wish: Wish) -> None:
        self._buys = buys
        self._wish = wish
        low, high = wish.low or "0" * PRICE_BITS, wish.high or "1" * PRICE_BITS
        self._low, self._high = (self._key(high), self._key(low)) if buys else (low, high)
        self._frontier: list[tuple[str, str, int | None]] = []
        self._voters: dict[str, set[NodeId]] = {}
        self._sure: set[str] = {ROOT}
        self._prices: list[str] = []
        self._seen: set[str] = set()
        self._under_way: dict[str, Step] = {}
        self._reads = 0
        self._beyond = ""
        self._fruitful: set[str] = set()
        self._visited: dict[str, None] = {}
        self._missing: dict[str, None] = {}
        self._strikes: dict[NodeId, int] = {}
        # That a price has no more orders is seen from one of the next price.
        self._first = 0 if wish.skim else 2 * wish.limit if wish.levels and wish.limit else wish.limit
        self._push(ROOT, ROOT, self._first)

    def next(self) -> Step | None:
        """A node to read now; None while enough is under way, or when nothing can improve the answer."""
        while self._frontier and len(self._under_way) < self._window():
            key, prefix, limit = heappop(self._frontier)
            if not self._improves(key):
                self._pass_by(key)
                continue
            if not self._is_open_to(prefix):
                continue
            if self._reads >= limits.TREE_OPENS_FREE + limits.TREE_OPENS_PER_FIND * len(self._fruitful):
                self._missing[prefix] = None
                continue
            step = self._under_way[prefix] = Step(prefix, limit, *self._span(prefix, key))
            self._reads += 1
            return step
        return None

    def on_page(self, step: Step, answer: NodeAnswer) -> None:
        """What a step brought."""
        prefix = step.prefix
        del self._under_way[prefix]
        self._visited[prefix] = None
        if not answer.readable:
            self._missing[prefix] = None
        if answer.found:
            self._fruitful.add(prefix)
        for path in answer.counted:
            self._count(path)
        if answer.rest is not None and step.limit is not None:
            self._push(prefix, self._key(answer.rest), 4 * step.limit if step.limit < _FEW else None)
        whole = not (step.best or step.worst)
        if whole and answer.readable and not answer.found and not answer.branches and prefix not in self._sure:
            for voter in sorted(self._voters.get(prefix, ())):
                self._strike(voter)
        for branch in sorted(answer.branches):
            self._name(prefix, branch, answer)

    def liar(self, holder: NodeId) -> None:
        """Report a holder whose branches cannot be such."""
        self._strikes[holder] = max(limits.TREE_STRIKES_MAX, self._strikes.get(holder, 0) + 1)

    @property
    def finished(self) -> bool:
        """Whether `next` will give nothing any more, whatever comes. Ask after `next` has given None."""
        return not self._under_way and not self._frontier

    def wants(self, path: str) -> bool:
        """Whether an order may be among the best: no worse than the worst of the answer. Others count as `beyond`."""
        key = self._key(path)
        if self._worst is None or key[:PRICE_BITS] <= self._worst:
            return True
        self._pass_by(key)
        return False

    def result(self) -> Walked:
        """What was read, and what was not."""
        left = [prefix for key, prefix in sorted(self._entries()) if self._improves(key) and self._is_open_to(prefix)]
        missing = dict.fromkeys([*self._missing, *self._under_way, *left])
        return Walked(tuple(self._visited), self._reads, tuple(missing), dict(self._strikes), self._beyond)

    def _entries(self) -> Iterable[tuple[str, str]]:
        return ((key, prefix) for key, prefix, _ in self._frontier)

    # --- the frontier -------------------------------------------------------------------------------------------------

    def _name(self, prefix: str, branch: str, answer: NodeAnswer) -> None:
        voters = answer.branches[branch]
        if not is_below(branch, prefix):
            for voter in sorted(voters):
                self._strike(voter)
            return
        if len(voters) >= min(2, answer.answered):
            self._sure.add(branch)
        known = branch in self._voters
        self._voters.setdefault(branch, set()).update(voters)
        if not known and branch not in self._visited:
            self._push(branch, self._key(branch), self._first)

    def _push(self, prefix: str, key: str, limit: int | None) -> None:
        if not self._improves(key):
            self._pass_by(key)
        elif self._overlaps(key):
            heappush(self._frontier, (key, prefix, limit))

    def _pass_by(self, key: str) -> None:
        price = _ends(key)[0]
        self._beyond = min(self._beyond or price, price)

    def _is_open_to(self, prefix: str) -> bool:
        voters = self._voters.get(prefix, ())
        return prefix in self._sure or any(self._strikes.get(v, 0) < limits.TREE_STRIKES_MAX for v in voters)

    def _improves(self, key: str) -> bool:
        """Whether a path that begins with this, or comes after it, can be better than the worst of the answer."""
        best, worst = key.ljust(PRICE_BITS, "0")[:PRICE_BITS], self._worst
        return worst is None or (best <= worst if self._wish.levels else best < worst)

    @property
    def _worst(self) -> str | None:
        """The worst price of the answer; None as long as it is not full."""
        limit = self._wish.limit
        return None if limit is None or len(self._prices) < limit else self._prices[limit - 1]

    def _overlaps(self, key: str) -> bool:
        first, last = _ends(key)
        return first <= self._high and last >= self._low

    def _span(self, prefix: str, key: str) -> tuple[str, str]:
        """What to ask of a node, from where it was read to before: nothing that lies outside of the wish's bounds."""
        first, last = _ends(self._key(prefix))
        begin = max(self._low, _ends(key)[0])
        return begin if begin > first else "", self._high if self._high < last else ""

    def _key(self, path: str) -> str:
        """What to compare: the smaller, the better."""
        return best_first(path, buys=self._buys)

    def _count(self, path: str) -> None:
        key = self._key(path)
        price = key[:PRICE_BITS]
        name = price if self._wish.levels else key
        if name not in self._seen:
            self._seen.add(name)
            insort(self._prices, price)

    def _window(self) -> int:
        """How many nodes to read at once: as many as are needed for sure, if each holds a few orders."""
        if self._wish.limit is None:
            return limits.TREE_PARALLEL
        missing = self._wish.limit - len(self._prices)
        return max(1, min(limits.TREE_PARALLEL, -(-missing // _FEW)))

    def _strike(self, holder: NodeId) -> None:
        self._strikes[holder] = self._strikes.get(holder, 0) + 1


def _ends(key: str) -> tuple[str, str]:
    """The best and the worst price that begin so."""
    return key[:PRICE_BITS].ljust(PRICE_BITS, "0"), key[:PRICE_BITS].ljust(PRICE_BITS, "1")


def votes(named: Iterable[tuple[NodeId, Iterable[str]]]) -> dict[str, frozenset[NodeId]]:
    """Who names each branch."""
    found: dict[str, set[NodeId]] = {}
    for holder, branches in named:
        for branch in branches:
            found.setdefault(branch, set()).add(holder)
    return {branch: frozenset(holders) for branch, holders in found.items()}
