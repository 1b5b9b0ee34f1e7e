"""Contacts, as they are gossiped, and peers, as we know them ourselves.

A contact is a claim: somebody said that this id lives at this address. It is immutable, and parsing one never raises.
A peer is what we learnt by talking to an address: its kind, its round trip time, its token for us, its failures.
"""

import enum
import ipaddress
from functools import lru_cache
from typing import Final

from kademlia.node import Node

from dhtex import limits
from dhtex.market.ids import NodeId
from dhtex.overlay.addresses import Address, canonical_ip, subnet
from dhtex.overlay.rtt import Rtt

ID_BYTES: Final = 20
_SIZES: Final = (ID_BYTES + 4 + 2, ID_BYTES + 16 + 2)


class Contact(Node):
    """An id at an address. `wire` is its compact form: id, packed IP, port; 26 bytes for IPv4 and 38 for IPv6."""

    id: NodeId
    ip: str
    port: int
    long_id: int

    def __init__(self, node_id: bytes, ip: str, port: int, wire: bytes) -> None:
        self.id = NodeId(node_id)
        self.ip = ip
        self.port = port
        self.long_id = int.from_bytes(node_id)
        self.address: Address = (ip, port)
        self.wire = wire
        self.subnet = subnet(ip)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Contact) and self.wire == other.wire

    def __hash__(self) -> int:
        return hash(self.wire)


@lru_cache(limits.ADDRESSES_TRACKED_MAX)
def contact_at(node_id: bytes, ip: str, port: int) -> Contact | None:
    """A contact, or None unless the id has 20 bytes and the address is a usable literal in canonical spelling."""
    if len(node_id) != ID_BYTES or not 0 < port < 65536 or canonical_ip(ip) != ip:
        return None
    return Contact(node_id, ip, port, node_id + ipaddress.ip_address(ip).packed + port.to_bytes(2))


@lru_cache(limits.ADDRESSES_TRACKED_MAX)
def parse_compact(wire: bytes) -> Contact | None:
    """The contact in its compact form, or None."""
    if len(wire) not in _SIZES:
        return None
    ip = ipaddress.ip_address(wire[ID_BYTES:-2]).compressed
    return contact_at(wire[:ID_BYTES], ip, int.from_bytes(wire[-2:]))


def parse_triple(triple: object) -> Contact | None:
    """The contact in the form of the stock package, `[id, ip, port]`, or None."""
    if not isinstance(triple, list | tuple) or len(triple) != 3:
        return None
    node_id, ip, port = triple
    if not isinstance(node_id, bytes) or not isinstance(ip, str) or type(port) is not int or len(ip) > 45:
        return None
    return contact_at(node_id, ip, port)


class PeerKind(enum.Enum):
    """What an address has shown itself to be."""

    UNKNOWN = "unknown"
    REPUTED = "reputed"  # a dhtex peer says that it is one too
    DHTEX = "dhtex"
    STOCK = "stock"
    FOREIGN = "foreign"  # a dhtex node of another network


class Peer:
    """An address that we talk to. `verified_until` says how long its last answer proves that it is no forged source."""

    __slots__ = (
        "address",
        "allowance",
        "allowance_at",
        "came_first",
        "client",
        "contact",
        "failed_at",
        "failures",
        "first_seen",
        "in_table",
        "kind",
        "last_asked",
        "last_seen",
        "pinging",
        "rtt",
        "token",
        "verified_until",
        "view_due",
    )

    def __init__(self, address: Address, contact: Contact | None, now: float) -> None:
        self.address = address
        self.contact = contact
        self.kind = PeerKind.UNKNOWN
        self.token = b""
        self.rtt = Rtt()
        self.client = False  # says that it cannot be reached: nobody routes to it
        self.failures = 0
        self.failed_at = 0.0
        self.first_seen = now
        self.last_seen = 0.0
        self.last_asked = 0.0
        self.verified_until = 0.0
        self.view_due = 0.0
        self.pinging = False
        self.came_first = False  # came before we sent anything there, if it is true that it came from there
        self.in_table = False
        self.allowance = float(limits.PEER_DATAGRAMS_PER_S)
        self.allowance_at = now


class Peers(dict[Address, Peer]):
    """What we know of addresses, by address."""

    def asked_at(self, ip: str, but: Peer | None = None) -> bool:
        """Whether we ever sent anything to an IP, other than to one of the peers there."""
        return any(peer.last_asked and peer is not but and peer.address[0] == ip for peer in self.values())

    def at(self, address: Address, contact: Contact | None, now: float) -> Peer:
        """The row of an address; remembers at most ADDRESSES_TRACKED_MAX of them, those of the table for sure."""
        peer = self.get(address)
        if peer is None:
            peer = self[address] = Peer(address, contact, now)
            while len(self) > limits.ADDRESSES_TRACKED_MAX:
                oldest = next(iter(self))
                row = self.pop(oldest)
                if row.in_table or row is peer:
                    self[oldest] = row
        elif peer.contact is None:
            peer.contact = contact
        return peer
