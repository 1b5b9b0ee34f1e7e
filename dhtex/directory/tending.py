"""A holder looks after its nodes of price trees: who is named, what belongs elsewhere, what may be taken back.

Theory of operation. Every TREE_TEND_S, jittered, each node held here comes up once; soon after it was new, and after it
named new branches: makers that are there are told so and move their orders themselves, and then one holder comes after
the other, about TREE_TEND_TURN_S apart, the closest first, so that the others find work done. First its fellow holders
are asked to whom it delegates: branches that at least two others name, or all of fewer, are adopted.
Then its own branches are looked at, some at a time: what a branch delegates itself is named here too while there is
room, so that a tree stays flat; a branch without orders and branches is named no more; and when all branches and the
node together have fewer than TREE_NODE_ORDERS_MIN orders, the node takes them back and delegates no more.

Last, orders that belong elsewhere are moved, whoever put them, for a maker may be away: down to the branch to which
they belong, or, when the way from the root does not lead here any more, to where it does lead. The target's holders are
asked what they have; what most of them have is let go, the rest is handed to those that lack it, TREE_MOVES_PER_S, and
looked at once more soon. For a full node that takes longer than a turn, so holders meet: whoever hears from most of the
target's holders that they know an order by now is behind somebody else, who began earlier, and leaves the rest to them
until it looks again. Of two only one can hear that. So each order is moved about once, nothing is let go that a
reader would not find, and a tree at rest costs a few questions.

A node keeps its best TREE_WITNESSES orders although they stand at a branch too. What has no record is handed on to
nobody; with these a new holder hears of the node, looks after it soon, and so learns its branches from the others
before they are gone.
"""

import asyncio
import random
from collections import Counter
from functools import partial
from typing import Final

from dhtex import limits
from dhtex.clock import Clock
from dhtex.directory.paths import agreed
from dhtex.directory.pricetree import ROOT
from dhtex.market.branches import is_below
from dhtex.market.holding import Taken, TreeNode, TreeOrder
from dhtex.market.ids import DhtKey, RecordId, index_key
from dhtex.market.records import Kind
from dhtex.overlay.pages import wire_id
from dhtex.overlay.results import GetResult
from dhtex.overlay.server import Overlay
from dhtex.store.holdings import Holdings

TICK_S: Final = 1.0
BRANCHES_PER_TURN: Final = 8  # branches that are looked at when a node comes up


