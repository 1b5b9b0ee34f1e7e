"""How a holder moves orders to where they belong while somebody else may be at the same work."""

import random
import time
from collections.abc import Callable
from typing import cast

import pytest

from dhtex import limits
from dhtex.clock import SystemClock
from dhtex.directory.tending import Tending
from dhtex.market.admission import Verifier, tree_path
from dhtex.market.branches import pack
from dhtex.market.holding import NO_DIGEST, Taken
from dhtex.market.ids import DhtKey, NodeId, index_key
from dhtex.overlay.results import GetResult, Holder, Version
from dhtex.overlay.server import Overlay
from dhtex.store.database import Database
from dhtex.store.holdings import Holdings
from tests.builders import NETWORK, make_order

ROOT_KEY = index_key(NETWORK, "BTC/USD", "sell", "")
COUNT = 20


class Fellows:
    """An overlay in which eight holders name one branch of the root and hold nothing, when they are asked. The first
    `knowing` of them say of whatever they are handed that they know it by now."""

    def __init__(self, branch: str, knowing: int) -> None:
        self.handed: list[bytes] = []
        self._knowing = knowing
        self._branches = pack([branch])

    def peers(self) -> list[object]:
        return [self]

    async def get(self, key: DhtKey, kind: int = 0, limit: int | None = None) -> GetResult:
        branches = self._branches if key == ROOT_KEY else b""
        by = tuple(Holder(NodeId(bytes([n]) * 20), ("10.0.0.1", n), branches) for n in range(limits.HOLDERS))
        return GetResult(len(by), len(by), (Version(NO_DIGEST, 0, len(by), (), True, by),))

    def hand_on(self, holder: Holder, wire: bytes, prefix: str | None, told: Callable[[str], None]) -> None:
        self.handed.append(wire)
        told(Taken.KNOWN if holder.id[0] < self._knowing else Taken.STORED)


@pytest.mark.parametrize(
    ("knowing", "moved"), [(limits.HOLDERS // 2 + 1, 1), (limits.HOLDERS // 2, COUNT - limits.TREE_WITNESSES)]
)
async def test_who_is_behind_another_stops_and_a_few_liars_stop_nobody(
    knowing: int, moved: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "TREE_MOVES_PER_S", 10_000)
    monkeypatch.setattr(limits, "TREE_NODE_ORDERS_MIN", 0)  # nothing is taken back
    clock = SystemClock()
    orders = [make_order(number=number, created=int(time.time()) - 60) for number in range(COUNT)]
    holdings = Holdings(Database.open(None), NETWORK, 0, Verifier())
    for order in orders:
        holdings.put(order.wire, "", clock.now(), "test")
    branch = tree_path(orders[0])[:8]  # all have the same price
    fellows = Fellows(branch, knowing)
    tending = Tending(cast(Overlay, fellows), holdings, NETWORK, clock, random.Random(1))
    assert await tending.tend(ROOT_KEY)  # and so looks again soon
    assert len(fellows.handed) == moved * limits.HOLDERS
    assert len(set(fellows.handed)) == moved
