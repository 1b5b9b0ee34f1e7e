"""Unmodified `kademlia` nodes in this process: the contestant."""

import random
from collections.abc import Awaitable
from typing import Any

from kademlia import network, utils

from bench.place import HOST, SEEN

# Untyped, and meant to be: this is the package as shipped.
_STOCK: Any = network
_UTILS: Any = utils


class StockNetwork:
    """`size` stock servers on loopback; a value is stored at the `copies` nodes nearest to its key."""

    def __init__(self, size: int, copies: int, chance: random.Random) -> None:
        self.servers: list[Any] = [_STOCK.Server(ksize=copies) for _ in range(size)]
        self._chance = chance
        self._ports: list[int] = []

    async def start(self) -> None:
        for _ in self.servers:
            await self.join([self._ports[0], self._chance.choice(self._ports)] if self._ports else [])

    async def join(self, known: list[int], port: int = 0) -> int:
        """Let the next server listen, and join through those at known ports; its own."""
        server = self.servers[len(self._ports)]
        await server.listen(port, HOST)
        self._ports.append(server.transport.get_extra_info("sockname")[1])
        if known:
            await server.bootstrap([(SEEN, other) for other in known])
        return self._ports[-1]

    def put(self, key: str, value: bytes) -> Awaitable[bool]:
        """Store from some node; whether it could."""
        return self._put(self._chance.choice(self.servers), key, value)

    async def _put(self, server: Any, key: str, value: bytes) -> bool:
        return bool(await server.set(key, value))

    def get(self, key: str) -> Awaitable[bool]:
        """Read from a node that does not hold the value, if there is one; whether it was found."""
        return self._get(self._chance.choice(self.strangers(key) or self.servers), key)

    def strangers(self, key: str) -> list[Any]:
        """The servers that do not hold a value."""
        hashed = _UTILS.digest(key)
        return [server for server in self.servers if server.storage.get(hashed) is None]

    async def _get(self, server: Any, key: str) -> bool:
        return await server.get(key) is not None

    def ping(self) -> Awaitable[None]:
        """One round trip between two nodes."""
        asker, asked = self._chance.sample(self.servers, 2)
        return self._ping(asker, (SEEN, asked.transport.get_extra_info("sockname")[1]))

    async def _ping(self, asker: Any, address: tuple[str, int]) -> None:
        answered, _ = await asker.protocol.ping(address, asker.node.id)
        assert answered

    def find(self, key: str) -> Awaitable[None]:
        """One step of a lookup between two nodes: contacts near a key."""
        asker, asked = self._chance.sample(self.servers, 2)
        return self._find(asker, (SEEN, asked.transport.get_extra_info("sockname")[1]), _UTILS.digest(key))

    async def _find(self, asker: Any, address: tuple[str, int], key: bytes) -> None:
        answered, _ = await asker.protocol.find_node(address, asker.node.id, key)
        assert answered

    def stop(self) -> None:
        for server in self.servers:
            server.stop()
