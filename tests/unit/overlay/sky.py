"""A network of public addresses in virtual time, some of them behind walls as NATs are."""

import asyncio
import functools
import random
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

from dhtex.market.ids import NodeId
from dhtex.overlay.addresses import Address
from dhtex.overlay.server import Overlay
from dhtex.overlay.transport import Endpoint, Receiver
from dhtex.sim.clock import NodeClock
from dhtex.sim.loop import VirtualLoop
from tests.unit.overlay.fakes import FakeHoldings

_Given = ParamSpec("_Given")
PORT = 3001
DELAY_S = 0.02


class Plug:
    """One node's line to the sky."""

    def __init__(self, sky: "Sky", address: Address, receiver: Receiver) -> None:
        self.port = address[1]
        self._sky = sky
        self._address = address
        self.receiver = receiver

    def sendto(self, data: bytes, addr: Address) -> None:
        self._sky.opened.add((self._address, addr))
        self._send(data, self._address, addr)

    def send_afresh(self, data: bytes, addr: Address) -> None:
        self._send(data, (self._address[0], 50_000), addr)

    def _send(self, data: bytes, source: Address, target: Address) -> None:
        asyncio.get_running_loop().call_later(DELAY_S, self._sky.arrive, data, source, target)

    def close(self) -> None:
        self._sky.plugs.pop(self._address, None)


class Sky:
    """Public addresses, some behind a wall that lets in only what comes from where something was sent."""

    def __init__(self) -> None:
        self.plugs: dict[Address, Plug] = {}
        self.opened: set[tuple[Address, Address]] = set()
        self.walled: set[str] = set()

    async def open(self, receiver: Receiver, host: str | None, port: int) -> Endpoint:
        assert host is not None
        plug = self.plugs[host, port] = Plug(self, (host, port), receiver)
        return plug

    def arrive(self, data: bytes, source: Address, target: Address) -> None:
        let_in = target[0] not in self.walled or (target, source) in self.opened
        if let_in and (plug := self.plugs.get(target)) is not None:
            plug.receiver.datagram_received(data, source)

    async def node(self, number: int, ip: str = "", port: int = PORT, node_id: NodeId | None = None) -> Overlay:
        entropy = random.Random(number)
        clock = NodeClock(asyncio.get_running_loop().time, 1000.0 + number)
        drawn = NodeId(entropy.randbytes(20))
        node = Overlay(node_id or drawn, "test", FakeHoldings(), clock, entropy, open_endpoint=self.open)
        await node.listen(port, ip or f"8.{number}.1.1")
        return node

    async def network(self, count: int) -> list[Overlay]:
        """So many nodes that are reached, each in a network of its own."""
        nodes = [await self.node(number) for number in range(count)]
        for number, node in enumerate(nodes[1:]):
            assert await node.connect((f"8.{number // 2}.1.1", PORT))
        await asyncio.sleep(5)
        return nodes


def virtual(test: Callable[_Given, Coroutine[Any, Any, None]]) -> Callable[_Given, None]:
    """Let a test happen in virtual time."""

    @functools.wraps(test)
    def run(*args: _Given.args, **named: _Given.kwargs) -> None:
        loop = VirtualLoop()
        try:
            loop.run_until_complete(test(*args, **named))
        finally:
            loop.close()

    return run


async def end(nodes: list[Overlay]) -> None:
    for node in nodes:
        await node.close()
