"""A node's life and what a face may ask of it.

No rule of its own stands here: each method resolves what a person named, calls the part that decides, and presents the
result. `dhtex.node.parts` builds the parts.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from dhtex import limits
from dhtex.clock import Clock, SystemClock, system_entropy
from dhtex.config import NodeConfig
from dhtex.directory.service import Published
from dhtex.errors import NoPeerError, UsageError
from dhtex.market.ids import DhtKey, RecordId
from dhtex.market.records import Order, Record, parse_record
from dhtex.node.bootstrap import CONNECTED, ITSELF, UNKNOWN_NAME
from dhtex.node.bulk import cancel_all
from dhtex.node.counter import Progress
from dhtex.node.diagnosis import Diagnosis
from dhtex.node.events import ALL
from dhtex.node.health import Health
from dhtex.node.offers import resume_within_s
from dhtex.node.outside import Outside
from dhtex.node.parts import OpenDatabase, Parts, build
from dhtex.node.queries import Queries
from dhtex.node.taking import Tell, accept_view, told_nobody
from dhtex.node.trades import find_pending, full_view, settle
from dhtex.nodefiles import Lock
from dhtex.overlay.addresses import endpoint
from dhtex.overlay.transport import OpenEndpoint, open_endpoint
from dhtex.store.database import Database
from dhtex.store.rows import Trade
from dhtex.tasks import Tasks
from dhtex.views import (
    AcceptRequest,
    AcceptView,
    Amendment,
    CancelView,
    DoctorView,
    HealthView,
    OrderDraft,
    OrderView,
    PeerView,
    PublishView,
    ReceiptRequest,
    StatusView,
    TradeView,
    WhyView,
)

log = logging.getLogger(__name__)

FLUSH_S: Final = 0.2
FLUSH_TURN_S: Final = 0.01
TICK_S: Final = 1.0
PEERS_SAVED_S: Final = 60.0
PEERS_SAVED_FIRST_S: Final = 3.0  # the pause doubles from here: a node that is killed soon should find back too
BOOTSTRAP_WAIT_S: Final = 0.6  # a start waits this long for a first peer, then goes on in the background


class Node(Queries):
    """A node of the network: `async with Node(NodeConfig(port=3001)) as node: ...`.

    Methods raise subclasses of DhtexError. Not for use from several threads or event loops. A simulation brings its own
    clock, entropy, network (`open_endpoint`) and disk (`open_database`). `locked`: the caller has the lock of the home.
    """

    def __init__(
        self,
        config: NodeConfig,
        *,
        clock: Clock | None = None,
        entropy: random.Random | None = None,
        fresh: bool = False,
        locked: bool = False,
        open_endpoint: OpenEndpoint = open_endpoint,
        open_database: OpenDatabase = Database.open,
    ) -> None:
        self.config = config
        self.port = config.port
        self._clock = clock or SystemClock()
        self._entropy = entropy or system_entropy()
        self._fresh = fresh
        self._locked = locked
        self._lock: Lock | None = None
        self._outside: Outside | None = None
        self._ending: asyncio.Future[None] | None = None
        self._open_endpoint = open_endpoint
        self._open_database = open_database
        self._tasks = Tasks()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # --- life -------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the state, listen, begin to join. Raises StateError, UsageError (for a network that asks for other work)
        or PortInUseError (for the home of a running node too). If it fails or is cancelled, nothing is left open."""
        home = self.config.home
        if home is not None and not self._locked:
            self._lock = Lock.take(home)
        try:
            database = self._open_database(None if home is None else home / "node.db", fresh=self._fresh)
            try:
                self._parts = build(self.config, self._clock, self._entropy, database, self._open_endpoint)
            except BaseException:
                database.close()
                raise
            await self._begin(self._parts)
        except BaseException:
            await self.stop()
            raise

    async def _begin(self, parts: Parts) -> None:
        self.config = parts.config
        self._outside = Outside(self.config, parts.node_id, parts.bootstrap.meet)
        self.port = await parts.overlay.listen(self.config.port, self.config.host)
        self._started = self._clock.monotonic()
        parts.overlay.on_record = self._heard
        parts.overlay.on_gap = self._gap
        parts.overlay.on_peers = self._peers_changed
        parts.overlay.on_resumed = self._resumed
        parts.directory.on_newer = self._heard
        parts.desk.on_change = self._trade_changed
        parts.desk.on_ended = self._order_ended
        parts.settling.on_change = self._trade_changed
        parts.offers.on_changed = self._order_changed
        parts.overlay.load_peers([(node_id, (ip, port)) for node_id, ip, port in parts.journal.peers()])
        parts.offers.resume()
        self._tasks.spawn(parts.offers.withdraw_overdue())  # due while the node was away: before anything is heard
        await parts.settling.start()
        await parts.desk.start()
        keeping = (parts.directory.run, parts.tending.run, parts.beats.run, parts.offers.relist)
        self._tasks.keep_up(parts.offers.stamp_enough)
        for routine in (*keeping, parts.canary.run, parts.following.run, self._flush, self._tick):
            self._tasks.keep_up(routine)
        first = asyncio.ensure_future(parts.bootstrap.first_round())
        self._tasks.keep_up(partial(self._join, first))
        await self._outside.start(self.port)
        await asyncio.wait([first], timeout=BOOTSTRAP_WAIT_S)

    async def stop(self) -> None:
        """Save everything and close everything. Stopping twice is no error."""
        if self._ending is None:  # whoever comes meanwhile waits for the same end
            self._ending = asyncio.ensure_future(self._close())
        await asyncio.shield(self._ending)

    async def _close(self) -> None:
        parts, self._parts = self._parts, None
        try:
            if parts is not None:
                await self._end(parts)
        finally:
            self._ending = None
            lock, self._lock = self._lock, None
            if lock is not None:
                lock.release()

    async def _end(self, parts: Parts) -> None:
        parts.overlay.on_record = parts.directory.on_newer = lambda key, wire: None
        parts.overlay.on_gap = lambda key: None
        parts.overlay.on_peers = parts.overlay.on_resumed = lambda: None
        parts.desk.on_change = parts.settling.on_change = lambda trade: None
        parts.desk.on_ended = lambda order_id, state: None
        parts.hub.end()
        await self._tasks.end()
        if self._outside is not None:
            await self._outside.stop()
        await parts.desk.stop()
        await parts.settling.stop()
        parts.mint.close()
        parts.save(self._clock.now(), peers=True)
        await parts.overlay.close()
        parts.save(self._clock.now())
        parts.database.close()

    @property
    def set_aside(self) -> Path | None:
        """Where a corrupt state file was moved when the node was started afresh."""
        return self._running.database.set_aside

    async def _join(self, first: asyncio.Future[None]) -> None:
        await asyncio.gather(first, return_exceptions=True)
        await self._running.bootstrap.run()

    async def _flush(self) -> None:
        written, holdings = True, self._running.holdings
        while True:
            await holdings.changed.wait()
            await asyncio.sleep(FLUSH_S)  # what comes at about the same time is written in one batch
            while holdings.changed.is_set():
                before = written
                written = self._running.save(self._clock.now(), rows_max=limits.WRITTEN_PER_TURN_MAX)
                if not written:
                    if before:
                        log.error("held records cannot be written; trying on")
                    break
                await asyncio.sleep(FLUSH_TURN_S)  # a large batch takes turns with everything else

    async def _tick(self) -> None:
        parts, saved, pause_s = self._running, self._clock.monotonic(), PEERS_SAVED_FIRST_S
        while True:
            await asyncio.sleep(TICK_S)
            parts.following.tick()
            if parts.offers.is_overdue():
                self._tasks.spawn(parts.offers.withdraw_overdue())
            parts.holdings.expire(self._clock.now())
            if self._clock.monotonic() - saved >= pause_s:
                saved = self._clock.monotonic()
                pause_s = min(2 * pause_s, PEERS_SAVED_S) if parts.overlay.peers() else PEERS_SAVED_FIRST_S
                parts.save(self._clock.now(), peers=True, rows_max=limits.WRITTEN_PER_TURN_MAX)
                self._tasks.spawn(parts.offers.relist())  # in case the disk had refused

    # --- what arrives -----------------------------------------------------------------------------------------------

    def _heard(self, key: DhtKey, wire: bytes) -> None:
        parts = self._running
        record = parse_record(wire, self.config.network)
        if not isinstance(record, Record) or parts.check(record) is not None:
            return
        parts.following.heard(key, record)
        parts.desk.on_record(record)
        parts.settling.on_record(record)

    def _gap(self, key: DhtKey) -> None:
        parts = self._running
        for followed in parts.following.at(key):
            self._tasks.spawn(followed.catching_up.run(partial(parts.following.pull, followed)))
        if (order_id := parts.counter.order_at(key)) is not None:
            parts.desk.on_gap(order_id)
            parts.settling.on_gap(order_id)

    def _trade_changed(self, trade: Trade) -> None:
        parts = self._running
        parts.settling.follow(trade)
        if parts.hub.readers(ALL):
            parts.hub.tell((ALL,), type="trade", trade=full_view(parts.journal, trade))

    def _order_ended(self, order_id: RecordId, state: str) -> None:
        parts = self._running
        parts.offers.ended(order_id)
        self._tasks.spawn(parts.offers.relist())
        log.info("order=%s state=%s", order_id.hex()[:12], state)
        self._order_changed(order_id)

    def _order_changed(self, order_id: RecordId) -> None:
        parts = self._running
        if parts.hub.readers(ALL) and (view := parts.market.own_view(order_id)) is not None:
            parts.hub.tell((ALL,), type="order", order=view)

    def _peers_changed(self) -> None:
        parts = self._running
        parts.directory.peers_changed()
        parts.desk.refresh()
        if not parts.overlay.peers():
            parts.bootstrap.lost_peers()

    def _resumed(self) -> None:
        parts = self._running
        log.warning("the machine has slept, or is at another address now: meeting the network again")
        parts.bootstrap.lost_peers()
        parts.directory.resumed(resume_within_s(parts.directory.count_kept()))

    # --- network ----------------------------------------------------------------------------------------------------

    async def connect(self, host: str, port: int) -> bool:
        """Join the network of a peer; whether it answered. Raises UsageError for an address that cannot be one or is
        this node's, NoPeerError for a name that nobody knows."""
        text = endpoint(host, port)
        state = await self._running.bootstrap.try_once(text)
        if state == UNKNOWN_NAME:
            raise NoPeerError(f"no address is known for the name {host}", hint="check how it is written")
        if state == ITSELF:
            raise UsageError(f"{text} is this node itself", hint="name another one")
        return state == CONNECTED

    @property
    def _health(self) -> Health:
        return Health(self.config, self._running, self._clock, self.port, self._started)

    @property
    def _diagnosis(self) -> Diagnosis:
        mapping = None if self._outside is None else self._outside.mapping
        return Diagnosis(self.config, self._running, self._health, self._clock, mapping)

    def peers(self) -> list[PeerView]:
        """The contacts of the routing table, most recently heard of first."""
        return self._health.peers()

    def status(self) -> StatusView:
        """The node in one page."""
        return self._health.status()

    def health(self) -> HealthView:
        """Whether the node does its work."""
        return self._health.health()

    def metrics(self) -> str:
        """Everything that has a number, in the text format of Prometheus."""
        return self._health.metrics()

    async def why(self, name: str) -> WhyView:
        """How a search for a key (40 hex digits) or an order goes, hop by hop."""
        return await self._diagnosis.why(name)

    async def doctor(self) -> DoctorView:
        """What is wrong with this node, if anything."""
        return await self._diagnosis.doctor()

    # --- orders -----------------------------------------------------------------------------------------------------

    async def add_order(
        self, draft: OrderDraft, progress: Progress | None = None, tell: Tell = told_nobody
    ) -> PublishView:
        """Sign, stamp and publish an order. `progress` hears the expected fraction of the stamp's work, 0 to 1, `tell`
        that the order is `signed`: from then on it is published whatever happens."""
        order, published = await self._running.offers.add(draft, progress, self._signed(tell))
        self._tasks.spawn(self._running.beats.published(order))
        return self._published(order, published)

    def _published(self, order: Record[Order], published: Published) -> PublishView:
        return PublishView(
            order=self._running.market.view(order),
            holders=published.holders,
            refusals=published.refusals,
            unfinished=published.unfinished,
        )

    async def cancel_order(self, id_prefix: str) -> OrderView:
        """Cancel an own order. Raises RefusedError if it is closed already."""
        found = await self._running.market.find(id_prefix)
        await self._running.offers.cancel_found(found)
        return self._running.market.view(found)

    async def cancel_orders(self, pair: str = "") -> CancelView:
        """Cancel all own open orders, or those of a pair. What cannot be cancelled is named, the others still are."""
        return await cancel_all(self._running.offers, self._running.market, pair)

    def renew_orders(self) -> list[OrderView]:
        """Say that the maker is there: dead man's switches begin anew. The open orders that have one."""
        return [self._running.market.view(order) for order in self._running.offers.renew()]

    def _signed(self, tell: Tell) -> Callable[[Record[Order]], None]:
        return lambda order: tell("signed", self._running.market.view(order))

    async def amend_order(
        self, id_prefix: str, amendment: Amendment, progress: Progress | None = None, tell: Tell = told_nobody
    ) -> PublishView:
        """Replace an own order by a changed one; `tell` as in `add_order`."""
        found = await self._running.market.find(id_prefix)
        successor, published = await self._running.offers.amend(found.id, amendment, progress, self._signed(tell))
        return self._published(successor, published)

    # --- trades -----------------------------------------------------------------------------------------------------

    async def accept_order(
        self, id_prefix: str, request: AcceptRequest, progress: Progress | None = None, tell: Tell = told_nobody
    ) -> AcceptView:
        """Accept an order and wait up to `request.wait_s` seconds for the outcome; `tell` hears that it is `sent`."""
        found = await self._running.market.find(id_prefix)
        trade = await self._running.desk.accept(found, request, progress)
        tell("sent", full_view(self._running.journal, trade))
        trade = await self._running.desk.wait(trade.accept_id, request.wait_s)
        return accept_view(trade)

    async def confirm_order(self, id_prefix: str, accept_prefix: str = "", reply: str = "") -> TradeView:
        """Confirm one of the accepts that wait for a person; `accept_prefix` may be empty if there is only one."""
        found = await self._running.market.find(id_prefix)
        parts = self._running
        accept_id = find_pending(parts.journal, found.id, accept_prefix)
        return full_view(parts.journal, await parts.desk.confirm(found.id, accept_id, reply))

    async def decline_order(self, id_prefix: str, accept_prefix: str = "") -> TradeView:
        """Refuse one of the accepts that wait for a person."""
        found = await self._running.market.find(id_prefix)
        parts = self._running
        accept_id = find_pending(parts.journal, found.id, accept_prefix)
        return full_view(parts.journal, await parts.desk.decline(found.id, accept_id))

    def settle_trade(self, id_prefix: str, request: ReceiptRequest) -> TradeView:
        """Sign what became of a confirmed trade, for the other side and whoever reads the order's key."""
        return settle(self._running.journal, self._running.settling, id_prefix, request)
