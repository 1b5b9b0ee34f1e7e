"""Ends of orders that few know: left only at the pair's index, or signed while nobody was there to be told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from dhtex.clock import SystemClock
from dhtex.config import NodeConfig
from dhtex.market.ids import RecordId, order_key
from dhtex.market.records import Closing, Kind, Order, Record, Status
from dhtex.node import Node
from dhtex.node.parts import Parts
from dhtex.overlay.results import PutResult
from dhtex.views import AcceptRequest, OrderDraft
from tests.builders import identity, make_order, make_status
from tests.unit.node.test_health import lab
from tests.unit.overlay.fakes import until

DRAFT = OrderDraft(side="sell", amount="1", pair="BTC/USD", price="50000", liveness="mailbox")


def parts_of(node: Node) -> Parts:
    assert node._parts is not None
    return node._parts


@asynccontextmanager
async def half_ended() -> AsyncIterator[tuple[list[Node], Record[Order], Record[Status]]]:
    """Three nodes, and an order of a fourth one that has gone: its end is at the pair's index, and nowhere else."""
    async with lab(4) as (maker, *others):
        await until(lambda: all(len(node.peers()) == 3 for node in (maker, *others)))
        view = (await maker.add_order(DRAFT)).order
        parts = parts_of(maker)
        order = next(own for own in parts.offers.open_orders() if own.id.hex() == view.id)
        end = make_status(order, Closing.CANCELED, by=parts.identity, network="lab")
        assert await parts.directory.put_in_tree(end) == 3
        await maker.stop()
        await until(lambda: all(len(node.peers()) == 2 for node in others), within_s=10)
        assert not (await parts_of(others[0]).directory.read_order(order.id)).statuses
        yield others, order, end


async def test_an_order_whose_end_only_its_index_knows_is_not_shown_as_open() -> None:
    async with half_ended() as (nodes, order, end):
        assert (await nodes[0].show_order(order.id.hex())).status == "canceled"
        found = await parts_of(nodes[1]).directory.read_order(order.id)
        assert found.statuses == [end]  # so nobody has to ask for it again


async def test_an_accept_of_such_an_order_is_refused_soon() -> None:
    async with half_ended() as (nodes, order, _end):
        async with asyncio.timeout(10):
            view = await nodes[0].accept_order(order.id.hex(), AcceptRequest(wait_s=30))
        assert (view.state, view.code) == ("refused", "canceled")


async def test_what_a_holder_makes_up_ends_no_order(monkeypatch: pytest.MonkeyPatch) -> None:
    now = int(SystemClock().now())
    order, other = (make_order(number=number, created=now, network="lab") for number in (1, 2))
    forged = make_status(order, Closing.CANCELED, by=identity(9), network="lab")
    foreign = make_status(other, Closing.CANCELED, network="lab")
    end = make_status(order, Closing.CANCELED, network="lab")
    async with lab(1) as (node,):
        directory = parts_of(node).directory

        async def put(*_record: object) -> PutResult:
            return PutResult(3, 0, local=False, newer=(b"junk", order.wire, forged.wire, foreign.wire, end.wire))

        monkeypatch.setattr(directory._overlay, "put", put)
        assert await directory.read_ends_of(order, []) == [end]
        assert await directory.read_ends_of(order, [end]) == []


async def test_an_end_that_nobody_was_told_of_is_told_when_a_peer_comes() -> None:
    async with lab(1) as (maker,):
        views = [(await maker.add_order(DRAFT)).order for _ in range(3)]
        assert (await maker.cancel_order(views[0].id)).holders == 0
        assert [order.holders for order in (await maker.cancel_orders("BTC/USD")).canceled] == [0, 0]
        market, ids = parts_of(maker).market, [RecordId(bytes.fromhex(view.id)) for view in views]
        bootstrap = (f"127.0.0.1:{maker.port}",)
        async with Node(NodeConfig(port=0, host="127.0.0.1", network="lab", pow_bits=0, bootstrap=bootstrap)) as peer:

            def told() -> list[int | None]:
                own = [market.own_view(order_id) for order_id in ids]
                return [view.holders for view in own if view is not None]

            await until(lambda: told() == [1, 1, 1], within_s=10)
            now, holdings = SystemClock().now(), parts_of(peer).holdings
            assert all(holdings.page(order_key(order_id), Kind.STATUS, 0, 9999, now).total for order_id in ids)
