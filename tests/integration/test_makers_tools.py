"""What a maker with many orders relies on: whole nodes in one process, real UDP on loopback."""

import pytest

from dhtex.errors import StateError, UsageError
from dhtex.market.ids import RecordId
from dhtex.store.journal import Journal
from dhtex.views import OrderDraft
from tests.integration.test_nodes import DRAFT, lists, network

OTHER = OrderDraft(side="buy", amount="1", pair="XMR/BTC", price="0.005")


async def test_all_open_orders_or_those_of_a_pair_are_cancelled_at_once() -> None:
    async with network(2) as (maker, taker):
        mine = [(await maker.add_order(DRAFT)).order.id for _ in range(3)]
        other = (await maker.add_order(OTHER)).order.id
        theirs = (await taker.add_order(DRAFT)).order.id
        await maker.cancel_order(mine[0])
        with pytest.raises(UsageError):
            await maker.cancel_orders("BTCUSD")
        view = await maker.cancel_orders("btc/usd")
        assert ([order.id for order in view.canceled], view.failed) == (mine[1:], [])
        assert {order.status for order in view.canceled} == {"canceled"}
        assert await lists(taker) == {theirs}
        assert [order.id for order in (await maker.cancel_orders()).canceled] == [other]
        assert (await maker.cancel_orders()).canceled == []
        assert await lists(taker, "XMR/BTC") == set()


async def test_one_order_that_cannot_be_cancelled_does_not_keep_the_others_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with network(2) as (maker, taker):
        one, two = [(await maker.add_order(DRAFT)).order.id for _ in range(2)]
        close = Journal.close_order

        def refuse(journal: Journal, order_id: RecordId, state: str, wire: bytes) -> bool:
            if order_id.hex() == one:
                raise StateError("the disk is full")
            return close(journal, order_id, state, wire)

        with monkeypatch.context() as patched:
            patched.setattr(Journal, "close_order", refuse)
            view = await maker.cancel_orders()
        assert [order.id for order in view.canceled] == [two]
        assert [(failure.id, failure.code) for failure in view.failed] == [(one, "state")]
        assert await lists(taker) == {one}
