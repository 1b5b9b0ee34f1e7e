"""A network cut apart for longer than lost peers are asked one by one is one network again soon after it has healed."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import pytest

from dhtex import limits
from dhtex.sim.history import History
from dhtex.sim.host import PORT, Host
from dhtex.sim.network import Network, Weather
from dhtex.views import OrderDraft, OrderQuery
from tests.sim import stage

PAIR: Final = "BTC/USD"
APART_S: Final = limits.LOST_PEER_S + 1200.0  # peers count as lost some minutes after the cut
WHOLE_WITHIN_S: Final = 600.0


class Room:
    """What machines need of their world."""

    def __init__(self, count: int, folder: Path) -> None:
        self.seed = count
        self.folder = folder
        self.history = History()
        self.network = Network(self.history, random.Random(count), Weather())
        self.hosts = [Host(self, index) for index in range(count)]

    async def start(self, host: Host, *through: Host) -> None:
        assert await host.start(tuple(f"{other.ip}:{PORT}" for other in through))

    def cut(self, ones: list[Host], others: list[Host]) -> None:
        """Let nothing pass between these machines."""
        for sources, targets in ((ones, others), (others, ones)):
            self.network.cut([host.ip for host in sources], [host.ip for host in targets])

    def tables(self) -> list[int]:
        return [len(host.node.peers()) for host in self.hosts if host.up]

    async def publish(self, *makers: Host) -> set[str]:
        draft = OrderDraft(side="sell", amount="1", pair=PAIR, price="50000")
        return {(await maker.ask(lambda node: node.add_order(draft))).order.id for maker in makers}

    async def until_whole(self, orders: set[str]) -> None:
        """Wait until everybody knows everybody; then everybody sees these orders."""
        loop = asyncio.get_running_loop()
        healed_at, up = loop.time(), [host for host in self.hosts if host.up]
        while self.tables() != [len(up) - 1] * len(up):
            assert loop.time() - healed_at < WHOLE_WITHIN_S, self.tables()
            await asyncio.sleep(5.0)
        for host in up:
            listed = await host.ask(lambda node: node.list_orders(OrderQuery(pair=PAIR)))
            assert {order.id for order in listed.orders} == orders, host.ip


def play(count: int, story: Callable[[Room], Awaitable[None]]) -> None:
    stage.play(lambda folder: Room(count, folder), story)


def forget_lost(hosts: list[Host]) -> None:
    """As after so many other losses that there was no room for these."""
    for host in hosts:
        host.parts.overlay._upkeep._lost.clear()


async def halves(room: Room) -> set[str]:
    """All but one have a bootstrap peer, most of them in the other half."""
    first, *others = room.hosts
    await room.start(first)
    for host in others:
        await room.start(host, first)
    await asyncio.sleep(60.0)
    room.cut(room.hosts[:3], room.hosts[3:])
    await asyncio.sleep(APART_S)
    assert room.tables() == [2] * 6
    return await room.publish(first, others[-1])


async def halves_by_bootstrap(room: Room) -> set[str]:
    """Nobody remembers the other half, but by the names that were told at the start."""
    orders = await halves(room)
    forget_lost(room.hosts)
    return orders


async def first_alone(room: Room) -> set[str]:
    """The first node, which was told of nobody, has no line but to a newcomer, who joins through it."""
    first, *others, newcomer = room.hosts
    await room.start(first)
    for host in others:
        await room.start(host, first)
    await asyncio.sleep(60.0)
    room.cut([first, newcomer], others)
    await asyncio.sleep(APART_S)
    await room.start(newcomer, first)
    await asyncio.sleep(120.0)
    assert room.tables() == [1, 3, 3, 3, 3, 1]
    return await room.publish(first, others[-1], newcomer)


async def first_restarted(room: Room) -> set[str]:
    """And it was started anew meanwhile, and nobody else remembers it."""
    orders = await first_alone(room)
    room.hosts[0].crash(power=False)
    await room.start(room.hosts[0])
    await asyncio.sleep(120.0)
    forget_lost(room.hosts[1:])
    for host in room.hosts[1:]:
        host.parts.bootstrap.state.clear()
    return orders


@pytest.mark.parametrize("apart", [halves, halves_by_bootstrap, first_alone, first_restarted])
def test_what_was_apart_for_long_becomes_one_network_again(apart: Callable[[Room], Awaitable[set[str]]]) -> None:
    async def story(room: Room) -> None:
        orders = await apart(room)
        room.network.heal()
        await room.until_whole(orders)

    play(6, story)
