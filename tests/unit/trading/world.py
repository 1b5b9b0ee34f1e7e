"""Desks on a network in memory and in virtual time: an hour passes in no time, and a seed replays a history exactly."""

import asyncio
import random
import selectors
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from dhtex.errors import NoPeerError
from dhtex.market.admission import signature_holds
from dhtex.market.identity import Identity
from dhtex.market.ids import RecordId
from dhtex.market.keyring import Keyring
from dhtex.market.records import AnyRecord, Confirm, Kind, Order, Record, parse_record
from dhtex.market.stamp import hour_of, mint
from dhtex.store.database import Database
from dhtex.store.journal import Journal
from dhtex.store.rows import OwnOrder, Trade
from dhtex.trading.ports import Progress
from dhtex.trading.selling import Terms
from dhtex.trading.service import Desk
from dhtex.views import AcceptRequest
from tests.builders import NETWORK, NOW, identity, make_order

Result = TypeVar("Result")


class _JumpingSelector(selectors.SelectSelector):
    """Never waits: the time that would have been waited has passed at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        events = super().select(0)
        if not events:
            assert timeout is not None, "everyone waits for someone else"
            self.now += max(0.0, timeout)
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock is moved by waiting."""

    def __init__(self) -> None:
        self.jumping = _JumpingSelector()
        super().__init__(self.jumping)

    def time(self) -> float:
        return self.jumping.now


class VirtualClock:
    """Unix time that begins at NOW with the loop's own."""

    def now(self) -> float:
        return NOW + asyncio.get_running_loop().time()

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


def play(story: Coroutine[Any, Any, Result]) -> Result:
    """Run a story in virtual time."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(story)
    finally:
        loop.close()


@dataclass
class Network:
    """Holders that keep everything, and pushes and puts that may be lost or doubled."""

    entropy: random.Random
    loss: float = 0.0
    doubling: float = 0.0
    down: bool = False
    silent: bool = False  # nothing is pushed
    few: bool = False  # less than half of the holders answer
    at_order: dict[RecordId, dict[RecordId, AnyRecord]] = field(default_factory=dict)
    at_index: list[bytes] = field(default_factory=list)
    reads: int = 0
    puts: list[bytes] = field(default_factory=list)
    watchers: dict[RecordId, set["Access"]] = field(default_factory=dict)

    def store(self, order_id: RecordId, record: AnyRecord) -> None:
        known = self.at_order.setdefault(order_id, {})
        if record.id not in known and not self.silent:
            for access in self.watchers.get(order_id, set()):
                copies = 0 if self.lost() else 1 + (self.entropy.random() < self.doubling)
                for _ in range(copies):
                    delay_s = self.entropy.uniform(0.001, 0.05)
                    asyncio.get_running_loop().call_later(delay_s, access.push, record)
        known[record.id] = record

    def lost(self) -> bool:
        return self.entropy.random() < self.loss


class Access:
    """One node's way to the network: the desk's Publisher."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.desk: Desk | None = None
        self.mint_s = 0.0

    def push(self, record: AnyRecord) -> None:
        if self.desk is not None:
            self.desk.on_record(record)

    async def put_order_key(self, order_id: RecordId, wire: bytes) -> int:
        await asyncio.sleep(0.01)
        if self.network.down or self.network.lost():
            return 0
        self.network.puts.append(wire)
        record = parse_record(wire, NETWORK)
        assert isinstance(record, Record)
        self.network.store(order_id, record)
        return 8

    async def put_index(self, order: Order, wire: bytes) -> int:
        await asyncio.sleep(0.01)
        if self.network.down or self.network.lost():
            return 0
        self.network.at_index.append(wire)
        return 8

    async def read(self, order_id: RecordId) -> list[AnyRecord]:
        self.network.reads += 1
        await asyncio.sleep(0.01)
        if self.network.down or self.network.lost():
            raise NoPeerError("nobody answers")
        return list(self.network.at_order.get(order_id, {}).values())

    async def read_both(self, order: Record[Order]) -> list[AnyRecord]:
        return await self.read(order.id)

    async def read_back(self, order_id: RecordId) -> list[AnyRecord]:
        records = await self.read(order_id)
        if self.network.few:
            raise NoPeerError("too few answer")
        return records

    def watch(self, order_id: RecordId, why: str = "accepts") -> None:
        self.network.watchers.setdefault(order_id, set()).add(self)

    def unwatch(self, order_id: RecordId, why: str = "accepts") -> None:
        self.network.watchers.get(order_id, set()).discard(self)

    def watches(self, order_id: RecordId) -> bool:
        return self in self.network.watchers.get(order_id, set())

    def bits_asked(self, wire: bytes) -> int:
        return 0

    async def mint(self, record_id: RecordId, kind: Kind, progress: Progress | None, bits: int = 0) -> bytes:
        await asyncio.sleep(self.mint_s)
        return mint(record_id, bits, hour_of(VirtualClock().now()))


