"""A maker of a thousand orders adds and closes one as quickly as the maker of a single one."""

import asyncio
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractContextManager, asynccontextmanager
from statistics import median
from typing import Any

import msgspec
import pytest

from dhtex.config import NodeConfig
from dhtex.directory.service import Published
from dhtex.market.ids import RecordId
from dhtex.market.records import Order, Record, Status, is_a, parse_record
from dhtex.node import Node
from dhtex.node.bulk import SAID_PER_TURN
from dhtex.node.offers import Offers
from dhtex.store.database import Database
from dhtex.store.holdings import Holdings
from dhtex.store.journal import Journal
from dhtex.store.rows import Role, Trade
from dhtex.views import OrderDraft, OrderQuery
from tests.builders import identity, make_accept, make_order

MANY = 60


def draft(number: int, pair: str = "BTC/USD") -> OrderDraft:
    return OrderDraft(side="sell", amount="1", pair=pair, price=str(50_000 + number))


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
        # In between the node itself looks after its orders once a while, and reads some.
        assert median(costs[MANY // 2 :]) <= median(costs[: MANY // 2]) < 20
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


async def test_all_orders_are_closed_in_one_step_and_said_to_be_in_many(monkeypatch: pytest.MonkeyPatch) -> None:
    turn, said, steps = 0, Counter[int](), 0
    say_closed, decision = Offers.say_closed, Database.decision

    def saying(offers: Offers, order_id: RecordId, status: Record[Status]) -> Coroutine[Any, Any, Published]:
        said[turn] += 1
        return say_closed(offers, order_id, status)

    def deciding(database: Database) -> AbstractContextManager[sqlite3.Connection]:
        nonlocal steps
        steps += 1
        return decision(database)

    async def count_turns() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    async with makers() as node:
        await asyncio.gather(*(node.add_order(draft(number)) for number in range(MANY)))
        monkeypatch.setattr(Offers, "say_closed", saying)
        monkeypatch.setattr(Database, "decision", deciding)
        counting = asyncio.create_task(count_turns())
        view = await node.cancel_orders()
        counting.cancel()
        assert ([order.status for order in view.canceled], view.failed) == (["canceled"] * MANY, [])
        assert (steps, said.total()) == (1, MANY)
        assert max(said.values()) <= SAID_PER_TURN


@pytest.mark.parametrize("turns", range(4))
async def test_all_ends_are_said_although_whoever_asked_went_away(turns: int) -> None:
    async with makers() as node:
        orders = [(await node.add_order(draft(number))).order for number in range(3 * SAID_PER_TURN)]
        canceling = asyncio.create_task(node.cancel_orders())
        for _ in range(1 + turns):
            await asyncio.sleep(0)
        canceling.cancel()
        await asyncio.gather(canceling, return_exceptions=True)
        kept = [parse_record(p.wire, "many") for p in node._running.directory._schedule.placements()]
        assert {r.body.order_id.hex() for r in kept if is_a(r, Status)} == {order.id for order in orders}
        assert not [record for record in kept if is_a(record, Order)]


async def test_an_order_of_a_copy_from_before_is_read_back_before_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    async with makers() as node:
        offers = node._running.offers
        monkeypatch.setattr(offers, "_epoch", 2)
        old = [(await node.add_order(draft(number))).order.id for number in range(2)]
        monkeypatch.setattr(offers, "_epoch", 3)
        await node.add_order(draft(2))
        read: list[str] = []

        async def read_back(order_id: RecordId) -> None:
            read.append(order_id.hex())

        monkeypatch.setattr(offers, "_read_back", read_back)
        assert len((await node.cancel_orders()).canceled) == 3
        assert sorted(read) == sorted(old)


async def test_own_orders_are_read_for_a_listing_of_their_pair_only(monkeypatch: pytest.MonkeyPatch) -> None:
    async with makers() as node:
        await asyncio.gather(*(node.add_order(draft(number)) for number in range(MANY)))
        other = (await node.add_order(draft(MANY, "ETH/USD"))).order.id
        await node.book("ETH/USD")
        read, parsed = rows_read(monkeypatch, "orders", "orders_named"), node._running.offers.parsed
        misses = parsed.cache_info().misses
        assert len((await node.book("ETH/USD")).asks) == 1
        assert len((await node.list_orders(OrderQuery(pair="LTC/USD"))).orders) == 0
        assert read() == 1
        assert len((await node.list_orders(OrderQuery(pair="BTC/USD", limit=2 * MANY))).orders) == MANY
        assert read() == 1 + MANY
        await node.cancel_order(other)
        before = read()
        assert [o.status for o in (await node.list_orders(OrderQuery(pair="ETH/USD", all=True))).orders] == ["canceled"]
        assert read() - before == 1
        assert parsed.cache_info().misses == misses


async def test_open_orders_are_counted_and_watched_over_without_reading_them(monkeypatch: pytest.MonkeyPatch) -> None:
    async with makers() as node:
        await asyncio.gather(*(node.add_order(draft(number)) for number in range(MANY)))
        switched = msgspec.structs.replace(draft(MANY), cancel_after_s=3600)
        await node.add_order(switched)
        offers = node._running.offers
        offers.open_orders()
        read, misses = rows_read(monkeypatch, "orders", "switched"), offers.parsed.cache_info().misses
        assert node.status().orders_open == MANY + 1 == len(offers.open_orders())
        assert f"dhtex_orders_open {MANY + 1}" in node.metrics()
        await offers.withdraw_overdue()
        assert not offers.is_overdue()
        assert len(offers.beats_needed()) == 1
        assert read() == 0
        assert offers.parsed.cache_info().misses == misses
        assert len(node.renew_orders()) == 1
        assert read() == 1
