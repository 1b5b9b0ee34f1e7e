"""The routing table: whom we know, by distance.

Theory of operation. Peers are sorted into buckets by the length of the prefix that their id shares with ours, k to a
bucket (Maymounkov and Mazières, 2002, section 2.2); but none has more than a sixteenth of the range, so that there is
room for nearly all of some 250 nodes, one step away. Only a peer that has answered us is offered to the table, so a
forged source cannot enter it. A full bucket keeps who is there: old peers live longest; newcomers wait as spares, and
one takes the place of a peer that was silent FAILURES_BEFORE_EVICTION times in a row. Ids are public: where two
addresses claim one, who was there first has it, also when it comes back from an outage that has cost it its place.

The closest peers to a target are exact. For a target t at the distance d = own xor t, the sixteenths of the range come
by their number xor that of d's. In the one that is ours, bucket i holds distances that share the first i bits of d and
differ in bit i. So its buckets are visited in this order: those whose bit in d is set, ascending, then the others,
descending. Every peer of a bucket is closer than all of the next. Within a bucket we sort.

One network (a /24 or /64) gets few places in a bucket and in the table; local addresses are exempt, because many honest
nodes share a machine in tests and labs. Stock peers get few places in a bucket: they route, but verify nothing. An id
that follows from its public address (BEP 42) is preferred to another, and nobody is kept out for the lack of one.
"""

import enum
import math
from collections.abc import Iterator
from typing import Final

from dhtex import limits
from dhtex.overlay.bep42 import follows
from dhtex.overlay.contact import Contact, Peer, PeerKind

ID_BITS: Final = 160
SPLIT_BITS: Final = 4
_SPLIT_SHIFT: Final = ID_BITS - SPLIT_BITS
_SMALL: Final = 32
_DHTEX: Final = PeerKind.DHTEX
_Rows = list[tuple[int, Peer]]  # ids as numbers


class Offer(enum.Enum):
    """What became of an offered peer."""

    ADDED = "added"
    KNOWN = "known"
    SPARE = "spare"
    RIVAL = "rival"  # a spare whose id the table has at another address: that one should be pinged
    REFUSED = "refused"


class _Bucket:
    """`rows` repeats `peers` in the form that a search wants."""

    __slots__ = ("peers", "rows", "spares")

    def __init__(self) -> None:
        self.rows: _Rows = []
        self.peers: dict[bytes, Peer] = {}
        self.spares: dict[bytes, Peer] = {}