class Tending:
    """Looks after the nodes that one node of the network holds."""

    def __init__(
        self, overlay: Overlay, holdings: Holdings, network: str, clock: Clock, entropy: random.Random
    ) -> None:
        self._overlay = overlay
        self._holdings = holdings
        self._network = network
        self._clock = clock
        self._entropy = entropy
        self._due: dict[DhtKey, float] = {}
        self._turn: dict[DhtKey, int] = {}
        self._branches: dict[DhtKey, tuple[str, ...]] = {}
        self._empty: set[tuple[DhtKey, str]] = set()

    async def run(self) -> None:
        """Look after them for ever; cancelled when the node stops."""
        while True:
            await asyncio.sleep(TICK_S)
            await self.tend_due()

    async def tend_due(self) -> None:
        """Look after the nodes whose turn it is."""
        now, before = self._clock.monotonic(), self._branches
        held = self._holdings.tree_keys()
        self._due = {
            key: self._due.get(key, now + limits.TREE_TEND_FIRST_S * self._entropy.uniform(0.1, 1.0)) for key in held
        }
        self._branches = {key: self._holdings.branches(key) for key in held}
        self._turn = {key: turn for key, turn in self._turn.items() if key in self._due}
        self._empty = {(key, branch) for key, branch in self._empty if branch in self._branches.get(key, ())}
        for key, branches in self._branches.items():
            if any(branch not in before.get(key, ()) for branch in branches):
                self._due[key] = now + limits.TREE_TEND_FIRST_S + self._turn_s(key)
        for key in [key for key, due in self._due.items() if due <= now]:
            self._due[key] = now + limits.TREE_TEND_S * self._entropy.uniform(0.75, 1.25)
            if await self.tend(key):
                self._due[key] = self._clock.monotonic() + limits.TREE_TEND_FIRST_S

    def _turn_s(self, key: DhtKey) -> float:
        """How much later than a closest holder of a key this node begins."""
        goal, own = int.from_bytes(key), int.from_bytes(self._overlay.protocol.own_id)
        rank = sum(int.from_bytes(near) ^ goal < own ^ goal for near in self._overlay.holders_near(key))
        return limits.TREE_TEND_TURN_S * (rank + self._entropy.random())

    async def tend(self, key: DhtKey) -> bool:
        """Look after one node; whether orders were handed on, of which soon more may be let go."""
        node = self._holdings.tree_node(key)
        if node is None or not self._overlay.peers():
            return False
        self._holdings.rebranch(key, await self._named(node.pair, node.side, node.prefix), [])
        await self._look_down(key)
        return await self._move(key)

    async def _named(self, pair: str, side: str, prefix: str) -> list[str]:
        """The branches that the holders of a node agree on."""
        return agreed(await self._skim(pair, side, prefix), prefix)

    async def _skim(self, pair: str, side: str, prefix: str) -> GetResult:
        return await self._overlay.get(index_key(self._network, pair, side, prefix), Kind.ORDER, 0)

    # --- branches -----------------------------------------------------------------------------------------------------

    async def _look_down(self, key: DhtKey) -> None:
        node = self._holdings.tree_node(key)
        if node is None or not node.branches:
            return
        first = self._turn.get(key, 0) % len(node.branches)
        self._turn[key] = first + BRANCHES_PER_TURN
        orders = sum(not order.path.startswith(node.branches) for order in node.orders)
        whole = len(node.branches) <= BRANCHES_PER_TURN
        for branch in (node.branches[first:] + node.branches[:first])[:BRANCHES_PER_TURN]:
            answer = await self._skim(node.pair, node.side, branch)
            count = max((version.total for version in answer.versions), default=0)
            deeper = agreed(answer, branch)
            whole = whole and not deeper and 2 * answer.answered > answer.asked
            orders += count
            self._holdings.rebranch(key, deeper, [])
            if count or any(holder.branches for version in answer.versions for holder in version.by):
                self._empty.discard((key, branch))
            elif (key, branch) in self._empty:  # for the second time
                self._empty.discard((key, branch))
                self._holdings.rebranch(key, [], [branch])
            else:
                self._empty.add((key, branch))
        if whole and orders < limits.TREE_NODE_ORDERS_MIN:
            await self._take_back(node)

    async def _take_back(self, node: TreeNode) -> None:
        """Hold the few orders of all branches here again."""
        for branch in node.branches:
            answer = await self._overlay.get(index_key(self._network, node.pair, node.side, branch), Kind.ORDER)
            self._holdings.rebranch(node.key, [], [branch])
            for wire in dict.fromkeys(wire for version in answer.versions for wire in version.wires):
                self._holdings.put(wire, node.prefix, self._clock.now(), "self")

    # --- orders that belong elsewhere ---------------------------------------------------------------------------------

    async def _move(self, key: DhtKey) -> bool:
        node = self._holdings.tree_node(key)
        if node is None or (node.prefix == ROOT and not node.branches):
            return False
        named: dict[str, list[str]] = {}
        targets: dict[str, list[TreeOrder]] = {}
        witnesses = 0
        for order in node.orders:
            target = await self._way(node, order.path, named)
            if is_below(target, node.prefix) and witnesses < limits.TREE_WITNESSES:
                witnesses += 1
            elif target != node.prefix:
                targets.setdefault(target, []).append(order)
        handed = [await self._move_to(node, prefix, orders) for prefix, orders in targets.items()]
        return any(handed)

    async def _way(self, node: TreeNode, path: str, named: dict[str, list[str]]) -> str:
        """The node to which a path leads from the root."""
        prefix = ROOT
        for _ in range(limits.TREE_DEPTH_MAX):
            if prefix not in named:
                named[prefix] = await self._named(node.pair, node.side, prefix)
            branch = max((branch for branch in named[prefix] if path.startswith(branch)), key=len, default=None)
            if branch is None:
                break
            prefix = branch
        return prefix

    async def _move_to(self, node: TreeNode, prefix: str, orders: list[TreeOrder]) -> bool:
        answer = await self._overlay.get(index_key(self._network, node.pair, node.side, prefix), Kind.ORDER)
        held = [(version, {RecordId(wire_id(wire)) for wire in version.wires}) for version in answer.versions]
        known: Counter[RecordId] = Counter()
        handed = behind = False

        def told(order_id: RecordId, taken: str) -> None:
            nonlocal behind
            known[order_id] += taken == Taken.KNOWN
            behind |= 2 * known[order_id] > answer.asked

        for order in orders:
            if 2 * sum(version.holders for version, ids in held if order.id in ids) > answer.asked:
                self._holdings.release(node.key, order.id)
                continue
            await asyncio.sleep(1 / limits.TREE_MOVES_PER_S)
            if behind:
                break
            for holder in [holder for version, ids in held if order.id not in ids for holder in version.by]:
                self._overlay.hand_on(holder, order.wire, prefix, partial(told, order.id))
                handed = True
        return handed
