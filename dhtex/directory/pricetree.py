"""Which nodes of a price tree to read for an answer, in which order, and when to stop. Pure, one step at a time.

Theory of operation. The orders of one side of a pair live in a prefix tree over their *paths* (`market/pricebits`: the
bits of the price, then bits of the order's id, so that orders of one price can be told apart too). The node at a prefix
holds the orders whose path begins with it, except those that belong to one of its *branches*, longer prefixes with
nodes of their own. No node knows the tree: each holder of a node says to whom that delegates (`market/branches`), and a
walk begins at the root and uses the union of what holders say.

Best first: the frontier is a heap of prefixes by the best price that a path below them can have. A prefix is opened
only while that is not worse than the worst price of the answer so far: the orders of one price may stand in several
nodes, and the oldest come first. What lies between a branch and its sisters stays with their parent, so whatever has
been read at a node counts. A node whose first orders are enough is read in part; what is left of it stands in the
frontier like any branch, and four times as much is asked for if it is opened again. Of a node that reaches over the
bounds of a wish only what lies between them is asked for. What turns out to be closed afterwards counts no more, and
the walk goes on. A walk for the best N opens O(N/B + depth) nodes and those that share the worst price of the answer,
one for everything each node once, several at a time.

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

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Final, NamedTuple

from dhtex import limits
from dhtex.market.branches import is_below
from dhtex.market.ids import NodeId
from dhtex.market.pricebits import PRICE_BITS, best_first

Rank = tuple[str, int, bytes]
"""The place of an order in its book: the bits of its price, smaller the better, its time, and its id."""

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

    def spans(self, price: str) -> bool:
        """Whether orders of a price are asked for."""
        return self.best <= price and (not self.worst or price <= self.worst)


@dataclass(frozen=True, slots=True)
class NodeAnswer:
    """What a node's holders said, checked. `counted`: the orders that count towards the wish; `found`: how many valid
    ones there were; `rest`: the last order read, when there are more behind it. `branches` maps a branch to those of
    the `answered` holders that name it."""

    readable: bool
    answered: int = 0
    found: int = 0
    counted: tuple[Rank, ...] = ()
    rest: Rank | None = None
    branches: Mapping[str, frozenset[NodeId]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Walked:
    """How a walk went: nodes visited; `missing` are prefixes that could not be read or were not, though they may hold
    better orders; `liars` maps holders to how many branches they invented. `beyond` is the best price, as bits that are
    smaller the better, where orders may stand that were not wanted; empty: nowhere."""

    visited: tuple[str, ...]
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
        self._frontier: list[_Entry] = []
        self._voters: dict[str, set[NodeId]] = {}
        self._sure: set[str] = {ROOT}
        self._counted: set[Rank] = set()
        self._best: list[Rank] = []  # of a ladder one for each price
        self._orders_at: Counter[Rank] = Counter()
        self._under_way: dict[str, Step] = {}
        self._reads = 0
        self._beyond = ""
        self._fruitful: set[str] = set()
        self._visited: dict[str, None] = {}
        self._missing: dict[str, None] = {}
        self._strikes: dict[NodeId, int] = {}
        # That a price has no more orders is seen from one of the next price.
        self._first = 0 if wish.skim else 2 * wish.limit if wish.levels and wish.limit else wish.limit
        self._push(_Entry(ROOT, ROOT, self._first))

    def next(self) -> Step | None:
        """A node to read now; None while enough is under way, or when nothing can improve the answer."""
        step, aside = None, list[_Entry]()
        while step is None and self._frontier and len(self._under_way) < self._window():
            entry = heappop(self._frontier)
            if self._improves(entry):
                step = self._open(entry) if self._is_open_to(entry.prefix) else None
                continue
            aside.append(entry)  # until it turns out that something does not count
            if self._worst is not None and _ends(entry.key)[0] > self._worst[0]:
                break  # nor does what comes behind it
        for entry in aside:
            heappush(self._frontier, entry)
        return step

    def _open(self, entry: "_Entry") -> Step | None:
        if self._reads >= limits.TREE_OPENS_FREE + limits.TREE_OPENS_PER_FIND * len(self._fruitful):
            self._missing[entry.prefix] = None
            return None
        step = self._under_way[entry.prefix] = Step(entry.prefix, entry.limit, *self._span(entry))
        self._reads += 1
        return step

    def on_page(self, step: Step, answer: NodeAnswer) -> None:
        """What a step brought."""
        prefix = step.prefix
        del self._under_way[prefix]
        self._visited[prefix] = None
        if not answer.readable:
            self._missing[prefix] = None
        if answer.found:
            self._fruitful.add(prefix)
            self._sure.add(prefix)
        for rank in answer.counted:
            self._count(rank)
        if answer.rest is not None and step.limit is not None:
            price, more = answer.rest[0], 4 * step.limit if step.limit < _FEW else None
            rest = _Entry(max(price, self._low), prefix, more, answer.rest if price >= self._low else None)
            self._push(rest)
        if answer.readable and not answer.found and not answer.branches and prefix not in self._sure:
            for voter in sorted(self._voters.get(prefix, ())):
                self._strike(voter)
        for branch in sorted(answer.branches):
            self._name(prefix, branch, answer)

    def liar(self, holder: NodeId) -> None:
        """Report a holder whose branches cannot be such."""
        self._strikes[holder] = max(limits.TREE_STRIKES_MAX, self._strikes.get(holder, 0) + 1)

    @property
    def finished(self) -> bool:
        """Whether `next` will give nothing any more, unless something is taken back. Ask after it has given None."""
        return not self._under_way and not any(self._is_left(entry) for entry in self._frontier)

    def take_back(self, rank: Rank) -> None:
        """An order that was counted is closed, or not shown for another reason: it counts no more."""
        if rank in self._counted:
            self._counted.remove(rank)
            name = self._name_of(rank)
            self._orders_at[name] -= 1
            if not self._orders_at[name]:
                del self._best[bisect_left(self._best, name)]

    def wants(self, rank: Rank) -> bool:
        """Whether an order may be among the best: its price is not worse than the worst of the answer."""
        return self._worst is None or rank[0] <= self._worst[0]

    def pass_by(self, rank: Rank) -> None:
        """An order that was read is not wanted: what is shown ends before it."""
        self._beyond = min(self._beyond or rank[0], rank[0])

    def result(self) -> Walked:
        """What was read, and what was not."""
        left = [entry.prefix for entry in sorted(self._frontier) if self._is_left(entry)]
        missing = dict.fromkeys([*self._missing, *self._under_way, *left])
        passed_by = [_ends(entry.key)[0] for entry in self._frontier if not self._improves(entry)]
        beyond = min([*passed_by, *([self._beyond] if self._beyond else [])], default="")
        return Walked(tuple(self._visited), tuple(missing), dict(self._strikes), beyond)

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
            self._push(_Entry(self._key(branch), branch, self._first))

    def _push(self, entry: "_Entry") -> None:
        first, last = _ends(entry.key)
        if first <= self._high and last >= self._low:
            heappush(self._frontier, entry)

    def _is_left(self, entry: "_Entry") -> bool:
        return self._improves(entry) and self._is_open_to(entry.prefix)

    def _is_open_to(self, prefix: str) -> bool:
        voters = self._voters.get(prefix, ())
        return prefix in self._sure or any(self._strikes.get(v, 0) < limits.TREE_STRIKES_MAX for v in voters)

    def _improves(self, entry: "_Entry") -> bool:
        """Whether what stands there can be better than the worst of the answer, or of the same price in a ladder."""
        worst = self._worst
        if worst is None or entry.rest is None or self._wish.levels:
            return worst is None or _ends(entry.key)[0] <= worst[0]
        return entry.rest < worst

    @property
    def _worst(self) -> Rank | None:
        """The worst of the answer; None as long as it is not full."""
        limit = self._wish.limit
        return None if limit is None or len(self._best) < limit else self._best[limit - 1]

    def _span(self, entry: "_Entry") -> tuple[str, str]:
        """What to ask of a node: nothing that lies outside of the wish's bounds, or was read before. Of a branch that
        may be invented everything, since one that has nothing there need not be."""
        if entry.prefix not in self._sure:
            return "", ""
        first, last = _ends(self._key(entry.prefix))
        begin = max(self._low, _ends(entry.key)[0])
        return begin if begin > first else "", self._high if self._high < last else ""

    def _key(self, path: str) -> str:
        """What to compare: the smaller, the better."""
        return best_first(path, buys=self._buys)

    def _count(self, rank: Rank) -> None:
        if rank in self._counted or not self._low <= rank[0] <= self._high:
            return
        self._counted.add(rank)
        name = self._name_of(rank)
        self._orders_at[name] += 1
        if self._orders_at[name] == 1:
            insort(self._best, name)

    def _name_of(self, rank: Rank) -> Rank:
        return (rank[0], 0, b"") if self._wish.levels else rank

    def _window(self) -> int:
        """How many nodes to read at once: as many as are needed for sure, if each holds a few orders."""
        if self._wish.limit is None:
            return limits.TREE_PARALLEL
        missing = self._wish.limit - len(self._best)
        return max(1, min(limits.TREE_PARALLEL, -(-missing // _FEW)))

    def _strike(self, holder: NodeId) -> None:
        self._strikes[holder] = self._strikes.get(holder, 0) + 1


class _Entry(NamedTuple):
    """What may be opened: a node, by the best that can stand there; `rest`: the last order that was read of it."""

    key: str
    prefix: str
    limit: int | None
    rest: Rank | None = None

    def __lt__(self, other: tuple[object, ...]) -> bool:
        return self[:2] < other[:2]


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
