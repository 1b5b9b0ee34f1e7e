"""The verbs of the stock package, answered from our own table and shelf with the stock names, arguments and shapes.

A stock node can so find nodes through us and read an order by its id; it can store nothing but valid orders.

The datagrams themselves are `protocol`'s, which has this as a part: `rpcudp` answers for attributes that it lacks, and
in a class that does so each access to any attribute takes several times as long.
"""

from typing import Any, Final

from kademlia.protocol import KademliaProtocol
from kademlia.storage import IStorage

from dhtex import limits
from dhtex.clock import Clock
from dhtex.market.ids import DhtKey, NodeId
from dhtex.overlay import wire
from dhtex.overlay.addresses import Address
from dhtex.overlay.ports import Holdings
from dhtex.overlay.serving import Serving
from dhtex.overlay.table import Table
from dhtex.overlay.trailer import REPLY_TRAILER_BYTES_MAX

# Beside frame, trailer and the head of the list.
_ROOM_BYTES: Final = limits.DATAGRAM_BYTES_MAX - wire.FRAME_BYTES - REPLY_TRAILER_BYTES_MAX - 3
_CONTACT_BYTES: Final = 1 + 22 + 2 + 3  # and the address as text


class StockVerbs(KademliaProtocol):
    """What stock nodes may ask. Who may ask is decided before."""

    def __init__(self, source_node: Any, storage: Any, table: Table) -> None:
        super().__init__(source_node, storage, table.bucket_size)  # type: ignore[no-untyped-call]
        self.own_id = NodeId(table.own_id)
        self.table = table
        self.router: Any = None  # nothing asks it: ours is exact, and closed to strangers
        self.serving: Serving

    def rpc_stun(self, sender: Address) -> Address:
        """Tell a peer what its address looks like from here."""
        return sender

    def rpc_store(self, sender: Address, nodeid: NodeId, key: DhtKey, value: object) -> bool:
        """Keep an order that a stock peer stores under its key; anything else is refused."""
        return self.serving.stock_store(key, value, sender)

    def rpc_find_node(self, sender: Address, nodeid: NodeId, key: bytes) -> list[tuple[bytes, str, int]]:
        """The contacts closest to a key, as many as fit into a datagram."""
        found: list[tuple[bytes, str, int]] = []
        room = _ROOM_BYTES
        for peer in self.table.closest(key, self.table.bucket_size, sound_only=True, exclude=nodeid):
            assert peer.contact is not None
            room -= _CONTACT_BYTES + len(peer.contact.ip)
            if room < 0:
                break
            found.append((peer.contact.id, peer.contact.ip, peer.contact.port))
        return found

    def rpc_find_value(self, sender: Address, nodeid: NodeId, key: DhtKey) -> Any:
        """An order's bytes by its key, else contacts."""
        value = self.serving.stock_value(key)
        return self.rpc_find_node(sender, nodeid, key) if value is None else {"value": value}


class StockShelf(IStorage):
    """The node's records in the shape that stock code expects of a storage."""

    def __init__(self, holdings: Holdings, clock: Clock) -> None:
        self._holdings = holdings
        self._clock = clock

    def __bool__(self) -> bool:
        return True  # else the stock server replaces an empty storage by its own

    def __setitem__(self, key: DhtKey, value: object) -> None:
        self._holdings.stock_put(key, value, self._clock.now(), "self")

    def __getitem__(self, key: DhtKey) -> bytes:
        value = self._holdings.stock_value(key, self._clock.now())
        if value is None:
            raise KeyError(key)
        return value

    def get(self, key: DhtKey, default: Any = None) -> Any:
        value = self._holdings.stock_value(key, self._clock.now())
        return default if value is None else value

    def iter_older_than(self, seconds_old: float) -> list[tuple[bytes, bytes]]:
        return []

    def __iter__(self) -> Any:
        return iter(())
