"""Reads one side of a pair: drives a `Walk` over the network, settles what holders say differently, and mends it.

Theory of operation. Nodes of the tree are read as the walk asks for them, several at a time. When it ends, orders that
some holder should have and has not are looked up at their own keys: with a Status there they are closed, and who still
serves them revives them; without one, who lacks them hides them. Records are signed, so holders cannot outvote what is
true, only be named. Each is handed what it lacks, the order or the Status, within a budget: reading repairs.
"""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

import msgspec

from dhtex import limits
from dhtex.clock import Clock
from dhtex.coverage import Coverage, GapView, HolderView
from dhtex.directory.pricetree import NodeAnswer, Rank, Step, Walk, Wish
from dhtex.directory.proving import Prove
from dhtex.directory.reading import (
    Check,
    IndexReading,
    OrderReading,
    add_coverage,
    merge_beats,
    merge_index,
    merge_order,
    placed_beats,
    placed_orders,
    rank_of,
    untold,
)
from dhtex.market.admission import tree_path
from dhtex.market.holding import Span
from dhtex.market.ids import RecordId, index_key, order_key
from dhtex.market.pricebits import packed, price_at
from dhtex.market.records import AnyRecord, Code, Kind, Liveness, Order, Record, Side, Status
from dhtex.overlay.addresses import endpoint
from dhtex.overlay.results import Holder
from dhtex.overlay.server import Overlay

BEAT_HOLDERS: Final = 3  # whose Beats are enough, unless a maker seems silent then
CONTESTED_MAX: Final = 64  # orders whose own key is asked at once, and in one round of a reading
ROUNDS_MAX: Final = 4  # walks on when what was found turned out to be closed
FRESH_S: Final = 30  # an order that is younger may still be on its way to its holders

Counts = Callable[[IndexReading, Record[Order]], bool]
"""Whether an order counts towards the limit of a reading, given what has been read."""


def any_order(_reading: IndexReading, _order: Record[Order]) -> bool:
    """Every order counts."""
    return True


def _anything(_rank: Rank) -> bool:
    return True


