"""Asking to be reached: whether strangers get through to us is found out, not waited for.

Theory of operation. A asks a peer X to have it reached; X asks a contact Y of its own; Y sends one datagram, a
*knock*, from a fresh port to the address at which X sees A. A knock with A's nonce from an IP to which A never sent
anything proves that A is reached, whoever sent it. One from another IP only ends the belief in the contrary: some NATs
let in all ports of an IP. One from an address that A has asked is X's own, through the hole in a NAT, and tells
nothing. If X says that it has asked somebody and none comes, that is a silence of X's network; PROBERS_SILENT of them
within PROBE_SILENT_S, without one knock in between, make A a client, which goes on asking. So to make a reachable node
a client, one of each of so many pairs of X, drawn from A's table, and Y, drawn from X's, must lie; and one knock undoes
it. Where A has met everybody, nothing proves that it is reached; it goes on as if it were.

What it costs others: X answers less than it was sent, and only who has proven its address by a token. Y sends 43 bytes
for the about 100 that X sent it, to a third party if X lies; both at most PROBES_PER_S times a second. Nobody outside
can have a local address knocked at.
"""

import random
from typing import Final

from dhtex import limits
from dhtex.overlay import wire
from dhtex.overlay.addresses import Address, canonical, is_local, pack_address, subnet, unpack_address
from dhtex.overlay.contact import Peer, PeerKind
from dhtex.overlay.guard import Bucket
from dhtex.overlay.protocol import Protocol
from dhtex.overlay.requests import Request

NONCE_BYTES: Final = 20
_ADDRESS_BYTES: Final = (6, 18)


class Probing:
    """All three parts, for one node. Driven by `tick`."""

    def __init__(self, protocol: Protocol, entropy: random.Random) -> None:
        self._protocol = protocol
        self._entropy = entropy
        self._passed_on = Bucket(limits.PROBES_PER_S, protocol.monotonic())
        self._knocks = Bucket(limits.PROBES_PER_S, protocol.monotonic())
        self._silent: dict[bytes | Address, float] = {}  # networks whose probe came to nothing, and when
        self._nonce = b""
        self._prober: bytes | Address | None = None  # the network of who has passed our probe on
        self._due = self._pause_s = 0.0
        self._about: Address | None = None  # the address of ours that the silences are about
        protocol.on_verb[wire.PROBE], protocol.on_knock = self.asked, self.knocked

    # --- A -----------------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Ask, or judge what became of it. Call about once a second."""
        view = self._protocol.selfview
        if self._about != view.address:
            self._about, self._nonce, self._pause_s = view.address, b"", limits.PROBE_S
            self._silent.clear()
        if view.always_client or not view.public or now < self._due:
            return
        if self._nonce:
            self._judge(now)
        elif view.reached_at is None or now - view.reached_at >= limits.REACHED_S:
            self._ask(now)

    def _ask(self, now: float) -> None:
        """Choose a peer of a network that has not been silent lately."""
        self._silent = {place: at for place, at in self._silent.items() if now - at < limits.PROBE_SILENT_S}
        fit = [
            peer
            for peer in self._protocol.table
            if peer.kind is PeerKind.DHTEX and not peer.failures and _place(peer.address) not in self._silent
        ]
        self._due = now + self._pause_s
        if not fit:
            return
        peer = self._entropy.choice(fit)
        self._nonce, self._prober = self._entropy.randbytes(NONCE_BYTES), None
        self._due = now + limits.PROBE_WAIT_S
        args = wire.ProbeArgs(self._protocol.net, self._protocol.own_id, b"", self._nonce, b"")
        self._protocol.ask(peer, wire.PROBE, args, self._answered)

    def _answered(self, request: Request, answer: wire.ProbeReply | None) -> None:
        if answer is not None and request.args.nonce == self._nonce:
            self._due = self._protocol.monotonic() + limits.PROBE_WAIT_S
            self._prober = _place(request.peer.address) if answer.passed else None

    def _judge(self, now: float) -> None:
        """No knock of a stranger came in time."""
        self._nonce = b""
        if self._prober is None:
            self._pause_s = min(2 * self._pause_s, limits.PROBE_AGAIN_S)
        else:
            self._pause_s = limits.PROBE_AGAIN_S if self._protocol.selfview.client else limits.PROBE_S
            self._silent[self._prober] = now
            if len(self._silent) >= limits.PROBERS_SILENT:
                self._silent.clear()
                self._pause_s = limits.PROBE_AGAIN_S
                self._protocol.selfview.unreached()
        self._due = now + self._pause_s

    def knocked(self, nonce: bytes, source: Address) -> bool:
        """Whether a datagram that nobody asked for bears our nonce; then it tells something."""
        hole = self._protocol.peers.get(source)
        if nonce != self._nonce or (hole is not None and hole.last_asked):
            return False
        self._prober = None  # somebody came, so there was no silence
        self._silent.clear()
        self._protocol.selfview.doubted()
        now = self._protocol.monotonic()
        if not self._protocol.peers.asked_at(source[0]):
            self._nonce, self._due, self._pause_s = b"", now + limits.PROBE_S, limits.PROBE_S
            self._protocol.selfview.unasked(source[0], now)
        else:
            self._judge(now)
        return True

    # --- X and Y -----------------------------------------------------------------------------------------------------

    def asked(self, args: wire.ProbeArgs, token: bytes, peer: Peer) -> wire.ProbeReply:
        """Somebody wants to be reached, or says that somebody else wants that."""
        now = self._protocol.monotonic()
        act = self._knock if args.target else self._pass_on
        return wire.ProbeReply(self._protocol.own_id, token, wire.OK, act(args, peer.address, now))

    def _pass_on(self, args: wire.ProbeArgs, target: Address, now: float) -> bool:
        """Ask one of our contacts, of the same IP version and another network, to knock there."""
        fit = [
            peer
            for peer in self._protocol.table
            if peer.kind is PeerKind.DHTEX
            and not peer.failures
            and peer.address[0] != target[0]
            and _place(peer.address) != _place(target)
            and (":" in peer.address[0]) == (":" in target[0])
        ]
        if not fit or not self._passed_on.take(now):
            return False
        self._protocol.count("probes_passed_on")
        packed = pack_address(target)
        passed = wire.ProbeArgs(self._protocol.net, self._protocol.own_id, b"", args.nonce, packed)
        self._protocol.ask(self._entropy.choice(fit), wire.PROBE, passed, lambda request, answer: None)
        return True

    def _knock(self, args: wire.ProbeArgs, asker: Address, now: float) -> bool:
        """Send the one datagram."""
        seen = unpack_address(args.target) if len(args.target) in _ADDRESS_BYTES else None
        target = None if seen is None else canonical(seen)
        if target is None or (is_local(target[0]) and not is_local(asker[0])) or not self._knocks.take(now):
            return False
        self._protocol.count("knocks_sent")
        self._protocol.transport.send_afresh(b"\1" + args.nonce + wire.encode(self._protocol.own_id), target)
        return True


def _place(address: Address) -> bytes | Address:
    """What has one voice: a /24 or /64, or a local address for itself."""
    return subnet(address[0]) or address
