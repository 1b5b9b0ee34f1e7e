"""Those who mean harm and have no node of their own: what they say reaches the network through anybody's.

The *crowd* puts old records again. The *forger* ends other people's orders with a key of its own. The *two-faced* maker
signs two ends of one order under one sequence number, and tells each to others. The *flood* is a taker, or a hundred
of them, who sends many accepts for one order: too late, too large, forged, or good, and the same ones again.
"""

import asyncio
import random
from collections.abc import Callable
from typing import Final

import msgspec

from dhtex.market import stamp
from dhtex.market.drafts import Author, Lineage, order_from_draft
from dhtex.market.identity import Identity
from dhtex.market.ids import DhtKey, RecordId, index_key, order_key
from dhtex.market.records import VERSION, Accept, Closing, Order, Record, Status, seal_record
from dhtex.sim.checks import Judge
from dhtex.sim.clock import EPOCH_S
from dhtex.sim.history import History
from dhtex.sim.host import NETWORK, GoneError, Host
from dhtex.trading.maker import closing_status
from dhtex.views import OrderDraft

CROWD_S: Final = 10.0
FORGE_S: Final = 60.0
TWO_FACED_S: Final = 20.0
FLOOD_S: Final = 25.0
FLOOD_ACCEPTS: Final = (4, 12)
ORDERS_REMEMBERED: Final = 200


