"""Who may cost us how much: write tokens, rates, and stock requests that wait for a proof of their sender's address.

A UDP source address is a claim until something that we sent there comes back. Until then we answer with no more bytes
than came in, so that nobody can aim us at a third party. Our own verbs prove it by a token: eight bytes only the owner
of the address can have read; a first dx_get has none, and is as long as its answer instead. Stock verbs know no token;
their sender is pinged, and the request is *parked* meanwhile.
"""

import hashlib
import hmac
import random
from collections import OrderedDict
from typing import Final

from dhtex import limits
from dhtex.overlay.addresses import Address, pack_address, subnet
from dhtex.overlay.contact import Peer

TOKEN_BYTES: Final = 8
_SECRET_BYTES: Final = 32
_SLOT_BITS: Final = 10
_SLOTS: Final = 1 << _SLOT_BITS
_WORD_BITS: Final = 128  # of an IPv6 address and its port all but the first two bytes, which nobody chooses
_WORD: Final = (1 << _WORD_BITS) - 1


class Tokens:
    """Tokens bound to an IP, valid for one to two lives of a secret; the scheme of BEP 5."""

    def __init__(self, entropy: random.Random, now: float) -> None:
        self._entropy = entropy
        self._secret = entropy.randbytes(_SECRET_BYTES)
        self._rotate_at = now + limits.TOKEN_LIFE_S
        self._current: dict[str, bytes] = {}
        self._previous_secret = entropy.randbytes(_SECRET_BYTES)

    def rotate(self, now: float) -> None:
        """Replace the secret when it is old. Call now and then."""
        if now >= self._rotate_at:
            self._rotate_at = now + limits.TOKEN_LIFE_S
            self._previous_secret = self._secret
            self._secret = self._entropy.randbytes(_SECRET_BYTES)
            self._current.clear()

    def issue(self, ip: str) -> bytes:
        """The token for an IP."""
        token = self._current.get(ip)
        if token is None:
            if len(self._current) >= limits.ADDRESSES_TRACKED_MAX:
                self._current.clear()
            token = self._current[ip] = _mac(self._secret, ip)
        return token

    def valid(self, ip: str, token: bytes) -> bool:
        """Whether we gave this token to this IP not long ago."""
        if len(token) != TOKEN_BYTES:
            return False
        return hmac.compare_digest(token, self.issue(ip)) or hmac.compare_digest(token, _mac(self._previous_secret, ip))


def _mac(secret: bytes, ip: str) -> bytes:
    return hashlib.blake2b(ip.encode(), key=secret, digest_size=TOKEN_BYTES).digest()


class Bucket:
    """A token bucket that holds one second's worth."""

    __slots__ = ("_at", "_left", "_per_s")

    def __init__(self, per_s: float, now: float) -> None:
        self._per_s = per_s
        self._left = per_s
        self._at = now

    def take(self, now: float) -> bool:
        """Use up one if there is one."""
        left = self._left + (now - self._at) * self._per_s
        self._at = now
        if left > self._per_s:
            left = self._per_s
        if left < 1.0:
            self._left = left
            return False
        self._left = left - 1.0
        return True


class Strangers:
    """What unverified addresses may send in one second: so many in all, fewer of one network (local ones are exempt, as
    everywhere), and few of one address.

    Counted in SLOTS places each, by a keyed hash, so that nobody can choose whose place he takes; who shares one with a
    flooder shares its fate for a second.
    """

    def __init__(self, secret: bytes, now: float) -> None:
        self._secret = int.from_bytes(secret) & _WORD | 1
        self._pings = Bucket(limits.STRANGER_DATAGRAMS_PER_S, now)
        self._others = Bucket(limits.STRANGER_DATAGRAMS_PER_S, now)
        self._second = now
        self._of_address = [0] * _SLOTS
        self._of_network = [0] * _SLOTS

    def admit(self, address: Address, is_ping: bool, now: float) -> bool:
        """Use up one datagram, if there is one."""
        if now - self._second >= 1.0:
            self._second = now
            self._of_address = [0] * _SLOTS
            self._of_network = [0] * _SLOTS
        slot = self._slot(pack_address(address))
        if self._of_address[slot] >= limits.STRANGER_ADDRESS_DATAGRAMS_PER_S:
            return False
        if (shared := subnet(address[0])) is not None:
            network = self._slot(shared)
            if self._of_network[network] >= limits.STRANGER_NETWORK_DATAGRAMS_PER_S:
                return False
            self._of_network[network] += 1
        self._of_address[slot] += 1
        return (self._pings if is_ping else self._others).take(now)

    def _slot(self, name: bytes) -> int:
        # The upper bits of a product with a secret: universal hashing (Dietzfelbinger et al., 1997).
        return (int.from_bytes(name) * self._secret & _WORD) >> _WORD_BITS - _SLOT_BITS


def within_rate(peer: Peer, now: float, cost: float = 1.0) -> bool:
    """Use up `cost` of a verified peer's allowance, PEER_DATAGRAMS_PER_S, if there is so much."""
    per_s = limits.PEER_DATAGRAMS_PER_S
    left = peer.allowance + (now - peer.allowance_at) * per_s
    peer.allowance_at = now
    if left < cost:
        peer.allowance = left
        return False
    peer.allowance = min(per_s, left) - cost
    return True


class Parking:
    """Requests waiting for their senders' pongs: few, briefly, and the oldest goes first when there is no room."""

    def __init__(self) -> None:
        self.waiting: OrderedDict[tuple[Address, bytes], tuple[float, bytes]] = OrderedDict()

    def park(self, address: Address, request_id: bytes, datagram: bytes, now: float) -> None:
        """Keep a request for PARKED_S at most."""
        self.waiting[(address, request_id)] = (now + limits.PARKED_S, datagram)
        while len(self.waiting) > limits.PARKED_REQUESTS_MAX:
            self.waiting.popitem(last=False)

    def release(self, address: Address, now: float) -> list[bytes]:
        """Hand out the requests of an address that has answered; drops those that have waited too long."""
        mine = [place for place in self.waiting if place[0] == address]
        released = [self.waiting.pop(place) for place in mine]
        while self.waiting and next(iter(self.waiting.values()))[0] < now:
            self.waiting.popitem(last=False)
        return [datagram for until, datagram in released if until >= now]
