"""Many overlay nodes in virtual time, without desks and disks: they join one another, or are built as if they had.

A *built* network has the routing tables of one that has been up for long: in each bucket as many of the nodes that
belong there as there is room for; their tokens, and their round trip times. Upkeep is off: nothing comes or
goes, and what is sent is the work's.
"""

import asyncio
import random
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from bench.machines import NETWORK
from dhtex import limits
from dhtex.market.admission import Verifier
from dhtex.market.ids import DhtKey, NodeId
from dhtex.overlay.contact import Contact, PeerKind, contact_at
from dhtex.overlay.server import Overlay
from dhtex.overlay.table import ID_BITS, SPLIT_BITS
from dhtex.sim.clock import NodeClock
from dhtex.sim.history import History
from dhtex.sim.loop import Life
from dhtex.sim.network import Network, SimEndpoint, Weather
from dhtex.store.database import Database
from dhtex.store.holdings import Holdings

PORT: Final = 4000
DELAY_S: Final = 0.025
SAMPLES: Final = 16  # of the network's size, of each node of a built network
BOOTED_S: Final = 1000.0


class Node(Overlay):
    """An overlay whose upkeep can be turned off."""

    upkeep: asyncio.Task[None] | None = None

    async def _maintain(self) -> None:
        self.upkeep = asyncio.current_task()
        await super()._maintain()


@dataclass(slots=True, eq=False)
class Member:
    """One machine."""

    node: Node
    holdings: Holdings
    contact: Contact

    def holds(self, key: DhtKey) -> bool:
        return self.holdings.page(key, 0, 0, 0, 0.0).total > 0

    def rest(self) -> None:
        """Turn upkeep off."""
        if self.node.upkeep is not None:
            self.node.upkeep.cancel()


class Fleet:
    """The machines, sorted by id, and the network between them."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(f"{seed}/fleet")
        self.members: list[Member] = []
        self.sent = 0
        self._network = Network(History(), random.Random(f"{seed}/network"), Weather(delay_s=DELAY_S))
        self._network.on_send = self._count
        self._verifier = Verifier()
        self._databases: list[Database] = []
        self._ids: list[int] = []

    def _count(self, _endpoint: SimEndpoint, _data: bytes) -> None:
        self.sent += 1

    async def new(self) -> Member:
        """A machine that listens and knows nobody."""
        number = len(self.members) + 1
        ip = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        node_id = NodeId(self.chance.randbytes(20))
        database = Database.open(None)
        self._databases.append(database)
        holdings = Holdings(database, NETWORK, 0, self._verifier)
        clock = NodeClock(asyncio.get_running_loop().time, BOOTED_S)
        entropy = random.Random(f"{number}/{node_id.hex()}")
        life = Life(ip)
        node = Node(node_id, NETWORK, holdings, clock, entropy, open_endpoint=self._network.opener(life))
        await life.spawn(node.listen(PORT, ip))
        await asyncio.sleep(0)  # its upkeep has begun
        contact = contact_at(node_id, ip, PORT)
        assert contact is not None
        member = Member(node, holdings, contact)
        place = bisect_left(self._ids, contact.long_id)
        self._ids.insert(place, contact.long_id)
        self.members.insert(place, member)
        return member

    async def join(self, member: Member) -> None:
        """Meet the others through two of them."""
        for known in self.chance.sample([other for other in self.members if other is not member], 2):
            assert await member.node.connect(known.contact.address)

    async def build(self, size: int) -> None:
        """Make so many machines that have long known one another."""
        for _ in range(size):
            (await self.new()).rest()
        samples = [self._sample() for _ in range(20 * SAMPLES)]
        for member in self.members:
            self._fill(member)
            for point, near in self.chance.sample(samples, SAMPLES):
                member.node._searches.widening.size.add(point, near)

    def _sample(self) -> tuple[bytes, list[bytes]]:
        point = DhtKey(self.chance.randbytes(20))
        return point, [member.contact.id for member in self.nearest(point, limits.HOLDERS)]

    def _fill(self, member: Member) -> None:
        """Give a machine the routing table that it would have come to."""
        own, protocol = member.contact.long_id, member.node.protocol
        now = protocol.monotonic()
        for first, shift in _ranges(own):
            low, high = bisect_left(self._ids, first), bisect_left(self._ids, first + (1 << shift))
            for place in self.chance.sample(range(low, high), min(high - low, limits.BUCKET_SIZE)):
                other = self.members[place]
                peer = protocol.peer_at(other.contact.address, other.contact)
                peer.kind = PeerKind.DHTEX
                peer.token = other.node.protocol.tokens.issue(member.contact.ip)
                peer.last_seen = peer.last_asked = now
                peer.verified_until = now + limits.TOKEN_LIFE_S
                peer.rtt.sample(2 * DELAY_S)
                protocol.table.offer(peer)
            own_range = (own >> shift) << shift
            if bisect_left(self._ids, own_range + (1 << shift)) - bisect_left(self._ids, own_range) == 1:
                return

    def received(self) -> list[int]:
        """How many datagrams each machine has received."""
        return [member.node.protocol.datagrams_in for member in self.members]

    def nearest(self, point: bytes, count: int) -> list[Member]:
        """The machines nearest to a point, exactly: those of the smallest range around it that has enough."""
        goal = int.from_bytes(point)
        for shift in range(ID_BITS):
            first = (goal >> shift) << shift
            low, high = bisect_left(self._ids, first), bisect_left(self._ids, first + (1 << shift))
            if high - low >= count:
                break
        else:
            low, high = 0, len(self._ids)
        return sorted(self.members[low:high], key=lambda member: member.contact.long_id ^ goal)[:count]

    def stranger(self, key: DhtKey) -> Member:
        """Some machine that does not hold a key."""
        while (member := self.chance.choice(self.members)).holds(key):
            pass
        return member

    def close(self) -> None:
        """Let go of what they hold."""
        for database in self._databases:
            database.close()


def _ranges(own: int) -> Iterator[tuple[int, int]]:
    """The ranges of a routing table's buckets, farthest first: the first id of each, and how many bits vary."""
    shift = ID_BITS - SPLIT_BITS
    for number in reversed(range(1, 1 << SPLIT_BITS)):
        yield ((own >> shift) ^ number) << shift, shift
    for shift in reversed(range(ID_BITS - SPLIT_BITS)):
        yield ((own >> shift) ^ 1) << shift, shift
