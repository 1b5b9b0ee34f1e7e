"""Runs a lookup over the network: asks whom it names, feeds it what comes, and gathers what holders answer.

Callbacks all the way: an answer is used in the turn of the event loop in which it arrives, and a crawl is no task.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from dhtex import limits
from dhtex.market.holding import NO_KIND, WHOLE, Span
from dhtex.market.ids import DhtKey
from dhtex.overlay import wire
from dhtex.overlay.addresses import Address, may_name
from dhtex.overlay.contact import Contact, Peer, PeerKind, parse_compact, parse_triple
from dhtex.overlay.lookup import Lookup
from dhtex.overlay.requests import Done, Request, Soft
from dhtex.overlay.table import Table

_OURS: Final = (PeerKind.DHTEX, PeerKind.REPUTED)
_SEEDS: Final = 12  # half as many again as a put needs
_TICK_S: Final = 0.001  # a timer may be early by so much


class Timer(Protocol):
    """Something that will be called."""

    def cancel(self) -> None: ...


class Network(Protocol):
    """The part of the protocol that operations use."""

    own_id: Any
    net: bytes
    table: Table

    def monotonic(self) -> float: ...

    def later(self, delay_s: float, call: Callable[[], None]) -> Timer: ...

    def peer_at(self, address: Address, contact: Contact | None = None) -> Peer: ...

    def ask(
        self, peer: Peer, verb: wire.Verb, args: Any, done: Done, soft: Soft = ..., context: Any = None
    ) -> None: ...

    def ask_find_node(self, peer: Peer, target: bytes, done: Done, soft: Soft = ..., context: Any = None) -> None: ...

    @property
    def worth_asking(self) -> Callable[[Peer, float], bool]:
        """Whether an answer may be expected of a peer; see `families`."""
        ...

    @property
    def hint(self) -> Callable[[Contact, Contact], None]:
        """Tells the first that the second, which it named, is silent."""
        ...


def _pace(network: Network, contact: Contact) -> int:
    """How long its answers take, in steps of FETCH_ALONE_S: within one, who is closest comes first."""
    smooth_s = network.peer_at(contact.address, contact).rtt.smooth_s
    return int((limits.REQUEST_TIMEOUT_S_FIRST if smooth_s is None else smooth_s) / limits.FETCH_ALONE_S)


def _nothing(_crawl: "Crawl") -> None:
    return


class Crawl:
    """One lookup. With a `kind`, each holder's first page of the key's records is in `answers`, by contact; of orders
    those in the `span`.

    `done` is called once, in a later turn or in this one; afterwards late answers still call `late`. An answer that is
    `enough` ends it for good. Such a crawl awaits one answer at a time, until one was not enough, or `hurry`.
    """

    def __init__(
        self,
        network: Network,
        target: DhtKey,
        done: Callable[["Crawl"], None],
        *,
        kind: int = NO_KIND,
        span: Span = WHOLE,
        wanted: int = limits.HOLDERS,
        enough: Callable[[wire.GetReply], bool] | None = None,
        reach: int = 0,
    ) -> None:
        self.target = target
        self.kind = kind
        self.span = span
        self._enough = enough
        self.answers: dict[Contact, wire.GetReply] = {}
        self.beside: list[Contact] = []  # further holders, when the closest nodes are a crowd; see `widening`
        self.late: list[Callable[[Contact], None]] = []
        self.finished = False
        self._hastened = False
        self._namers: dict[Contact, Contact] = {}
        self._near: list[Contact] | None = None  # until the next answer
        self._network = network
        self._done = done
        parallel, last = (limits.LOOKUP_PARALLEL, wanted) if enough is None else (limits.FETCH_PARALLEL, 0)
        pace = None if enough is None else functools.partial(_pace, network)
        self._lookup = Lookup(target, network.own_id, network.monotonic(), wanted, parallel, last, reach, pace)
        if enough is not None:
            self._lookup.parallel = 1
        elif network.table.is_whole(target):
            self._lookup.parallel = max(parallel, last)

    @property
    def asked(self) -> int:
        """How many nodes were asked."""
        return self._lookup.requests

    def start(self, seeds: Iterable[Peer] = ()) -> None:
        """Begin with what the routing table knows, and `seeds` beside."""
        network = self._network
        count = _SEEDS if self._enough is None else limits.HOLDERS
        near = [*network.table.closest(self.target, count), *seeds]
        if any(peer.failures for peer in near):
            near += network.table.closest(self.target, count, sound_only=True)
        for suspect in (False, True):
            peers = (peer for peer in near if suspect is (peer.failures > 0))
            self._lookup.add([peer.contact for peer in peers if peer.contact is not None], suspect=suspect)
        network.table.looked_up(self.target, network.monotonic())
        self._pump()

    def closest(self) -> list[Contact]:
        """The dhtex nodes that answered, closest first."""
        return self._lookup.result()

    def near(self) -> list[Contact]:
        """Those, and the ones between and behind them that are said to be dhtex nodes too, closest first."""
        if self._near is None:
            peers = ((contact, self._network.peer_at(contact.address, contact)) for contact in self._lookup.near())
            self._near = [contact for contact, peer in peers if peer.kind in _OURS]
        return self._near

    @property
    def doubtful(self) -> bool:
        """Whether anybody has failed to answer in time."""
        return self._lookup.doubtful

    def ranked(self) -> list[Contact]:
        """Whom to hand a record to: the holders, those beside them, and then who may take the place of a silent one."""
        found = self.near()
        return list(dict.fromkeys([*found[: limits.HOLDERS], *self.beside, *found])) if self.beside else found

    def mixed(self) -> list[Contact]:
        """The holders; if they are a crowd, the closest and then those beside, so that the first few are of both."""
        found = self.near()[: limits.HOLDERS]
        return [*found[:1], *self.beside, *found[1:]]

    def slow(self) -> list[Contact]:
        """Those that have not answered yet and still may, closest first."""
        return self._lookup.slow()

    def hurry(self) -> None:
        """Await FETCH_PARALLEL answers at a time from now on."""
        self._lookup.parallel = limits.FETCH_PARALLEL
        self._pump()

    def expire(self) -> None:
        """End now with what there is."""
        self._end()

    def _pump(self) -> None:
        self._near = None
        if self.finished:
            return
        now = self._network.monotonic()
        for contact in self._lookup.next(now):
            self._ask(contact)
        if self._lookup.finished(now):
            self._end()

    def _end(self) -> None:
        if not self.finished:
            self.finished = True
            done, self._done, self._enough = self._done, _nothing, None  # who waited and what came can go together
            done(self)

    def _ask(self, contact: Contact) -> None:
        peer = self._network.peer_at(contact.address, contact)
        if peer.kind is PeerKind.DHTEX or peer.kind is PeerKind.REPUTED:
            self._ask_page(peer, contact)
        else:
            self._network.ask_find_node(peer, self.target, self._found, self._slow, contact)

    def _ask_page(self, peer: Peer, contact: Contact) -> None:
        network = self._network
        args = wire.GetArgs(network.net, network.own_id, b"", self.target, self.kind, 0, True, *self.span)
        network.ask(peer, wire.GET, args, self._got, self._slow, contact)

    def _got(self, request: Request, answer: wire.GetReply | None) -> None:
        contact: Contact = request.context
        if answer is None or answer.responder != contact.id:
            self._lookup.on_failure(contact)
            if contact in self._namers:
                self._network.hint(self._namers[contact], contact)
        else:
            self.answers[contact] = answer
            if self._enough is not None:
                if self._enough(answer):
                    self._end()
                    return
                if self._lookup.parallel < limits.FETCH_PARALLEL:
                    self.hurry()  # with somebody else, before those that this one names, who may be nobody
            contacts = []
            for compact in answer.contacts[: limits.CONTACTS_PER_REPLY_MAX]:
                if self._lookup.knows(compact):
                    continue
                if (named := parse_compact(compact)) is not None and self._reputed(named, contact):
                    contacts.append(named)
                    self._namers[named] = contact
            self._lookup.on_reply(contact, contacts)
            for late in self.late if self.finished else ():
                late(contact)
        self._pump()

    def _reputed(self, contact: Contact, namer: Contact) -> bool:
        """Note that a dhtex peer named a contact; whether we should ask it."""
        if not may_name(namer.ip, contact.ip):
            return False
        network = self._network
        peer = network.peer_at(contact.address, contact)
        if peer.kind is PeerKind.UNKNOWN:
            peer.kind = PeerKind.REPUTED
        return network.worth_asking(peer, network.monotonic())

    def _found(self, request: Request, answer: object) -> None:
        contact: Contact = request.context
        peer = request.peer
        if not isinstance(answer, list) or (peer.contact is not None and peer.contact.id != contact.id):
            self._lookup.on_failure(contact)
        elif peer.kind is PeerKind.DHTEX:
            self._lookup.add(self._parsed(answer, contact), contact.id)
            self._ask_page(peer, contact)  # a holder: its page, and contacts that are dhtex nodes
        else:
            self._lookup.on_reply(contact, self._parsed(answer, contact), router=True)
        self._pump()

    def _slow(self, request: Request) -> None:
        self._lookup.on_slow(request.context)
        self._pump()
        patience_s = self._lookup.patience_s(self._network.monotonic())
        if patience_s and not self.finished and not self._hastened:
            self._hastened = True  # nothing may happen any more that would show that it has passed
            self._network.later(patience_s + _TICK_S, self._pump)

    def _parsed(self, triples: list[Any], namer: Contact) -> list[Contact]:
        network, now = self._network, self._network.monotonic()
        found = (parse_triple(triple) for triple in triples[: limits.CONTACTS_PER_REPLY_MAX])
        sound = [contact for contact in found if contact is not None and may_name(namer.ip, contact.ip)]
        return [contact for contact in sound if network.worth_asking(network.peer_at(contact.address, contact), now)]