class Strangers:
    """`may_act` counts what is done and says when it is enough; `tell_people` makes an order known to all."""

    def __init__(
        self,
        hosts: list[Host],
        judge: Judge,
        history: History,
        seed: int,
        may_act: Callable[[], bool],
        tell_people: Callable[[str], None],
        life_s: int,
    ) -> None:
        self._hosts = hosts
        self._judge = judge
        self._history = history
        self._seed = seed
        self._may_act = may_act
        self._tell_people = tell_people
        self._life_s = life_s
        self.crowd_s = CROWD_S
        self.forge_s = FORGE_S
        self._loop = asyncio.get_running_loop()

    def _chance(self, name: str) -> random.Random:
        return random.Random(f"{self._seed}/{name}")

    def _now(self) -> float:
        return EPOCH_S + self._loop.time()

    async def crowd(self) -> None:
        """Put old orders and accepts again, whatever has become of them."""
        chance = self._chance("crowd")
        while True:
            await asyncio.sleep(chance.expovariate(1 / self.crowd_s))
            orders = list(self._judge.ledger.orders.values())[-ORDERS_REMEMBERED:]
            host = chance.choice(self._hosts)
            if not orders or not host.up or not self._may_act():
                continue
            order = chance.choice(orders)
            with_accepts = [a for a in self._judge.ledger.accepts.values() if a.body.order_id == order.id]
            for accept in with_accepts[:2]:
                await self._put(host, order.id, accept.wire)
            await self._put_at_both(host, order, order.wire)
            self._history.counts["repeated_by_strangers"] += 1

    async def forger(self) -> None:
        """End other people's orders with a key of its own."""
        chance = self._chance("forger")
        identity = Identity.from_seed(chance.randbytes(32))
        while True:
            await asyncio.sleep(chance.expovariate(1 / self.forge_s))
            orders, host = list(self._judge.ledger.orders.values()), chance.choice(self._hosts)
            if not orders or not host.up or not self._may_act():
                continue
            order = orders[-chance.randint(1, min(10, len(orders)))]
            for maker in (bytes(identity.public), order.body.maker):
                await self._put_at_both(host, order, _forged(order, maker, identity, chance).wire)
            self._history.counts["forged"] += 1

    async def two_faced(self) -> None:
        """Offer, wait for takers, and sign two ends of the same number at nearly the same time."""
        chance = self._chance("two_faced")
        while True:
            await asyncio.sleep(chance.expovariate(1 / TWO_FACED_S))
            up = [host for host in self._hosts if host.up]
            if not up or not self._may_act():
                continue
            identity = Identity.from_seed(chance.randbytes(32))
            order = self._offer(identity, chance)
            self._judge.shady.add(order.body.maker)
            offered = await self._put_at_both(chance.choice(up), order, order.wire)
            self._tell_people(order.id.hex())
            await asyncio.sleep(chance.uniform(1.0, 15.0))
            ends = [end.wire for end in self._contradicting(order, identity, chance)]
            up = [host for host in self._hosts if host.up]
            if up:
                self._judge.proofs.follow(order.id, ends)
                through = [chance.choice(up) for _ in ends]
                puts = [self._put_at_both(host, order, end) for host, end in zip(through, ends, strict=True)]
                if all(await asyncio.gather(*puts)) and offered:
                    self._judge.two_faced.append(order.id)
                self._history.counts["two_faced"] += 1

    async def flood(self) -> None:
        """Send many accepts of one order, good and bad, and each of them twice."""
        chance = self._chance("flood")
        while True:
            await asyncio.sleep(chance.expovariate(1 / FLOOD_S))
            orders = [order for order in self._judge.open_orders() if order.body.maker not in self._judge.shady]
            if not orders or not self._may_act():
                continue
            order = chance.choice(orders[-5:])
            identity = Identity.from_seed(chance.randbytes(32))
            wires: list[bytes] = []
            for _ in range(chance.randint(*FLOOD_ACCEPTS)):
                if chance.random() < 0.5:
                    identity = Identity.from_seed(chance.randbytes(32))
                wires.append(self._accept(order, identity, chance))
            for wire in [*wires, *chance.sample(wires, len(wires) // 2)]:
                host = chance.choice(self._hosts)
                if host.up:
                    await self._put(host, order.id, wire)
            self._history.counts["floods"] += 1

    # --- what they write ----------------------------------------------------------------------------------------------

    def _offer(self, identity: Identity, chance: random.Random) -> Record[Order]:
        author = Author(
            network=NETWORK, maker=identity.public, encryption_key=identity.encryption_public, epoch=1,
            now=self._now(), salt=chance.randbytes(8),
        )  # fmt: skip
        draft = OrderDraft(
            side=chance.choice(("buy", "sell")), amount="1", pair="BTC/USD", price=str(chance.randint(95, 105)),
            expires_s=self._life_s, liveness="mailbox",
        )  # fmt: skip
        body = order_from_draft(draft, author, Lineage())
        return seal_record(body, identity.sign, stamp.assemble(0, stamp.hour_of(body.created), (0, 0, 0, 0)))

    def _contradicting(
        self, order: Record[Order], identity: Identity, chance: random.Random
    ) -> tuple[Record[Status], Record[Status]]:
        """Two ends under one number: fills for different takers, if there are any; else an end of each kind."""
        now = self._now()
        accepts = [a for a in self._judge.ledger.accepts.values() if a.body.order_id == order.id]
        bodies = [closing_status(order, 1, Closing.FILLED, b"", now, accept=accept) for accept in accepts[-2:]]
        bodies += [
            closing_status(order, 1, Closing.CANCELED, b"", now - chance.randint(0, 3)),
            closing_status(order, 1, Closing.REPLACED, chance.randbytes(32), now),
        ]
        one, other = bodies[:2]
        return seal_record(one, identity.sign), seal_record(other, identity.sign)

    def _accept(self, order: Record[Order], identity: Identity, chance: random.Random) -> bytes:
        kind = chance.choice(("good", "large", "late", "ahead", "forged", "odd"))
        created = int(self._now()) + (600 if kind == "ahead" else -200 if kind == "late" else 0)
        body = Accept(
            version=VERSION,
            network=NETWORK,
            order_id=order.id,
            taker=identity.public,
            amount={"large": "900000", "odd": "0.0000000000001"}.get(kind, order.body.amount),
            created=created,
            deadline=created + 100,
            encryption_key=bytes(32) if kind == "odd" else identity.encryption_public,
            salt=chance.randbytes(8),
            sealed=chance.randbytes(48),
        )
        sign = (lambda message: bytes(64)) if kind == "forged" else identity.sign
        return seal_record(body, sign, stamp.assemble(0, stamp.hour_of(created), (0, 0, 0, 0))).wire

    # --- how they say it ----------------------------------------------------------------------------------------------

    async def _put_at_both(self, host: Host, order: Record[Order], wire: bytes) -> bool:
        """Whether most have it."""
        index = index_key(NETWORK, order.body.pair, order.body.side, "")
        at_order = await self._put(host, order.id, wire)
        return await self._put_at(host, index, wire, "") and at_order

    async def _put(self, host: Host, order_id: bytes, wire: bytes) -> bool:
        return await self._put_at(host, order_key(RecordId(order_id)), wire, None)

    async def _put_at(self, host: Host, key: DhtKey, wire: bytes, prefix: str | None) -> bool:
        try:
            result = await host.ask(lambda node: host.parts.overlay.put(key, wire, prefix))
        except GoneError:
            return False
        return result.holders > len(self._hosts) // 2


def _forged(order: Record[Order], maker: bytes, identity: Identity, chance: random.Random) -> Record[Status]:
    order = msgspec.structs.replace(order, body=msgspec.structs.replace(order.body, maker=maker))
    at = order.body.created + chance.randint(0, 60)
    return seal_record(closing_status(order, chance.randint(1, 9), Closing.CANCELED, b"", at), identity.sign)
