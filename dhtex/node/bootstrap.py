"""Finding the network: bootstrap peers are resolved, tried and tried again with back-off until somebody answers."""

import asyncio
import logging
import random
import socket

from dhtex import limits
from dhtex.config import split_endpoint
from dhtex.overlay.addresses import Address
from dhtex.overlay.server import Overlay

log = logging.getLogger(__name__)


async def resolve(text: str) -> list[Address]:
    """The literal addresses of "host:port". Raises UsageError for a bad form; an unknown name gives no address."""
    host, port = split_endpoint(text)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except OSError:
        return []
    return list(dict.fromkeys((str(entry[4][0]), port) for entry in found))


class Bootstrap:
    """Keeps trying the configured peers while nobody of them has answered, or once all peers are lost."""

    def __init__(self, overlay: Overlay, peers: tuple[str, ...], entropy: random.Random) -> None:
        self._overlay = overlay
        self._entropy = entropy
        self._wake = asyncio.Event()
        self.state = dict.fromkeys(peers, "trying")

    async def try_once(self, text: str) -> bool:
        """Resolve and ask one peer; its state is kept for `status`."""
        addresses = await resolve(text)
        state = "silent" if addresses else "unknown name"
        for address in addresses:
            if await self._overlay.connect(address):
                state = "connected"
                break
        if text in self.state and self.state[text] != state:
            log.log(
                logging.INFO if state == "connected" else logging.WARNING, "bootstrap peer=%s state=%s", text, state
            )
            self.state[text] = state
        return state == "connected"

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
            waiting = [text for text, state in self.state.items() if state != "connected"]
            pause_s = delay_s * self._entropy.uniform(0.75, 1.25) if waiting else None
            delay_s = min(delay_s * 2, limits.BOOTSTRAP_RETRY_S_MAX) if waiting else limits.BOOTSTRAP_RETRY_S_MIN
            self._wake.clear()
            try:
                async with asyncio.timeout(pause_s):
                    await self._wake.wait()
                delay_s = limits.BOOTSTRAP_RETRY_S_MIN
            except TimeoutError:
                await asyncio.gather(*map(self.try_once, waiting))
