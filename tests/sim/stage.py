"""A room of simulated machines for one story in virtual time."""

import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol, TypeVar

from dhtex.sim.host import Host
from dhtex.sim.loop import VirtualLoop
from dhtex.sim.world import MEMORY


class HasHosts(Protocol):
    """What was built for a story."""

    hosts: list[Host]


Room = TypeVar("Room", bound=HasHosts)


def play(make: Callable[[Path], Room], story: Callable[[Room], Awaitable[None]]) -> None:
    """Make a room in a folder of its own, and let the story happen in it."""

    async def told(folder: Path) -> None:
        room = make(folder)
        try:
            await story(room)
        finally:
            for host in room.hosts:
                host.crash(power=False)

    loop = VirtualLoop()
    try:
        with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
            loop.run_until_complete(told(Path(folder)))
    finally:
        loop.close()