class Table:
    """The routing table of one node. `version` changes whenever a peer enters or leaves."""

    def __init__(self, own_id: bytes, bucket_size: int = limits.BUCKET_SIZE) -> None:
        self.own_id = own_id
        self.bucket_size = bucket_size
        self.version = 0
        self._own = int.from_bytes(own_id)
        self._buckets: dict[int, _Bucket] = {}  # by `_index`
        self._looked_up: dict[int, float] = {}  # when, by prefix length
        self._by_id: dict[bytes, Peer] = {}
        self._in_subnet: dict[bytes, int] = {}
        self._far: list[_Rows] = []  # by number of the sixteenth, as seen from ours, which has none
        self._near: list[tuple[int, _Rows]] = []
        self._all: _Rows = []
        self._order_version = 0

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Peer]:
        return iter(list(self._by_id.values()))

    def get(self, node_id: bytes) -> Peer | None:
        """The peer with this id, if it is in the table."""
        return self._by_id.get(node_id)

    def _index(self, long_id: int) -> int:
        """The number of a bucket: of the sixteenth, negative, or the length of the prefix if the sixteenth is ours."""
        distance = self._own ^ long_id
        return -(distance >> _SPLIT_SHIFT) or self._prefix_bits(long_id)

    def is_whole(self, target: bytes) -> bool:
        """Whether we may know all who are as far from us as a target is: there is room for more of them."""
        bucket = self._buckets.get(self._index(int.from_bytes(target)))
        return bucket is None or len(bucket.peers) < self.bucket_size

    def wants(self, contact: Contact, since: float = math.inf) -> bool:
        """Whether somebody who has had this address since then would enter the table, so that asking who it is pays."""
        known = self._by_id.get(contact.id)
        if contact.id == self.own_id or known is not None:
            return known is not None and since < known.first_seen and self._subnet_room(_Bucket(), contact)
        bucket = self._buckets.get(self._index(contact.long_id))
        if bucket is None:
            return self._subnet_room(_Bucket(), contact)
        room = len(bucket.peers) < self.bucket_size or _worst(bucket, contact) is not None
        return room and self._subnet_room(bucket, contact)

    def offer(self, peer: Peer) -> Offer:
        """Consider a peer that has just answered one of our requests and told its id."""
        contact = peer.contact
        if contact is None or contact.id == self.own_id or peer.kind not in (PeerKind.DHTEX, PeerKind.STOCK):
            return Offer.REFUSED
        known = self._by_id.get(contact.id)
        if known is peer:
            return Offer.KNOWN
        bucket = self._buckets.setdefault(self._index(contact.long_id), _Bucket())
        if known is not None:
            if peer.first_seen >= known.first_seen:
                self._spare(bucket, peer)
                return Offer.RIVAL
            self._take_out(known)
            if not self._room(bucket, peer):
                self._put_in(bucket, known)
                return Offer.REFUSED
        if self._room(bucket, peer):
            self._put_in(bucket, peer)
            return Offer.ADDED
        if len(bucket.peers) >= self.bucket_size and (worst := _worst(bucket, contact)) is not None:
            self._take_out(worst)
            if self._room(bucket, peer):
                self._put_in(bucket, peer)
                return Offer.ADDED
            self._put_in(bucket, worst)
        self._spare(bucket, peer)
        return Offer.SPARE

    def _spare(self, bucket: _Bucket, peer: Peer) -> None:
        assert peer.contact is not None
        bucket.spares.pop(peer.contact.id, None)
        bucket.spares[peer.contact.id] = peer
        if len(bucket.spares) > limits.REPLACEMENTS_PER_BUCKET:
            del bucket.spares[next(iter(bucket.spares))]

    def _room(self, bucket: _Bucket, peer: Peer) -> bool:
        assert peer.contact is not None
        if len(bucket.peers) >= self.bucket_size or not self._subnet_room(bucket, peer.contact):
            return False
        if peer.kind is PeerKind.STOCK:
            return sum(p.kind is PeerKind.STOCK for p in bucket.peers.values()) < limits.STOCK_PEERS_PER_BUCKET
        return True

    def _subnet_room(self, bucket: _Bucket, contact: Contact) -> bool:
        subnet = contact.subnet
        if subnet is None:
            return True
        if self._in_subnet.get(subnet, 0) >= limits.PEERS_PER_SUBNET_IN_TABLE:
            return False
        near = sum(p.contact is not None and p.contact.subnet == subnet for p in bucket.peers.values())
        return near < limits.PEERS_PER_SUBNET_IN_BUCKET

    def _put_in(self, bucket: _Bucket, peer: Peer) -> None:
        contact = peer.contact
        assert contact is not None
        assert contact.id not in self._by_id
        bucket.peers[contact.id] = self._by_id[contact.id] = peer
        bucket.rows = [*bucket.rows, (contact.long_id, peer)]
        bucket.spares.pop(contact.id, None)
        peer.in_table = True
        self.version += 1
        if contact.subnet is not None:
            self._in_subnet[contact.subnet] = self._in_subnet.get(contact.subnet, 0) + 1

    def _take_out(self, peer: Peer) -> _Bucket:
        contact = peer.contact
        assert contact is not None
        bucket = self._buckets[self._index(contact.long_id)]
        del bucket.peers[contact.id]
        bucket.rows = [row for row in bucket.rows if row[1] is not peer]
        del self._by_id[contact.id]
        peer.in_table = False
        self.version += 1
        if contact.subnet is not None:
            self._in_subnet[contact.subnet] -= 1
            if not self._in_subnet[contact.subnet]:
                del self._in_subnet[contact.subnet]
        return bucket

    def remove(self, peer: Peer) -> list[Peer]:
        """Take a peer out; the spares that took a place in turn (none or one)."""
        if not peer.in_table:
            return []
        bucket = self._take_out(peer)
        for node_id, spare in reversed(list(bucket.spares.items())):
            if _still(spare, node_id) and node_id not in self._by_id and self._room(bucket, spare):
                self._put_in(bucket, spare)
                return [spare]
        return []

    def failed(self, peer: Peer) -> bool:
        """Whether a peer that has just failed to answer has done so often enough to go."""
        return peer.in_table and peer.failures >= limits.FAILURES_BEFORE_EVICTION

    def is_contested(self, peer: Peer) -> bool:
        """Whether somebody else claims the id of a peer of this table, and would take its place."""
        contact = peer.contact
        return (
            peer.in_table and contact is not None and contact.id in self._buckets[self._index(contact.long_id)].spares
        )

    def closest(
        self, target: bytes, count: int, *, dhtex_only: bool = False, sound_only: bool = False, exclude: bytes = b""
    ) -> list[Peer]:
        """The `count` peers closest to `target`, exactly; `sound_only` leaves out those that failed lately."""
        goal = int.from_bytes(target)
        excluded = int.from_bytes(exclude) ^ goal if exclude else -1
        found: list[Peer] = []
        for group in self._outward(goal):
            rows = {long_id ^ goal: peer for long_id, peer in group}
            for distance in sorted(rows):
                peer = rows[distance]
                if (sound_only and peer.failures) or (dhtex_only and peer.kind is not _DHTEX) or distance == excluded:
                    continue
                found.append(peer)
                if len(found) == count:
                    return found
        return found

    def _outward(self, goal: int) -> Iterator[_Rows]:
        """The peers in groups, closest to `goal` first. A small table is one group: sorting it is quicker."""
        if len(self._by_id) <= _SMALL:
            yield self._rows()
            return
        self._rows()
        distance = self._own ^ goal
        sixteenth = distance >> _SPLIT_SHIFT
        for offset in range(1 << SPLIT_BITS):
            if offset != sixteenth:
                yield self._far[sixteenth ^ offset]
            else:
                yield from (rows for i, rows in self._near if distance >> (ID_BITS - 1 - i) & 1)
                yield from (rows for i, rows in reversed(self._near) if not distance >> (ID_BITS - 1 - i) & 1)

    def _rows(self) -> _Rows:
        """All peers; sees to it that `_near` and `_far` are as the buckets are."""
        if self._order_version != self.version:
            buckets = self._buckets
            self._near = sorted((i, bucket.rows) for i, bucket in buckets.items() if i >= 0 and bucket.peers)
            self._far = [buckets[-i].rows if -i in buckets else [] for i in range(1 << SPLIT_BITS)]
            self._all = [row for bucket in buckets.values() for row in bucket.rows]
            self._order_version = self.version
        return self._all

    def _prefix_bits(self, long_id: int) -> int:
        return ID_BITS - (self._own ^ long_id).bit_length()

    def looked_up(self, target: bytes, now: float) -> None:
        """Note that we searched near `target`: what is as far from us needs no refresh for a while."""
        self._looked_up[self._prefix_bits(int.from_bytes(target))] = now

    def stale_prefixes(self, now: float) -> list[int]:
        """The ranges in which we have not searched for REFRESH_INTERVAL_S, by prefix length, if anybody is there."""
        prefixes = {self._prefix_bits(long_id) for long_id, _ in self._rows()}
        return [i for i in prefixes if now - self._looked_up.get(i, 0.0) >= limits.REFRESH_INTERVAL_S]

    def depth(self) -> int:
        """The longest prefix that any peer shares with us."""
        return max((self._prefix_bits(long_id) for long_id, _ in self._rows()), default=0)


