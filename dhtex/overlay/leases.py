"""Who wants to be told what: the holder's book of leases. Pure; pushes are sent by `watching`.

A lease belongs to one watcher and covers any number of keys. Its pushes are numbered, and the holder says at each
renewal up to which number none is under way any more; so the watcher sees what it missed. The watcher sends along a
digest of all keys that it believes to be covered: after a restart of either side the digests differ, the lease is
ended, and the watcher starts it anew.

A lease costs its watcher next to nothing. So when there is no room, the *crowd* (one address, or its /24 or /64) that
has most gives way to others: whoever takes all places from one machine shuts out nobody.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Final

from dhtex import limits
from dhtex.market.ids import DhtKey
from dhtex.overlay.addresses import Address, subnet
from dhtex.overlay.contact import Peer

FAILED_PUSHES_MAX: Final = 2


def key_digest(keys: Iterable[DhtKey], start: int = 0) -> int:
    """The exclusive or of the first 8 bytes of keys; adding and removing a key are the same step."""
    for key in keys:
        start ^= int.from_bytes(key[:8])
    return start


class Lease:
    """One watcher's lease."""

    __slots__ = ("crowd", "digest", "failures", "keys", "peer", "sender", "sequence", "under_way", "until")

    def __init__(self, peer: Peer, sender: bytes) -> None:
        self.peer = peer
        self.sender = sender
        self.crowd = subnet(peer.address[0]) or peer.address[0].encode()
        self.keys: set[DhtKey] = set()
        self.digest = 0
        self.until = 0.0
        self.sequence = 0
        self.under_way: set[int] = set()
        self.failures = 0

    @property
    def settled(self) -> int:
        """The highest number up to which no push is under way."""
        return min(self.under_way) - 1 if self.under_way else self.sequence


class Leases:
    """All leases of one holder."""

    def __init__(self) -> None:
        self._by_address: dict[Address, Lease] = {}
        self._by_key: dict[DhtKey, dict[Address, Lease]] = {}
        self._crowds_at: dict[DhtKey, Counter[bytes]] = {}  # where it was full lately: to count anew each time is dear
        self._covered = 0
        self._leases_of: Counter[bytes] = Counter()
        self._keys_of: Counter[bytes] = Counter()

    def __len__(self) -> int:
        return len(self._by_address)

    @property
    def keys(self) -> int:
        """How many keys all leases cover together."""
        return self._covered

    def change(
        self, peer: Peer, sender: bytes, lease_s: int, add: list[DhtKey], drop: list[DhtKey], now: float
    ) -> tuple[Lease | None, float]:
        """Start, renew or end (`lease_s` 0) a lease; what is granted in seconds, 0 for nothing."""
        lease = self._by_address.get(peer.address)
        if lease is not None and (lease.sender != sender or lease_s == 0):
            self.end(lease)
            lease = None
        if lease_s == 0:
            return None, 0.0
        if lease is None:
            lease = Lease(peer, sender)
            if len(self._by_address) >= limits.LEASES_MAX and not self._end_of_crowd(lease, self._leases_of):
                return None, 0.0
            self._by_address[peer.address] = lease
            self._leases_of[lease.crowd] += 1
        for key in drop:
            self._drop(lease, key)
        room = all(self._add(lease, key) for key in add)  # one key without room is enough: the watcher goes elsewhere
        granted_s = min(float(lease_s), limits.LEASE_S)
        lease.until = now + granted_s
        return lease, granted_s if room else 0.0

    def _add(self, lease: Lease, key: DhtKey) -> bool:
        if key in lease.keys:
            return True
        if (
            len(lease.keys) >= limits.WATCH_KEYS_PER_LEASE_MAX
            or (self._covered >= limits.WATCHED_KEYS_OF_OTHERS_MAX and not self._end_of_crowd(lease, self._keys_of))
            or not self._room_at(key, lease)
        ):
            return False
        self._by_key.setdefault(key, {})[lease.peer.address] = lease
        if (crowds := self._crowds_at.get(key)) is not None:
            crowds[lease.crowd] += 1
        lease.keys.add(key)
        lease.digest = key_digest((key,), lease.digest)
        self._covered += 1
        self._keys_of[lease.crowd] += 1
        return True

    def _room_at(self, key: DhtKey, lease: Lease) -> bool:
        """Whether a key can have one more watcher; if need be one of the largest crowd there goes."""
        watchers = self._by_key.get(key, {})
        if len(watchers) < limits.WATCHERS_PER_KEY_MAX:
            return True
        crowds = self._crowds_at.get(key)
        if crowds is None:
            crowds = self._crowds_at[key] = Counter(watcher.crowd for watcher in watchers.values())
        crowd = max(crowds, key=crowds.__getitem__)
        if crowds[crowd] <= crowds[lease.crowd] + 1:
            return False
        self._drop(next(watcher for watcher in watchers.values() if watcher.crowd == crowd), key)
        return True

    def _end_of_crowd(self, lease: Lease, counts: "Counter[bytes]") -> bool:
        """End a lease of the crowd that has most, if that is more than the crowd of `lease` will have."""
        crowd = max(counts, key=counts.__getitem__)
        if counts[crowd] <= counts[lease.crowd] + 1:
            return False
        theirs = (other for other in self._by_address.values() if other.crowd == crowd)
        self.end(max(theirs, key=lambda other: len(other.keys)))
        return True

    def _drop(self, lease: Lease, key: DhtKey) -> None:
        if key not in lease.keys:
            return
        lease.keys.remove(key)
        lease.digest = key_digest((key,), lease.digest)
        self._covered -= 1
        _uncount(self._keys_of, lease.crowd)
        watchers = self._by_key[key]
        del watchers[lease.peer.address]
        if len(watchers) < limits.WATCHERS_PER_KEY_MAX // 2:
            self._crowds_at.pop(key, None)
        elif (crowds := self._crowds_at.get(key)) is not None:
            _uncount(crowds, lease.crowd)
        if not watchers:
            del self._by_key[key]

    def end(self, lease: Lease) -> None:
        """Forget a lease."""
        if self._by_address.get(lease.peer.address) is lease:
            for key in list(lease.keys):
                self._drop(lease, key)
            del self._by_address[lease.peer.address]
            _uncount(self._leases_of, lease.crowd)

    def watching(self, key: DhtKey, now: float) -> list[Lease]:
        """The leases that cover a key."""
        watchers = self._by_key.get(key)
        return [lease for lease in watchers.values() if lease.until >= now] if watchers else []

    def next_push(self, lease: Lease) -> tuple[int, bool]:
        """The number of a lease's next push, and whether to send it: a watcher may not fall far behind."""
        lease.sequence += 1
        if len(lease.under_way) >= limits.PUSHES_IN_FLIGHT_PER_LEASE_MAX:
            return lease.sequence, False
        lease.under_way.add(lease.sequence)
        return lease.sequence, True

    def settle(self, lease: Lease, sequence: int, *, arrived: bool) -> None:
        """A push was acknowledged, or given up; a watcher that misses several is gone."""
        lease.under_way.discard(sequence)
        lease.failures = 0 if arrived else lease.failures + 1
        if lease.failures >= FAILED_PUSHES_MAX:
            self.end(lease)

    def expire(self, now: float) -> None:
        """Forget what was not renewed."""
        for lease in [lease for lease in self._by_address.values() if lease.until < now]:
            self.end(lease)


def _uncount(counts: "Counter[bytes]", crowd: bytes) -> None:
    counts[crowd] -= 1
    if not counts[crowd]:
        del counts[crowd]
