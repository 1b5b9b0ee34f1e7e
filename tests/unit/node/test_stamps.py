"""Own orders when their network asks for more work than it did."""

import random
from dataclasses import replace
from pathlib import Path

from dhtex.config import NodeConfig
from dhtex.market.ids import RecordId
from dhtex.market.records import Order, is_a, parse_record
from dhtex.market.stamp import bits_of
from dhtex.node import Node
from dhtex.views import OrderDraft, OrderQuery
from tests.unit.overlay.fakes import until

DRAFT = OrderDraft(side="sell", amount="1", pair="BTC/USD", price="50000")


def bits_of_own(node: Node, order_id: str) -> int:
    own = node._running.journal.order(RecordId(bytes.fromhex(order_id)))
    assert own is not None
    order = parse_record(own.wire, "lab")
    assert is_a(order, Order)
    return bits_of(order.stamp)


def bits_held(node: Node) -> set[int]:
    records = (parse_record(wire, "lab") for _, _, wire in node._running.holdings.replicas(node._clock.now()))
    return {bits_of(record.stamp) for record in records if is_a(record, Order)}


async def test_an_own_order_is_stamped_again_when_the_node_asks_for_more_than_it_bears(tmp_path: Path) -> None:
    settings = NodeConfig(host="127.0.0.1", network="lab", pow_bits=0, home=tmp_path)
    async with Node(settings, entropy=random.Random(1)) as node:
        order = (await node.add_order(DRAFT)).order.id
        assert bits_of_own(node, order) == 0
    async with Node(replace(settings, pow_bits=7), entropy=random.Random(2)) as node:
        await until(lambda: bits_of_own(node, order) == 7 and bits_held(node) == {7})

    async with Node(replace(settings, pow_bits=3), entropy=random.Random(3)) as node:
        listing = await node.list_orders(OrderQuery(pair=DRAFT.pair))
        assert [view.id for view in listing.orders] == [order]
        assert "stamp_too_low" not in listing.hidden
        assert bits_of_own(node, order) == 7
