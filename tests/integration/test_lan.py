"""Neighbours on the local network by the real package, over multicast on loopback."""

import asyncio
import os
from collections.abc import Awaitable, Callable

import pytest

from dhtex.config import NodeConfig
from dhtex.node import Node
from dhtex.node.lan import Lan
from tests.unit.overlay.fakes import until

HOST = "127.0.0.1"
NETWORK = f"lan-{os.getpid()}"  # whoever else runs this on the machine now is heard too

pytest.importorskip("zeroconf")


def settings() -> NodeConfig:
    return NodeConfig(port=0, host=HOST, network=NETWORK, pow_bits=0, lan=True)


async def test_two_nodes_meet_by_multicast_alone() -> None:
    async with Node(settings()) as one, Node(settings()) as other:
        await until(lambda: len(one.peers()) == len(other.peers()) == 1, within_s=20)
        assert one.peers()[0].address == f"{HOST}:{other.port}"


async def test_only_those_of_the_same_network_are_met() -> None:
    met: list[set[int]] = [set(), set(), set(), set()]

    def meeting(index: int) -> Callable[[str, int], Awaitable[bool]]:
        async def meet(host: str, port: int) -> bool:
            assert host == HOST
            met[index].add(port)
            return True

        return meet

    lans = [Lan(f"{NETWORK}-{index % 2}", bytes([index]) * 20, meeting(index)) for index in range(4)]
    try:
        await asyncio.gather(*(lan.start(4000 + index, HOST) for index, lan in enumerate(lans)))
        await until(lambda: all(met), within_s=20)
        assert met == [{4002}, {4003}, {4000}, {4001}]
    finally:
        await asyncio.gather(*(lan.close() for lan in lans))
