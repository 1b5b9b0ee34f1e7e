"""A maker's signs of life: one for each node of a price tree where an own order asks for it."""

import asyncio
import random
from typing import Final

from dhtex import limits
from dhtex.clock import Clock
from dhtex.directory.service import Directory
from dhtex.market.identity import Identity
from dhtex.market.records import VERSION, Beat, Order, Record, Side, seal_record
from dhtex.node.offers import Offers

JITTER: Final = (0.8, 1.0)


class Beats:
    """Puts Beats while orders need them."""

    def __init__(
        self,
        network: str,
        identity: Identity,
        offers: Offers,
        directory: Directory,
        clock: Clock,
        entropy: random.Random,
    ) -> None:
        self._network = network
        self._identity = identity
        self._offers = offers
        self._directory = directory
        self._clock = clock
        self._entropy = entropy

    async def run(self) -> None:
        """Beat for ever; cancelled when the node stops."""
        while True:
            for pair, side, prefix in sorted(self._offers.beats_needed()):
                await self._beat(pair, side, prefix)
            await asyncio.sleep(limits.BEAT_INTERVAL_S * self._entropy.uniform(*JITTER))

    async def beat(self, order: Record[Order]) -> None:
        """Say once, where an order stands, that its maker is there."""
        await self._beat(order.body.pair, order.body.side, self._directory.tree_prefix(order.id))

    async def _beat(self, pair: str, side: Side, prefix: str) -> None:
        body = Beat(
            version=VERSION,
            network=self._network,
            maker=self._identity.public,
            pair=pair,
            side=side,
            prefix=prefix,
            at=int(self._clock.now()),
        )
        await self._directory.put_at_index(pair, side, seal_record(body, self._identity.sign).wire, prefix)
