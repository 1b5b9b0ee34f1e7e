"""Keeping the routing table alive: pings, searches where nobody searched, and second chances for lost peers.

A network that was cut in two must find itself again although each half has evicted the other. So peers that were lost
are remembered for a while and asked now and then, with one datagram each time: nearly all of them are dead.
"""

import random
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from dhtex import limits
from dhtex.market.ids import DhtKey
from dhtex.overlay.contact import Peer
from dhtex.overlay.protocol import Protocol
from dhtex.overlay.table import random_id_at

PINGS_PER_TICK: Final = 16
SUSPECT_S: Final = 1.0  # a peer that failed once is asked again this soon
BUCKETS_AFTER_JOIN: Final = 8
LOST_PAUSE_S: Final = 2.0  # before a lost peer is asked again; doubles each time
LOST_PAUSE_S_MAX: Final = 256.0


@dataclass(slots=True)
class _Lost:
    """A peer that was evicted: how long it is asked, when next, and how long the pause before that was."""

    peer: Peer
    until: float
    due: float
    pause_s: float


class Upkeep:
    """The chores of one node's routing table. `search` looks for a key, for the sake of the contacts it meets."""

    def __init__(self, protocol: Protocol, search: Callable[[DhtKey], None], entropy: random.Random) -> None:
        self._protocol = protocol
        self._search = search
        self._entropy = entropy
        self._lost: OrderedDict[bytes, _Lost] = OrderedDict()
        self._searched_self = -limits.REFRESH_INTERVAL_S
        self._to_search: list[int] = []

    def lost(self, peer: Peer) -> None:
        """A peer was evicted; it gets second chances for LOST_PEER_S."""
        if peer.contact is not None:
            now = self._protocol.monotonic()
            self._lost[peer.contact.wire] = _Lost(peer, now + limits.LOST_PEER_S, now + LOST_PAUSE_S, LOST_PAUSE_S)
            if len(self._lost) > limits.LOST_PEERS_MAX:
                self._lost.popitem(last=False)

    def ask_all(self) -> None:
        """Ask all peers, PINGS_PER_TICK a tick."""
        for peer in self._protocol.table:
            peer.last_seen = peer.last_asked = self._protocol.monotonic() - limits.PING_IDLE_S
            peer.view_due = 0.0

    def resumed(self) -> None:
        """Everybody may have gone meanwhile: ask all peers, and look around ourselves."""
        self.ask_all()
        self._searched_self = -limits.REFRESH_INTERVAL_S
        for row in self._lost.values():
            row.due, row.pause_s = 0.0, LOST_PAUSE_S

    def joined(self) -> None:
        """We have just searched for ourselves."""
        self._searched_self = self._protocol.monotonic()
        self.look_around()

    def look_around(self) -> None:
        """Search in the ranges that are not near us, one a tick."""
        self._to_search = list(range(min(self._protocol.table.depth(), BUCKETS_AFTER_JOIN)))

    def tick(self, now: float) -> None:
        """Do a little. Call about once a second."""
        self._ping_idle(now)
        self._ping_lost(now)
        table = self._protocol.table
        if not len(table):
            return
        if now - self._searched_self >= limits.REFRESH_INTERVAL_S:
            self._search(DhtKey(self._protocol.own_id))
            self.joined()
        elif self._to_search:
            self._search_bucket(self._to_search.pop())
        elif stale := table.stale_prefixes(now):
            self._search_bucket(self._entropy.choice(stale))

    def _search_bucket(self, prefix_bits: int) -> None:
        own_id = self._protocol.own_id
        self._search(DhtKey(random_id_at(own_id, prefix_bits, self._entropy.randbytes(len(own_id)))))

    def _ping_idle(self, now: float) -> None:
        pings = 0
        for peer in self._protocol.table:
            idle_s = SUSPECT_S if peer.failures else limits.PING_IDLE_S
            if now - peer.last_seen >= idle_s and now - peer.last_asked >= idle_s and not peer.pinging:
                self._protocol.ping(peer)
                pings += 1
                if pings == PINGS_PER_TICK:
                    return

    def _ping_lost(self, now: float) -> None:
        """Ask the lost peer that has waited longest, if it is due; one a tick, each ever more seldom."""
        if not self._lost:
            return
        wire, row = next(iter(self._lost.items()))
        if row.due > now and row.until > now and not row.peer.in_table:
            self._lost.move_to_end(wire)  # another one may be due
            return
        del self._lost[wire]
        if row.until > now and not row.peer.in_table:
            row.pause_s = min(2 * row.pause_s, LOST_PAUSE_S_MAX)
            row.due = now + row.pause_s
            self._lost[wire] = row
            if not row.peer.pinging:
                self._protocol.ping(row.peer, tries=1)
