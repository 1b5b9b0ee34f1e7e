"""Views that read a part of a book only: whole prices, the best ones, page by page, whatever one holder says."""

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from dhtex import limits
from dhtex.clock import SystemClock
from dhtex.directory import pricetree
from dhtex.directory.pricetree import Wish
from dhtex.directory.reading import OrderReading
from dhtex.market import branches
from dhtex.market.admission import Verifier
from dhtex.market.holding import IDS, Page
from dhtex.market.ids import DhtKey, RecordId, index_key
from dhtex.market.keyring import Keyring
from dhtex.market.pricebits import price_bits
from dhtex.market.records import Closing, Kind, Liveness, Order, Record
from dhtex.node.events import Hub
from dhtex.node.following import Following
from dhtex.node.market import Market
from dhtex.store.database import Database
from dhtex.store.holdings import Holdings
from dhtex.views import BookView, LevelView, OrderQuery
from tests.builders import NETWORK, identity, make_order, make_status
from tests.unit.directory.network import Member, members

PAIR, SIDE = "BTC/USD", "sell"
KEY = index_key(NETWORK, PAIR, SIDE, "")
LEVELS = 5


class Liar:
    """The holdings of a member that `lie` at the root of the side's tree; it gets what the truth would be asked."""

    def __init__(self, truth: Holdings, lie: Callable[..., Page]) -> None:
        self._truth = truth
        self._lie = lie

    def __getattr__(self, name: str) -> Any:
        return getattr(self._truth, name)

    def page(self, key: DhtKey, kind: int, *asked: Any) -> Page:
        if key == KEY and kind & ~IDS == Kind.ORDER:
            return self._lie(key, kind, *asked)
        return self._truth.page(key, kind, *asked)


def reviver(truth: Holdings, ended: list[Record[Order]]) -> Liar:
    """Lists what has ended beside all the rest."""
    lies = Holdings(Database.open(None), NETWORK, 0, Verifier())
    for wire in [*truth.page(KEY, Kind.ORDER, 0, 1 << 20, time.time()).wires, *(order.wire for order in ended)]:
        lies.put(wire, "", time.time(), "self")
    return Liar(truth, lies.page)


def deaf(truth: Holdings) -> Liar:
    """Answers with the whole list, whatever part of it is asked for."""
    return Liar(truth, lambda key, kind, rank, room_bytes, now, span: truth.page(key, kind, rank, room_bytes, now))


def boaster(truth: Holdings) -> Liar:
    """Says that it has billions."""
    return Liar(truth, lambda *asked: dataclasses.replace(truth.page(*asked), total=2**32 - 1, digest=b"boasting"))


class LaterClock(SystemClock):
    later_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.later_s


@pytest.fixture
async def network() -> AsyncIterator[list[Member]]:
    async with members(10) as made:
        yield made


def order(number: int, price: int) -> Record[Order]:
    created = int(time.time()) - 600 + number % 97
    return make_order(
        number=number,
        price=str(price),
        amount="2" if number % 5 == 0 else "1",
        created=created,
        liveness=Liveness.MAILBOX,
        by=identity(5 + number % 3),
    )


async def publish(network: list[Member], orders: list[Record[Order]]) -> None:
    for one in orders:
        await network[0].directory.publish(one)


def liar_and_reader(network: list[Member]) -> tuple[Member, Member]:
    liar = next(member for member in network[1:] if member.holdings.tree_node(KEY) is not None)
    return liar, next(member for member in network if member.holdings.tree_node(KEY) is None)


def become(member: Member, liar: Liar) -> None:
    member.overlay.protocol.stock.serving._holdings = cast(Any, liar)


def market_of(member: Member) -> Market:
    journal = SimpleNamespace(orders_after=lambda *since: (0, []), orders_named=list, order=lambda order_id: None)
    keys, nobody = Keyring(bytes(32)), cast(Any, None)
    return Market(NETWORK, keys, member.directory, cast(Any, journal), member.holdings, nobody, SystemClock())


def following_of(member: Member) -> tuple[Following, Market, LaterClock]:
    market, clock = market_of(member), LaterClock()
    return Following(market, member.directory, Hub(clock), clock), market, clock


def lookups(member: Member) -> list[bytes]:
    """The orders whose own keys a member asks from now on."""
    asked: list[bytes] = []
    reader = member.directory._reader
    read_order = reader.read_order

    async def counting(order_id: Any) -> Any:
        asked.append(order_id)
        return await read_order(order_id)

    reader.read_order = counting  # type: ignore[method-assign]
    return asked


def prices(levels: list[LevelView]) -> list[tuple[str, int]]:
    return [(level.price, level.orders) for level in levels]


