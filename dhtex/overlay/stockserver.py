"""What users of the stock package's `Server` expect, in terms of our own operations."""

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

from kademlia.network import Server

from dhtex.errors import UsageError
from dhtex.market.ids import DhtKey
from dhtex.overlay.addresses import Address
from dhtex.overlay.contact import Contact
from dhtex.overlay.results import PutResult


class StockServer(Server):
    """The stock names; a subclass brings `connect` and `put`."""

    protocol: Any
    connect: Callable[[Address], Awaitable[bool]]
    put: Callable[[DhtKey, bytes, str | None], Awaitable[PutResult]]

    def stop(self) -> None:
        """Not this way: `close` must be awaited."""
        raise UsageError("stop an overlay by awaiting its close()")

    async def bootstrap_node(self, addr: Address) -> Contact | None:
        """Connect to one node; what it is."""
        if not await self.connect(addr):
            return None
        contact: Contact | None = self.protocol.peer_at(addr).contact
        return contact

    def bootstrappable_neighbors(self) -> list[Address]:
        """Addresses to connect to in a later life."""
        return [peer.address for peer in self.protocol.table.closest(self.protocol.own_id, self.ksize)]

    async def set_digest(self, dkey: DhtKey, value: bytes) -> bool:
        """Put an order at its key, as a stock server would; whether another node holds it."""
        return (await self.put(dkey, value, None)).holders > 0

    async def set(self, key: str, value: bytes) -> bool:
        """Put an order under the hex of its id; whether another node holds it."""
        return await self.set_digest(DhtKey(hashlib.sha1(key.encode(), usedforsecurity=False).digest()), value)
