"""Who follows a pair while its book divides, or from a machine that was cut off meanwhile, has what a listing shows."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from dhtex.market.ids import index_key
from dhtex.market.records import Side
from dhtex.node import Node
from dhtex.node.market import SPARE
from dhtex.sim.host import NETWORK, Host
from dhtex.views import BookView
from tests.sim.test_tree import MAKERS, PAIR, Room, play, set_node_size

NODES = 16  # twice as many as hold a key
ORDERS = 120
CAUGHT_UP_S_MAX = 60.0
CUT_OFF_S = 300.0
CHANGES = 60  # orders that end in this time, and as many new ones


class Follower:
    """What somebody knows of the pair who reads nothing but the events of one node."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.shown: set[str] = set()
        assert host.life is not None
        self._watching = host.life.spawn(self._watch(host.node))  # nothing else holds the task

    async def _watch(self, node: Node) -> None:
        async for event in node.watch(PAIR):
            assert event.order is not None
            shows = event.order.status == "open" and event.order.live
            (self.shown.add if shows else self.shown.discard)(event.order.id)

    def ladder(self) -> object:
        """The asks of the live book."""
        return self.host.parts.following.ladder(PAIR, 1000).asks

    @property
    def nodes(self) -> int:
        """Of how many nodes of the side's tree it is told."""
        return list(self.host.parts.following._followed[PAIR].keys.values()).count(Side.SELL)


async def caught_up(room: Room, follower: Follower, reader: Host, ids: set[str], within_s: float) -> None:
    """Until the events, the ladder, and a listing of another node all show these orders and no others."""
    deadline = asyncio.get_running_loop().time() + within_s
    while True:
        listed = {order.id for order in (await room.listing(reader, 1000)).orders}
        book = await reader.ask(lambda node: node.book(PAIR, 1000))
        if follower.shown == listed == ids and follower.ladder() == book.asks:
            return
        assert asyncio.get_running_loop().time() < deadline, (len(follower.shown), len(listed), len(ids))
        await asyncio.sleep(0.5)


def cancel(order_id: str) -> Callable[[Node], Coroutine[Any, Any, object]]:
    return lambda node: node.cancel_order(order_id)


async def settled(room: Room) -> tuple[list[Follower], Host]:
    """Followers at the host that is nearest to the root of the tree, and at the farthest; and who reads beside them."""
    await room.start(NODES)
    key = int.from_bytes(index_key(NETWORK, PAIR, "sell", ""))
    others = sorted(room.hosts[MAKERS:], key=lambda host: int.from_bytes(host.parts.node_id) ^ key)
    followers = [Follower(others[0]), Follower(others[-1])]
    await asyncio.sleep(5)
    return followers, others[-2]


def test_a_followed_book_that_divides_equals_a_listing(monkeypatch: pytest.MonkeyPatch) -> None:
    set_node_size(monkeypatch, 32)

    async def story(room: Room) -> None:
        followers, reader = await settled(room)
        assert {follower.nodes for follower in followers} == {1}
        ids = await room.publish(ORDERS, "beat")
        for follower in followers:
            await caught_up(room, follower, reader, set(ids), CAUGHT_UP_S_MAX)
            assert follower.nodes > 2
        for index in (0, 41, 82):
            await room.hosts[index % MAKERS].ask(cancel(ids[index]))
        for follower in followers:
            await caught_up(room, follower, reader, set(ids) - {ids[0], ids[41], ids[82]}, 2)

    play(story, NODES)


def test_a_ladder_leases_the_nodes_of_its_prices_and_grows_again_when_they_are_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_node_size(monkeypatch, 32)
    levels = 5

    async def story(room: Room) -> None:
        await room.start(NODES)
        ids = await room.publish(ORDERS, "mailbox")
        makers = {order_id: room.hosts[index % MAKERS] for index, order_id in enumerate(ids)}
        await asyncio.sleep(300)  # it divides, and comes to rest
        host, other = room.hosts[-1], room.hosts[-2]
        assert host.life is not None
        ladders: list[BookView] = []

        async def follow(node: Node) -> None:
            async for event in node.follow_book(PAIR, levels):
                assert event.book is not None
                ladders.append(event.book)

        following = host.life.spawn(follow(host.node))
        everything = Follower(other)
        await asyncio.sleep(10)
        followed = host.parts.following._followed[f"{PAIR} {levels}"]
        leased = list(followed.keys.values()).count(Side.SELL)
        assert leased < everything.nodes / 2, (leased, everything.nodes)
        for _ in range(3):
            whole = await room.listing(other, 1000)
            prices = sorted({order.price for order in whole.orders})
            assert [level.price for level in ladders[-1].asks] == prices[:levels]
            assert ladders[-1].hidden["limit"] > 0
            gone = [order.id for order in whole.orders if order.price in prices[: levels + SPARE]]
            await asyncio.gather(*(makers[order_id].ask(cancel(order_id)) for order_id in gone))
            await asyncio.sleep(5)
        for before in ladders:  # never a price too much, nor one that is not the best
            assert [level.price for level in before.asks] == sorted(level.price for level in before.asks)
        following.cancel()

    play(story, NODES)


async def change(room: Room, ids: list[str]) -> set[str]:
    """Makers cancel their oldest orders, and publish others, for CUT_OFF_S; what is left in the end."""
    for old in range(0, CHANGES, MAKERS):
        makers = enumerate(room.hosts[:MAKERS], start=old)
        await asyncio.gather(*(host.ask(cancel(ids[index])) for index, host in makers))
        ids += await room.publish(MAKERS, "beat")
        await asyncio.sleep(CUT_OFF_S * MAKERS / CHANGES)
    return set(ids[CHANGES:])


def test_what_ends_while_holders_are_cut_off_comes_back_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for who was never cut off, however soon it looks; and followers there have heard of all of it soon."""
    set_node_size(monkeypatch, 32)

    async def story(room: Room) -> None:
        followers, reader = await settled(room)
        ids = await room.publish(ORDERS, "beat")
        for follower in followers:
            await caught_up(room, follower, reader, set(ids), CAUGHT_UP_S_MAX)
        for follower in followers:
            others = [host.ip for host in room.hosts if host is not follower.host]
            room.network.cut([follower.host.ip], others)
            room.network.cut(others, [follower.host.ip])
        left = await change(room, ids)
        room.network.heal()
        for _ in range(15):
            assert {order.id for order in (await room.listing(reader, 1000)).orders} == left
            await asyncio.sleep(2)
        for follower in followers:
            await caught_up(room, follower, reader, left, CAUGHT_UP_S_MAX - 30)

    play(story, NODES)
