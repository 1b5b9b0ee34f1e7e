"""Finding the network: bootstrap peers are resolved, tried and tried again with back-off until somebody answers."""

import asyncio
import logging
import random
import socket
from typing import Final

from dhtex import limits
from dhtex.config import split_endpoint
from dhtex.overlay.addresses import Address, canonical, endpoint
from dhtex.overlay.server import Overlay

CONNECTED: Final = "connected"
UNKNOWN_NAME: Final = "unknown name"

log = logging.getLogger(__name__)


async def resolve(text: str) -> list[Address]:
    """The literal addresses of "host:port". Raises UsageError for a bad form; an unknown name gives no address."""
    host, port = split_endpoint(text)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):  # the second, of a name that cannot be one
        return []
    return list(dict.fromkeys((str(entry[4][0]), port) for entry in found))


def is_here(address: Address) -> bool:
    """Whether a literal address is one of this machine's."""
    try:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address[0], 0))
    except OSError:
        return False
    return True


class Bootstrap:
    """Keeps trying the configured peers while nobody of them has answered, or once all peers are lost."""

    def __init__(self, overlay: Overlay, peers: tuple[str, ...], entropy: random.Random) -> None:
        self._overlay = overlay
        self._entropy = entropy
        self._wake = asyncio.Event()
        self.state = dict.fromkeys(peers, "trying")
        self._answered: dict[str, Address] = {}

    def shown(self) -> dict[str, str]:
        """The state of each peer: one that has answered and is no longer among the peers says so."""
        known = {peer.address for peer in self._overlay.peers()}
        gone = {text for text, address in self._answered.items() if address not in known}
        return {
            text: "not a peer now" if state == CONNECTED and text in gone else state
            for text, state in self.state.items()
        }

    async def try_once(self, text: str) -> str:
        """Resolve and ask one peer: its state, which is kept for `status`."""
        addresses = await resolve(text)
        state = "silent" if addresses else UNKNOWN_NAME
        for address in addresses:
            if await self._overlay.connect(address):
                state = CONNECTED
                if text in self.state:
                    self._answered[text] = canonical(address) or address
                break
        if text in self.state and self.state[text] != state:
            log.log(logging.INFO if state == CONNECTED else logging.WARNING, "bootstrap peer=%s state=%s", text, state)
            self.state[text] = state
        return state

    async def meet(self, host: str, port: int) -> bool:
        """Ask one peer; whether it answered."""
        return await self.try_once(endpoint(host, port)) == CONNECTED

    def lost_peers(self) -> None:
        """Say that the routing table ran empty: all peers are tried again soon."""
        self.state = dict.fromkeys(self.state, "trying")
        self._wake.set()

    async def first_round(self) -> None:
        """Try every peer once."""
        await asyncio.gather(*map(self.try_once, list(self.state)))

    async def run(self) -> None:
        """Try again for ever: quickly at first, then at most once a minute, and not at all while all are connected."""
        delay_s = limits.BOOTSTRAP_RETRY_S_MIN
        while True:
            waiting = [text for text, state in self.state.items() if state != CONNECTED]
            pause_s = delay_s * self._entropy.uniform(0.75, 1.25) if waiting else None
            delay_s = min(delay_s * 2, limits.BOOTSTRAP_RETRY_S_MAX) if waiting else limits.BOOTSTRAP_RETRY_S_MIN
            self._wake.clear()
            try:
                async with asyncio.timeout(pause_s):
                    await self._wake.wait()
                delay_s = limits.BOOTSTRAP_RETRY_S_MIN
            except TimeoutError:
                await asyncio.gather(*map(self.try_once, waiting))
