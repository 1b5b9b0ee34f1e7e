"""A maker's signs of life: one for each node of a price tree and key in which an own order asks for it."""

import asyncio
import random
from typing import Final

from dhtex import limits
from dhtex.clock import Clock
from dhtex.directory.service import Directory
from dhtex.market.identity import Identity
from dhtex.market.keyring import Keyring
from dhtex.market.records import VERSION, Beat, Liveness, Order, Record, Side, seal_record
from dhtex.node.offers import Offers

JITTER: Final = (0.8, 1.0)


class Beats:
    """Puts Beats while orders need them."""

    def __init__(
        self,
        network: str,
        keys: Keyring,
        offers: Offers,
        directory: Directory,
        clock: Clock,
        entropy: random.Random,
    ) -> None:
        self._network = network
        self._keys = keys
        self._offers = offers
        self._directory = directory
        self._clock = clock
        self._entropy = entropy

    async def run(self) -> None:
        """Beat for ever; cancelled when the node stops."""
        while True:
            for pair, side, prefix, signer in self._offers.beats_needed():
                await self.beat(pair, side, prefix, signer)
            await asyncio.sleep(limits.BEAT_INTERVAL_S * self._entropy.uniform(*JITTER))

    async def published(self, order: Record[Order]) -> None:
        """An own order is out. It is a sign of life itself, unless its stamp took long: then say that the maker is
        there."""
        body = order.body
        if body.liveness is Liveness.BEAT and self._clock.now() - body.created > limits.BEAT_INTERVAL_S:
            prefix = self._directory.tree_prefix(order.id)
            await self.beat(body.pair, body.side, prefix, self._keys.signer(body))

    async def beat(self, pair: str, side: Side, prefix: str, signer: Identity) -> None:
        """Say once that the maker of this key is there."""
        body = Beat(
            version=VERSION,
            network=self._network,
            maker=signer.public,
            pair=pair,
            side=side,
            prefix=prefix,
            at=int(self._clock.now()),
        )
        await self._directory.put_at_index(pair, side, seal_record(body, signer.sign).wire, prefix)
