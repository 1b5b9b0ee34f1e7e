"""A network of dhtex overlay nodes in this process, each with its own holdings in memory."""

import asyncio
import random
from collections.abc import Awaitable

from bench.place import HOST, SEEN
from bench.records import NETWORK
from dhtex import limits
from dhtex.clock import SystemClock
from dhtex.market.holding import NO_KIND
from dhtex.market.ids import DhtKey, NodeId, RecordId
from dhtex.market.records import Kind
from dhtex.overlay.contact import Peer
from dhtex.overlay.pages import wire_id
from dhtex.overlay.protocol import Protocol
from dhtex.overlay.server import Overlay
from dhtex.overlay.wire import GET, GetArgs
from dhtex.store.database import Database
from dhtex.store.holdings import Holdings

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
        for _ in self.nodes:
            await self.join([self.ports[0], self._chance.choice(self.ports)] if self.ports else [])

    async def join(self, known: list[int], port: int = 0) -> int:
        """Let the next node listen, and join through those at known ports; its own."""
        node = self.nodes[len(self.ports)]
        self.ports.append(await node.listen(port, HOST))
        for other in known:
            assert await node.connect((SEEN, other))
        return self.ports[-1]

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
        """Read all holders from a node that does not hold the record, if there is one."""
        return self._get(self._stranger(key), key)

    def fetch(self, key: DhtKey, order_id: RecordId) -> Awaitable[None]:
        """Fetch an order by its id from a node that does not hold it, if there is one, and check its hash."""
        return self._fetch(self._stranger(key), key, order_id)

    def strangers(self, key: DhtKey) -> list[Overlay]:
        """The nodes that hold nothing at a key."""
        now = self._clock.now()
        return [
            node
            for node, holdings in zip(self.nodes, self.holdings, strict=True)
            if not holdings.page(key, 0, 0, 1000, now).total
        ]

    def _stranger(self, key: DhtKey) -> Overlay:
        return self._chance.choice(self.strangers(key) or self.nodes)

    async def _fetch(self, node: Overlay, key: DhtKey, order_id: RecordId) -> None:
        found = await node.fetch(key, Kind.ORDER, lambda wire: wire_id(wire) == order_id)
        assert found is not None, "the network lost a record"

    async def _get(self, node: Overlay, key: DhtKey) -> None:
        result = await node.get(key)
        assert any(version.wires for version in result.versions), "the network lost a record"

    def ping(self) -> Awaitable[None]:
        """One round trip between two nodes."""
        return self._ping(*self._two())

    async def _ping(self, protocol: Protocol, peer: Peer) -> None:
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        protocol.ping(peer, lambda _, answer: _settle(answered, answer))
        await answered

    def find(self, key: DhtKey) -> Awaitable[None]:
        """One step of a lookup between two nodes: contacts near a key."""
        return self._find(*self._two(), key)

    async def _find(self, protocol: Protocol, peer: Peer, key: DhtKey) -> None:
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        args = GetArgs(protocol.net, protocol.own_id, b"", key, NO_KIND, 0, True)
        protocol.ask(peer, GET, args, lambda _, answer: _settle(answered, answer))
        await answered

    def _two(self) -> tuple[Protocol, Peer]:
        asker, asked = self._chance.sample(range(len(self.nodes)), 2)
        protocol = self.nodes[asker].protocol
        return protocol, protocol.peer_at((SEEN, self.ports[asked]))

    async def stop(self) -> None:
        for node in self.nodes:
            await node.close()
        for database in self._databases:
            database.close()


def _settle(answered: "asyncio.Future[None]", answer: object) -> None:
    assert answer, "no answer"
    answered.set_result(None)
