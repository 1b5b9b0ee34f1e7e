"""Keeping the routing table alive: pings, searches where nobody searched, and second chances for lost peers.

A network that was cut in two must find itself again although each half has evicted the other, however long it lasted.
So peers that were lost are remembered and asked now and then, with one datagram each time: nearly all of them are dead.
For LOST_PEER_S each is asked by itself; then it is a *former* peer, and these are asked in turn, one in FORMER_PEER_S.
When one of them answers, the network behind it may be another half, so we search for our own place in it.

A network in which everybody is known is one step wide, but a search names only those near its point. So we *look* where
there is room in the table: whoever is nearest to a random point there says who else is, and they are met in turn.
"""

import itertools
import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from dhtex import limits
from dhtex.market.ids import DhtKey
from dhtex.overlay.contact import Contact, Peer, PeerKind
from dhtex.overlay.protocol import Protocol
from dhtex.overlay.requests import Request
from dhtex.overlay.table import SPLIT_BITS, random_id_at, random_id_in

PINGS_PER_TICK: Final = 16
NAMED_PER_TICK: Final = 4  # asked of those whom others have named
NAMED_LOOKED_AT: Final = 256  # of these, the latest
SUSPECT_S: Final = 1.0  # a peer that failed once is asked again this soon
BUCKETS_AFTER_JOIN: Final = 8
LOOKS_PER_TICK: Final = 4
LOST_PAUSE_S: Final = 2.0  # before a lost peer is asked again; doubles each time
LOST_PAUSE_S_MAX: Final = 256.0


@dataclass(slots=True)
class _Lost:
    """A peer that was lost: when it is asked next, for how long, the pause before that, when it was asked last, and
    since when we knew it. A former peer has no time of its own: it is asked in turn."""

    contact: Contact
    due: float
    until: float
    pause_s: float
    asked: float
    since: float