def _still(spare: Peer, node_id: bytes) -> bool:
    """Whether a spare is still what it was when it came: its address may have shown another id or kind since."""
    known = spare.kind in (PeerKind.DHTEX, PeerKind.STOCK)
    return known and not spare.in_table and spare.contact is not None and spare.contact.id == node_id


def _worst(bucket: _Bucket, newcomer: Contact) -> Peer | None:
    """Whose place a newcomer takes: the peer that failed most, if any failed. If all are sound, a newcomer whose id
    follows from its public address (BEP 42) takes that of the youngest peer whose id does not."""
    worst = max(bucket.peers.values(), key=lambda peer: peer.failures, default=None)
    if worst is not None and worst.failures:
        return worst
    if newcomer.subnet is None or not follows(newcomer.id, newcomer.ip):
        return None
    odd = (
        p for p in reversed(bucket.peers.values()) if p.contact is not None and not follows(p.contact.id, p.contact.ip)
    )
    return next(odd, None)


def random_id_at(own_id: bytes, prefix_bits: int, noise: bytes) -> bytes:
    """An id that shares exactly `prefix_bits` bits with ours, otherwise made of 20 random bytes."""
    own = int.from_bytes(own_id)
    shift = ID_BITS - 1 - prefix_bits
    flipped = (own >> shift) ^ 1
    return ((flipped << shift) | (int.from_bytes(noise) & ((1 << shift) - 1))).to_bytes(ID_BITS // 8)


def random_id_in(sixteenth: int, noise: bytes) -> bytes:
    """An id in a sixteenth of the range, otherwise made of random bytes."""
    return bytes((sixteenth << (8 - SPLIT_BITS) | noise[0] >> SPLIT_BITS,)) + noise[1:]
