"""A network of dhtex overlay nodes in this process, each with its own holdings in memory."""

import asyncio
import random
from collections.abc import Awaitable

from bench.records import NETWORK
from dhtex import limits
from dhtex.clock import SystemClock
from dhtex.market.ids import DhtKey, NodeId
from dhtex.overlay.contact import Peer
from dhtex.overlay.protocol import Protocol
from dhtex.overlay.server import Overlay
from dhtex.store.database import Database
from dhtex.store.holdings import Holdings

HOST = "127.0.0.1"
SETTLE_S_MAX = 30


class OverlayNetwork:
    """`size` overlay nodes on loopback, joined through one another as the stock ones are."""

    def __init__(self, size: int, chance: random.Random) -> None:
        self._chance = chance
        self._clock = SystemClock()
        self._databases = [Database.open(None) for _ in range(size)]
        self.holdings = [Holdings(database, NETWORK, 0) for database in self._databases]
        self.nodes = [
            Overlay(NodeId(chance.randbytes(20)), NETWORK, holdings, self._clock, chance) for holdings in self.holdings
        ]
        self.ports: list[int] = []

    async def start(self) -> None:
        for node in self.nodes:
            known = [self.ports[0], self._chance.choice(self.ports)] if self.ports else []
            self.ports.append(await node.listen(0, HOST))
            for port in known:
                assert await node.connect((HOST, port))

    async def settle(self) -> None:
        """Wait until the newcomers have found their place: no datagram for a second."""
        for _ in range(SETTLE_S_MAX):
            before = self.sent()
            await asyncio.sleep(1.0)
            if self.sent() == before:
                return

    def sent(self) -> int:
        """How many datagrams all nodes have sent."""
        return sum(node.counters["datagrams_out"] for node in self.nodes)

    def put(self, key: DhtKey, wire: bytes) -> Awaitable[None]:
        """Publish from some node."""
        return self._put(self._chance.choice(self.nodes), key, wire)

    async def _put(self, node: Overlay, key: DhtKey, wire: bytes) -> None:
        holders = (await node.put(key, wire, None)).holders
        assert holders >= limits.HOLDERS - 1, f"only {holders} other nodes hold the record"

    def get(self, key: DhtKey) -> Awaitable[None]:
        """Read from a node that does not hold the record, if there is one."""
        now = self._clock.now()
        others = [
            node
            for node, holdings in zip(self.nodes, self.holdings, strict=True)
            if not holdings.page(key, 0, 0, 1000, now).total
        ]
        return self._get(self._chance.choice(others or self.nodes), key)

    async def _get(self, node: Overlay, key: DhtKey) -> None:
        result = await node.get(key)
        assert any(version.wires for version in result.versions), "the network lost a record"

    def ping(self) -> Awaitable[None]:
        """One round trip between two nodes."""
        asker, asked = self._chance.sample(range(len(self.nodes)), 2)
        protocol = self.nodes[asker].protocol
        return self._ping(protocol, protocol.peer_at((HOST, self.ports[asked])))

    async def _ping(self, protocol: Protocol, peer: Peer) -> None:
        answered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        protocol.ping(peer, lambda _, answer: answered.set_result(answer is not None))
        assert await answered

    async def stop(self) -> None:
        for node in self.nodes:
            await node.close()
        for database in self._databases:
            database.close()