@pytest.mark.parametrize("ghosts", [9, 30])
async def test_who_revives_what_is_closed_makes_no_ladder_shorter(network: list[Member], ghosts: int) -> None:
    await publish(network, [order(number, 50_000 + number // 3) for number in range(60)])
    ended = [order(100 + number, 40_000 + number) for number in range(ghosts)]
    for one in ended:
        await network[0].directory.publish(make_status(one, Closing.CANCELED, at=one.body.created + 5))
    liar, reader = liar_and_reader(network)
    become(liar, reviver(liar.holdings, ended))
    following, market, clock = following_of(reader)
    wanted = [(str(50_000 + level), 3) for level in range(LEVELS)]
    for limit in (1, LEVELS):
        assert prices((await market.book(PAIR, limit)).asks) == wanted[:limit]
    shown = (await market.listing(OrderQuery(pair=PAIR, side=SIDE, limit=6))).orders
    assert [one.price for one in shown] == ["50000"] * 3 + ["50001"] * 3
    await following.begin(PAIR, LEVELS)
    await following.follow()
    asked = lookups(reader)
    for _ in range(5):
        assert prices(following.ladder(f"{PAIR} {LEVELS}", LEVELS).asks) == wanted
        clock.later_s += 1.0
        await following.follow()
    assert not asked, "what is whole is not read again every second"


async def test_a_price_is_shown_whole_or_not_at_all(network: list[Member]) -> None:
    await publish(network, [order(number, 50_000 + number // 40) for number in range(80)])
    ended = [order(100 + number, 40_000 + number) for number in range(9)]
    for one in ended:
        await network[0].directory.publish(make_status(one, Closing.CANCELED, at=one.body.created + 5))
    liar, reader = liar_and_reader(network)
    become(liar, reviver(liar.holdings, ended))
    assert prices((await market_of(reader).book(PAIR, 1)).asks) == [("50000", 40)]


async def test_who_is_deaf_to_bounds_is_named_and_harms_nobody(network: list[Member]) -> None:
    made = [order(number, 50_000 + number) for number in range(200)]
    await publish(network, made)
    liar, reader = liar_and_reader(network)
    become(liar, deaf(liar.holdings))
    asked = lookups(reader)
    wish = Wish(limit=15, low=price_bits("50100"))
    reading = await reader.directory.read_index(PAIR, SIDE, wish, lambda _, one: one.body.amount == "2")
    found = sorted(int(one.body.price) for one in reading.orders.values() if one.body.amount == "2")
    assert found[:15] == list(range(50_100, 50_175, 5))
    assert [holder.hidden for holder in reading.coverage.disagreed] == [0]
    assert not asked


async def test_who_boasts_does_not_say_how_many_are_left(network: list[Member]) -> None:
    await publish(network, [order(number, 50_000 + number) for number in range(60)])
    liar, reader = liar_and_reader(network)
    become(liar, boaster(liar.holdings))
    assert (await market_of(reader).book(PAIR, LEVELS)).hidden == {"limit": 60 - LEVELS}


@pytest.mark.parametrize("sort", ["", "cheapest"])
@pytest.mark.parametrize("spread", [1, 40])
async def test_pages_skip_nothing_where_one_price_fills_several_nodes(
    network: list[Member], sort: str, spread: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "TREE_NODE_ORDERS_MAX", 16)
    monkeypatch.setattr(limits, "TREE_NODE_ORDERS_MIN", 8)
    monkeypatch.setattr(branches, "_LARGE", 12)
    monkeypatch.setattr(branches, "_SMALL", 2)
    monkeypatch.setattr(pricetree, "_FEW", 4)
    await publish(network, [order(37 * number % 101, 50_000 + number % spread) for number in range(80)])
    market = market_of(network[-1])
    whole = await market.listing(OrderQuery(pair=PAIR, side=SIDE, limit=limits.LISTING_ORDERS_MAX))
    assert len(whole.orders) == 80
    assert whole.coverage.nodes > 4
    query, seen = OrderQuery(pair=PAIR, side=SIDE, limit=7, sort=sort), list[str]()
    while True:
        page = await market.listing(query)
        seen += [one.id for one in page.orders]
        if page.next is None:
            break
        query = msgspec.structs.replace(query, after=page.next, sort="")
    assert seen == [one.id for one in whole.orders]


async def test_what_is_pushed_and_listed_by_nobody_is_asked_about_once_in_a_while(
    network: list[Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    await publish(network, [order(number, 50_000 + number) for number in range(3)])
    _, reader = liar_and_reader(network)
    following, _, _ = following_of(reader)
    await following.begin(PAIR, LEVELS)
    for number in range(100):
        following.heard(KEY, order(1000 + number, 40_000 + number))
    asked: list[bytes] = []

    async def most_know_no_end(order_id: RecordId) -> OrderReading:
        asked.append(order_id)
        return OrderReading(answered=8, lead=8)

    monkeypatch.setattr(reader.directory._reader, "read_order", most_know_no_end)
    for _ in range(3):
        await asyncio.gather(*map(following.pull, following.at(KEY)))
    assert len(asked) == 100


async def test_a_followed_ladder_says_how_many_are_behind_it(network: list[Member]) -> None:
    await publish(network, [order(number, 50_000 + number) for number in range(40)])
    _, reader = liar_and_reader(network)
    following, market, _ = following_of(reader)
    await following.begin(PAIR, LEVELS)

    def shown() -> BookView:
        return following.ladder(f"{PAIR} {LEVELS}", LEVELS)

    assert shown().hidden == {"limit": 35}
    more = [order(100 + number, 60_000 + number) for number in range(30)]
    await publish(network, more)
    for one in more:
        following.heard(KEY, one)
    assert shown().hidden == {"limit": 65}
    await asyncio.gather(*map(following.pull, following.at(KEY)))
    assert shown().hidden == (await market.book(PAIR, LEVELS)).hidden == {"limit": 65}


async def test_what_belongs_to_another_pair_or_side_is_not_taken_in(network: list[Member]) -> None:
    following, _, _ = following_of(network[1])
    await following.begin(PAIR, None)
    for pair, side in (("BTC/EUR", "sell"), (PAIR, "buy")):
        following.heard(KEY, make_order(number=7, pair=pair, side=cast(Any, side), created=int(time.time()) - 60))
    assert following.snapshot(PAIR) == []
