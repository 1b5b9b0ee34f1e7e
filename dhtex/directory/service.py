"""Puts this node's records into the network, keeps them there, and reads orders and pairs back.

An order and its Status live at two keys each: the order's own, and the node of its pair's price tree. Everything put
through `publish` stays in the care of a `Schedule` until it ends; accepts and refusals matter for a minute and are put
again by whoever waits for them.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from dhtex import limits
from dhtex.clock import Clock
from dhtex.directory.paths import Paths, agreed, deeper
from dhtex.directory.pricetree import ROOT, Wish
from dhtex.directory.proving import Prove
from dhtex.directory.reading import Check, IndexReading, OrderReading, merge_ends
from dhtex.directory.schedule import Placement, Schedule, Spot, most_refused
from dhtex.directory.treereading import Counts, TreeReader, any_order
from dhtex.market.admission import keep_until, tree_path
from dhtex.market.ids import DhtKey, RecordId, index_key, order_key
from dhtex.market.merge import order_state
from dhtex.market.records import Code, Kind, Order, Record, Status, is_a, parse_record
from dhtex.market.trade import MakerState
from dhtex.overlay.results import PutResult
from dhtex.overlay.server import Overlay
from dhtex.tasks import woken

PUTS_PARALLEL: Final = 8  # a maker of a thousand orders must not flood its holders
EVERYTHING: Final = Wish()
IDLE_S: Final = 30.0
FIRST_PUT_S: Final = 3.0  # a first put that was not waited for to its end is made again after this


@dataclass(slots=True)
class Published:
    """What became of a record at both of its keys: the fewer holders of the two, who refused why, and whether further
    holders are still looked for.

    `bits_asked`: what most of them want of its stamp, if that is why; else 0.
    """

    holders: int
    refusals: dict[str, int] = field(default_factory=dict)
    bits_asked: int = 0
    unfinished: bool = False


class Directory:
    """The network's orders as seen by one node. `check` says what is wrong with a record, or None; before many are
    checked, `prove` is told which."""

    def __init__(
        self,
        overlay: Overlay,
        network: str,
        check: Check,
        clock: Clock,
        entropy: random.Random,
        prove: Prove,
    ) -> None:
        self._overlay = overlay
        self._network = network
        self._check = check
        self._clock = clock
        self._entropy = entropy
        self._schedule = Schedule(entropy)
        self._paths = Paths()
        self._reader = TreeReader(overlay, network, check, clock, prove)
        self._wake = asyncio.Event()
        self._peers_changed = False
        self._puts = asyncio.Semaphore(PUTS_PARALLEL)
        self.on_newer: Callable[[DhtKey, bytes], None] = lambda key, wire: None

    def publish(self, record: Record[Order] | Record[Status]) -> Coroutine[Any, Any, Published]:
        """Put an order or a Status at both of its keys, and keep it there until it ends.

        It is in care as soon as this returns; what is awaited is only the first put.
        """
        return self._put_all(self._keep(record, self._clock.monotonic() + FIRST_PUT_S))

    async def _put_all(self, placements: list[Placement]) -> Published:
        results = await asyncio.gather(*map(self._place, placements))
        return Published(
            min(result.holders for result in results),
            most_refused(result.refusals for result in results),
            max(result.dearer for result in results),
            any(result.unfinished for result in results),
        )

    def keep(self, record: Record[Order] | Record[Status], delay_s: float) -> None:
        """Take a record into care without waiting: its first put is due within `delay_s`, at random."""
        self._keep(record, self._clock.monotonic() + self._entropy.uniform(0, delay_s))

    def _keep(self, record: Record[Order] | Record[Status], due: float) -> list[Placement]:
        body = record.body
        order_id = record.id if isinstance(body, Order) else RecordId(body.order_id)
        until = float(keep_until(record))
        self._wake.set()
        spot = _spot_of(record)
        root = index_key(self._network, *spot.market, ROOT)
        return [
            self._schedule.add(Placement(record.id, order_key(order_id), None, record.wire, until, due)),
            self._schedule.add(Placement(record.id, root, ROOT, record.wire, until, due, spot)),
        ]

    def forget(self, record_id: RecordId) -> None:
        """Stop keeping a record in the network; its holders keep it until it ends."""
        self._schedule.drop(record_id)

    def count_kept(self) -> int:
        """How many records are kept in the network."""
        return len({placement.record_id for placement in self._schedule.placements()})

    def holders(self, record_id: RecordId) -> int | None:
        """How many other nodes held a kept record at its last put, at the worse of its keys."""
        return self._schedule.holders(record_id)

    def refusals(self, record_id: RecordId) -> dict[str, int]:
        """How many other nodes did not take a kept record at its last put, by reason, at the worse of its keys."""
        return self._schedule.refusals(record_id)

    async def put_at_order(self, order_id: RecordId, wire: bytes) -> PutResult:
        """Put an Accept, a Refusal or a Receipt at an order's key, once."""
        key = order_key(order_id)
        result = await self._overlay.put(key, wire, None)
        self._learn(key, result)
        return result

    async def put_at_index(self, pair: str, side: str, wire: bytes, prefix: str) -> int:
        """Put a Beat at an index node, once; the number of other nodes that hold it."""
        result = await self._put_at((pair, side), prefix, wire)
        if sum(result.moved.values()) >= min(2, result.asked + result.local):
            await self._follow((pair, side), prefix)
        return result.holders

    async def _follow(self, market: tuple[str, str], prefix: str) -> None:
        """A node delegates: learn to whom, and move there soon what of this node's records stands at it."""
        answer = await self._overlay.get(index_key(self._network, *market, prefix), Kind.ORDER, 0)
        branches, now = agreed(answer, prefix), self._clock.monotonic()
        for branch in branches:
            self._paths.learn(market, branch, now)
        if self._schedule.moved(market, prefix, branches, now):
            self._wake.set()

    async def put_in_tree(self, record: Record[Order] | Record[Status]) -> int:
        """Put an order or a Status into the price tree, once; the number of other nodes that hold it."""
        return (await self._put_in_tree(_spot_of(record), record.wire))[0].holders

    async def _put_in_tree(self, spot: Spot, wire: bytes) -> tuple[PutResult, str]:
        """Put a record at the node of the tree where it belongs; the last result, and where that was."""
        market, path = spot.market, spot.path
        prefix = self._paths.of(market, path, self._clock.monotonic())
        others = [known for known in self._paths.all(market, path) if spot.everywhere and known != prefix]
        result, *_ = await asyncio.gather(*(self._put_at(market, known, wire) for known in (prefix, *others)))
        for _ in range(limits.TREE_DEPTH_MAX):
            branch = deeper(result.moved, prefix, path, result.asked + result.local)
            if branch is None:
                break
            self._paths.learn(market, branch, self._clock.monotonic())
            prefix = branch
            result = await self._put_at(market, prefix, wire)
        if spot.everywhere and prefix != ROOT:
            await self._put_between(market, path, {prefix, *others}, wire)
        return result, prefix

    async def _put_between(self, market: tuple[str, str], path: str, done: set[str], wire: bytes) -> None:
        """Put the end of an order also at nodes of its path that nobody named on the way: a node that delegates keeps
        some of its orders, and names its branches; whoever is moved hears of the deepest only."""
        await self._follow(market, ROOT)
        missed = [known for known in self._paths.all(market, path) if known not in done]
        await asyncio.gather(*(self._put_at(market, known, wire) for known in missed))

    async def _put_at(self, market: tuple[str, str], prefix: str, wire: bytes) -> PutResult:
        key = index_key(self._network, *market, prefix)
        result = await self._overlay.put(key, wire, prefix)
        self._learn(key, result)
        return result

    def tree_prefix(self, record_id: RecordId) -> str:
        """The node of the price tree where a kept record stands."""
        return self._schedule.prefix(record_id) or ROOT

    async def fetch_order(self, order_id: RecordId) -> Record[Order] | None:
        """An order by its id, from whoever is quickest: its bytes prove themselves. Says nothing about its state."""

        def order_in(wire: bytes) -> Record[Order] | None:
            record = parse_record(wire, self._network)
            sound = is_a(record, Order) and record.id == order_id and self._check(record) in (None, Code.EXPIRED)
            return record if sound and is_a(record, Order) else None

        wire = await self._overlay.fetch(order_key(order_id), Kind.ORDER, lambda wire: order_in(wire) is not None)
        return None if wire is None else order_in(wire)

    async def read_order(self, order_id: RecordId) -> OrderReading:
        """Everything that the network knows about one order. Proof that its maker signed twice is handed on."""
        reading, proof = await self._reader.read_order_and_proof(order_id)
        await self._spread(order_id, proof)
        return reading

    async def read_ends_of(self, order: Record[Order], known: Iterable[Record[Status]]) -> list[Record[Status]]:
        """Of an order that is open by what is known of it: the ends that holders of its node of the price tree know.

        Whoever knows one answers an order that comes after it with it. So to put the order there is the question, which
        takes one datagram for each holder, however many ends it has. What is found is put at the order's own key too.
        """
        if order_state(order, known, self._clock.now()).state is not MakerState.OPEN:
            return []
        result, _ = await self._put_in_tree(_spot_of(order), order.wire)
        records = (parse_record(wire, self._network) for wire in result.newer)
        ends = [end for end in records if is_a(end, Status) and end.body.order_id == order.id]
        ends = [end for end in ends if end.body.maker == order.body.maker and self._check(end) is None]
        await self._spread(order.id, ends)
        return ends

    async def _spread(self, order_id: RecordId, statuses: Iterable[Record[Status]]) -> None:
        """Put statuses at both keys of their order, once."""
        for status in statuses:
            await self._overlay.put(order_key(order_id), status.wire, None)
            await self.put_in_tree(status)

    async def read_index(
        self,
        pair: str,
        side: str,
        wish: Wish = EVERYTHING,
        counts: Counts = any_order,
        known: Iterable[Record[Order]] = (),
    ) -> IndexReading:
        """What is wanted of one side of a pair, with what is known against orders in doubt, and against `known` ones
        that are not listed."""
        return await self._reader.read(pair, side, wish, counts, known)

    async def read_ends(self, pair: str, side: str) -> list[Record[Status]]:
        """The statuses that holders keep of one side of a pair, signed by whom they say; nobody knows whose orders."""
        nodes = (await self._reader.read(pair, side, Wish(skim=True))).visited
        keys = [index_key(self._network, pair, side, prefix) for prefix in nodes]
        results = await asyncio.gather(*(self._overlay.get(key, Kind.STATUS) for key in keys))
        found = (merge_ends(self._network, pair, side, result, self._check) for result in results)
        return list({status.id: status for part in found for status in part}.values())

    def watch_node(self, pair: str, side: str, prefix: str) -> DhtKey:
        """Ask to be told what happens at one node of a price tree; the key under which it will be heard of."""
        key = index_key(self._network, pair, side, prefix)
        self._overlay.watch(key)
        return key

    def unwatch_node(self, key: DhtKey) -> None:
        """Be told no more of one node of a price tree."""
        self._overlay.unwatch(key)

    def watch_order(self, order_id: RecordId) -> None:
        """Ask to be told of accepts, statuses and refusals of one order."""
        self._overlay.watch(order_key(order_id))

    def unwatch_order(self, order_id: RecordId) -> None:
        self._overlay.unwatch(order_key(order_id))

    def peers_changed(self) -> None:
        """Say that a peer came or went: kept records may have better holders now."""
        self._peers_changed = True
        self._wake.set()

    def resumed(self, within_s: float) -> None:
        """Say that the machine has slept: what is kept is put again within this time."""
        self._schedule.hasten(self._clock.monotonic(), within_s)
        self._wake.set()

    async def run(self) -> None:
        """Keep records where they belong, for ever; cancelled when the node stops."""
        while True:
            self._wake.clear()
            if self._peers_changed:
                self._peers_changed = False
                self._hasten()
            now = self._clock.monotonic()
            await asyncio.gather(*map(self._place, self._schedule.due(now, self._clock.now())))
            next_due = self._schedule.next_due()
            pause = IDLE_S if next_due is None else min(IDLE_S, next_due - self._clock.monotonic())
            if pause > 0:
                await woken(self._wake, pause)

    def _hasten(self) -> None:
        now = self._clock.monotonic()
        nearest: dict[DhtKey, frozenset[bytes]] = {}
        for placement in self._schedule.few_held():
            if placement.key not in nearest:
                nearest[placement.key] = frozenset(self._overlay.holders_near(placement.key))
            self._schedule.peers_changed(placement, nearest[placement.key], now)

    async def _place(self, placement: Placement) -> PutResult:
        async with self._puts:
            nearest = frozenset(self._overlay.holders_near(placement.key))
            if placement.spot is None:
                result = await self._overlay.put(placement.key, placement.wire, None)
                self._learn(placement.key, result)
            else:
                result, prefix = await self._put_in_tree(placement.spot, placement.wire)
                placement.prefix, placement.key = prefix, index_key(self._network, *placement.spot.market, prefix)
            placement.refusals = result.refusals
            self._schedule.done(placement, result.holders, nearest, self._clock.monotonic())
            return result

    def _learn(self, key: DhtKey, result: PutResult) -> None:
        for wire in result.newer:
            self.on_newer(key, wire)


def _spot_of(record: Record[Order] | Record[Status]) -> Spot:
    body = record.body
    return Spot((body.pair, str(body.side)), tree_path(record), everywhere=isinstance(body, Status))
