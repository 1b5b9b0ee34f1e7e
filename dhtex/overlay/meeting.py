"""Who enters the routing table, and who leaves it.

Theory of operation. Nothing that merely arrives enters: whoever sends a request is asked who he is if there is room for
him, and whoever answers is offered to the table. An id that another address claims is *contested*, and its owner is
asked until it is clear who lives. Who is silent often enough in a row leaves, and those who waited for the place enter.
"""

from collections.abc import Callable
from typing import Protocol

from dhtex import limits
from dhtex.market.ids import NodeId
from dhtex.overlay.addresses import Address
from dhtex.overlay.contact import Contact, Peer, Peers, contact_at
from dhtex.overlay.crawl import Timer
from dhtex.overlay.table import Offer, Table


class Asking(Protocol):
    """The part of the protocol that asks people who they are."""

    table: Table
    peers: Peers

    def monotonic(self) -> float: ...

    def later(self, delay_s: float, call: Callable[[], None]) -> Timer: ...

    def peer_at(self, address: Address, contact: Contact | None = None) -> Peer: ...

    def ping(self, peer: Peer) -> None: ...

    def ping_stranger(self, peer: Peer, marked: bool) -> None: ...


class Meetings:
    """The routing table's porter. `on_unasked` is called with an IP to which we had never sent anything when somebody
    came from there; not for all of them, as it takes a look at all peers."""

    on_peer: Callable[[Peer], None]
    on_peer_lost: Callable[[Peer], None]
    on_unasked: Callable[[str, float], None]

    def __init__(self, asking: Asking) -> None:
        self._asking = asking
        self._table = asking.table
        self._look_again_at = 0.0

    def met(self, sender: NodeId, address: Address, peer: Peer | None) -> Peer:
        """Somebody sent a request from an address that is his."""
        if peer is not None and peer.in_table and peer.contact is not None and peer.contact.id == sender:
            return peer
        if peer is None:
            peer = self._asking.peer_at(address)
        now = self._asking.monotonic()
        peer.verified_until = max(peer.verified_until, now + limits.TOKEN_LIFE_S)
        if not peer.last_asked:
            self._came_unasked(peer, now)
        self.meet(sender, peer)
        return peer

    def _came_unasked(self, peer: Peer, now: float) -> None:
        if now >= self._look_again_at:
            self._look_again_at = now + limits.UNASKED_S
            if not self._asking.peers.asked_at(peer.address[0], but=peer):
                self.on_unasked(peer.address[0], now)

    def meet(self, sender: NodeId, peer: Peer) -> None:
        """Ask somebody who says to be `sender` who he is, if he could be of use."""
        now = self._asking.monotonic()
        contact = contact_at(sender, *peer.address)
        asked_lately = now < peer.last_asked + limits.PING_IDLE_S
        if contact is None or peer.pinging or (peer.client and asked_lately):
            return
        if not (self._table.wants(contact, peer.first_seen) or peer.in_table or peer.client):
            return
        if peer.verified_until > now:
            self._asking.ping(peer)
        else:
            self._asking.ping_stranger(peer, True)

    def answered(self, peer: Peer, responder: NodeId | None, now: float) -> None:
        """A peer has answered, as whom it says to be; None if its answer does not say it."""
        if peer.came_first:
            peer.came_first = False
            self._came_unasked(peer, now)
        if responder is not None and (peer.contact is None or peer.contact.id != responder):
            if peer.in_table:
                self.evict(peer)
            peer.contact, peer.first_seen = contact_at(responder, *peer.address), now
        if peer.client and peer.in_table:
            self.evict(peer)
        elif not peer.client and not peer.in_table and responder is not None:
            self._offer(peer, responder)

    def _offer(self, peer: Peer, responder: NodeId) -> None:
        known, offer = self._table.get(responder), self._table.offer(peer)
        if known is not None and not known.in_table:
            self.on_peer_lost(known)
        if offer is Offer.ADDED:
            self.on_peer(peer)
        elif offer is Offer.RIVAL and known is not None:
            self._ping_contested(known)

    def silent(self, peer: Peer, *, pinged: bool) -> None:
        """A peer has not answered, not even a ping if `pinged`."""
        peer.failures, peer.failed_at = peer.failures + 1, self._asking.monotonic()
        if self._table.failed(peer):
            self.evict(peer)
        elif self._table.is_contested(peer) and pinged:
            self._asking.later(limits.CONTESTED_PAUSE_S, lambda: self._ping_contested(peer))
        elif peer.in_table and not peer.pinging:
            self._asking.ping(peer)

    def _ping_contested(self, peer: Peer) -> None:
        if self._table.is_contested(peer) and not peer.pinging:
            self._asking.ping(peer)

    def evict(self, peer: Peer) -> None:
        """Let a peer leave; those who waited for its place enter."""
        spares = self._table.remove(peer)
        self.on_peer_lost(peer)
        for spare in spares:
            self.on_peer(spare)