class TreeReader:
    """Reads trees for one node."""

    def __init__(self, overlay: Overlay, network: str, check: Check, clock: Clock, prove: Prove) -> None:
        self._overlay = overlay
        self._network = network
        self._check = check
        self._prove = prove
        self._clock = clock

    async def read(
        self, pair: str, side: str, wish: Wish, counts: Counts = any_order, known: Iterable[Record[Order]] = ()
    ) -> IndexReading:
        """What the holders of one side of a pair know, as far as the wish needs it. Of `known` orders that they should
        list and do not, the ends are looked up."""
        walk, whole = Walk(side == Side.BUY, wish), IndexReading()
        parts: list[Coverage] = []
        ends_at = asyncio.get_running_loop().time() + limits.TREE_READ_S_MAX
        wants: Callable[[Rank], bool] = walk.wants
        for _ in range(ROUNDS_MAX):
            with suppress(TimeoutError):  # the walk says what was not read
                async with asyncio.timeout_at(ends_at):
                    await self._walk(pair, side, walk, whole, parts, None if wish.limit is None else counts)
            if not await self._settle(whole, walk, wants) or walk.finished:
                break
            wants = _anything  # where some are closed, more are
        whole.leave_out(whole.replaced(), "closed")
        left = [whole.orders[order_id] for order_id in whole.contested if order_id in whole.orders]
        whole.leave_out([order.id for order in left], "limit")
        for order in left:
            walk.pass_by(rank_of(order))
        with suppress(TimeoutError):
            async with asyncio.timeout_at(ends_at):
                await self._look_up_ends(whole, walk, known)
        whole.coverage = self._coverage(pair, side, walk, whole, parts)
        return whole

    async def _walk(
        self, pair: str, side: str, walk: Walk, whole: IndexReading, parts: list[Coverage], counts: Counts | None
    ) -> None:
        """Read the nodes that a walk asks for into `whole` and `parts`."""
        under_way: dict[asyncio.Task[IndexReading], Step] = {}
        try:
            while True:
                while (step := walk.next()) is not None:
                    under_way[asyncio.create_task(self.read_node(pair, side, step))] = step
                if walk.finished:
                    return
                await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                for task in [task for task in under_way if task.done()]:
                    step, reading = under_way.pop(task), task.result()
                    whole.absorb(reading)
                    self._report(walk, step, reading, whole, counts)
                    parts.append(reading.coverage)
        finally:
            for task in under_way:
                task.cancel()

    async def read_node(self, pair: str, side: str, step: Step) -> IndexReading:
        """What the holders of one node tell."""
        key = index_key(self._network, pair, side, step.prefix)
        span = Span(packed(step.best), packed(step.worst))
        orders = await self._overlay.get(key, Kind.ORDER, step.limit, span)
        placed = placed_orders(self._network, (pair, side), orders, step)
        reading = merge_index(placed, orders, await self._proven(placed.values()), step)
        holders = sorted(
            (holder for version in orders.versions for holder in version.by),
            key=lambda holder: holder.address is not None,
        )
        for some in (holders[:BEAT_HOLDERS], holders[BEAT_HOLDERS:]):
            if step.limit == 0 or self._silent(reading):
                wires = await self._overlay.sweep(key, Kind.BEAT, some)
                beats = placed_beats(self._network, (pair, side), wires)
                merge_beats(beats, await self._proven(beats), reading)
        return reading

    async def _proven(self, records: Iterable[AnyRecord]) -> Check:
        """The check, once the signatures of these are known."""
        forged = await self._prove(records)
        return lambda record: Code.BAD_SIGNATURE if record.wire in forged else self._check(record)

    def _silent(self, reading: IndexReading) -> bool:
        """Whether a maker of an order that needs one has given no sign of life."""
        heard_since = self._clock.now() - limits.BEAT_AGE_S_MAX
        return any(
            order.body.liveness is Liveness.BEAT
            and max(order.body.created, reading.beats.get(order.body.author, 0)) < heard_since
            for order in reading.orders.values()
        )

    def _report(
        self, walk: Walk, step: Step, reading: IndexReading, whole: IndexReading, counts: Counts | None
    ) -> None:
        """Tell a walk what a node brought. `counts` is None where everything is read: then nothing need be counted."""
        for suspect in reading.suspects.values():
            if suspect.branches:
                walk.liar(suspect.holder.id)
        orders = () if counts is None else reading.orders.values()
        counted = (order for order in orders if counts and counts(whole, order) and order.id not in whole.statuses)
        walk.on_page(
            step,
            NodeAnswer(
                readable=reading.coverage.complete,
                answered=reading.coverage.answered,
                found=len(reading.orders) + (reading.unread.get(step.prefix, 0) if step.limit == 0 else 0),
                counted=tuple(map(rank_of, counted)),
                rest=reading.rest,
                branches=reading.branches,
            ),
        )

    # --- what holders say differently ---------------------------------------------------------------------------------

    async def read_order(self, order_id: RecordId) -> OrderReading:
        """Everything that the network knows about one order."""
        return (await self.read_order_and_proof(order_id))[0]

    async def read_order_and_proof(self, order_id: RecordId) -> tuple[OrderReading, list[Record[Status]]]:
        """The same, and the statuses that prove an equivocation, if some holder lacks one of them."""
        result = await self._overlay.get(order_key(order_id))
        reading = merge_order(self._network, order_id, result, self._check)
        return reading, untold(reading, result, self._clock.now())

    async def _settle(self, whole: IndexReading, walk: Walk, wants: Callable[[Rank], bool]) -> bool:
        """Ask about what is in doubt; whether something of it is not shown, so that the walk may want more."""
        replaced = whole.replaced()
        before = dict(whole.orders) if whole.contested or replaced else {}
        doubtful = whole.doubtful(CONTESTED_MAX, wants)
        known = await asyncio.gather(*map(self.read_order, doubtful))
        sample = [reading for order_id, reading in zip(doubtful, known, strict=True) if order_id in whole.lonely]
        if sample and all(reading.statuses for reading in sample):
            whole.leave_out(whole.lonely.difference(whole.settled, doubtful).intersection(whole.orders))
        budget = limits.REPAIRS_PER_READ_MAX
        for order_id, reading in zip(doubtful, known, strict=True):
            order = whole.orders.get(order_id)
            if reading.statuses:
                whole.statuses[order_id] = reading.statuses
            if order is None or order.body.created + FRESH_S > self._clock.now():
                continue
            closed = max(reading.statuses, key=lambda status: status.body.seq, default=None)
            if closed is not None and closed.body.at + FRESH_S > self._clock.now():
                continue
            for holder, prefix in (whole.lacks if closed is None else whole.haves).get(order_id, ()):
                suspect = whole.suspect(holder, prefix)
                (suspect.hidden if closed is None else suspect.revived).append(order_id)
                if budget > 0:
                    budget -= self._mend(holder, prefix, (closed or order).wire)
        over = replaced.union(whole.statuses)
        gone = [order for order in before.values() if order.id not in whole.orders or order.id in over]
        for order in gone:
            walk.take_back(rank_of(order))
        return bool(gone)

    async def _look_up_ends(self, whole: IndexReading, walk: Walk, known: Iterable[Record[Order]]) -> None:
        """Why orders are not listed any more. However many there are: who was away has heard of no end meanwhile."""
        unread = walk.result().missing
        wanted = [order for order in known if order.id not in whole.orders and walk.wants(rank_of(order))]
        gone = [order.id for order in wanted if not tree_path(order).startswith(unread)]
        for start in range(0, len(gone), CONTESTED_MAX):
            part = gone[start : start + CONTESTED_MAX]
            for order_id, reading in zip(part, await asyncio.gather(*map(self.read_order, part)), strict=True):
                if reading.statuses:
                    whole.statuses[order_id] = reading.statuses
                elif reading.by_most:
                    whole.standing.append(order_id)

    def _mend(self, holder: Holder, prefix: str, wire: bytes) -> bool:
        """Hand a holder what it lacks, without waiting; whether that cost anything."""
        self._overlay.hand_on(holder, wire, prefix)
        return holder.address is not None

    def _coverage(self, pair: str, side: str, walk: Walk, whole: IndexReading, parts: list[Coverage]) -> Coverage:
        walked = walk.result()
        whole.visited, whole.beyond = walked.visited, walked.beyond
        for holder_id, invented in walked.liars.items():
            for suspect in [s for s in whole.suspects.values() if s.holder.id == holder_id][:1]:
                suspect.branches = max(suspect.branches, invented)
        disagreed = [
            HolderView(
                holder=suspect.holder.id.hex(),
                address="" if suspect.holder.address is None else endpoint(*suspect.holder.address),
                symbol=pair,
                side=side,
                prefix=suspect.prefix,
                hidden=len(suspect.hidden),
                revived=len(suspect.revived),
                invented=suspect.invented,
                branches=suspect.branches,
                unfinished=suspect.unfinished,
            )
            for suspect in whole.suspects.values()
        ]
        missing = [
            GapView(symbol=pair, side=side, low=price_at(prefix, highest=False), high=price_at(prefix, highest=True))
            for prefix in walked.missing
        ]
        total = add_coverage(parts)
        return msgspec.structs.replace(
            total,
            nodes=len(walked.visited),
            complete=total.asked > 1 and not missing,  # one is this node itself: it knows nobody who may know more
            missing=missing,
            disagreed=disagreed,
        )