class Upkeep:
    """The chores of one node's routing table. `search` looks for a key, for the sake of the contacts it meets, from
    the table and these peers beside; `look` only for what whoever is nearest to it says."""

    def __init__(
        self,
        protocol: Protocol,
        search: Callable[[DhtKey, Iterable[Peer]], None],
        look: Callable[[DhtKey], None],
        entropy: random.Random,
    ) -> None:
        self._protocol = protocol
        self._search = search
        self._look = look
        self._entropy = entropy
        self._lost: dict[bytes, _Lost] = {}  # the one lost last stands last
        self._turn_at = 0.0
        self._searched_self = -limits.REFRESH_INTERVAL_S
        self._to_search: list[int] = []
        self._to_look: list[int] = []
        self.settled = False  # whether we have looked around since we joined or slept

    def lost(self, peer: Peer) -> None:
        """A peer was evicted; it gets second chances for LOST_PEER_S."""
        if peer.contact is not None:
            now = self._protocol.monotonic()
            self._remember(
                _Lost(peer.contact, now + LOST_PAUSE_S, now + limits.LOST_PEER_S, LOST_PAUSE_S, now, peer.first_seen)
            )
            if len(self._lost) > limits.LOST_PEERS_MAX:
                del self._lost[next(iter(self._lost))]

    def parted(self, contact: Contact) -> None:
        """A peer of an earlier life was asked just now; it is a former one until it is among the peers."""
        now = self._protocol.monotonic()
        self._remember(_Lost(contact, math.inf, 0.0, LOST_PAUSE_S, now, now))

    def _remember(self, row: _Lost) -> None:
        self._lost.pop(row.contact.wire, None)
        self._lost[row.contact.wire] = row

    def missing(self) -> list[Contact]:
        """The lost and former peers that are not in the table, those lost last at the end. Who has moved is no former
        peer; but who was lost lately is asked where it was, as somebody else may only say to be it."""
        for wire, row in list(self._lost.items()):
            known = self._protocol.table.get(row.contact.id)
            if known is not None and (row.due == math.inf or known.contact == row.contact):
                del self._lost[wire]
        return [row.contact for row in self._lost.values()]

    def silent_holders(self, key: DhtKey) -> int:
        """How many of the HOLDERS nodes nearest to a key that we have known were lost in the last SILENT_HOLDER_S, or
        are of an earlier life that is over for no longer."""
        self.missing()  # who is back is forgotten
        lost_after, goal = self._protocol.monotonic() - limits.SILENT_HOLDER_S, int.from_bytes(key)
        rows = [row for row in self._lost.values() if max(row.until - limits.LOST_PEER_S, row.since) > lost_after]
        lost = {row.contact.long_id ^ goal for row in rows}
        near = self._protocol.table.closest(key, limits.HOLDERS, dhtex_only=True, sound_only=True)
        found = {peer.contact.long_id ^ goal for peer in near if peer.contact is not None}
        return sum(distance not in found for distance in sorted(lost | found)[: limits.HOLDERS])

    def ask_all(self) -> None:
        """Ask all peers, PINGS_PER_TICK a tick."""
        idle_since = self._protocol.monotonic() - self._idle_s()
        for peer in self._protocol.table:
            peer.last_seen = peer.last_asked = idle_since
            peer.view_due = 0.0

    def resumed(self) -> None:
        """Everybody may have gone meanwhile: ask all peers, and look around ourselves."""
        self.ask_all()
        self._searched_self = -limits.REFRESH_INTERVAL_S
        self.settled = False
        self._turn_at = 0.0
        for row in self._lost.values():
            if row.due < math.inf:
                row.due, row.pause_s = 0.0, LOST_PAUSE_S

    def joined(self) -> None:
        """We have just searched for ourselves."""
        self._searched_self = self._protocol.monotonic()
        self.look_around()

    def look_around(self) -> None:
        """Search in the ranges that are not near us, one a tick, and then look at all sixteenths."""
        self._to_search = list(range(min(self._protocol.table.depth(), BUCKETS_AFTER_JOIN)))
        self._to_look = list(range(1 << SPLIT_BITS))

    def tick(self, now: float) -> None:
        """Do a little. Call about once a second."""
        self._ping_idle(now)
        self._ask_lost(now)
        self._ask_named()
        table = self._protocol.table
        if not len(table):
            return
        if now - self._searched_self >= limits.REFRESH_INTERVAL_S:
            self._search_self()
        elif self._to_search:
            self._search_bucket(self._to_search.pop())
        elif stale := table.stale_prefixes(now):
            self._search_bucket(self._entropy.choice(stale))
        elif not self.settled:
            self.settled = True
        elif self._may_meet_all():
            self._look_on()

    def _search_self(self, *through: Peer) -> None:
        self._search(DhtKey(self._protocol.own_id), through)
        self.joined()

    def _search_bucket(self, prefix_bits: int) -> None:
        own_id = self._protocol.own_id
        self._search(DhtKey(random_id_at(own_id, prefix_bits, self._entropy.randbytes(len(own_id)))), ())

    def _may_meet_all(self) -> bool:
        """Whether to ask strangers without need: they can prove that we are reached, so not before that is known."""
        view = self._protocol.selfview
        return not view.public or view.reachable is not None or view.always_client

    def _look_on(self) -> None:
        """Ask who is in the sixteenths that are next, where we may have room for them: unless we know so few that the
        answers to the search for our own place have named all."""
        table = self._protocol.table
        numbers, self._to_look = self._to_look[:LOOKS_PER_TICK], self._to_look[LOOKS_PER_TICK:]
        for number in numbers:
            point = DhtKey(random_id_in(number, self._entropy.randbytes(len(table.own_id))))
            if len(table) > limits.LOOKUP_CONTACTS_ALONE and table.is_whole(point):
                self._look(point)

    def _idle_s(self) -> float:
        """How long a peer may be silent before it is asked."""
        return min(max(limits.PING_IDLE_S, len(self._protocol.table) * limits.PING_EACH_S), limits.PING_IDLE_S_MAX)

    def _ping_idle(self, now: float) -> None:
        pings, usual_s = 0, self._idle_s()
        for peer in self._protocol.table:
            idle_s = SUSPECT_S if peer.failures else usual_s
            if now - peer.last_seen >= idle_s and now - peer.last_asked >= idle_s and not peer.pinging:
                self._protocol.ping(peer)
                pings += 1
                if pings == PINGS_PER_TICK:
                    return

    def _ask_named(self) -> None:
        """Ask a few of those whom others have named lately and for whom there is room; one of an IP, as who named it
        may be a liar."""
        protocol, asked, met = self._protocol, 0, set[str]()
        if not self._may_meet_all():
            return
        for peer in list(itertools.islice(reversed(protocol.peers.values()), NAMED_LOOKED_AT)):
            if peer.kind is not PeerKind.REPUTED or peer.last_asked or peer.contact is None:
                continue
            if not protocol.table.wants(peer.contact):
                continue
            met = met or {other.address[0] for other in protocol.peers.values() if other.last_asked}
            if peer.contact.subnet is not None and peer.contact.ip in met:
                continue
            if protocol.worth_asking(peer, protocol.monotonic()):
                protocol.ping(peer, tries=1)
                met.add(peer.contact.ip)
                asked += 1
                if asked == NAMED_PER_TICK:
                    return

    def _ask_lost(self, now: float) -> None:
        """Ask the lost peer that has waited longest, if it is due, or the former one, if it is their turn; one a tick,
        each lost one ever more seldom."""
        if not self.missing():
            return
        row = min(self._lost.values(), key=lambda row: row.due)
        if row.due > now:
            if now >= self._turn_at:
                self._take_turn(now)
            return
        row.pause_s = min(2 * row.pause_s, LOST_PAUSE_S_MAX)
        row.due = now + row.pause_s if now < row.until else math.inf
        self._ask(row, now)

    def _take_turn(self, now: float) -> None:
        former = [row for row in self._lost.values() if row.due == math.inf]
        if former:
            pause_s = limits.FORMER_PEER_S if len(self._protocol.table) else limits.BOOTSTRAP_RETRY_S_MAX
            self._turn_at = now + pause_s * self._entropy.uniform(0.75, 1.25)
            self._ask(min(former, key=lambda row: row.asked), now, through=True)

    def _ask(self, row: _Lost, now: float, *, through: bool = False) -> None:
        """Ask a peer, and if it answers forget that it was lost; search for our place `through` it perhaps."""

        def done(request: Request, answer: object) -> None:
            if answer is not None:
                self._lost.pop(row.contact.wire, None)
                if through:
                    self._search_self(request.peer)

        row.asked = now
        peer = self._protocol.peer_at(row.contact.address, row.contact)
        if peer.contact == row.contact:
            peer.first_seen = min(peer.first_seen, row.since)  # also when the row was forgotten meanwhile
        if not peer.pinging:
            self._protocol.ping(peer, done, tries=1)
