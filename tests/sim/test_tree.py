"""What a book that outgrows one node costs while it splits and afterwards, and what leaves it; in virtual time."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest

from dhtex import limits
from dhtex.directory import pricetree
from dhtex.market import branches
from dhtex.market.ids import DhtKey, index_key
from dhtex.node import Node
from dhtex.overlay.server import Overlay
from dhtex.sim.history import History
from dhtex.sim.host import NETWORK, PORT, Host
from dhtex.sim.network import Network, Weather
from dhtex.views import ListingView, OrderDraft, OrderQuery
from tests.sim import stage

PAIR = "BTC/USD"
MAKERS = 4
TOGETHER = 20  # orders that are published at once
Result = TypeVar("Result")


class Room:
    """Machines on a good line, each 5 ms from each."""

    def __init__(self, folder: Path, nodes: int, seed: int) -> None:
        self.seed = seed
        self.folder = folder
        self.history = History()
        self.network = Network(self.history, random.Random(1), Weather(delay_s=0.005))
        self.hosts = [Host(self, index) for index in range(nodes)]

    async def start(self, count: int) -> None:
        for host in self.hosts[:count]:
            await self.join(host)
        await asyncio.sleep(30)

    async def join(self, host: Host) -> None:
        await host.start((f"{self.hosts[0].ip}:{PORT}",) if host.index else ())

    async def publish(self, count: int, liveness: str) -> list[str]:
        """So many orders of a few makers, at chance prices; their ids."""
        chance = random.Random(2)
        drafts = [
            OrderDraft(
                side="sell", amount="1", pair=PAIR, price=str(50_000 + chance.randrange(2000)), liveness=liveness
            )
            for _ in range(count)
        ]

        async def add(index: int) -> str:
            return (await self.hosts[index % MAKERS].ask(lambda node: node.add_order(drafts[index]))).order.id

        starts = range(0, count, TOGETHER)
        parts = [await asyncio.gather(*map(add, range(start, min(count, start + TOGETHER)))) for start in starts]
        return [order_id for part in parts for order_id in part]

    async def listing(self, host: Host, limit: int) -> ListingView:
        query = OrderQuery(pair=PAIR, side="sell", limit=limit)
        return await host.ask(lambda node: node.list_orders(query))

    async def cost(self, action: Callable[[], Awaitable[Result]]) -> tuple[Result, int, float]:
        """What something gave, how many datagrams all machines sent meanwhile, and the seconds."""
        before, started = self.history.counts["datagrams"], asyncio.get_running_loop().time()
        result = await action()
        return result, self.history.counts["datagrams"] - before, asyncio.get_running_loop().time() - started


def set_node_size(monkeypatch: pytest.MonkeyPatch, orders: int) -> None:
    monkeypatch.setattr(limits, "TREE_NODE_ORDERS_MAX", orders)
    monkeypatch.setattr(limits, "TREE_NODE_ORDERS_MIN", orders // 4)
    monkeypatch.setattr(branches, "_LARGE", orders * 3 // 4)
    monkeypatch.setattr(branches, "_SMALL", orders // 8)
    monkeypatch.setattr(pricetree, "_FEW", orders // 4)


def play(story: Callable[[Room], Awaitable[None]], nodes: int, seed: int = 1) -> None:
    stage.play(lambda folder: Room(folder, nodes, seed), story)


@pytest.mark.parametrize("seed", [1, 3, 5])
def test_a_book_splits_at_a_bounded_cost_and_rests_then(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """500 orders of mailboxes, which holders have to move, at 16 nodes; a node that has just come reads them.

    To move a node's orders takes as long as in earnest, so the turns of holders overlap whatever they draw."""
    nodes, count, handed = 16, 500, [0]
    monkeypatch.setattr(limits, "TREE_MOVES_PER_S", limits.TREE_MOVES_PER_S * 256 // limits.TREE_NODE_ORDERS_MAX)
    set_node_size(monkeypatch, 256)
    hand_on = Overlay.hand_on

    def counting(self: Overlay, *args: object) -> None:
        handed[0] += 1
        hand_on(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Overlay, "hand_on", counting)

    async def story(room: Room) -> None:
        await room.start(nodes)
        *rest, cold = room.hosts
        _, published, _ = await room.cost(lambda: room.publish(count, "mailbox"))
        assert published < 90 * count
        for _ in range(20):  # while it splits
            _, sent, seconds = await room.cost(lambda: asyncio.sleep(10))
            assert sent < 45 * nodes * seconds
        assert 0 < handed[0] < 1.1 * limits.HOLDERS * limits.TREE_NODE_ORDERS_MAX
        handed[0] = 0
        for _ in range(3):  # it rests, except that makers look after their orders
            _, sent, _ = await room.cost(lambda: asyncio.sleep(60))
            assert sent < 10 * nodes * 60
        await room.join(cold)
        await asyncio.sleep(60)
        whole, sent, seconds = await room.cost(lambda: room.listing(cold, 10 * count))
        assert (len(whole.orders), whole.coverage.complete, whole.coverage.missing) == (count, True, [])
        assert whole.coverage.nodes > 2
        assert sent < 600
        assert seconds < 0.5
        best, sent, seconds = await room.cost(lambda: room.listing(rest[-1], 20))
        assert [order.id for order in best.orders] == [order.id for order in whole.orders[:20]]
        assert sent < 150
        assert seconds < 0.2
        assert handed[0] == 0

    play(story, nodes + 1, seed)


def test_a_reader_that_has_just_come_has_500_orders_for_300_datagrams() -> None:
    """Requests and answers both; three readers, since now and then somebody else asks one of them something. A newcomer
    that has become a holder has the orders already, and is no reader."""
    nodes, count, key = 24, 500, index_key(NETWORK, PAIR, "sell", "")

    async def story(room: Room) -> None:
        await room.start(nodes)
        await room.publish(count, "mailbox")
        await asyncio.sleep(60)
        costs: list[int] = []
        newcomers = iter(room.hosts[nodes:])
        while len(costs) < 3:
            cold = next(newcomers)
            await room.join(cold)
            await asyncio.sleep(40)
            if cold.parts.holdings.tree_node(key) is not None:
                continue
            protocol = cold.parts.overlay.protocol
            before = protocol.datagrams_in + protocol.datagrams_out
            shown, _, seconds = await room.cost(partial(room.listing, cold, 10 * count))
            costs.append(protocol.datagrams_in + protocol.datagrams_out - before)
            assert (len(shown.orders), shown.coverage.complete) == (count, True)
            assert seconds < 0.2
        assert sorted(costs)[1] <= 300

    play(story, nodes + 12)


@pytest.mark.parametrize("settled_s", [0, 240])
def test_who_cancels_is_gone_within_two_seconds_and_who_dies_within_ninety(
    settled_s: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_node_size(monkeypatch, 32)

    async def story(room: Room) -> None:
        await room.start(len(room.hosts))
        ids = await room.publish(120, "beat")
        await asyncio.sleep(settled_s)
        readers = room.hosts[MAKERS:]
        shown = await room.listing(readers[0], 1000)
        assert {order.id for order in shown.orders} == set(ids)
        assert shown.coverage.nodes > 2
        for index in (0, 41, 82):
            await room.hosts[index % MAKERS].ask(_cancel(ids[index]))
        await asyncio.sleep(2)
        left = set(ids) - {ids[0], ids[41], ids[82]}
        for reader in readers:
            assert {order.id for order in (await room.listing(reader, 1000)).orders} == left
        room.hosts[3].crash(power=False)
        await asyncio.sleep(limits.BEAT_AGE_S_MAX + 1)
        alive = {order_id for index, order_id in enumerate(ids) if index % MAKERS != 3} & left
        for reader in readers:
            assert {order.id for order in (await room.listing(reader, 1000)).orders} == alive

    play(story, 12)


def _cancel(order_id: str) -> Callable[[Node], Coroutine[Any, Any, object]]:
    return lambda node: node.cancel_order(order_id)


def test_a_divided_book_outlives_all_holders_of_its_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """They go one after the other, ten seconds apart, and nobody puts an order again meanwhile."""
    set_node_size(monkeypatch, 32)

    async def story(room: Room) -> None:
        await room.start(len(room.hosts))
        ids = set(await room.publish(120, "mailbox"))
        key = index_key(NETWORK, PAIR, "sell", "")
        goal = int.from_bytes(key)
        room.hosts.sort(key=lambda host: int.from_bytes(host.parts.node_id) ^ goal)
        leaving, staying = room.hosts[: limits.HOLDERS], room.hosts[limits.HOLDERS :]
        while any(_loose(host, key) for host in leaving):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(10)
        for host in leaving:
            host.crash(power=False)
            await asyncio.sleep(10)
            for reader in (staying[0], staying[-1]):
                shown = await room.listing(reader, 1000)
                assert {order.id for order in shown.orders} == ids or shown.coverage.missing
        assert {order.id for order in (await room.listing(staying[3], 1000)).orders} == ids

    play(story, 24)


def _loose(host: Host, key: DhtKey) -> int:
    """How many orders a holder of a node has there beyond those that it keeps for good."""
    node = host.parts.holdings.tree_node(key)
    return 0 if node is None else max(0, len(node.orders) - limits.TREE_WITNESSES)
