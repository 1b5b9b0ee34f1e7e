"""Asking the router to let strangers in: a port mapping by NAT-PMP, else by UPnP, renewed while the node runs.

Peers know us by the port that our datagrams come from. Most routers keep that of this machine, whatever is mapped: so
only a mapping of the router's port of the same number brings strangers here. Where that is taken, as with two nodes of
one port behind one router, another one is of no use, and who runs the node is told.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from dhtex.node.gateway import Granted
from dhtex.node.natpmp import NatPmp
from dhtex.node.upnp import Upnp

log = logging.getLogger(__name__)

LEASE_S: Final = 3600
RENEW_S_MIN: Final = 60.0  # whatever a router grants
RENEW_S_MAX: Final = 120.0  # a restarted router has forgotten us, and who is not reached for 200 s becomes a client
RETRY_S: Final = 120.0
CLOSE_S_MAX: Final = 1.0


class Door(Protocol):
    """A way to ask. Both methods raise OSError or TimeoutError when that fails."""

    name: str

    async def open(self, port: int, lease_s: int) -> Granted:
        """Map a UDP port, or prolong that."""
        ...

    async def close(self, port: int) -> None:
        """Take the mapping back."""
        ...


class Outcome(NamedTuple):
    """What became of asking: the rest of a sentence about the port, and what to do if that is not well."""

    told: str
    hint: str = ""


class Mapping:
    """The mapping of one UDP port, by the first way that works."""

    def __init__(self, doors: Sequence[Door] | None = None) -> None:
        self.outcome = Outcome("is not mapped yet")
        self._doors = (NatPmp(), Upnp()) if doors is None else doors
        self._open: Door | None = None  # the one that let us in last

    async def run(self, port: int) -> None:
        """Map the port and keep it mapped, for ever; cancelled when the node stops."""
        while True:
            pause_s = await self._ask(port)
            await asyncio.sleep(pause_s)

    async def _ask(self, port: int) -> float:
        """Ask all until one lets us in; for how many seconds that will do."""
        reasons = []
        for door in sorted(self._doors, key=lambda door: door is not self._open):
            try:
                granted = await door.open(port, LEASE_S)
            except (OSError, TimeoutError) as error:
                reasons.append(f"{door.name}: {str(error) or type(error).__name__}")
                continue
            self._open = door
            self._tell(port, _outcome(port, door.name, granted.external))
            return max(RENEW_S_MIN, min(RENEW_S_MAX, granted.lifetime_s / 2))
        hint = f"forward UDP port {port} to this machine by hand; if it is taken, start with another --port"
        self._tell(port, Outcome(f"is not mapped ({'; '.join(reasons)})", hint))
        return RETRY_S

    def _tell(self, port: int, outcome: Outcome) -> None:
        """Log what is new."""
        if outcome != self.outcome:
            log.log(logging.WARNING if outcome.hint else logging.INFO, "UDP port %d %s", port, outcome.told)
        self.outcome = outcome

    async def close(self, port: int) -> None:
        """Take the mapping back, if there ever was one."""
        if self._open is None:
            return
        try:
            async with asyncio.timeout(CLOSE_S_MAX):
                await self._open.close(port)
        except (OSError, TimeoutError):
            return


def _outcome(port: int, way: str, external: int) -> Outcome:
    if external == port:
        return Outcome(f"is mapped by {way}")
    return Outcome(
        f"is mapped by {way}, but as {external}: {port} is taken at the router",
        "start with another --port: peers see this node at another one than was mapped, and send strangers there",
    )
