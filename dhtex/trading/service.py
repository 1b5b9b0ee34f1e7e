"""The desk of a node: carries out what selling and buying decide. Tasks, timers and the network; no rule of the market.

Theory of operation. Records come in by push (`on_record`) and by pull, and go through one step of `Selling` or `Buying`
each; what a step decided is on disk before its effects are carried out here. Own open orders are read again in
rotation, and at once when something may have been missed. Each running accept has one task that follows its `Plan`.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from functools import partial
from typing import Final
from weakref import WeakValueDictionary

from dhtex import limits
from dhtex.clock import Clock
from dhtex.errors import DhtexError, NoPeerError, NotFoundError, StateError
from dhtex.market.ids import RecordId
from dhtex.market.keyring import Keyring
from dhtex.market.records import Accept, AnyRecord, Kind, Order, Record, Refusal, Status, id_of, is_a
from dhtex.market.trade import TakerState
from dhtex.store.journal import Journal
from dhtex.store.rows import Trade
from dhtex.tasks import Tasks, lasting, woken
from dhtex.trading.buying import Buying
from dhtex.trading.effects import Changed, Effect, Ended, Publish, Wait
from dhtex.trading.followed import Followed
from dhtex.trading.maker import ReadBack
from dhtex.trading.ports import Progress, Publisher
from dhtex.trading.selling import Selling, Terms
from dhtex.trading.taker import Plan, Step
from dhtex.trading.timers import Timers
from dhtex.views import AcceptRequest

log = logging.getLogger(__name__)

PULL_PAUSE_S_MIN: Final = 1.0  # between two reads of own orders that nobody asked for
PULL_ROUND_S: Final = 40.0  # in which few orders are all read once: an accept that nobody told of waits for a minute
REFRESH_PAUSE_S: Final = 5.0  # while a node joins, a new peer comes with every datagram
PUBLISH_PAUSE_S_MIN: Final = 1.0
PUBLISH_PAUSE_S_MAX: Final = 60.0
ENDED_WATCH_S: Final = limits.ACCEPT_DEADLINE_S_DEFAULT + limits.ACCEPT_GRACE_S  # to refuse those who come too late
PRUNE_S: Final = 86_400.0  # a node that runs for months forgets too
JITTER: Final = (0.75, 1.25)
_ALL: Final = RecordId(b"")  # the name of a timer that concerns no single order
_RUNNING: Final = (TakerState.SENT, TakerState.PENDING)


class Desk:
    """Accepts and decisions of one node. `on_change` hears of each trade that is new or changed, `on_ended` of own
    orders that were filled, expired, or closed elsewhere; both after it is on disk."""

    def __init__(
        self,
        journal: Journal,
        keys: Keyring,
        publisher: Publisher,
        clock: Clock,
        entropy: random.Random,
        terms: Terms,
        on_change: Callable[[Trade], None] = lambda trade: None,
    ) -> None:
        self.on_change = on_change
        self.on_ended: Callable[[RecordId, str], None] = lambda order_id, state: None
        self._journal = journal
        self._publisher = publisher
        self._clock = clock
        self._entropy = entropy
        self._terms = terms
        self._selling = Selling(journal, keys, terms, entropy)
        self._buying = Buying(journal, keys, terms, entropy)
        self._tasks = Tasks()
        self._timers = Timers(clock, self._safely)
        self._followed: dict[RecordId, dict[RecordId, Followed]] = {}  # by order, then by accept
        self._sending: WeakValueDictionary[RecordId, asyncio.Lock] = WeakValueDictionary()
        self._publishing: set[RecordId] = set()
        self._open: dict[RecordId, None] = {}
        self._pull_soon: dict[RecordId, None] = {}
        self._pull_wake = asyncio.Event()
        self._waiting: dict[RecordId, list[asyncio.Future[None]]] = {}
        self._refresh_due = False

    # --- life -------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Go on where the node stopped: publish what may not have been heard, decide what came in meanwhile."""
        now = self._clock.now()
        self._prune(now)
        self._carry_out(self._selling.resume(now))
        unanswered = self._selling.unanswered()
        for order_id in (*(own.order_id for own in self._selling.open_orders()), *unanswered):
            self.order_opened(order_id)
            self.on_gap(order_id)
        for order_id in unanswered:
            self._forget_order(order_id)
        for trade in self._buying.unfinished(now):
            self._follow(trade)
        self._tasks.keep_up(self._pull_in_rotation)

    def _prune(self, now: float) -> list[Effect]:
        self._timers.at("prune", _ALL, now + PRUNE_S, self._prune)
        self._journal.prune(now)
        return []

    async def stop(self) -> None:
        """End all tasks and timers; whoever waits for an outcome gets what is known. Stopping twice is no error."""
        self._timers.stop()
        await self._tasks.end()
        for accept_id in list(self._waiting):
            self._release(accept_id)

    # --- from the network -------------------------------------------------------------------------------------------

    def on_record(self, record: AnyRecord) -> None:
        """Take in an Accept, Status or Refusal that was heard at an order's key. Anything else is ignored."""
        if is_a(record, Accept):
            self._safely(partial(self._consider, record))
        elif is_a(record, Status):
            self._safely(lambda: self._selling.reconcile(record, self._clock.now()))
            self._hear(RecordId(record.body.order_id), [record])
        elif is_a(record, Refusal):
            self._safely(lambda: self._selling.recall(record))
            self._hear(RecordId(record.body.order_id), [record])

    def _consider(self, accept: Record[Accept]) -> list[Effect]:
        if self._selling.fenced(RecordId(accept.body.order_id)):
            self.on_gap(RecordId(accept.body.order_id))  # only what was just read back may be filled
        return self._selling.consider(accept, self._clock.now())

    def on_gap(self, order_id: RecordId) -> None:
        """Something put at an order's key may have been missed: read it soon."""
        if order_id in self._open:
            self._pull_soon[order_id] = None
            self._pull_wake.set()
        for followed in self._following(order_id):
            followed.plan.hurry(self._clock.now())
            followed.wake.set()

    def refresh(self) -> None:
        """Peers came or went: read everything that is open soon. Many calls in a short time count as two."""
        self._refresh_due = ("refresh", _ALL) in self._timers
        if not self._refresh_due:
            self._timers.at("refresh", _ALL, self._clock.now() + REFRESH_PAUSE_S, self._refresh_again)
            for order_id in dict.fromkeys([*self._open, *self._followed]):
                self.on_gap(order_id)

    def _refresh_again(self, now: float) -> list[Effect]:
        if self._refresh_due:
            self.refresh()
        return []

    # --- own orders -------------------------------------------------------------------------------------------------

    def order_opened(self, order_id: RecordId) -> None:
        """Listen for accepts of an own order, which is in the journal, and note when it expires."""
        own = self._journal.order(order_id)
        assert own is not None, "an order is in the journal before it is opened"
        self._publisher.watch(order_id)
        self._open[order_id] = None
        self._timers.at("expire", order_id, own.expires, partial(self._selling.expire, order_id))

    def order_closed(self, order_id: RecordId) -> None:
        """Refuse what waits for an own order that was cancelled or replaced, which is in the journal."""
        self._safely(lambda: self._selling.order_closed(order_id, self._clock.now()))
        self._forget_order(order_id)

    async def confirm(self, order_id: RecordId, accept_id: RecordId | None, reply: str = "") -> Trade:
        """Give an order to an accept that waits for a person; None: the only one. Raises NoPeerError too."""
        read = await self.read_back(order_id)
        return self._said(self._selling.confirm(order_id, accept_id, reply, self._clock.now(), read))

    async def decline(self, order_id: RecordId, accept_id: RecordId | None) -> Trade:
        """Refuse an accept that waits for a person. Raises as `confirm`."""
        read = await self.read_back(order_id)
        return self._said(self._selling.decline(order_id, accept_id, self._clock.now(), read))

    def _said(self, effects: list[Effect]) -> Trade:
        self._carry_out(effects)
        return next(effect.trade for effect in effects if isinstance(effect, Changed))

    # --- own accepts ------------------------------------------------------------------------------------------------

    async def accept(self, order: Record[Order], request: AcceptRequest, progress: Progress | None = None) -> Trade:
        """Send an accept; its outcome comes later (`wait`). The same wish again gives the trade that is running, or
        was sent meanwhile. Raises UsageError, RefusedError when the order is known to be over, NoPeerError."""
        before = self._buying.sent(order.id)
        async with self._sending.setdefault(order.id, asyncio.Lock()):
            body = self._buying.draft(order, request, self._clock.now())
            if (same := self._buying.same_wish(body, request.message, before)) is not None:
                return same
            self._buying.check_open(order, await self._publisher.read(order.id), self._clock.now())
            stamp = await self._publisher.mint(id_of(body), Kind.ACCEPT, progress)
            trade, effects = self._buying.send(order, body, stamp, request.message)
            self._carry_out(effects)
            self._follow(trade)
            return trade

    async def wait(self, accept_id: RecordId, wait_s: float) -> Trade:
        """The trade of an accept, as soon as its outcome is known or the time is over. Raises NotFoundError."""
        trade = self._journal.trade(accept_id)
        if trade is None:
            raise NotFoundError(f"there is no trade {accept_id.hex()[:12]}", hint="see: dhtex trade list")
        if trade.state in _RUNNING and wait_s > 0:
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(accept_id, []).append(done)
            await asyncio.wait([done], timeout=wait_s)
            if done in (waiting := self._waiting.get(accept_id, [])):
                waiting.remove(done)
            trade = self._journal.trade(accept_id) or trade
        return trade

    # --- following an accept ----------------------------------------------------------------------------------------

    def _follow(self, trade: Trade) -> None:
        order, _ = self._terms.records(trade)
        plan = Plan(trade.deadline, self._buying.until(trade), self._clock.now())
        followed = Followed(trade.accept_id, order, plan)
        self._followed.setdefault(order.id, {})[trade.accept_id] = followed
        self._publisher.watch(order.id)
        self._tasks.spawn(self._run_plan(followed))

    def _following(self, order_id: RecordId) -> list[Followed]:
        return list(self._followed.get(order_id, {}).values())

    async def _run_plan(self, followed: Followed) -> None:
        order_id = followed.order.id
        try:
            await lasting(partial(self._pursue, followed))
        finally:
            del self._followed[order_id][followed.accept_id]
            if not self._followed[order_id]:
                del self._followed[order_id]
            self._unwatch(order_id)

    async def _pursue(self, followed: Followed) -> None:
        plan = followed.plan
        while (trade := self._journal.trade(followed.accept_id)) is not None:
            if trade.state == TakerState.REFUSED:
                return
            if trade.state == TakerState.CONFIRMED:
                # A maker that promises the order twice is likely to be heard of within this time.
                await asyncio.sleep(trade.deadline + limits.ACCEPT_GRACE_S - self._clock.now())
                return
            step, rest_s = plan.next(self._clock.now())
            if step is Step.END:
                return
            if step is Step.PUT:
                holders = await self._publisher.put_order_key(trade.order_id, trade.accept_wire)
                plan.put_done(holders, self._clock.now())
                if holders:
                    self._safely(partial(self._buying.defer, trade.accept_id))
                await self._stamp_enough(trade)
            elif step is Step.READ:
                await self._read(followed)
            else:
                await woken(followed.wake, rest_s)

    async def _stamp_enough(self, trade: Trade) -> None:
        """Stamp an accept again that was just put, if holders ask for more; else it is put again as it is."""
        if bits := self._buying.bits_to_mint(trade, self._publisher.bits_asked(trade.accept_wire)):
            try:
                stamp = await self._publisher.mint(trade.accept_id, Kind.ACCEPT, None, bits)
            except (DhtexError, OSError) as error:
                log.error("accept=%s cannot be stamped again: %s", trade.accept_id.hex()[:12], error)
            else:
                self._safely(partial(self._buying.stamp_again, trade.accept_id, stamp))

    async def _read(self, followed: Followed) -> None:
        begun, done = self._clock.now(), True
        try:
            self._hear(followed.order.id, await self._publisher.read_both(followed.order))
            if followed.plan.lapsed(begun):
                done = self._safely(lambda: self._buying.lapse(followed.accept_id, begun))
        except NoPeerError:
            done = False
        followed.plan.read_done(done, begun, self._clock.now())

    def _hear(self, order_id: RecordId, records: list[AnyRecord]) -> None:
        for followed in self._following(order_id):
            followed.hear(records, self._terms.good)
            self._safely(partial(self._judge, followed))
            followed.wake.set()

    def _judge(self, followed: Followed) -> list[Effect]:
        return self._buying.judge(followed.accept_id, followed.heard.values(), self._clock.now())

    # --- reading own orders -----------------------------------------------------------------------------------------

    async def _pull_in_rotation(self) -> None:
        """Read own orders: those of which something may have been missed, and in between all of them in turn."""
        loop = asyncio.get_running_loop()
        due = loop.time() + PULL_ROUND_S
        while True:
            if due <= loop.time():
                if order_id := next(iter(self._open), None):
                    self._open[order_id] = self._open.pop(order_id)
                    await self._pull(order_id)
                pause_s = max(PULL_PAUSE_S_MIN, PULL_ROUND_S / max(1, len(self._open)))
                due = loop.time() + pause_s * self._entropy.uniform(*JITTER)
            elif self._pull_soon:
                await self._pull(next(iter(self._pull_soon)))
            else:
                await woken(self._pull_wake, due - loop.time())

    async def read_back(self, order_id: RecordId) -> ReadBack:
        """Before anything is signed about an order of an older epoch: hear what copies of this node have signed for it
        and its group. The orders that were read, usually none. Raises NoPeerError unless most holders answer."""
        fenced = self._selling.fenced(order_id)
        for one in fenced:
            self._hear_answers(await self._publisher.read_back(one))
        return ReadBack(fenced)

    def _hear_answers(self, records: list[AnyRecord]) -> None:
        for answer in (r for r in records if is_a(r, Status) or is_a(r, Refusal)):
            self.on_record(answer)

    async def _pull(self, order_id: RecordId) -> None:
        self._pull_soon.pop(order_id, None)
        self._safely(lambda: self._selling.expire(order_id, self._clock.now()))  # if the disk has refused to note it
        if order_id not in self._open:
            return
        try:
            records = await self._publisher.read(order_id)
            self._hear_answers(records)  # first: the order may have been closed elsewhere
            read = await self.read_back(order_id)
        except NoPeerError:
            return  # the rotation comes back to it
        answered = {r.body.accept_id for r in records if is_a(r, Status) or is_a(r, Refusal)}
        accepts = [r for r in records if is_a(r, Accept) and not (r.id in answered and self._journal.answer(r.id))]
        for step in (self._selling.expire, self._selling.order_closed):
            self._safely(partial(step, order_id, self._clock.now(), read))
        for accept in sorted(accepts, key=lambda r: (r.body.created, r.id)):
            self._safely(partial(self._selling.consider, accept, self._clock.now(), read))

    def _forget_order(self, order_id: RecordId) -> None:
        self._timers.cancel("expire", order_id)
        self._timers.at("unwatch", order_id, self._clock.now() + ENDED_WATCH_S, lambda now: self._unwatch(order_id))
        if self._selling.fenced(order_id):
            self.on_gap(order_id)  # those who still wait are refused when it was read back
        else:
            self._open.pop(order_id, None)
            self._pull_soon.pop(order_id, None)

    def _unwatch(self, order_id: RecordId) -> list[Effect]:
        if order_id in self._open and order_id in self._selling.unanswered():
            self._forget_order(order_id)  # and read on, until those who wait can be refused
        elif ("expire", order_id) not in self._timers and not self._following(order_id):
            self._open.pop(order_id, None)
            self._publisher.unwatch(order_id)
        return []

    # --- carrying out -----------------------------------------------------------------------------------------------

    def _safely(self, step: Callable[[], list[Effect]]) -> bool:
        """Run a step that nobody waits for. False when the disk refuses: it did not happen, and comes again."""
        try:
            self._carry_out(step())
        except StateError as error:
            log.error("the journal cannot be written: %s", error)
            return False
        return True

    def _carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Publish():
                    if effect.accept_id not in self._publishing:
                        self._publishing.add(effect.accept_id)
                        self._tasks.keep_up(partial(self._publish, effect))
                case Changed(trade):
                    self._timers.cancel("lapse", trade.accept_id)
                    if trade.state not in _RUNNING:
                        self._release(trade.accept_id)
                    self.on_change(trade)
                case Ended(order_id, state):
                    self._forget_order(order_id)
                    self.on_ended(order_id, state)
                case Wait(accept_id, deadline):
                    # A whole second later, because the deadline itself is still in time.
                    self._timers.at("lapse", accept_id, deadline + 1, partial(self._selling.lapse, accept_id))

    async def _publish(self, effect: Publish) -> None:
        order, pause_s = effect.order, PUBLISH_PAUSE_S_MIN
        while self._clock.now() < effect.until:
            puts = [self._publisher.put_order_key(order.id, effect.wire)]
            if effect.certificate:
                puts.append(self._publisher.put_index(order.body, effect.wire))
            if min(await asyncio.gather(*puts)) > 0:
                break
            await asyncio.sleep(pause_s * self._entropy.uniform(*JITTER))
            pause_s = min(2 * pause_s, PUBLISH_PAUSE_S_MAX)
        self._safely(lambda: self._selling.published(effect.accept_id))
        self._publishing.discard(effect.accept_id)  # not when a put breaks off: then this begins again

    def _release(self, accept_id: RecordId) -> None:
        for done in (done for done in self._waiting.pop(accept_id, []) if not done.done()):
            done.set_result(None)
