"""The overlay of one node: put, get and watch records at keys, in a network that finds and mends itself.

A key's *holders* are the HOLDERS closest live dhtex nodes, ourselves included. In a network of fewer nodes all are.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from dhtex import limits
from dhtex.clock import Clock
from dhtex.market.holding import WHOLE, Page, Span
from dhtex.market.ids import DhtKey, NodeId
from dhtex.overlay.addresses import Address, canonical
from dhtex.overlay.contact import Contact, Peer, PeerKind, contact_at
from dhtex.overlay.crawl import Crawl
from dhtex.overlay.fetching import Fetch
from dhtex.overlay.hints import Hints
from dhtex.overlay.lookup import is_holder
from dhtex.overlay.ports import Holdings
from dhtex.overlay.probing import Probing
from dhtex.overlay.protocol import Protocol
from dhtex.overlay.putting import Putting, hand_on
from dhtex.overlay.reading import Reading
from dhtex.overlay.replicate import Replicator
from dhtex.overlay.results import GetResult, Holder, PeerInfo, PutResult, info
from dhtex.overlay.searching import Searches
from dhtex.overlay.selfview import SelfView
from dhtex.overlay.serving import Serving
from dhtex.overlay.stock import StockShelf
from dhtex.overlay.stockserver import StockServer
from dhtex.overlay.sweep import sweep
from dhtex.overlay.trailer import network_tag
from dhtex.overlay.transport import Endpoint, OpenEndpoint, open_endpoint
from dhtex.overlay.upkeep import Upkeep
from dhtex.overlay.watching import Watching
from dhtex.overlay.wire import WATCH
from dhtex.tasks import Tasks

log = logging.getLogger(__name__)

TICK_S: Final = 1.0
_Wanted = tuple[DhtKey, int, int | None, Span]


_Value = TypeVar("_Value")


def _settle(future: asyncio.Future[_Value], value: _Value) -> None:
    if not future.done():
        future.set_result(value)


class Overlay(StockServer):
    """One node of the network. `listen` before anything else, `close` at the end."""

    protocol: Protocol
    transport: Endpoint | None

    def __init__(
        self,
        node_id: NodeId,
        network: str,
        holdings: Holdings,
        clock: Clock,
        entropy: random.Random,
        *,
        open_endpoint: OpenEndpoint = open_endpoint,
    ) -> None:
        assert len(node_id) == 20
        shelf = StockShelf(holdings, clock)
        super().__init__(limits.BUCKET_SIZE, limits.LOOKUP_PARALLEL, node_id, shelf)  # type: ignore[no-untyped-call]
        self.on_peers: Callable[[], None] = lambda: None
        self.on_resumed: Callable[[], None] = lambda: None
        self._net = network_tag(network)
        self._holdings = holdings
        self._clock = clock
        self._entropy = entropy
        self._open_endpoint = open_endpoint
        self._tasks = Tasks()
        self._gets: dict[_Wanted, asyncio.Future[GetResult]] = {}
        self.protocol = self._create_protocol()
        self._searches = Searches(self.protocol, entropy)
        self._watching = Watching(self.protocol, self._searches.locate, entropy)
        serving = Serving(self.protocol.own_id, self.protocol.table, holdings, clock, self._watching.stored)
        crowded = self._searches.widening.size.crowded
        self._replicator = Replicator(
            self.protocol, holdings, serving.store, self._searches.locate, crowded, clock, entropy
        )
        serving.on_digest_asked = self._replicator.asked
        self._upkeep = Upkeep(self.protocol, self._searches.survey, self._searches.look, entropy)
        self._searches.widening.survey = self._upkeep.look_around
        self.protocol.serving = self.protocol.stock.serving = serving
        self.protocol.on_verb[WATCH] = self._watching.on_watch
        self.protocol.on_push = self._watching.on_push
        Hints(self.protocol)
        self.selfview = SelfView(clock)
        self.protocol.selfview = self.selfview
        self.selfview.on_moved = self.resumed
        self.selfview.on_doubt = self._upkeep.ask_all
        self._probing = Probing(self.protocol, entropy)
        meetings = self.protocol.meetings
        meetings.on_peer, meetings.on_peer_lost = self._peer_found, self._peer_lost
        meetings.on_unasked = self.selfview.unasked

    def _create_protocol(self) -> Protocol:
        return Protocol(self.node, self.storage, self.ksize, self._net, self._clock, self._entropy)

    # --- Life ------------------------------------------------------------------------------------------------------

    async def listen(self, port: int, host: str | None = None) -> int:
        """Bind the UDP port (0: any) at every address or at `host`; the port. Raises PortInUseError, UsageError."""
        assert self.transport is None, "listening already"
        self.transport = await self._open_endpoint(self.protocol, host, port)
        self.protocol.transport = self.transport
        self._tasks.keep_up(self._maintain)
        return self.transport.port

    async def close(self) -> None:
        """Take leave of the network and free the port. Pending operations end with what they have."""
        if self.transport is None:
            return
        self._watching.close()
        self.protocol.close()
        self.transport.close()
        self.transport = None
        await self._tasks.end()

    # --- Peers -----------------------------------------------------------------------------------------------------

    async def connect(self, address: Address, *, join: bool = True) -> bool:
        """Ask the node at a literal address who it is; to `join`, find our place in its network. False if silent."""
        literal = canonical(address)
        if literal is None or self.transport is None:
            return False
        peer = self.protocol.peer_at(literal)
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.protocol.ping(peer, lambda request, answer: _settle(done, answer is not None))
        if not await done or peer.kind is PeerKind.FOREIGN:
            return False
        if peer.contact is None or peer.contact.id == self.protocol.own_id:
            return False
        if join:
            await self._searches.settle(peer)
            self._upkeep.joined()
        return True

    async def bootstrap(self, addrs: Iterable[Address]) -> list[Address]:
        """Connect to several nodes; those that answered."""
        addresses = list(addrs)
        answers = await asyncio.gather(*map(self.connect, addresses))
        return [address for address, answered in zip(addresses, answers, strict=True) if answered]

    def load_peers(self, peers: Iterable[tuple[NodeId, Address]]) -> None:
        """Ask peers of an earlier life whether they are still there."""
        for node_id, address in peers:
            contact = contact_at(node_id, *address)
            if contact is not None and node_id != self.protocol.own_id:
                self._upkeep.parted(contact)
                self.protocol.ping(self.protocol.peer_at(address, contact))

    def missing_peers(self) -> list[tuple[NodeId, Address]]:
        """Former peers that are asked now and then whether they are there again."""
        return [(contact.id, contact.address) for contact in self._upkeep.missing()]

    def silent_holders(self, key: DhtKey) -> int:
        """How many of those that would be a key's holders were lost lately, and may be back soon."""
        return self._upkeep.silent_holders(key)

    def peers(self) -> list[PeerInfo]:
        """The routing table."""
        return [info(peer, peer.contact) for peer in self.protocol.table if peer.contact is not None]

    def network_size(self) -> int:
        """An estimate of the number of dhtex nodes in the network, this one included."""
        return self._searches.widening.network_size()

    def holders_near(self, key: DhtKey) -> list[NodeId]:
        """The ids of the HOLDERS closest peers that we know, to notice when a closer one turns up."""
        near = self.protocol.table.closest(key, limits.HOLDERS, dhtex_only=True, sound_only=True)
        return [peer.contact.id for peer in near if peer.contact is not None]

    def _peer_found(self, peer: Peer) -> None:
        if peer.contact is not None and peer.kind is PeerKind.DHTEX:
            self._searches.peer_found()
            self._watching.peer_found(peer.contact)
            self._replicator.peer_found(peer.contact)
        self.on_peers()

    def _peer_lost(self, peer: Peer) -> None:
        self._watching.peer_lost(peer)
        if peer.contact is not None:
            self._replicator.peer_lost(peer.contact)
        self._upkeep.lost(peer)
        self.on_peers()

    @property
    def counters(self) -> dict[str, int]:
        """What went in and out, and what was dropped and why."""
        protocol = self.protocol
        return {
            "datagrams_in": protocol.datagrams_in,
            "datagrams_out": protocol.datagrams_out,
            "bytes_in": protocol.bytes_in,
            "bytes_out": protocol.bytes_out,
            "watched_keys": len(self._watching),
            "leases": len(self._watching.leases),
            "leased_keys": self._watching.leases.keys,
            **protocol.counts,
        }

    # --- Records ---------------------------------------------------------------------------------------------------

    async def put(self, key: DhtKey, wire: bytes, prefix: str | None) -> PutResult:
        """Hand a record to the holders of a key. `prefix` None means its order's key, else the index node."""
        assert len(wire) <= limits.RECORD_BYTES_MAX
        putting = Putting(self.protocol, wire, prefix)
        known = self._searches.regions.holders(key)
        if known is not None:
            self._put_here(key, list(known), putting)
            await self._put_at(putting, list(known), [], patient=False)
        elif self._upkeep.settled:
            putting.start_early(self._searches.evident(key))
        if known is None or putting.troubled:
            await self._put_near(key, putting, quick=True)
        if putting.troubled:
            self._searches.regions.forget(key)
            thorough = self._put_near(key, putting, quick=False)
            if putting.enough:
                self._tasks.spawn(thorough)
                return putting.tally.result(unfinished=True)
            await thorough
        return putting.tally.result()

    async def _put_near(self, key: DhtKey, putting: Putting, *, quick: bool) -> None:
        """Search, and hand the record to those near the key that have not been asked yet."""
        crawl = await self._searches.run(key, quick=quick)
        crawl.late.append(putting.start_late)
        putting.troubled |= crawl.doubtful
        self._put_here(key, crawl.near(), putting)
        await self._put_at(putting, crawl.ranked(), crawl.slow(), len(crawl.beside), patient=not quick)

    def _put_here(self, key: DhtKey, others: list[Contact], putting: Putting) -> None:
        """Keep the record ourselves if we are a holder, given the closest others."""
        if not putting.tally.judged and is_holder(self.protocol.own_id, key, others):
            verdict = self.protocol.serving.store(putting.record, putting.prefix, None)
            putting.tally.local = putting.tally.add(verdict.taken, verdict.code, verdict.bits, verdict.newer)
            putting.tally.judged = True

    async def _put_at(
        self, putting: Putting, found: list[Contact], slow: list[Contact], more: int = 0, *, patient: bool
    ) -> None:
        """Hand the record to the closest of `found`, `more` of them than usual; `patient` as `Putting.start` has it."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        wanted = limits.HOLDERS - putting.tally.judged + more
        putting.start(found, wanted, slow[:wanted], lambda: _settle(done, None), patient=patient)
        await done
        for newer in putting.tally.newer if putting.tally.judged else ():
            self.protocol.serving.store(newer, putting.prefix, None)

    async def get(self, key: DhtKey, kind: int = 0, limit: int | None = None, span: Span = WHOLE) -> GetResult:
        """Read the records of a key from all its holders; `kind` 0 is all kinds, `limit` the first so many; of orders
        those in the `span`.

        Calls for the same while one is under way share its answer.
        """
        wanted = (key, kind, limit, span)
        running = self._gets.get(wanted)
        if running is None:
            running = self._gets[wanted] = asyncio.get_running_loop().create_future()
            self._searches.start(key, lambda crawl: self._read(crawl, wanted), kind=kind, span=span)
        return await asyncio.shield(running)

    def _read(self, crawl: Crawl, wanted: _Wanted) -> None:
        loop = asyncio.get_running_loop()
        key, kind, limit, span = wanted

        def finish(result: GetResult) -> None:
            for timer in timers:
                timer.cancel()
            _settle(self._gets.pop(wanted), result)

        found = crawl.closest()[: limits.HOLDERS]
        own = None
        if is_holder(self.protocol.own_id, key, found):
            found = found[: limits.HOLDERS - 1]
            own = self._own_page(key, kind, span)

        def hurry() -> None:
            timers.append(loop.call_later(limits.READ_GRACE_S, reading.expire))

        reading = Reading(self.protocol, kind, limit, own, finish, hurry)
        timers = [loop.call_later(limits.READ_S_MAX, reading.expire)]
        reading.start(crawl, found + crawl.beside)

    async def sweep(self, key: DhtKey, kind: int, holders: list[Holder]) -> list[bytes]:
        """The records of a kind that any of these holders of a key has (`address` None: this node)."""
        own = self._own_page(key, kind).wires if any(holder.address is None for holder in holders) else []
        return own + await sweep(self.protocol, key, kind, holders)

    def hand_on(
        self, holder: Holder, wire: bytes, prefix: str | None, told: Callable[[str], None] = lambda taken: None
    ) -> None:
        """Hand a record to one holder that lacks it, ourselves perhaps, without waiting; `told` hears what became of
        it, a `Taken`, unless the holder is silent."""
        hand_on(self.protocol, self.protocol.serving, holder, wire, prefix, told)

    def _own_page(self, key: DhtKey, kind: int, span: Span = WHOLE) -> Page:
        room = limits.RECORDS_PER_INDEX_KEY_MAX * limits.RECORD_BYTES_MAX
        return self._holdings.page(key, kind, 0, room, self._clock.now(), span)

    async def fetch(self, key: DhtKey, kind: int, is_it: Callable[[bytes], bool]) -> bytes | None:
        """A record at a key that passes `is_it`, from the first holder that has one; None if nobody has.

        For what proves itself, as an order does by its id: one honest holder is enough. A holder that has anything of
        this kind names nobody else, so there should be nothing of the kind at the key that is not meant.
        """
        own = self._holdings.page(key, kind, 0, limits.DATAGRAM_BYTES_MAX, self._clock.now()).wires
        found = next(filter(is_it, own), None)
        if found is not None:
            return found
        ended: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        widening = self._searches.widening
        Fetch(self.protocol, widening, key, kind, is_it, lambda found: _settle(ended, found)).start()
        return await ended

    # --- Watching --------------------------------------------------------------------------------------------------

    @property
    def on_record(self) -> Callable[[DhtKey, bytes], None]:
        """Called once with each record that is new at a watched key."""
        return self._watching.on_record

    @on_record.setter
    def on_record(self, call: Callable[[DhtKey, bytes], None]) -> None:
        self._watching.on_record = call

    @property
    def on_gap(self) -> Callable[[DhtKey], None]:
        """Called when something may have been missed at a watched key: get it."""
        return self._watching.on_gap

    @on_gap.setter
    def on_gap(self, call: Callable[[DhtKey], None]) -> None:
        self._watching.on_gap = call

    def watch(self, key: DhtKey) -> None:
        """Be told of new records at a key by `on_record`, and by `on_gap` when to get it."""
        self._watching.watch(key)

    def unwatch(self, key: DhtKey) -> None:
        """Be told no more."""
        self._watching.unwatch(key)

    def resumed(self) -> None:
        """The machine has slept, or is at another network now: nothing that was agreed with others holds any more."""
        self.protocol.count("resumed")
        self.selfview.forget()
        self._upkeep.resumed()
        self._watching.resumed()
        self.on_resumed()

    # --- Upkeep ----------------------------------------------------------------------------------------------------

    async def _maintain(self) -> None:
        """Once a second, for ever: pings, leases, records to hand on, searches where nobody searched."""
        wall, now = self._clock.now(), self._clock.monotonic()
        while True:
            await asyncio.sleep(TICK_S * self._entropy.uniform(0.9, 1.1))
            passed_s = max(self._clock.now() - wall, self._clock.monotonic() - now)
            wall, now = self._clock.now(), self._clock.monotonic()
            if passed_s > limits.RESUMED_S:
                self.resumed()
            self.selfview.tick(now)
            self._probing.tick(now)
            self.protocol.tokens.rotate(now)
            self._upkeep.tick(now)
            self._watching.tick(now)
            for _ in self._replicator.tick(now):
                await asyncio.sleep(0)
            self._searches.widening.tick(now)
