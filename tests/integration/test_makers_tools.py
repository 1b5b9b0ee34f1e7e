"""What a maker with many orders relies on: whole nodes in one process, real UDP on loopback."""

from pathlib import Path

import msgspec
import pytest

from dhtex.errors import RefusedError, StateError, UsageError
from dhtex.market.ids import RecordId
from dhtex.node import Node
from dhtex.store.journal import Journal
from dhtex.views import AcceptRequest, Amendment, OrderDraft
from tests.integration.test_nodes import DRAFT, config, lists, network, until

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


def in_group(name: str, draft: OrderDraft = DRAFT) -> OrderDraft:
    return msgspec.structs.replace(draft, group=name)


async def test_the_other_orders_of_a_group_are_gone_everywhere_once_one_is_filled() -> None:
    async with network(3) as (maker, taker, reader):
        one, other = [(await maker.add_order(in_group("car"))).order for _ in range(2)]
        other = (await maker.amend_order(other.id, Amendment(price="49000"))).order
        elsewhere = (await maker.add_order(in_group("car", OTHER))).order
        assert one.group == other.group == elsewhere.group
        assert one.group == maker._running.identity.group("car").hex()
        assert (await maker.add_order(in_group("boat"))).order.group != one.group
        assert (await taker.accept_order(one.id, AcceptRequest())).state == "confirmed"
        with pytest.raises(RefusedError) as refusal:
            await maker.add_order(in_group(" car "))
        assert refusal.value.reason == "taken"

        async def closed() -> bool:
            shown = [await reader.show_order(order.id) for order in (other, elsewhere)]
            return [view.status for view in shown] == ["canceled", "canceled"]

        await until(closed)
        assert other.id not in await lists(reader)
        assert await lists(reader, "XMR/BTC") == set()


async def test_the_ends_of_a_group_reach_the_network_after_a_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with network(2) as (taker, reader):
        async with Node(config(taker, home=tmp_path)) as maker:
            one, other = [(await maker.add_order(in_group("car"))).order.id for _ in range(2)]
            with monkeypatch.context() as patched:
                # Decided, and then nothing more happens: as if the process had ended there.
                patched.setattr("dhtex.trading.service.Desk._carry_out", lambda *_: None)
                await taker.accept_order(one, AcceptRequest(wait_s=0.5))
                await until(lambda: maker.status().orders_open == 0)
            assert (await reader.show_order(other)).status == "open"
        async with Node(config(taker, home=tmp_path)):

            async def closed() -> bool:
                return (await reader.show_order(other)).status == "canceled"

            await until(closed)
            await until(lambda: [trade.state for trade in taker.trades()] == ["confirmed"])
