"""A listing of all pairs: however many strangers have made, few are read at a time."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from dhtex import limits
from dhtex.clock import SystemClock
from dhtex.directory.reading import IndexReading
from dhtex.market.keyring import Keyring
from dhtex.node.market import SIDES, Market
from dhtex.views import OrderQuery
from tests.builders import NETWORK

PAIRS = [f"A{number}/USD" for number in range(5 * limits.PAIRS_PARALLEL)]


class Counting:
    """A directory of empty books that counts its readers."""

    def __init__(self) -> None:
        self.read: list[tuple[str, str]] = []
        self.under_way = self.most = 0

    async def read_index(self, pair: str, side: str, *_wish: object) -> IndexReading:
        self.read.append((pair, side))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        for _ in range(len(self.read) % 3 + 1):
            await asyncio.sleep(0)
        self.under_way -= 1
        return IndexReading()


async def test_all_pairs_are_read_and_few_at_a_time() -> None:
    directory, none = Counting(), SimpleNamespace(orders_after=lambda *since: (0, []), orders_named=list)
    holdings, offers = SimpleNamespace(pairs=lambda: PAIRS), SimpleNamespace(open_orders=list)
    parts = cast("tuple[Any, Any, Any, Any]", (directory, none, holdings, offers))
    await Market(NETWORK, Keyring(bytes(32)), *parts, SystemClock()).listing(OrderQuery())
    assert sorted(directory.read) == sorted((pair, side) for pair in PAIRS for side in SIDES)
    assert directory.most == limits.PAIRS_PARALLEL * len(SIDES)
