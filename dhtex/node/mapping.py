"""Asking the router to let strangers in: a port mapping by NAT-PMP, else by UPnP, renewed while the node runs."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final, Protocol

from dhtex.node.natpmp import NatPmp
from dhtex.node.upnp import Upnp

log = logging.getLogger(__name__)

LEASE_S: Final = 3600
RENEW_S_MIN: Final = 60.0  # whatever a router grants
RETRY_S: Final = 300.0
CLOSE_S_MAX: Final = 1.0


class Door(Protocol):
    """A way to ask. Both methods raise OSError or TimeoutError when that fails."""

    name: str

    async def open(self, port: int, lease_s: int) -> float:
        """Map a UDP port, or prolong that; for how many seconds."""
        ...

    async def close(self, port: int) -> None:
        """Take the mapping back."""
        ...


class Mapping:
    """The mapping of one UDP port, by the first way that works."""

    def __init__(self, doors: Sequence[Door] | None = None) -> None:
        self._doors = (NatPmp(), Upnp()) if doors is None else doors
        self._open: Door | None = None

    async def run(self, port: int) -> None:
        """Map the port and keep it mapped, for ever; cancelled when the node stops."""
        while True:
            pause_s = RETRY_S
            reasons = []
            for door in sorted(self._doors, key=lambda door: door is not self._open):  # the one that let us in, first
                try:
                    pause_s = max(RENEW_S_MIN, await door.open(port, LEASE_S) / 2)
                except (OSError, TimeoutError) as error:
                    self._open = None
                    reasons.append(str(error) or type(error).__name__)
                    continue
                if door is not self._open:
                    log.info("UDP port %d is mapped by %s", port, door.name)
                self._open = door
                break
            else:
                log.warning("UDP port %d is not mapped: %s", port, "; ".join(reasons))
            await asyncio.sleep(pause_s)

    async def close(self, port: int) -> None:
        """Take the mapping back, if there is one."""
        if self._open is None:
            return
        try:
            async with asyncio.timeout(CLOSE_S_MAX):
                await self._open.close(port)
        except (OSError, TimeoutError):
            return
