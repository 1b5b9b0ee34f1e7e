"""A maker of a thousand orders adds and closes one as quickly as the maker of a single one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from dhtex.config import NodeConfig
from dhtex.node import Node
from dhtex.store.journal import Journal
from dhtex.store.rows import OwnOrder
from dhtex.views import OrderDraft

MANY = 60


def draft(number: int) -> OrderDraft:
    return OrderDraft(side="sell", amount="1", pair="BTC/USD", price=str(50_000 + number))


@asynccontextmanager
async def makers() -> AsyncIterator[Node]:
    async with (
        Node(NodeConfig(port=0, host="127.0.0.1", network="many", pow_bits=0)) as other,
        Node(
            NodeConfig(port=0, host="127.0.0.1", network="many", pow_bits=0, bootstrap=(f"127.0.0.1:{other.port}",))
        ) as node,
    ):
        yield node


async def test_what_one_order_costs_does_not_grow_with_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    read = 0
    orders = Journal._orders

    def counting(journal: Journal, where: str, *parameters: object) -> list[OwnOrder]:
        nonlocal read
        found = orders(journal, where, *parameters)
        read += len(found)
        return found

    async with makers() as node:
        monkeypatch.setattr(Journal, "_orders", counting)
        costs = []
        for number in range(MANY):
            before = read
            view = (await node.add_order(draft(number))).order
            costs.append(read - before)
        assert max(costs[MANY // 2 :]) <= max(costs[: MANY // 2]) < 20
        before = read
        assert (await node.cancel_order(view.id)).status == "canceled"
        assert read - before < 20
        before = read
        assert len((await node.cancel_orders()).canceled) == MANY - 1
        assert read - before < 20 * MANY
