"""A holder looks after its nodes of price trees: who is named, what belongs elsewhere, what may be taken back.

Theory of operation. Every TREE_TEND_S, jittered, each node held here comes up once; soon after it was new. First its
fellow holders are asked to whom it delegates: branches that at least two others name, or all of fewer, are adopted.
Then its own branches are looked at, some at a time: what a branch delegates itself is named here too while there is
room, so that a tree stays flat; a branch without orders and branches is named no more; and when all branches and the
node together have fewer than TREE_NODE_ORDERS_MIN orders, the node takes them back and delegates no more.

Last, orders that belong elsewhere are moved, whoever put them, for a maker may be away: down to the branch to which
they belong, or, when the way from the root does not lead here any more, to where it does lead. The target's holders are
asked what they have; what most of them have is let go, what they lack is put there first. So nothing is let go that a
reader would not find. All holders of a node do this, each at its own time, and find the work of the others done.
"""

import asyncio
import random
from typing import Final

from dhtex import limits
from dhtex.clock import Clock
from dhtex.directory.pricetree import ROOT, votes
from dhtex.market.admission import tree_path
from dhtex.market.branches import unpack
from dhtex.market.holding import TreeNode
from dhtex.market.ids import DhtKey, index_key
from dhtex.market.records import Kind, Order, Record
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
        now = self._clock.monotonic()
        held = self._holdings.tree_keys()
        self._due = {
            key: self._due.get(key, now + limits.TREE_TEND_FIRST_S * self._entropy.uniform(0.1, 1.0)) for key in held
        }
        for key in held:
            node = self._holdings.tree_node(key)
            branches = () if node is None else node.branches
            if self._branches.get(key, ()) != branches:  # its makers have been told by now
                self._due[key] = min(self._due[key], now + limits.TREE_TEND_FIRST_S * self._entropy.uniform(1.0, 2.0))
            self._branches[key] = branches
        for key in [key for key, due in self._due.items() if due <= now]:
            self._due[key] = now + limits.TREE_TEND_S * self._entropy.uniform(0.75, 1.25)
            await self.tend(key)

    async def tend(self, key: DhtKey) -> None:
        """Look after one node."""
        node = self._holdings.tree_node(key)
        if node is None or not self._overlay.peers():
            return
        self._holdings.rebranch(key, await self._named(node.pair, node.side, node.prefix), [])
        await self._look_down(key)
        await self._move(key)

    async def _named(self, pair: str, side: str, prefix: str) -> list[str]:
        """The branches that the holders of a node agree on."""
        return _agreed(await self._skim(pair, side, prefix), prefix)

    async def _skim(self, pair: str, side: str, prefix: str) -> GetResult:
        return await self._overlay.get(index_key(self._network, pair, side, prefix), Kind.ORDER, 0)

    # --- branches -----------------------------------------------------------------------------------------------------

    async def _look_down(self, key: DhtKey) -> None:
        node = self._holdings.tree_node(key)
        if node is None or not node.branches:
            return
        first = self._turn.get(key, 0) % len(node.branches)
        self._turn[key] = first + BRANCHES_PER_TURN
        orders, whole = len(node.orders), len(node.branches) <= BRANCHES_PER_TURN
        for branch in (node.branches[first:] + node.branches[:first])[:BRANCHES_PER_TURN]:
            answer = await self._skim(node.pair, node.side, branch)
            count = max((version.total for version in answer.versions), default=0)
            deeper = _agreed(answer, branch)
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

    async def _move(self, key: DhtKey) -> None:
        node = self._holdings.tree_node(key)
        if node is None or (node.prefix == ROOT and not node.branches):
            return
        named: dict[str, list[str]] = {}
        targets: dict[str, list[Record[Order]]] = {}
        for order in node.orders:
            target = await self._way(node, tree_path(order), named)
            if target != node.prefix:
                targets.setdefault(target, []).append(order)
        for prefix, orders in targets.items():
            await self._move_to(node, prefix, orders)

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

    async def _move_to(self, node: TreeNode, prefix: str, orders: list[Record[Order]]) -> None:
        target = index_key(self._network, node.pair, node.side, prefix)
        answer = await self._overlay.get(target, Kind.ORDER)
        enough = answer.asked // 2 + 1
        held: dict[bytes, int] = {}
        for version in answer.versions:
            for wire in version.wires:
                held[wire] = held.get(wire, 0) + version.holders
        for order in orders:
            holders = held.get(order.wire, 0)
            if holders < enough:
                await asyncio.sleep(1 / limits.TREE_MOVES_PER_S)
                result = await self._overlay.put(target, order.wire, prefix)
                holders = result.holders + result.local
            if holders >= enough:
                self._holdings.release(node.key, order.id)


def _agreed(answer: GetResult, prefix: str) -> list[str]:
    """The branches of a node that two of its holders name, or all of fewer."""
    named = [
        (holder.id, unpack(holder.branches, prefix) or [])
        for version in answer.versions
        for holder in version.by
    ]  # fmt: skip
    return sorted(branch for branch, voters in votes(named).items() if len(voters) >= min(2, len(named)))
