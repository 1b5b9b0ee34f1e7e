"""Telling those who named a silent node that it is silent, and hearing the same from others.

Theory of operation. A node that is dead but still named costs every lookup that hears of it a soft timeout. So who was
sent to a silent node tells whoever named it (the down hint of dht-rpc). A hint is hearsay: it makes us ping a peer of
our table a little earlier, and only our own unanswered pings take a peer out. What a hint can cost is bounded: one ping
to a peer that we know, at most one in HINT_PAUSE_S for each peer, HINTS_PER_S in all.
"""

from collections import OrderedDict

from dhtex import limits
from dhtex.overlay import wire
from dhtex.overlay.contact import Contact, Peer, parse_compact
from dhtex.overlay.guard import Bucket
from dhtex.overlay.protocol import Protocol


class Hints:
    """Both sides of down hints, for one node."""

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol
        now = protocol.monotonic()
        self._told = Bucket(limits.HINTS_PER_S, now)
        self._heard = Bucket(limits.HINTS_PER_S, now)
        protocol.on_verb[wire.DOWN], protocol.hint = self.hear, self.tell
        self._recent: OrderedDict[bytes, float] = OrderedDict()  # who was told of whom, and until when that is enough

    def tell(self, namer: Contact, silent: Contact) -> None:
        """`namer` sent us to a node that did not answer."""
        protocol, now = self._protocol, self._protocol.monotonic()
        while self._recent and next(iter(self._recent.values())) <= now:
            self._recent.popitem(last=False)
        place = namer.wire + silent.wire
        if place in self._recent or len(self._recent) >= limits.HINTS_REMEMBERED_MAX or not self._told.take(now):
            return
        self._recent[place] = now + limits.HINT_PAUSE_S
        peer = protocol.peer_at(namer.address, namer)
        if not peer.failures:
            args = wire.DownArgs(protocol.net, protocol.own_id, b"", silent.wire)
            protocol.ask(peer, wire.DOWN, args, lambda request, answer: None)

    def hear(self, args: wire.DownArgs, token: bytes, _peer: Peer) -> wire.DownReply:
        """Somebody found a node silent: ask it ourselves, if we know it and have not asked just now."""
        protocol, now = self._protocol, self._protocol.monotonic()
        contact = parse_compact(args.contact)
        peer = None if contact is None else protocol.table.get(contact.id)
        if (
            peer is not None
            and peer.contact == contact
            and not peer.pinging
            and now - peer.last_asked >= limits.HINT_PAUSE_S
            and self._heard.take(now)
        ):
            protocol.count("hints_followed")
            protocol.ping(peer)
        return wire.DownReply(protocol.own_id, token, wire.OK)
