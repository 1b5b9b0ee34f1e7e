"""What users of the stock package's `Server` expect, in terms of our own operations."""

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

from kademlia.network import Server

from dhtex.errors import UsageError
from dhtex.market.ids import DhtKey
from dhtex.overlay.results import PutResult


class StockServer(Server):
    """The stock names; a subclass brings `put`."""

    protocol: Any
    put: Callable[[DhtKey, bytes, str | None], Awaitable[PutResult]]

    def stop(self) -> None:
        """Not this way: `close` must be awaited."""
        raise UsageError("stop an overlay by awaiting its close()")

    async def set_digest(self, dkey: DhtKey, value: bytes) -> bool:
        """Put an order at its key, as a stock server would; whether another node holds it."""
        return (await self.put(dkey, value, None)).holders > 0

    async def set(self, key: str, value: bytes) -> bool:
        """Put an order under the hex of its id; whether another node holds it."""
        return await self.set_digest(DhtKey(hashlib.sha1(key.encode(), usedforsecurity=False).digest()), value)
