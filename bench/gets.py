"""What a get over loopback takes, of a node that holds few records and of one that holds many, in turns."""

import random
import time
from pathlib import Path
from typing import Any

from bench.measure import Stay, microseconds
from bench.records import NETWORK
from dhtex.clock import SystemClock
from dhtex.market.ids import DhtKey, NodeId
from dhtex.market.records import Kind
from dhtex.overlay.server import Overlay
from dhtex.store.database import Database
from dhtex.store.holdings import Holdings

HOST = "127.0.0.1"
EACH = 20  # gets of one side before the other's turn
WARM_ROUNDS = 2


class _Side:
    """A holder, and a client that knows nobody else."""

    def __init__(self, path: Path, chance: random.Random) -> None:
        self._databases = [Database.open(path), Database.open(None)]
        self._chance = chance
        holdings, nothing = (Holdings(database, NETWORK, 0) for database in self._databases)
        self._keys = _keys_of_orders(holdings)
        self._holder, self._client = (
            Overlay(NodeId(chance.randbytes(20)), NETWORK, shelf, SystemClock(), chance)
            for shelf in (holdings, nothing)
        )
        # It is never handed records.
        self._client.selfview.client = self._client.selfview.always_client = True
        self.times: dict[str, list[float]] = {"fetch": [], "get": []}

    async def start(self) -> None:
        port = await self._holder.listen(0, HOST)
        await self._client.listen(0, HOST)
        assert await self._client.connect((HOST, port))

    async def ask(self, what: str) -> None:
        key = self._chance.choice(self._keys)
        stay = Stay()
        if what == "fetch":
            assert await self._client.fetch(key, Kind.ORDER, bool) is not None
        else:
            assert (await self._client.get(key)).versions
        self.times[what].append(stay.seconds())

    async def stop(self) -> None:
        await self._client.close()
        await self._holder.close()
        for database in self._databases:
            database.close()


async def compare(few: Path, many: Path, rounds: int) -> dict[str, Any]:
    """Fetches of an order, and gets of all that is at its key."""
    chance = random.Random(1)
    sides = {"few": _Side(few, chance), "many": _Side(many, chance)}
    try:
        for side in sides.values():
            await side.start()
        for turn in range(-WARM_ROUNDS, rounds):
            if turn == 0:
                for side in sides.values():
                    for times in side.times.values():
                        times.clear()
            for side in list(sides.values())[:: 1 if turn % 2 else -1]:
                for what in side.times:
                    for _ in range(EACH):
                        await side.ask(what)
    finally:
        for side in sides.values():
            await side.stop()
    return {name: {what: microseconds(times) for what, times in side.times.items()} for name, side in sides.items()}


def _keys_of_orders(holdings: Holdings) -> list[DhtKey]:
    now = time.time()
    keys = {key for key, prefix, _ in holdings.replicas(now) if prefix is None}
    return sorted(key for key in keys if holdings.page(key, Kind.ORDER, 0, 1000, now).total)
