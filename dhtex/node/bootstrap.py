"""Finding the network: bootstrap peers are resolved and tried, with back-off, until they answer.

Those that are no longer among the peers are asked again for ever, also while there are others: behind one of them may
be the other half of a network that was cut in two. It is one ping, and a search for our place only after a silence.
"""

import asyncio
import logging
import random
import socket
from typing import Final

from dhtex import limits
from dhtex.config import split_endpoint
from dhtex.overlay.addresses import Address, canonical, endpoint
from dhtex.overlay.server import Overlay
from dhtex.tasks import woken

CONNECTED: Final = "connected"
ANSWERS: Final = "answers"  # and is no peer: there was no room for it
ITSELF: Final = "this node itself"
UNKNOWN_NAME: Final = "unknown name"
WELL: Final = (CONNECTED, ANSWERS, ITSELF)

log = logging.getLogger(__name__)


async def resolve(text: str) -> list[Address]:
    """The literal addresses of "host:port". Raises UsageError for a bad form; an unknown name gives no address."""
    host, port = split_endpoint(text)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):  # the latter for what cannot be written as a name of the DNS
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
    """Keeps trying the configured peers, and those that are not among the peers, for ever."""

    def __init__(self, overlay: Overlay, peers: tuple[str, ...], entropy: random.Random) -> None:
        self._overlay = overlay
        self._entropy = entropy
        self._wake = asyncio.Event()
        self.state = dict.fromkeys(peers, "trying")
        self._answered: dict[str, Address] = {}

    def shown(self) -> dict[str, str]:
        """The state of each peer: one that has answered and is no longer among the peers says so."""
        return {
            text: "not a peer now" if state == CONNECTED and not self._is_peer(text) else state
            for text, state in self.state.items()
        }

    def _is_peer(self, text: str) -> bool:
        return self._answered.get(text) in {peer.address for peer in self._overlay.peers()}

    async def try_once(self, text: str) -> str:
        """Resolve and ask one peer, and join through it if it answers: its state, which is kept for `status`."""
        addresses = await resolve(text)
        state = "silent" if addresses else UNKNOWN_NAME
        for address in addresses:
            if await self._overlay.connect(address):
                state = CONNECTED
                if text in self.state:
                    self._answered[text] = canonical(address) or address
                break
        else:
            if any(map(self._is_here, addresses)):
                state = ITSELF
        self._now(text, state)
        return state

    def _is_here(self, address: Address) -> bool:
        transport = self._overlay.transport
        here = transport is not None and address[1] == transport.port and is_here(address)
        return here or address == self._overlay.selfview.address

    def _now(self, text: str, state: str) -> None:
        if text in self.state and self.state[text] != state:
            well = state in WELL
            log.log(logging.INFO if well else logging.WARNING, "bootstrap peer=%s state=%s", text, state)
            self.state[text] = state

    async def _try_again(self, text: str) -> None:
        """Ask a peer that is not among the peers; join through it if it was silent, or has become a peer by this."""
        last = self._answered.get(text) if self.state[text] in (CONNECTED, ANSWERS) else None
        answers = last is not None and await self._overlay.connect(last, join=False)
        if answers and not self._is_peer(text):
            self._now(text, ANSWERS)
        else:
            await self.try_once(text)

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

    async def ask_missing(self) -> None:
        """Ask each that is not among the peers."""
        missing = [text for text, state in self.state.items() if state != CONNECTED or not self._is_peer(text)]
        await asyncio.gather(*map(self._try_again, missing))

    async def run(self) -> None:
        """Ask again for ever: quickly at first, then at most once a minute, and more seldom while there are peers."""
        delay_s = limits.BOOTSTRAP_RETRY_S_MIN
        while True:
            longest_s = limits.BOOTSTRAP_AGAIN_S if self._overlay.peers() else limits.BOOTSTRAP_RETRY_S_MAX
            delay_s = min(delay_s, longest_s)
            if await woken(self._wake, delay_s * self._entropy.uniform(0.75, 1.25)):
                delay_s = limits.BOOTSTRAP_RETRY_S_MIN
            else:
                await self.ask_missing()
                delay_s *= 2
