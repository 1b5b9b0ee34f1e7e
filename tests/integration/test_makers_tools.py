"""What a maker with many orders relies on: whole nodes in one process, real UDP on loopback."""

import asyncio
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from dhtex.clock import SystemClock
from dhtex.errors import RefusedError, StateError, UsageError
from dhtex.market.ids import RecordId
from dhtex.market.records import Accept, Order, Record, is_a, parse_record
from dhtex.node import Node
from dhtex.store.journal import Journal
from dhtex.views import AcceptRequest, Amendment, OrderDraft, OrderQuery
from tests.builders import make_accept
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

        def refuse_all(journal: Journal, ends: object) -> set[bytes]:
            raise StateError("the disk is full")

        with monkeypatch.context() as patched:
            patched.setattr(Journal, "close_order", refuse)
            patched.setattr(Journal, "cancel_orders", refuse_all)
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
        with pytest.raises(UsageError, match="belong together"):
            await maker.add_order(in_group("car", msgspec.structs.replace(DRAFT, fresh_key=True)))
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


RANGE = msgspec.structs.replace(DRAFT, minimum="0.2", reply="call me", reference="r1")


async def test_the_remainder_of_a_part_fill_is_offered_again_at_once() -> None:
    async with network(3) as (maker, taker, reader):
        parent = (await maker.add_order(RANGE)).order
        assert (await taker.accept_order(parent.id, AcceptRequest(amount="0.7"))).state == "confirmed"

        async def relisted() -> bool:
            return parent.id not in (found := await lists(reader)) and len(found) == 1

        await until(relisted)
        (child,) = (await reader.list_orders(OrderQuery(pair="BTC/USD"))).orders
        assert (child.amount, child.minimum, child.parent, child.expires) == ("0.3", "0.2", parent.id, parent.expires)
        for node in (maker, taker, reader):
            shown = await node.show_order(parent.id)
            assert (shown.status, shown.filled, shown.remaining, shown.child) == ("filled", "0.7", "0.3", child.id)
        bought = await reader.accept_order(child.id, AcceptRequest())
        assert (bought.state, bought.trade.reply) == ("confirmed", "call me")
        assert (await maker.show_order(child.id)).child is None
        assert await lists(taker) == set()


async def test_the_remainder_gets_its_stamp_after_a_crash_unless_it_was_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with network(2) as (taker, reader):
        async with Node(config(taker, home=tmp_path)) as maker:
            orders = [(await maker.add_order(RANGE)).order.id for _ in range(2)]
            with monkeypatch.context() as patched:
                patched.setattr("dhtex.minting.Mint.mint", asyncio.Event().wait)
                for order in orders:
                    maker._running.desk.on_record(taken_by_a_stranger(maker, order))
                kept, dropped = [(await maker.show_order(order)).child or "" for order in orders]
                assert (await maker.show_order(kept)).status == "publishing"
                assert (await maker.cancel_order(dropped)).status == "canceled"
            assert await lists(reader) == set()
        async with Node(config(taker, home=tmp_path)) as maker:

            async def relisted() -> bool:
                return await lists(reader) == {kept}

            await until(relisted)
            assert (await taker.accept_order(kept, AcceptRequest())).state == "confirmed"
            assert (await maker.show_order(dropped)).status == "canceled"


class LateClock(SystemClock):
    """A wall clock that can be moved on."""

    ahead_s = 0.0

    def now(self) -> float:
        return super().now() + self.ahead_s


SWITCHED = msgspec.structs.replace(DRAFT, cancel_after_s=60)


async def test_a_listing_says_when_own_orders_are_withdrawn() -> None:
    async with Node(config()) as maker:
        order, plain = [(await maker.add_order(draft)).order for draft in (SWITCHED, DRAFT)]
        listed = await maker.list_orders(OrderQuery(pair="BTC/USD", mine=True))
        assert order.cancelAt is not None
        assert {view.id: view.cancelAt for view in listed.orders} == {order.id: order.cancelAt, plain.id: None}


async def test_own_orders_beyond_the_limit_are_counted_once() -> None:
    async with Node(config()) as maker:
        for price in range(100, 115):
            await maker.add_order(msgspec.structs.replace(DRAFT, price=str(price)))
        assert (await maker.list_orders(OrderQuery(pair="BTC/USD", limit=2))).hidden == {"limit": 13}
        assert (await maker.book("BTC/USD", limit=2)).hidden == {"limit": 13}


async def test_an_order_that_nobody_renews_is_withdrawn() -> None:
    clock = LateClock()
    async with Node(config(), clock=clock) as reader, Node(config(reader), clock=clock) as maker:
        await until(lambda: maker.status().peers == 1)
        order = (await maker.add_order(SWITCHED)).order
        plain = (await maker.add_order(DRAFT)).order.id
        assert order.cancelAt == order.timestamp + 60_000
        for _ in range(3):
            clock.ahead_s += 59 - 20
            assert [view.id for view in maker.renew_orders()] == [order.id]
        assert await lists(reader) == {order.id, plain}
        successor = (await maker.amend_order(order.id, Amendment(price="49000"))).order.id
        clock.ahead_s += 61
        await until(lambda: maker.status().orders_open == 1)
        assert (await maker.show_order(successor)).status == "canceled"
        assert maker.renew_orders() == []

        async def gone() -> bool:
            return await lists(reader) == {plain}

        await until(gone)
        for wrong in (0, 1, -1, 8 * 86_400):
            with pytest.raises(UsageError):
                await maker.add_order(msgspec.structs.replace(DRAFT, cancel_after_s=wrong))


async def test_an_order_that_was_due_while_its_node_was_away_is_not_offered_again(tmp_path: Path) -> None:
    clock = LateClock()
    async with network(2) as (taker, reader):
        async with Node(config(taker, home=tmp_path), clock=clock) as maker:
            draft = msgspec.structs.replace(SWITCHED, liveness="mailbox")
            order = (await maker.add_order(draft)).order.id
        outcome = await taker.accept_order(order, AcceptRequest(wait_s=0.2))
        assert outcome.state == "sent"
        clock.ahead_s += 61
        async with Node(config(taker, home=tmp_path), clock=clock) as maker:
            assert maker.status().orders_open == 0
            assert maker.renew_orders() == []

            async def refused() -> bool:
                return [(trade.state, trade.code) for trade in taker.trades()] == [("refused", "canceled")]

            await until(refused)
            assert (await reader.show_order(order)).status == "canceled"


def taken_by_a_stranger(maker: Node, order_id: str) -> Record[Accept]:
    own = maker._running.journal.order(RecordId(bytes.fromhex(order_id)))
    assert own is not None
    order = parse_record(own.wire, "test")
    assert is_a(order, Order)
    return make_accept(order, amount="0.5", created=order.body.created, deadline=order.body.created + 60)


async def test_a_remainder_that_expired_before_it_was_stamped_ends() -> None:
    clock = LateClock()
    async with Node(config(), clock=clock) as maker:
        parts = maker._running
        order = (await maker.add_order(msgspec.structs.replace(DRAFT, expires_s=60))).order.id
        own = parts.journal.order(RecordId(bytes.fromhex(order)))
        assert own is not None
        rest = replace(own, order_id=RecordId(bytes(32)), state="publishing", parent=own.order_id)
        parts.journal.add_order(rest)
        clock.ahead_s += 61
        await parts.offers.relist()
        ended = parts.journal.order(rest.order_id)
        assert ended is not None
        assert ended.state == "expired"
