"""Machines in virtual time, each with an overlay and what it holds, and their records: for `bench.churn`."""

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from dhtex.directory.proving import Gate
from dhtex.directory.service import Directory
from dhtex.directory.tending import Tending
from dhtex.market import stamp
from dhtex.market.admission import Verifier
from dhtex.market.identity import Identity
from dhtex.market.ids import NodeId
from dhtex.market.records import (
    VERSION,
    Closing,
    Confirm,
    Liveness,
    Order,
    Record,
    Side,
    Status,
    id_of,
    seal_record,
)
from dhtex.overlay import wire
from dhtex.overlay.addresses import Address
from dhtex.overlay.server import Overlay
from dhtex.sim.clock import EPOCH_S, NodeClock
from dhtex.sim.history import History
from dhtex.sim.loop import Life, VirtualLoop
from dhtex.sim.network import Network, SimEndpoint, Weather
from dhtex.store.database import Database
from dhtex.store.holdings import Holdings

NETWORK: Final = "churn"
PORT: Final = 4000
OLD_ENOUGH_S: Final = 30.0  # a reader has joined by then
PAIRS: Final = 20
Result = TypeVar("Result")


class Traffic:
    """Counts what every node sends, by virtual second and by verb; `spared` are machines that do not count."""

    def __init__(self) -> None:
        self.spared: frozenset[str] = frozenset()
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self.datagrams = self.octets = self.peak = 0
        self.by_verb: Counter[str] = Counter()
        self._second = -1
        self._of_second: Counter[Address] = Counter()

    def sent(self, endpoint: SimEndpoint, data: bytes) -> None:
        if endpoint.address[0] in self.spared:
            return
        self.datagrams += 1
        self.octets += len(data)
        self.by_verb[_verb(data)] += 1
        second = int(asyncio.get_running_loop().time())
        if second != self._second:
            self._second = second
            self._of_second.clear()
        self._of_second[endpoint.address] += 1
        self.peak = max(self.peak, self._of_second[endpoint.address])


def _verb(data: bytes) -> str:
    if data[0] == wire.REPLY:
        return "replies"
    found = wire.verb_of(data)
    return "?" if found is None else found[0].name.decode()


class Member:
    """One machine with an overlay and what it holds."""

    def __init__(self, world: "World", number: int, holdings: Holdings, node_id: NodeId) -> None:
        loop = asyncio.get_running_loop()
        self.ip = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        self.life = Life(self.ip)
        self.holdings = holdings
        self.node_id = node_id
        self.born = loop.time()
        self.clock = NodeClock(loop.time, 1000.0)
        self.entropy = random.Random(f"{world.seed}/{number}/{self.born}")
        self.overlay = Overlay(
            node_id, NETWORK, holdings, self.clock, self.entropy, open_endpoint=world.network.opener(self.life)
        )

    async def join(self, others: list["Member"]) -> None:
        """Listen, and meet the network through these."""
        await self.do(self.overlay.listen(PORT, self.ip))
        for other in others:
            if self.life.alive:
                await self.do(self.overlay.connect((other.ip, PORT)))

    def directory(self, gate: Gate) -> Directory:
        """The network's orders as this machine sees them."""
        return Directory(self.overlay, NETWORK, gate.check, self.clock, self.entropy, gate.prove)

    async def do(self, work: Coroutine[Any, Any, Result]) -> Result | None:
        """Something that this machine does; None if it ends meanwhile."""
        task = self.life.spawn(work)
        while self.life.alive:
            done, _ = await asyncio.wait([task], timeout=5.0)
            if done:
                return task.result()
        return None


class World:
    """All machines of one run; if `tended`, they look after the trees of books that they hold."""

    def __init__(self, seed: int, chance: random.Random, *, tended: bool = False) -> None:
        self.seed = seed
        self.tended = tended
        self.chance = chance
        self.history = History()
        self.network = Network(self.history, random.Random(f"{seed}/network"), Weather(loss=0.01, delay_s=0.02))
        self.traffic = Traffic()
        self.network.on_send = self.traffic.sent
        self.members: list[Member] = []
        self.verifier = Verifier()
        self.gate = Gate(self.verifier, 0, NodeClock(asyncio.get_running_loop().time, 0.0))
        self._numbers = itertools.count(1)
        self._databases: list[Database] = []

    def holdings(self) -> Holdings:
        database = Database.open(None)
        self._databases.append(database)
        return Holdings(database, NETWORK, 0, self.verifier)

    async def newcomer(self) -> None:
        """One more machine, which meets the network through two others."""
        member = Member(self, next(self._numbers), self.holdings(), NodeId(self.chance.randbytes(20)))
        known = self.chance.sample(self.members, min(2, len(self.members)))
        self.members.append(member)
        if self.tended:
            member.life.spawn(Tending(member.overlay, member.holdings, NETWORK, member.clock, member.entropy).run())
        await member.join(known)

    def kill(self, member: Member) -> None:
        """It loses power: nothing is said."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        if member in self.members:
            self.members.remove(member)
        self.network.vanish(member.life)
        loop.end(member.life)

    def old(self) -> list[Member]:
        now = asyncio.get_running_loop().time()
        return [member for member in self.members if now - member.born >= OLD_ENOUGH_S]

    def close(self) -> None:
        for member in list(self.members):
            self.kill(member)
        for database in self._databases:
            database.close()


def make_order(maker: Identity, number: int, chance: random.Random, life_s: int) -> Record[Order]:
    """An order in one of PAIRS pairs, made at the beginning of virtual time."""
    created = int(EPOCH_S)
    order = Order(
        version=VERSION, network=NETWORK, maker=maker.public, pair=f"BTC/Q{'ABCDEFGHIJKLMNOPQRST'[number % PAIRS]}Q",
        side=Side.SELL, price=str(chance.randrange(50_000, 60_000)), amount="1.5", minimum="1.5", payments=("SEPA",),
        note="weekdays only", created=created, expires=created + life_s, liveness=Liveness.MAILBOX,
        confirm=Confirm.AUTO, encryption_key=maker.encryption_public, epoch=1, salt=chance.randbytes(8), reference="",
        replaces=b"", parent=b"", group=b"",
    )  # fmt: skip
    return seal_record(order, maker.sign, stamp.mint(id_of(order), 0, stamp.hour_of(created)))


def cancel(maker: Identity, order: Record[Order]) -> Record[Status]:
    """The end of an order."""
    body = order.body
    status = Status(
        version=VERSION, network=NETWORK, order_id=order.id, maker=maker.public, pair=body.pair, side=body.side,
        price=body.price, expires=body.expires, epoch=1, seq=1, closing=Closing.CANCELED, at=int(EPOCH_S),
        accept_id=b"", taker=b"", amount="", replaced_by=b"", sealed=b"",
    )  # fmt: skip
    return seal_record(status, maker.sign, b"")
