"""A maker of a thousand orders adds and closes one as quickly as the maker of a single one."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from dhtex.config import NodeConfig
from dhtex.node import Node
from dhtex.store.holdings import Holdings
from dhtex.store.journal import Journal
from dhtex.store.rows import Role, Trade
from dhtex.views import OrderDraft
from tests.builders import identity, make_accept, make_order

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


def rows_read(monkeypatch: pytest.MonkeyPatch, *queries: str) -> Callable[[], int]:
    """How many rows these methods of the journal give from now on."""
    counts = dict.fromkeys(queries, 0)
    for query in queries:
        original = getattr(Journal, query)

        def counting(
            journal: Journal, *parameters: Any, query: str = query, original: Callable[..., list[Any]] = original
        ) -> list[Any]:
            found = original(journal, *parameters)
            counts[query] += len(found)
            return found

        monkeypatch.setattr(Journal, query, counting)
    return lambda: sum(counts.values())


async def test_what_one_order_costs_does_not_grow_with_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    read = rows_read(monkeypatch, "_orders")
    async with makers() as node:
        costs = []
        for number in range(MANY):
            before = read()
            view = (await node.add_order(draft(number))).order
            costs.append(read() - before)
        assert max(costs[MANY // 2 :]) <= max(costs[: MANY // 2]) < 20
        before = read()
        assert (await node.cancel_order(view.id)).status == "canceled"
        assert read() - before < 20
        before = read()
        assert len((await node.cancel_orders()).canceled) == MANY - 1
        assert read() - before < 20 * MANY


async def test_a_name_is_looked_up_and_not_searched_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async with makers() as node:
        parts = node._running
        orders = [make_order(number=number, created=int(time.time()), network="many") for number in range(MANY)]
        for number, order in enumerate(orders):
            accept = make_accept(order, by=identity(5))
            parts.journal.add_trade(
                Trade(accept.id, order.id, Role.TAKER, "sent", "", order.wire, accept.wire, b"", "", "", number, 0)
            )
        wanted = orders[MANY // 2].id
        read = rows_read(monkeypatch, "_orders", "_trades")
        for digits in (wanted.hex()[:12], wanted.hex()):
            assert (await parts.market.find(digits)).id == wanted
            assert node.trade(digits).order == wanted.hex()
        assert read() < 8
        parts.market.remember(orders)
        monkeypatch.setattr(Holdings, "find_orders", None)
        assert (await parts.market.find(wanted.hex())).id == wanted
