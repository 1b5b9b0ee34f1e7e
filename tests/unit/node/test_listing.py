"""A listing of all pairs: however many strangers have made, few are read at a time, and no more than are shown."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from dhtex import limits
from dhtex.clock import SystemClock
from dhtex.directory.reading import IndexReading
from dhtex.market.book import best as book_best
from dhtex.market.keyring import Keyring
from dhtex.market.records import Liveness, Order, Record
from dhtex.node.market import SIDES, Market
from dhtex.views import OrderQuery
from tests.builders import NETWORK, make_order
from tests.unit.overlay.fakes import until

PAIRS = [f"A{number:03}/USD" for number in range(5 * limits.PAIRS_PARALLEL)]


class Counting:
    """A directory that counts its readers. `books`: which orders each side of each pair has."""

    def __init__(self, books: dict[tuple[str, str], list[Record[Order]]] | None = None) -> None:
        self.books = books or {}
        self.read: list[tuple[str, str]] = []
        self.under_way = self.most = 0
        self.ended: asyncio.Event | None = None

    async def read_index(self, pair: str, side: str, *_wish: object) -> IndexReading:
        self.read.append((pair, side))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            for _ in range(len(self.read) % 3 + 1):
                await asyncio.sleep(0)
            if self.ended is not None:
                await self.ended.wait()
        finally:
            self.under_way -= 1
        return IndexReading({order.id: order for order in self.books.get((pair, side), ())})

    def holders(self, _order_id: object) -> None:
        return None


def market_of(directory: Counting) -> Market:
    none = SimpleNamespace(orders_after=lambda *since: (0, []), orders_named=list)
    holdings, offers = SimpleNamespace(pairs=lambda: PAIRS), SimpleNamespace(open_orders=list)
    parts = cast("tuple[Any, Any, Any, Any]", (directory, none, holdings, offers))
    return Market(NETWORK, Keyring(bytes(32)), *parts, SystemClock())


def full_books() -> dict[tuple[str, str], list[Record[Order]]]:
    """Of each fourth pair nothing, of each third one side, of the others both, two orders each."""
    created = int(SystemClock().now())
    terms: dict[str, Any] = {"created": created, "liveness": Liveness.MAILBOX}
    return {
        (pair, side): [make_order(number=n, pair=pair, side=side, price=str(50 + n), **terms) for n in range(2)]
        for number, pair in enumerate(PAIRS)
        for side in SIDES[number % 3 == 0 :]
        if number % 4
    }


async def test_all_pairs_are_read_and_few_at_a_time() -> None:
    directory = Counting()
    await market_of(directory).listing(OrderQuery())
    assert sorted(directory.read) == sorted((pair, side) for pair in PAIRS for side in SIDES)
    assert directory.most == limits.PAIRS_PARALLEL * len(SIDES)


@pytest.mark.parametrize("limit", [1, 7, 20, 500])
async def test_no_more_pairs_are_read_than_are_shown_and_a_few(limit: int) -> None:
    directory = Counting(full_books())
    market = market_of(directory)
    whole = await market.listing(OrderQuery(limit=limits.LISTING_ORDERS_MAX))
    assert whole.hidden == {}
    expected = book_best(whole.orders, limit)
    directory.read.clear()
    told: list[float] = []
    found = await market.listing(OrderQuery(limit=limit), told.append)
    pairs = {pair for pair, _ in directory.read}
    assert [order.id for order in found.orders] == [order.id for order in expected]
    assert found.next is None
    assert found.hidden.get("pairs", 0) == len(PAIRS) - len(pairs)
    assert len(pairs) <= limit + 2 * limits.PAIRS_PARALLEL
    assert told == [number / len(PAIRS) for number in range(1, len(pairs) + 1)]


async def test_a_list_of_several_pairs_is_no_line_to_go_on_in_though_it_shows_one() -> None:
    books = full_books()
    directory = Counting({(pair, "sell"): books[pair, "sell"] for pair in (PAIRS[1], PAIRS[-1])})
    found = await market_of(directory).listing(OrderQuery(limit=1))
    assert ([order.symbol for order in found.orders], found.next) == ([PAIRS[1]], None)


async def test_a_sorted_listing_reads_all() -> None:
    directory = Counting(full_books())
    listing = await market_of(directory).listing(OrderQuery(limit=3, sort="dearest"))
    assert {pair for pair, _ in directory.read} == set(PAIRS)
    assert "pairs" not in listing.hidden


async def test_who_goes_away_ends_the_reading() -> None:
    directory = Counting()
    directory.ended = asyncio.Event()
    reading = asyncio.create_task(market_of(directory).listing(OrderQuery()))
    await until(lambda: directory.under_way == limits.PAIRS_PARALLEL * len(SIDES))
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    assert (directory.under_way, len(directory.read)) == (0, limits.PAIRS_PARALLEL * len(SIDES))
