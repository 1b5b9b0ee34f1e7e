"""What is heard about one order concerns its own trades: the others, however many, are not gone through."""

import random
from typing import Any

import pytest

from dhtex.market.records import Closing, Confirm
from dhtex.trading.receipts import Receipts
from dhtex.trading.settling import Settling
from tests.builders import make_status
from tests.unit.trading.world import VirtualClock, new_network, parties, play, stop

MANY = 20


class NotGoneThrough(dict[Any, Any]):
    """What is only looked up in."""

    def values(self) -> Any:
        pytest.fail("all of them were gone through")

    items = __iter__ = values


def test_what_is_heard_of_an_order_goes_to_the_accepts_of_that_order() -> None:
    async def story() -> None:
        maker, taker = await parties(new_network(), 2)
        orders = [maker.publish(number=number, confirm=Confirm.ASK) for number in range(MANY)]
        trades = [await taker.accept(order) for order in orders]
        desk = taker.desk
        before = desk._followed
        desk._followed = NotGoneThrough(before)
        desk.on_gap(orders[3].id)
        desk.on_record(make_status(orders[3], Closing.CANCELED))
        desk._followed = before
        states = [taker.journal.trade(trade.accept_id) for trade in trades]
        assert [row.state for row in states if row is not None and row.state == "refused"] == ["refused"]
        await stop(maker, taker)
        assert desk._followed == {}

    play(story())


def test_what_is_heard_of_an_order_goes_to_the_receipts_of_that_order() -> None:
    async def story() -> None:
        maker, taker = await parties(new_network(), 2)
        entropy = random.Random(7)
        receipts = Receipts(taker.journal, taker.keys, taker.terms, entropy)
        settling = Settling(receipts, taker.access, VirtualClock(), entropy)
        orders = [maker.publish(number=number) for number in range(MANY)]
        for order in orders:
            settling.follow(await taker.accept(order, wait_s=30))
        first, *_ = settling._followed.values()
        settling._soon.clear()
        settling._followed = NotGoneThrough(settling._followed)
        settling.on_gap(orders[3].id)
        assert list(settling._soon) == [trade.accept_id for trade in taker.journal.trades_of(orders[3].id)]
        settling._forget(first)
        assert first.order_id not in settling._by_order
        await settling.stop()
        await stop(maker, taker)

    play(story())
