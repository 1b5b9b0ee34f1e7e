"""A few nodes with real shelves, trees and their tending, on loopback; nodes of a tree are small here."""

import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from dhtex.clock import SystemClock
from dhtex.directory.proving import Gate
from dhtex.directory.service import Directory
from dhtex.directory.tending import Tending
from dhtex.market.admission import Verifier
from dhtex.market.ids import NodeId
from dhtex.overlay.server import Overlay
from dhtex.store.database import Database
from dhtex.store.holdings import Holdings
from tests.builders import NETWORK

HOST = "127.0.0.1"


@dataclass(slots=True)
class Member:
    """One node."""

    overlay: Overlay
    holdings: Holdings
    directory: Directory
    tending: Tending


def make_member(seed: int, bits: int = 0) -> Member:
    clock, chance, verifier = SystemClock(), random.Random(seed), Verifier()
    gate = Gate(verifier, bits, clock)
    holdings = Holdings(Database.open(None), NETWORK, bits, verifier)
    overlay = Overlay(NodeId(chance.randbytes(20)), NETWORK, holdings, clock, chance)
    directory = Directory(overlay, NETWORK, gate.check, clock, chance, gate.prove)
    return Member(overlay, holdings, directory, Tending(overlay, holdings, NETWORK, clock, chance))


@asynccontextmanager
async def members(count: int, bits: int = 0) -> AsyncIterator[list[Member]]:
    """So many nodes that know each other, of a network that asks for so much work."""
    made = [make_member(number, bits) for number in range(count)]
    async with AsyncExitStack() as stack:
        ports = []
        for number, member in enumerate(made):
            ports.append(await member.overlay.listen(0, HOST))
            stack.push_async_callback(member.overlay.close)
            if number:
                assert await member.overlay.connect((HOST, ports[number // 2]))
        yield made
