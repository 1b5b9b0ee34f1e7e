"""What comes after a trade, and what comes of two ends for one order: whole nodes, real UDP on loopback."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from dhtex import limits
from dhtex.errors import RefusedError
from dhtex.market.ids import RecordId, index_key, order_key
from dhtex.market.records import Closing, Kind, Order, Record, Status, is_a, parse_record, seal_record
from dhtex.market.stamp import bits_of, bits_to_mint
from dhtex.marketviews import QuoteQuery
from dhtex.node import Node
from dhtex.overlay.results import PutResult
from dhtex.trading.maker import closing_status
from dhtex.views import AcceptRequest, Amendment, OrderQuery, ReceiptRequest
from tests.integration.test_nodes import DRAFT, config, lists, network, until

FRESH = msgspec.structs.replace(DRAFT, fresh_key=True)


def said(node: Node, accept: str) -> set[tuple[str, str, str]]:
    return {(r.by, r.outcome, r.reason) for r in node.trade(accept).receipts}


async def test_both_sides_say_what_became_of_a_trade_and_a_third_node_can_see_it(tmp_path: Path) -> None:
    async with network(3) as (first, taker, third):
        settings = config(first, home=tmp_path)
        async with Node(settings) as maker:
            order = (await maker.add_order(DRAFT)).order.id
            accept = (await taker.accept_order(order, AcceptRequest())).accept
            assert maker.settle_trade(accept, ReceiptRequest(outcome="settled")).receipts[0].by == "maker"
            await until(lambda: said(taker, accept) == {("maker", "settled", "")})
        taker.settle_trade(accept, ReceiptRequest(outcome="failed", reason="nothing came"))
        await until(lambda: taker.trade(accept).receipts[1].held)
        async with Node(settings) as maker:  # it was away, and has forgotten nothing
            both = {("maker", "settled", ""), ("taker", "failed", "nothing came")}
            await until(lambda: said(maker, accept) == both == said(taker, accept))
            seen = await third.show_order(order)
            assert {(r.by, r.outcome, r.reason) for r in seen.receipts} == {(by, what, "") for by, what, _ in both}
            assert seen.accept == accept
            asked = (await maker.add_order(msgspec.structs.replace(DRAFT, confirm="ask"))).order.id
            waiting = await third.accept_order(asked, AcceptRequest(wait_s=0))
            with pytest.raises(RefusedError, match="only a confirmed one"):
                third.settle_trade(waiting.accept, ReceiptRequest(outcome="settled"))


async def test_orders_with_fresh_keys_are_traded_amended_and_found_again(tmp_path: Path) -> None:
    async with network(2) as (first, taker):
        settings = config(first, home=tmp_path)
        async with Node(settings) as maker:
            orders = [(await maker.add_order(FRESH)).order for _ in range(3)]
            keys = {order.maker for order in orders} | {maker.status().maker}
            assert len(keys) == 4
            await until(lambda: listed_live(taker, {order.id for order in orders}))
            amended = (await maker.amend_order(orders[1].id, Amendment(price="51000"))).order
            assert amended.maker not in keys
        async with Node(settings) as maker:
            again = {order.id for order in (await maker.list_orders(OrderQuery(mine=True))).orders}
            assert again == {orders[0].id, orders[2].id, amended.id}
            with pytest.raises(RefusedError) as error:
                await maker.accept_order(amended.id, AcceptRequest())
            assert error.value.reason == "self_trade"
            won = await taker.accept_order(amended.id, AcceptRequest(message="hello"))
            assert won.state == "confirmed"
            assert maker.trade(won.accept).message == "hello"
            assert (await maker.cancel_order(orders[0].id)).status == "canceled"
            await until(lambda: listed_live(taker, {orders[2].id}))


async def listed_live(node: Node, ids: set[str]) -> bool:
    return await lists(node) == ids


async def test_nodes_of_one_person_do_not_trade_with_each_other() -> None:
    async with network(2) as (other, _):
        mine = replace(config(other), tag="sixteen characters and more")
        async with Node(mine) as one, Node(mine) as two:
            order = (await one.add_order(DRAFT)).order.id
            await until(lambda: listed_live(two, {order}))
            with pytest.raises(RefusedError) as error:
                await two.accept_order(order, AcceptRequest())
            assert error.value.reason == "self_trade"
            quoted = await two.quote(QuoteQuery(pair="BTC/USD", side="buy", amount="1"))
            assert (quoted.plan, quoted.left_out) == ([], {"mine": 1})
            assert (await other.accept_order(order, AcceptRequest())).state == "confirmed"


async def test_two_ends_of_one_order_are_kept_shown_and_spread() -> None:
    """A maker signs twice with one number, and tells each half of the network another story."""
    async with network(5) as (maker, *others):
        order_id = RecordId(bytes.fromhex((await maker.add_order(DRAFT)).order.id))
        await until(lambda: everyone(others, order_id.hex()))
        own = maker._running.journal.order(order_id)
        assert own is not None
        order = parse_record(own.wire, "test")
        assert is_a(order, Order)
        ends = [end_of(maker, order, at) for at in (0, 1)]
        keys = [(order_key(order_id), None), (index_key("test", "BTC/USD", "sell", ""), "")]
        for node, end in zip(others, (*ends, *ends), strict=True):
            for _, prefix in keys:
                node._running.holdings.put(end.wire, prefix, node._clock.now(), "self")
        reader = others[0]
        await until(lambda: shows_disputed(reader, order_id.hex()))
        seen = await reader.show_order(order_id.hex())
        assert {bytes.fromhex(wire) for wire in seen.proof} == {end.wire for end in ends}
        for node in others:  # by reading, one node has told all
            held = node._running.holdings.page(order_key(order_id), Kind.STATUS, 0, 1 << 20, node._clock.now())
            assert set(held.wires) == {end.wire for end in ends}
            assert not await lists(node)
            with pytest.raises(RefusedError) as error:
                await node.accept_order(order_id.hex(), AcceptRequest())
            assert error.value.reason == "disputed"
        await until(lambda: shows_disputed(maker, order_id.hex()))


def end_of(maker: Node, order: Record[Order], later_s: int) -> Record[Status]:
    body = closing_status(order, 1, Closing.CANCELED, b"", maker._clock.now() + later_s)
    return seal_record(body, maker._running.identity.sign)


async def shows_disputed(node: Node, order_id: str) -> bool:
    return (await node.show_order(order_id)).status == "disputed"


async def everyone(nodes: list[Node], order_id: str) -> bool:
    return all(await asyncio.gather(*(listed_live(node, {order_id}) for node in nodes)))


async def test_who_is_asked_for_more_work_does_it_and_is_heard() -> None:
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(Node(replace(config(), pow_bits=6)))
        dear = [await stack.enter_async_context(Node(replace(config(first), pow_bits=6))) for _ in range(2)]
        cheap = await stack.enter_async_context(Node(config(first)))
        everybody = [first, *dear, cheap]
        await until(lambda: all(node.status().peers == 3 for node in everybody))
        published = await cheap.add_order(DRAFT)
        assert (published.holders, published.refusals) == (3, {})
        own = cheap._running.journal.order(RecordId(bytes.fromhex(published.order.id)))
        assert own is not None
        order = parse_record(own.wire, "test")
        assert isinstance(order, Record)
        assert (order.id.hex(), bits_of(order.stamp)) == (published.order.id, 6)
        assert await lists(first) == {published.order.id}
        theirs = (await first.add_order(DRAFT)).order.id
        won = await cheap.accept_order(theirs, AcceptRequest(wait_s=15))
        assert won.state == "confirmed"
        accept = parse_record(cheap._running.journal.trades()[0].accept_wire, "test")
        assert isinstance(accept, Record)
        assert (accept.id.hex(), bits_of(accept.stamp)) == (won.accept, 2)


def test_only_a_fair_price_is_paid() -> None:
    most = limits.STAMP_BITS_PUBLIC + limits.STAMP_BITS_MORE_MAX
    assert [bits_to_mint(asked, 16, 16) for asked in (0, 12, 16, 17, most, most + 1, 24)] == [0, 0, 0, 17, most, 0, 0]
    assert [bits_to_mint(asked, 0, 0) for asked in (1, 16, 17)] == [1, 16, 0]
    shares = [({"stamp_too_low": 5}, 3), ({"stamp_too_low": 3}, 3), ({"full": 8}, 0), ({}, 8)]
    assert [PutResult(8, holders, False, codes, 17).dearer for codes, holders in shares] == [17, 0, 0, 0]
