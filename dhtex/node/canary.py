"""Whether this node can read back from others what it wrote: the only sign of health that means anything.

Theory of operation. Now and then the node puts a Beat under a pair of its own, which nobody trades and no other node
has, and reads that key. A Beat is the cheapest valid record: unstamped, gone after 90 s, never handed on. The node is
*ready* when at least half of the other holders that were asked give the very bytes back, *degraded* when it has peers
but they do not, *joining* before the first attempt came to an end. A node that knows nobody and was told of nobody is
*alone*.
"""

import asyncio
import hashlib
import random
from typing import Final

from dhtex import limits
from dhtex.clock import Clock
from dhtex.market.identity import Identity
from dhtex.market.ids import index_key
from dhtex.market.records import VERSION, Beat, Kind, Side, seal_record
from dhtex.overlay.server import Overlay

QUOTE: Final = "CANARY"
FIRST_S: Final = 2.0  # the routing table fills first
_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def own_pair(public: bytes) -> str:
    """A pair that no other node has, but by chance one in eight thousand million."""
    number = int.from_bytes(hashlib.sha256(b"dhtex/canary/1\0" + public).digest()[:8])
    letters = [_LETTERS[number // 26**place % 26] for place in range(7)]
    return f"{''.join(letters)}/{QUOTE}"


class Canary:
    """The canary of one node."""

    def __init__(
        self, network: str, identity: Identity, overlay: Overlay, clock: Clock, entropy: random.Random
    ) -> None:
        self.asked = 0  # other holders, the last time
        self.returned = 0  # how many of them gave it back
        self.tried = False
        self._network = network
        self._identity = identity
        self._overlay = overlay
        self._clock = clock
        self._entropy = entropy

    @property
    def sings(self) -> bool:
        """Whether the last one came back from at least half of the others."""
        return self.returned > 0 and 2 * self.returned >= self.asked

    async def run(self) -> None:
        """Try for ever; often while it fails. Cancelled when the node stops."""
        pause_s = FIRST_S
        while True:
            await asyncio.sleep(pause_s * self._entropy.uniform(0.75, 1.25))
            if self._overlay.peers():
                await self.try_once()
            if self.tried:
                pause_s = limits.CANARY_S if self.sings else limits.CANARY_RETRY_S

    async def try_once(self) -> None:
        """Put, read back, and remember how that went."""
        pair = own_pair(self._identity.public)
        key = index_key(self._network, pair, Side.SELL, "")
        body = Beat(
            version=VERSION, network=self._network, maker=self._identity.public, pair=pair, side=Side.SELL, prefix="",
            at=int(self._clock.now()),
        )  # fmt: skip
        wire = seal_record(body, self._identity.sign).wire
        await self._overlay.put(key, wire, "")
        result = await self._overlay.get(key, Kind.BEAT)
        gave = sum(version.holders for version in result.versions if wire in version.wires)
        self.asked = result.asked - result.local
        self.returned = max(0, gave - result.local)
        self.tried = True
