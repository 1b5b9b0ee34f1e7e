"""What a reader of a pair is told, and what is no news."""

import random

from dhtex import limits
from dhtex.clock import SystemClock
from dhtex.config import NodeConfig
from dhtex.node import Node
from dhtex.views import OrderDraft

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
