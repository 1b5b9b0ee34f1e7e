"""Living with unmodified `kademlia` nodes: they route for us and read orders by id; they hold nothing for us.

Every stock node here is `kademlia.network.Server` as shipped. Its sockets are closed by hand, because it has no close.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from kademlia.network import Server

from dhtex import limits
from dhtex.clock import SystemClock
from dhtex.market.ids import NodeId, index_key, order_key
from dhtex.market.records import Order, Record
from dhtex.overlay.server import Overlay
from dhtex.store.database import Database
from dhtex.store.holdings import Holdings
from tests.builders import NETWORK, make_order


@dataclass
class Ours:
    """One of our nodes with its real shelf."""

    overlay: Overlay
    holdings: Holdings
    port: int

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port


@asynccontextmanager
async def ours(seed: int) -> AsyncIterator[Ours]:
    entropy = random.Random(f"stock test {seed}")
    database = Database.open(None)
    holdings = Holdings(database, NETWORK, 0)
    overlay = Overlay(NodeId(entropy.randbytes(20)), NETWORK, holdings, SystemClock(), entropy)
    try:
        yield Ours(overlay, holdings, await overlay.listen(0, "127.0.0.1"))
    finally:
        await overlay.close()
        database.close()


@asynccontextmanager
async def stock() -> AsyncIterator[tuple[Any, tuple[str, int]]]:
    server: Any = Server()  # type: ignore[no-untyped-call]
    await server.listen(0, "127.0.0.1")
    address = server.transport.get_extra_info("sockname")
    try:
        yield server, address
    finally:
        server.stop()
        await asyncio.sleep(0)


def fresh_order(number: int = 0) -> Record[Order]:
    return make_order(number=number, created=int(time.time()))


async def until(condition: Callable[[], bool], within_s: float = 8.0) -> None:
    deadline = asyncio.get_running_loop().time() + within_s
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it did not happen in time"
        await asyncio.sleep(0.01)


async def joined(stack: AsyncExitStack, count: int) -> list[Ours]:
    nodes = [await stack.enter_async_context(ours(number)) for number in range(count)]
    for node in nodes[1:]:
        assert await node.overlay.connect(nodes[0].address)
    await until(lambda: all(len(node.overlay.peers()) == count - 1 for node in nodes))
    return nodes


async def test_a_stock_node_joins_through_us_and_reads_an_order_by_its_id() -> None:
    async with AsyncExitStack() as stack:
        nodes = await joined(stack, 4)
        order = fresh_order()
        result = await nodes[0].overlay.put(order_key(order.id), order.wire, None)
        assert result.holders == 3
        server, _ = await stack.enter_async_context(stock())
        found = await server.bootstrap([nodes[1].address])
        assert {node.id for node in found} == {node.overlay.protocol.own_id for node in nodes}
        assert await server.get(order.id.hex()) == order.wire
        assert await server.get("nothing") is None


async def test_a_stock_node_may_store_an_order_and_nothing_else() -> None:
    async with AsyncExitStack() as stack:
        nodes = await joined(stack, 3)
        server, _ = await stack.enter_async_context(stock())
        await server.bootstrap([nodes[0].address])
        order = fresh_order()
        key = order_key(order.id)
        heard: list[bytes] = []
        nodes[1].overlay.on_record = lambda key, wire: heard.append(wire)
        nodes[1].overlay.watch(key)
        assert await server.set(order.id.hex(), order.wire)
        assert all(node.holdings.stock_value(key, time.time()) == order.wire for node in nodes)
        await until(lambda: heard == [order.wire])
        peers = [node for node in server.protocol.router.find_neighbors(server.node) if node.port]
        assert len(peers) == 3
        other = fresh_order(9)
        in_signature = len(other.wire) - 60
        spoilt = other.wire[:in_signature] + bytes([other.wire[in_signature] ^ 1]) + other.wire[in_signature + 1 :]
        other_key = order_key(other.id)
        misplaced = index_key(NETWORK, "BTC/USD", "sell", "")
        for store_key, value in (
            (other_key, spoilt),
            (key, b"junk"),
            (key, 17),
            (key, "text"),
            (misplaced, order.wire),
        ):
            for peer in peers:
                answered, taken = await server.protocol.call_store(peer, store_key, value)
                assert answered
                assert not taken
        assert all(node.overlay.counters.get("unexpected", 0) == 0 for node in nodes)


async def test_a_stock_node_routes_for_us_but_holds_nothing() -> None:
    async with AsyncExitStack() as stack:
        server, address = await stack.enter_async_context(stock())
        nodes = [await stack.enter_async_context(ours(number)) for number in range(3)]
        for node in nodes:
            assert await node.overlay.connect(address)  # they know nobody but the stock node
        for node in nodes:
            assert await node.overlay.connect(address)
        await until(lambda: all(len(node.overlay.peers()) == 3 for node in nodes))
        kinds = sorted(peer.kind for peer in nodes[0].overlay.peers())
        assert kinds == ["dhtex", "dhtex", "stock"]
        order = fresh_order()
        result = await nodes[0].overlay.put(order_key(order.id), order.wire, None)
        assert (result.asked, result.holders, result.local) == (2, 2, True)
        assert list(server.storage) == []
        assert server.node.id not in nodes[0].overlay.holders_near(order_key(order.id))
        read = await nodes[2].overlay.get(order_key(order.id))
        assert (read.asked, read.answered) == (3, 3)
        assert read.versions[0].wires == (order.wire,)
        assert await server.get(order.id.hex()) == order.wire


async def test_stun_tells_a_stock_node_its_address() -> None:
    async with AsyncExitStack() as stack:
        (node,) = await joined(stack, 1)
        server, address = await stack.enter_async_context(stock())
        await server.bootstrap([node.address])
        answered, seen = await server.protocol.stun(node.address)
        assert answered
        assert tuple(seen) == address


@pytest.mark.parametrize("stocks", [5])
async def test_a_mixed_network_finds_everything(stocks: int) -> None:
    async with AsyncExitStack() as stack:
        nodes = await joined(stack, 6)
        servers = [await stack.enter_async_context(stock()) for _ in range(stocks)]
        for number, (server, _) in enumerate(servers):
            entry = nodes[number].address if number % 2 == 0 else servers[number - 1][1]
            assert await server.bootstrap([entry])
        orders = [fresh_order(number) for number in range(10)]
        for number, order in enumerate(orders):
            result = await nodes[number % 6].overlay.put(order_key(order.id), order.wire, None)
            assert result.holders >= limits.HOLDERS // 2
        for order in orders:
            for server, _ in servers:
                assert await server.get(order.id.hex()) == order.wire
            for node in nodes:
                read = await node.overlay.get(order_key(order.id))
                assert any(order.wire in version.wires for version in read.versions)
