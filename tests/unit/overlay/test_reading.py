"""What it costs to read a long list, also while it changes under the reader's hands."""

import asyncio
import random

import pytest

from dhtex import limits
from dhtex.market.holding import WHOLE, Page, Span
from dhtex.market.ids import DhtKey
from dhtex.overlay.pages import PagePlan
from dhtex.overlay.server import Overlay
from tests.unit.overlay.fakes import FakeHoldings, asking, gets, held, record, timed
from tests.unit.overlay.sky import DELAY_S, Sky, end, virtual
from tests.unit.overlay.test_overlay import key_of

KEY = DhtKey(b"k" * 20)
COUNT = 400
STANDING = 300  # of these nothing becomes
PAGE_BYTES = 1100


def wires(first: int, count: int) -> list[bytes]:
    return [record(KEY, b"%06d" % number + bytes(230)) for number in range(first, first + count)]


class Busy(FakeHoldings):
    """All holders have the same, and every other page that somebody asks for finds it changed: one record less
    (`shrinks`), or another one."""

    def __init__(self, rows: list[tuple[str | None, bytes]], shrinks: bool) -> None:
        super().__init__()
        self.rows[KEY] = rows
        self.chance = random.Random(1)
        self.shrinks = shrinks
        self.asked = 0

    def page(self, key: DhtKey, kind: int, rank: int, room_bytes: int, now: float, span: Span = WHOLE) -> Page:
        rows = self.rows.get(key, [])
        self.asked += bool(rows)
        moving = [row for row in rows if int(row[1][20:26]) >= STANDING]
        if self.asked % 2 and moving:
            rows.remove(self.chance.choice(moving))
            if not self.shrinks:
                rows.append((None, wires(int(rows[-1][1][20:26]) + 1, 1)[0]))
        self._digests.clear()
        return super().page(key, kind, rank, room_bytes, now, span)


async def nearest_first() -> list[Overlay]:
    """Eight holders and a reader, by distance from the key."""
    nodes = await Sky().network(9)
    return sorted(nodes, key=lambda node: int.from_bytes(node.node.id) ^ int.from_bytes(KEY))


@pytest.mark.parametrize("shrinks", [True, False])
@virtual
async def test_a_list_that_changes_while_it_is_read_costs_little_more(shrinks: bool) -> None:
    *holders, reader = nodes = await nearest_first()
    rows: list[tuple[str | None, bytes]] = [(None, wire) for wire in wires(0, COUNT)]
    for node in holders:
        node.protocol.stock.serving._holdings = Busy(rows, shrinks)
    before = reader.protocol.datagrams_out
    read = await reader.get(KEY)
    found = {wire for version in read.versions for wire in version.wires}
    assert found >= set(wires(0, STANDING))
    assert sum(version.holders for version in read.versions) == read.answered == len(holders)
    whole = [version for version in read.versions if version.complete or version.total <= len(version.wires)]
    assert 2 * sum(version.holders for version in whole) > read.answered
    # the list once, its short ids from each holder twice, and what is new there
    assert reader.protocol.datagrams_out - before < COUNT // 2 + 8 * (4 + 4 + 30)
    await end(nodes)


@virtual
async def test_a_list_that_stands_is_pulled_once() -> None:
    *holders, reader = nodes = await nearest_first()
    for node in holders:
        held(node).rows[KEY] = [(None, wire) for wire in wires(0, COUNT)]
    before = reader.protocol.datagrams_out
    (version,) = (await reader.get(KEY)).versions
    assert version.complete
    assert reader.protocol.datagrams_out - before < COUNT // 4 + 30
    await end(nodes)


@pytest.mark.parametrize(("shortest", "longest"), [(260, 260), (200, 360)])
def test_pages_of_a_list_hardly_overlap(shortest: int, longest: int) -> None:
    chance = random.Random(longest)
    listing = [bytes(chance.randint(shortest, longest)) for _ in range(500)]
    plan, pages, awaited = PagePlan(len(listing)), 0, list[int]()

    def page(rank: int) -> list[bytes]:
        room, found = PAGE_BYTES, list[bytes]()
        for wire in listing[rank:]:
            room -= len(wire) + 3
            if room < 0:
                break
            found.append(wire)
        return found

    plan.on_page(0, page(0)[:2])
    while not plan.full:
        while len(awaited) < 32 and (rank := plan.next()) is not None:
            awaited.append(rank)
        pages += 1
        rank = awaited.pop(0)
        plan.on_page(rank, page(rank))
    rank, least = 0, 0
    while rank < len(listing):
        rank, least = rank + len(page(rank)), least + 1
    assert pages <= 1.2 * least


@virtual
async def test_where_everybody_is_known_all_holders_are_read_in_one_round_trip() -> None:
    nodes = await Sky().network(20)
    await asyncio.sleep(60)
    for number in range(20):
        key = key_of(number)
        await nodes[number].put(key, record(key), None)
        assert await timed(nodes[number - 7].get(key)) == pytest.approx(2 * DELAY_S, abs=1e-3)
    await end(nodes)


@virtual
async def test_a_small_list_is_taken_from_whoever_had_room_for_it() -> None:
    nodes = await nearest_first()
    wire = record(KEY, bytes(500))
    for node in nodes[:-1]:
        held(node).rows[KEY] = [(None, wire)]
    reader = nodes[-1]
    nearest = reader.protocol.table.closest(KEY, 1)[0]
    nearest.token = b""  # as a stranger it is asked shortly, and its answer has no room for the record
    with asking(reader) as asked:
        (version,) = (await reader.get(KEY)).versions
    assert version.wires == (wire,)
    assert gets(asked, KEY) == limits.HOLDERS
    await end(nodes)
