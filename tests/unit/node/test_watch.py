"""What a reader of a pair is told, and what is no news."""

import asyncio
import random

import pytest

from dhtex import limits
from dhtex.clock import SystemClock
from dhtex.config import NodeConfig
from dhtex.directory.livebook import LiveBook
from dhtex.market.records import Liveness, Order, Record
from dhtex.node import Node
from dhtex.node.market import Market
from dhtex.views import OrderDraft
from tests.builders import make_order
from tests.unit.overlay.fakes import until

DRAFT = OrderDraft(side="sell", amount="1", pair="BTC/USD", price="50000")


class LaterClock(SystemClock):
    """A clock that can be put forward."""

    later_s = 0.0

    def now(self) -> float:
        return super().now() + self.later_s


async def test_a_closed_order_is_no_news_when_its_maker_falls_silent() -> None:
    clock = LaterClock()
    settings = NodeConfig(host="127.0.0.1", network="lab", pow_bits=0)
    async with Node(settings, entropy=random.Random(1)) as maker:
        config = NodeConfig(host="127.0.0.1", network="lab", pow_bits=0, bootstrap=(f"127.0.0.1:{maker.port}",))
        async with Node(config, clock=clock, entropy=random.Random(2)) as reader:
            events = reader.watch(DRAFT.pair)
            order = (await maker.add_order(DRAFT)).order.id
            first = await anext(events)
            await maker.cancel_order(order)
            second = await anext(events)
            told = [(event.order.id, event.order.status) for event in (first, second) if event.order is not None]
            assert told == [(order, "open"), (order, "canceled")]
            clock.later_s = limits.BEAT_AGE_S_MAX + 1
            assert reader._parts is not None
            reader._parts.following.tick()
            other = (await maker.add_order(DRAFT)).order.id
            third = await anext(events)
            assert third.order is not None
            assert (third.order.id, third.order.status) == (other, "open")


async def test_an_order_is_looked_at_again_only_when_time_may_have_changed_it(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[bytes] = []
    look_of = Market.look_of

    def counting(market: Market, live: LiveBook, order: Record[Order]) -> tuple[tuple[str, bool], float]:
        looked.append(order.id)
        return look_of(market, live, order)

    clock = LaterClock()
    async with Node(NodeConfig(host="127.0.0.1", network="lab", pow_bits=0), clock=clock) as reader:
        events = reader.watch(DRAFT.pair)
        waiting = asyncio.ensure_future(anext(events))
        following = reader._running.following
        await until(lambda: DRAFT.pair in following._followed and following._followed[DRAFT.pair].ready)
        created = int(clock.now())
        orders = [make_order(number=n, network="lab", created=created, expires=created + 200 + n) for n in range(20)]
        orders.append(make_order(number=99, network="lab", created=created, liveness=Liveness.MAILBOX))
        followed = following._followed[DRAFT.pair]
        for order in orders:
            following.heard(next(key for key, side in followed.keys.items() if side == order.body.side), order)
        seen = [await waiting] + [await anext(events) for _ in orders[1:]]
        assert len({event.order.id for event in seen if event.order is not None}) == len(orders)
        monkeypatch.setattr(Market, "look_of", counting)
        for _ in range(3):
            following.tick()
        assert not looked
        clock.later_s = limits.BEAT_AGE_S_MAX + 2
        following.tick()
        assert len(looked) == 20
        assert not any([(await anext(events)).order.live for _ in range(20)])  # type: ignore[union-attr]
        following.tick()
        assert len(looked) == 20
        clock.later_s = 400.0
        following.tick()
        following.tick()
        assert [(await anext(events)).order.status for _ in range(20)] == ["expired"] * 20  # type: ignore[union-attr]
        assert list(followed.book.orders) == list(followed.told) == list(followed.turns) == [orders[-1].id]
        assert len(followed.due) == 1
