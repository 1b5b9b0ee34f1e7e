"""When what is followed is read again."""

from typing import Any, cast

import pytest

from dhtex import limits
from dhtex.clock import SystemClock
from dhtex.coverage import Coverage, GapView
from dhtex.directory.pricetree import Wish
from dhtex.directory.reading import IndexReading
from dhtex.market.ids import DhtKey, index_key
from dhtex.node.events import Hub
from dhtex.node.following import Following
from tests.builders import NETWORK

PAIR = "BTC/USD"


class Clock(SystemClock):
    at = 1000.0

    def monotonic(self) -> float:
        return self.at


class Nobody:
    """A market without orders, and the directory that reads it; `wishes` are what was read. A reading of all of a side
    cannot read everything `gaps` times."""

    def __init__(self, gaps: int) -> None:
        self.watched: set[str] = set()
        self.leases: set[DhtKey] = set()
        self.wishes: list[Wish] = []
        self.gaps = gaps

    def remember(self, orders: object) -> None:
        pass

    def is_shown(self, *about: object) -> bool:
        return True

    async def read_index(self, pair: str, side: str, wish: Wish, *more: object, **names: object) -> IndexReading:
        self.wishes.append(wish)
        self.gaps -= not wish.skim
        missing = [] if wish.skim or self.gaps < 0 else [GapView(symbol=pair, side=side, low="1", high="2")]
        coverage = Coverage(nodes=1, asked=8, answered=8, agreed=8, complete=not missing, missing=missing)
        return IndexReading(coverage=coverage, visited=("",))

    def watch_node(self, pair: str, side: str, prefix: str) -> DhtKey:
        key = index_key(NETWORK, pair, side, prefix)
        self.leases.add(key)
        return key

    def unwatch_node(self, key: DhtKey) -> None:
        self.leases.remove(key)


def following(gaps: int = 0) -> tuple[Following, Nobody, Clock]:
    nobody, clock = Nobody(gaps), Clock()
    return Following(cast(Any, nobody), cast(Any, nobody), Hub(clock), clock), nobody, clock


async def test_what_could_not_be_read_is_read_again_and_what_was_read_is_only_looked_at() -> None:
    followed, nobody, clock = following(gaps=4)  # both sides, twice
    await followed.begin(PAIR, None)
    for reads in (4, 6, 6):
        clock.at += limits.WATCH_WALK_S + 1
        await followed.follow()
        assert sum(not wish.skim for wish in nobody.wishes) == reads
    await followed.follow()  # it is not time yet
    assert len(nobody.wishes) == 6 + 2 * 3


@pytest.mark.parametrize("first", [None, 5])
async def test_two_views_of_a_pair_share_leases_and_each_ends_alone(first: int | None) -> None:
    followed, nobody, _ = following()
    for levels in (None, 5):
        await followed.begin(PAIR, levels)
    assert {wish.limit for wish in nobody.wishes} == {None, 13}
    assert nobody.watched == {PAIR}
    names = {None: PAIR, 5: f"{PAIR} 5"}
    followed.end(names.pop(first))
    assert len(nobody.leases) == 2
    assert nobody.watched == {PAIR}
    followed.end(*names.values())
    assert not nobody.leases
    assert not nobody.watched