class Party:
    """A node with a desk, which can be killed and started again on the same file."""

    def __init__(self, network: Network, number: int, contact: str = "", epoch: int = 1, tag: str = "") -> None:
        self.network = network
        self.identity: Identity = identity(number)
        self.keys = Keyring(number.to_bytes(32), tag)
        self.database = Database.open(None)
        self.journal = Journal(self.database)
        self.terms = Terms(NETWORK, 0, epoch, signature_holds, contact)
        self.changes: list[Trade] = []
        self.ended: list[tuple[RecordId, str]] = []
        self.access = Access(network)
        self.desk = self._build()

    def _build(self) -> Desk:
        self.access = Access(self.network)
        desk = Desk(
            self.journal, self.keys, self.access, VirtualClock(), self.network.entropy, self.terms,
            self.changes.append,
        )  # fmt: skip
        desk.on_ended = lambda order_id, state: self.ended.append((order_id, state))
        self.access.desk = desk
        return desk

    async def start(self) -> "Party":
        await self.desk.start()
        return self

    async def kill(self) -> None:
        """Stop without a chance to finish anything: what is not in the journal is lost."""
        self.access.desk = None
        for watchers in self.network.watchers.values():
            watchers.discard(self.access)
        await self.desk.stop()

    async def restart(self) -> None:
        await self.kill()
        self.desk = self._build()
        await self.desk.start()

    def publish(self, reply: str = "", **fields: Any) -> Record[Order]:
        order = make_order(by=self.identity, **fields)
        self.journal.add_order(
            OwnOrder(
                order.id, order.wire, "open", 0, b"", reply, order.body.created, order.body.expires,
                group_id=order.body.group, parent=order.body.parent,
            )
        )  # fmt: skip
        self.network.store(order.id, order)
        self.desk.order_opened(order.id)
        return order

    async def accept(self, order: Record[Order], amount: str = "", message: str = "", wait_s: float = 0.0) -> Trade:
        trade = await self.desk.accept(order, AcceptRequest(amount=amount, message=message))
        return await self.desk.wait(trade.accept_id, wait_s)

    def state(self, order: Record[Order]) -> str:
        own = self.journal.order(order.id)
        assert own is not None
        return own.state


async def until(condition: Callable[[], bool], limit_s: float = 600.0) -> None:
    """Let virtual time pass until something holds."""
    loop = asyncio.get_running_loop()
    end, pause_s = loop.time() + limit_s, 0.01
    while not condition():
        assert loop.time() < end, "it never came true"
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 1.2, 5.0)


def new_network(seed: int = 1, **fields: Any) -> Network:
    return Network(random.Random(seed), **fields)


async def parties(network: Network, count: int = 3) -> list[Party]:
    return [await Party(network, number).start() for number in range(1, count + 1)]


async def stop(*everyone: Party) -> None:
    for party in everyone:
        await party.desk.stop()


def states(party: Party) -> list[tuple[str, str]]:
    return [(trade.state, trade.code) for trade in party.journal.trades()]


async def asked(network: Network, takers: int = 2) -> tuple[list[Party], Record[Order], list[RecordId]]:
    """A maker whose ask order has accepts waiting: everyone (the maker first), the order, the accepts."""
    everyone = await parties(network, 1 + takers)
    order = everyone[0].publish(confirm=Confirm.ASK)
    trades = [await taker.accept(order) for taker in everyone[1:]]
    await until(lambda: len(everyone[0].journal.pending()) == takers)
    await until(lambda: all(states(taker) == [("pending", "")] for taker in everyone[1:]))
    return everyone, order, [trade.accept_id for trade in trades]
