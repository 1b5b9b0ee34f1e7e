"""Nothing that happens to a pair is lost on its way to those who watch it, although one datagram in ten is."""

import asyncio
import random
import tempfile
from functools import partial
from pathlib import Path

import pytest

from dhtex.market.ids import index_key
from dhtex.node import Node
from dhtex.sim.history import History
from dhtex.sim.host import NETWORK, PORT, Host
from dhtex.sim.loop import VirtualLoop
from dhtex.sim.network import Network, Weather
from dhtex.sim.world import MEMORY
from dhtex.views import OrderDraft

NODES = 16  # twice as many as hold a key
WATCHERS = 3
ORDERS = 60
PAIR = "BTC/USD"
HEARD_S_MAX = 60.0  # virtual; a gap is seen when a lease is renewed, some 40 s later at most


class Room:
    """What machines need of their world: one network in which every tenth datagram is lost."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.seed = seed
        self.folder = folder
        self.history = History()
        self.network = Network(self.history, random.Random(f"{seed}/network"), Weather())
        self.hosts = [Host(self, index) for index in range(NODES)]

    async def play(self) -> None:
        for host in self.hosts:
            await host.start((f"{self.hosts[0].ip}:{PORT}",) if host.index else ())
        await asyncio.sleep(30)
        key = int.from_bytes(index_key(NETWORK, PAIR, "sell", ""))
        self.hosts.sort(key=lambda host: int.from_bytes(host.parts.node_id) ^ key)  # the last ones hold nothing of it
        watched = [self._watched(host) for host in self.hosts[-WATCHERS:]]
        await asyncio.sleep(10)
        self.network.weather = Weather(loss=0.1, tail=0.01)
        ends = await self._trade()
        await asyncio.sleep(HEARD_S_MAX)
        for watching, seen in watched:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            for order_id, end in ends.items():
                told = seen.get(order_id, [])
                assert told[-1:] == [end] or (end == "canceled" and not told), "gone before it was heard of"
            assert len(seen) >= ORDERS // 2
        assert self.history.counts["lost"] > ORDERS

    async def _trade(self) -> dict[str, str]:
        """Publish orders, and cancel every other one; how each ends."""
        draft = OrderDraft(side="sell", amount="1", pair=PAIR, price="50000")
        ends: dict[str, str] = {}
        for index in range(ORDERS):
            maker = self.hosts[index % (NODES - WATCHERS)]
            order_id = (await maker.ask(lambda node: node.add_order(draft))).order.id
            ends[order_id] = "open"
            if index % 2:
                await maker.ask(partial(Node.cancel_order, id_prefix=order_id))
                ends[order_id] = "canceled"
            await asyncio.sleep(0.5)
        return ends

    def _watched(self, host: Host) -> tuple["asyncio.Task[None]", dict[str, list[str]]]:
        """A task that follows the pair at a machine, and what it was told of each order."""
        seen: dict[str, list[str]] = {}
        assert host.life is not None
        return host.life.spawn(self._watch(host.node, seen)), seen

    async def _watch(self, node: Node, seen: dict[str, list[str]]) -> None:
        async for event in node.watch(PAIR):
            assert event.type == "order"
            assert event.order is not None
            seen.setdefault(event.order.id, []).append(event.order.status)


async def play(seed: int, folder: Path) -> None:
    room = Room(seed, folder)
    try:
        await room.play()
    finally:
        for host in room.hosts:
            host.crash(power=False)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_watcher_hears_of_everything_on_a_bad_line(seed: int) -> None:
    loop = VirtualLoop()
    try:
        with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
            loop.run_until_complete(play(seed, Path(folder)))
    finally:
        loop.close()
