"""Holders that make orders up or never come to an end are named, and a flood leaves everybody else listed."""

import time
from typing import Any

import pytest

from dhtex import limits
from dhtex.market.holding import IDS, WHOLE, Page, Span
from dhtex.market.ids import DhtKey, index_key
from dhtex.market.records import Kind, Liveness, Order, Record
from dhtex.overlay.pages import digest_of
from dhtex.store.holdings import Holdings
from tests.builders import NETWORK, identity, make_order
from tests.unit.directory.network import Member, members

PAIR, SIDE = "BTC/USD", "sell"
KEY = index_key(NETWORK, PAIR, SIDE, "")
BITS = 1
MAKERS = 6
FREE = 24


def order(number: int, by: int, bits: int = 0) -> Record[Order]:
    price = str(50_000 + number % 997)
    created = int(time.time()) - 60
    return make_order(
        number=number, by=identity(by), price=price, created=created, liveness=Liveness.MAILBOX, bits=bits
    )


class Liar:
    """Answers about one key in its own way, and else as a holder does."""

    def __init__(self, truth: Holdings, *, endless: bool) -> None:
        self._truth = truth
        self._endless = endless
        good = [order(9000 + number, by=9) for number in range(3)]
        self._forged = [one.wire.replace(one.signature, bytes(64)) for one in good]
        self.pages = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._truth, name)

    def page(self, key: DhtKey, kind: int, rank: int, room_bytes: int, now: float, span: Span = WHOLE) -> Page:
        """Three orders that nobody signed, or one new each time and a list without an end."""
        if key != KEY or kind & ~IDS != Kind.ORDER:
            return self._truth.page(key, kind, rank, room_bytes, now, span)
        if not self._endless:
            return Page(3, digest_of(self._forged), self._forged[rank:])
        self.pages += 1
        return Page(limits.RECORDS_PER_INDEX_KEY_MAX, b"no end.!", [b"junk %d" % self.pages])


async def lied_to(monkeypatch: pytest.MonkeyPatch, *, endless: bool) -> tuple[dict[str, Any], Liar, Member]:
    """What the coverage of a reading says of each holder, when one of them lies."""
    monkeypatch.setattr(limits, "READ_GRACE_S", 0.2)
    async with members(10) as network:
        made = [order(number, by=5 + number % 3) for number in range(6)]
        for one in made:
            await network[0].directory.publish(one)
        liar = next(member for member in network[1:] if member.holdings.tree_node(KEY) is not None)
        lies = liar.overlay.protocol.stock.serving._holdings = Liar(liar.holdings, endless=endless)
        reader = next(member for member in network if member is not liar)
        reading = await reader.directory.read_index(PAIR, SIDE)
        assert set(reading.orders) == {one.id for one in made}
        assert reading.coverage.complete
        return {row.holder: row for row in reading.coverage.disagreed}, lies, liar


async def test_a_holder_that_makes_orders_up_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    named, _, liar = await lied_to(monkeypatch, endless=False)
    assert {holder: row.invented for holder, row in named.items()} == {liar.overlay.protocol.own_id.hex(): 3}


async def test_a_holder_that_serves_pages_for_ever_is_named_and_left(monkeypatch: pytest.MonkeyPatch) -> None:
    named, lies, liar = await lied_to(monkeypatch, endless=True)
    assert {holder: row.unfinished for holder, row in named.items()} == {liar.overlay.protocol.own_id.hex(): True}
    assert 0 < lies.pages < limits.RECORDS_PER_INDEX_KEY_MAX


@pytest.mark.parametrize("keys", [1, 200])
async def test_a_flood_leaves_every_other_maker_listed_and_lets_new_ones_in(
    keys: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two hundred orders with least stamps, of one key or of as many, at nodes that have little room."""
    monkeypatch.setattr(limits, "MAKER_ORDERS_FREE", FREE)
    monkeypatch.setattr(limits, "RECORDS_HELD_MAX", 300)
    async with members(8, BITS) as network:
        honest = [order(number, by=100 + number % MAKERS, bits=BITS) for number in range(2 * MAKERS)]
        for one in honest:
            assert (await network[number_of(one)].directory.publish(one)).holders
        flood = [order(1000 + number, by=1000 + number % keys, bits=BITS) for number in range(200)]
        last = [await network[7].directory.publish(one) for one in flood][-1]
        assert last.bits_asked > BITS
        late = order(5000, by=99, bits=BITS)
        published = await network[6].directory.publish(late)
        if published.bits_asked:  # as a maker does that is asked for more
            assert published.bits_asked <= BITS + limits.STAMP_BITS_MORE_MAX
            network[6].directory.forget(late.id)
            late = order(5000, by=99, bits=published.bits_asked)
            published = await network[6].directory.publish(late)
        assert published.holders
        found = set((await network[3].directory.read_index(PAIR, SIDE)).orders)
        assert found >= {one.id for one in [*honest, late]}
        assert len(found & {one.id for one in flood}) < len(flood)
        assert all(member.holdings.count <= limits.RECORDS_HELD_MAX for member in network)


def number_of(record: Record[Order]) -> int:
    return record.body.maker[0] % 6
