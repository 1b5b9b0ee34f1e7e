"""What the overlay tells those who use it."""

from dataclasses import dataclass, field

from dhtex.market.codes import Code
from dhtex.market.ids import NodeId
from dhtex.overlay.addresses import Address
from dhtex.overlay.contact import Contact, Peer


@dataclass(frozen=True, slots=True)
class PutResult:
    """What became of a record. `asked` and `holders` count other nodes, `local` speaks of this one.

    `refusals` counts nodes by code; `bits_asked` is the most that a holder wants of a stamp that was too low;
    `newer` are the records that holders have instead. `moved` counts nodes by the branch of their tree node, packed, to
    which they say that the record belongs. `unfinished`: somebody was silent, enough others
    have answered, and the search for further holders goes on in the background.
    """

    asked: int
    holders: int
    local: bool
    refusals: dict[str, int] = field(default_factory=dict)
    bits_asked: int = 0
    newer: tuple[bytes, ...] = ()
    moved: dict[bytes, int] = field(default_factory=dict)
    unfinished: bool = False

    @property
    def dearer(self) -> int:
        """How many bits a stamp should have, when that is why most of those who answered did not take the record."""
        return self.bits_asked if self.refusals.get(Code.STAMP_TOO_LOW, 0) > self.holders else 0


@dataclass(frozen=True, slots=True)
class Holder:
    """Who gave an answer (`address` None: this node), and the branches that it named, packed."""

    id: NodeId
    address: Address | None
    branches: bytes = b""


@dataclass(frozen=True, slots=True)
class Version:
    """One answer to a get, and how many holders gave it (`by`).

    `complete` says that `wires` are all records of that answer (or the first `limit` of them, if there was a limit).
    """

    digest: bytes
    total: int
    holders: int
    wires: tuple[bytes, ...]
    complete: bool
    by: tuple[Holder, ...] = ()


@dataclass(frozen=True, slots=True)
class GetResult:
    """How many holders were asked and answered (this node too if it is one: `local`), and the different answers."""

    asked: int
    answered: int
    versions: tuple[Version, ...]
    local: bool = False

    @property
    def lead(self) -> int:
        """How many more of the other holders that were asked answered in full than did not: this node's own word is no
        evidence. Positive if most did."""
        others = self.asked - self.local
        whole = sum(version.holders for version in self.versions if version.complete) - self.local
        return 2 * whole - others


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """A peer of the routing table. Times are seconds of the monotonic clock; `kind` is "dhtex" or "stock"."""

    id: NodeId
    address: Address
    kind: str
    rtt_s: float | None
    first_seen: float
    last_seen: float
    failures: int


def info(peer: Peer, contact: Contact) -> PeerInfo:
    """What there is to tell of a peer."""
    return PeerInfo(
        contact.id, peer.address, peer.kind.value, peer.rtt.smooth_s, peer.first_seen, peer.last_seen, peer.failures
    )
