"""A book that outgrows one node: it splits, moves, stays complete, forgets, shrinks; and whoever lies is named."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from dhtex import limits
from dhtex.directory import pricetree, treereading
from dhtex.directory.pricetree import Wish
from dhtex.directory.reading import IndexReading
from dhtex.directory.service import EVERYTHING
from dhtex.market import branches
from dhtex.market.admission import tree_path
from dhtex.market.holding import MOVED, Taken, TreeOrder
from dhtex.market.ids import index_key
from dhtex.market.pricebits import price_at, price_bits
from dhtex.market.records import Closing, Liveness, Order, Record
from tests.builders import NETWORK, identity, make_beat, make_order, make_status
from tests.unit.directory.network import Member, members

PAIR, SIDE = "BTC/USD", "sell"
ROOT_KEY = index_key(NETWORK, PAIR, SIDE, "")
COUNT = 60


@pytest.fixture(autouse=True)
def small_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes of sixteen orders, so that sixty make a tree."""
    monkeypatch.setattr(limits, "TREE_NODE_ORDERS_MAX", 16)
    monkeypatch.setattr(limits, "TREE_NODE_ORDERS_MIN", 8)
    monkeypatch.setattr(limits, "TREE_MOVES_PER_S", 10_000)
    monkeypatch.setattr(branches, "_LARGE", 12)
    monkeypatch.setattr(branches, "_SMALL", 2)
    monkeypatch.setattr(pricetree, "_FEW", 4)


@pytest.fixture
async def network() -> AsyncIterator[list[Member]]:
    async with members(12) as made:
        yield made


def orders(count: int = COUNT) -> list[Record[Order]]:
    created = int(time.time()) - 60
    return [
        make_order(
            number=number,
            price=str(50_000 + 7 * number),
            created=created,
            liveness=Liveness.MAILBOX,
            by=identity(5 + number % 3),
        )
        for number in range(count)
    ]


async def publish(member: Member, records: list[Record[Order]]) -> None:
    for record in records:
        assert (await member.directory.publish(record)).holders >= limits.HOLDERS // 2


async def tend(network: list[Member], rounds: int = 2) -> None:
    for _ in range(rounds):
        for member in network:
            for key in member.holdings.tree_keys():
                await member.tending.tend(key)


async def read(member: Member, wish: Wish = EVERYTHING) -> IndexReading:
    return await member.directory.read_index(PAIR, SIDE, wish)


def open_orders(reading: IndexReading) -> set[bytes]:
    return {order_id for order_id in reading.orders if not reading.statuses.get(order_id)}


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


async def test_a_book_splits_and_a_reader_finds_all_of_it_or_the_best(network: list[Member]) -> None:
    made = orders()
    await publish(network[0], made)
    for _ in range(2):  # while orders move, and afterwards
        reading = await read(network[-1])
        assert set(reading.orders) == {order.id for order in made}
        assert reading.coverage.complete
        assert reading.coverage.missing == []
        assert len(reading.visited) > 2
        best = await read(network[-1], Wish(limit=5))
        prices = sorted((order.body.price for order in best.orders.values()), key=int)
        assert prices[:5] == [order.body.price for order in made[:5]]
        assert len(best.visited) < len(reading.visited)
        await tend(network)
    async with asyncio.timeout(30):
        while max(len(_node_orders(member)) for member in network) > limits.TREE_NODE_ORDERS_MAX:
            await tend(network, rounds=1)  # what belongs below moves


async def test_ends_that_only_a_divided_book_has_are_found_by_the_orders_themselves(network: list[Member]) -> None:
    made = orders()
    await publish(network[0], made)
    await tend(network)
    for order in made[::12]:
        end = make_status(order, Closing.CANCELED)
        assert await network[0].directory.put_in_tree(end) > 0
        directory = network[-1].directory
        assert not (await directory.read_order(order.id)).statuses
        assert await directory.read_ends_of(order, []) == [end]
        assert (await directory.read_order(order.id)).statuses == [end]
    assert open_orders(await read(network[-1])) == {order.id for order in made} - {order.id for order in made[::12]}


async def test_of_a_node_only_what_is_wanted_is_read(network: list[Member]) -> None:
    made = orders()
    await publish(network[0], made)
    begin, end = (price_bits(made[number].body.price) for number in (31, 33))
    for wish, wanted in ((Wish(limit=3, low=begin), 3), (Wish(low=begin, high=end), 3), (Wish(low=begin), COUNT - 31)):
        reading = await read(network[-1], wish)
        assert reading.coverage.complete
        found = sorted(reading.orders.values(), key=lambda order: int(order.body.price))
        assert [order.id for order in found[:wanted]] == [order.id for order in made[31 : 31 + wanted]]
        assert len(found) <= max(wanted, 12), "three of one node, and of a few that it names"


async def test_a_closed_order_is_gone_wherever_its_copies_stand(network: list[Member]) -> None:
    made = orders()
    await publish(network[0], made)
    closed = make_status(made[3], Closing.CANCELED)
    network[0].directory.forget(made[3].id)
    await network[0].directory.publish(closed)
    for _ in range(2):
        reading = await read(network[-1])
        assert made[3].id not in open_orders(reading)
        await tend(network)
    assert made[3].id not in open_orders(await read(network[-1]))


@pytest.mark.parametrize("limit", [None, 2])
async def test_an_order_goes_as_its_successor_comes_whichever_is_told_first(
    network: list[Member], limit: int | None
) -> None:
    made = orders(6)
    best = made[0].body
    terms: dict[str, Any] = {"price": "49999", "created": best.created + 1, "liveness": best.liveness}
    successor = make_order(number=10, by=identity(5), replaces=made[0].id, **terms)
    await publish(network[0], [*made, successor])  # the end of the old one is still on its way
    reading = await read(network[-1], Wish(limit=limit))
    shown = [successor, *made[1:]]
    assert open_orders(reading) >= {order.id for order in shown[:limit]}
    assert made[0].id not in reading.orders
    assert reading.rejected == {"closed": 1}
    stranger = make_order(number=11, by=identity(9), replaces=made[1].id, **terms)
    await publish(network[1], [stranger])
    assert open_orders(await read(network[-1])) == {order.id for order in (*shown, stranger)}


async def test_a_late_copy_of_a_closed_order_does_not_come_back(network: list[Member]) -> None:
    made = orders()
    await publish(network[0], made[1:])
    await network[0].directory.publish(make_status(made[0], Closing.CANCELED))  # before the order
    await network[1].directory.publish(made[0])
    reading = await read(network[-1])
    assert made[0].id not in open_orders(reading)


async def test_a_book_that_shrinks_is_taken_back(network: list[Member]) -> None:
    made = orders()
    await publish(network[0], made)
    await tend(network)
    for order in made[4:]:
        network[0].directory.forget(order.id)
        await network[0].directory.publish(make_status(order, Closing.CANCELED))
    async with asyncio.timeout(60):
        while (reading := await read(network[-1])).visited != ("",):
            assert open_orders(reading) == {order.id for order in made[:4]}
            await tend(network, rounds=1)
    assert open_orders(reading) == {order.id for order in made[:4]}


async def test_a_holder_that_hides_an_order_is_named_and_mended(network: list[Member]) -> None:
    made = orders(6)
    await publish(network[0], made)
    holder = next(member for member in network if member.holdings.tree_node(ROOT_KEY) is not None)
    holder.holdings.release(ROOT_KEY, made[2].id)
    reader = next(member for member in network if member is not holder)
    reading = await read(reader)
    assert set(reading.orders) == {order.id for order in made}
    named = {row.holder: row.hidden for row in reading.coverage.disagreed}
    assert named == {holder.overlay.protocol.own_id.hex(): 1}
    await until(lambda: made[2].id in {order.id for order in _node_orders(holder)})
    assert (await read(reader)).coverage.disagreed == []


def _node_orders(member: Member) -> list[TreeOrder]:
    node = member.holdings.tree_node(ROOT_KEY)
    return [] if node is None else node.orders


async def test_a_holder_that_serves_a_closed_order_is_named_and_mended(network: list[Member]) -> None:
    made = orders(6)
    await publish(network[0], made)
    ended = make_status(made[2], Closing.CANCELED, at=int(time.time()) - 45)
    holders = [member for member in network if member.holdings.tree_node(ROOT_KEY) is not None]
    for member in holders[1:]:
        assert member.holdings.put(ended.wire, "", time.time(), "test").taken is Taken.STORED
    for member in network:
        member.holdings.put(ended.wire, None, time.time(), "test")
    reader = next(member for member in network if member is not holders[0])
    reading = await read(reader)
    assert reading.statuses[made[2].id]
    named = {row.holder: row.revived for row in reading.coverage.disagreed}
    assert named == {holders[0].overlay.protocol.own_id.hex(): 1}
    await until(lambda: made[2].id not in {order.id for order in _node_orders(holders[0])})


async def test_a_closed_order_is_in_doubt_too_where_the_others_delegate_it(network: list[Member]) -> None:
    made = orders()
    await publish(network[0], made)
    await tend(network)
    holders = [member for member in network if (node := member.holdings.tree_node(ROOT_KEY)) and node.branches]
    kept = {order.id for holder in holders for order in _node_orders(holder)}
    node = holders[0].holdings.tree_node(ROOT_KEY)
    assert node is not None
    ended = next(o for o in made if o.id not in kept and tree_path(o).startswith(node.branches))
    network[0].directory.forget(ended.id)
    await network[0].directory.publish(make_status(ended, Closing.CANCELED, at=int(time.time()) - 45))
    for order in _node_orders(holders[0]):
        holders[0].holdings.release(ROOT_KEY, order.id)
    assert holders[0].holdings.put(ended.wire, "", time.time(), "test").taken is Taken.STORED
    reading = await read(next(member for member in network if member is not holders[0]))
    assert open_orders(reading) == {order.id for order in made} - {ended.id}
    named = {row.holder: row.revived for row in reading.coverage.disagreed if row.revived}
    assert named == {holders[0].overlay.protocol.own_id.hex(): 1}
    await until(lambda: ended.id not in {order.id for order in _node_orders(holders[0])})


@pytest.mark.parametrize("closed", [False, True])
async def test_what_one_holder_has_and_the_others_have_nothing_is_new_to_them_or_over(
    network: list[Member], monkeypatch: pytest.MonkeyPatch, *, closed: bool
) -> None:
    """Which of the two it is, a few orders tell, though more are left than can be asked about."""
    monkeypatch.setattr(treereading, "CONTESTED_MAX", 16)
    made = orders(14)
    await publish(network[0], made)
    holders = [member for member in network if member.holdings.tree_node(ROOT_KEY) is not None]
    for order in made:
        ended = make_status(order, Closing.CANCELED, at=int(time.time()) - 45)
        for member in holders[1:]:
            member.holdings.release(ROOT_KEY, order.id)
        for member in network if closed else []:
            member.holdings.put(ended.wire, None, time.time(), "test")
    reading = await read(next(member for member in network if member is not holders[0]))
    assert open_orders(reading) == (set() if closed else {order.id for order in made})
    assert reading.rejected == ({"unconfirmed": 10} if closed else {})


async def test_why_an_order_is_listed_no_more_is_looked_up_for_who_knew_it(network: list[Member]) -> None:
    made = orders(6)
    await publish(network[0], made)
    for order in made[:2]:
        network[0].directory.forget(order.id)
        await network[0].directory.publish(make_status(order, Closing.CANCELED))
    reader = network[-1].directory
    reading = await reader.read_index(PAIR, SIDE, known=made[1:])
    assert set(reading.statuses) == {made[1].id}
    assert set(reading.orders) == {order.id for order in made[2:]}


async def test_a_part_that_nobody_gives_is_named_by_its_prices(network: list[Member]) -> None:
    made = orders()
    await publish(network[0], made)
    await tend(network)
    visited = (await read(network[-1])).visited
    lost = next(prefix for prefix in visited if prefix)
    reader = network[-1].directory._reader
    read_node = reader.read_node

    async def fail(pair: str, side: str, step: pricetree.Step) -> IndexReading:
        return IndexReading() if step.prefix == lost else await read_node(pair, side, step)

    reader.read_node = fail  # type: ignore[method-assign]
    coverage = (await read(network[-1])).coverage
    assert not coverage.complete
    assert [(gap.low, gap.high) for gap in coverage.missing] == [
        (price_at(lost, highest=False), price_at(lost, highest=True))
    ]


async def test_a_beat_at_a_node_that_delegates_is_answered_with_the_way_on(network: list[Member]) -> None:
    await publish(network[0], orders())
    holder = next(member for member in network if (node := member.holdings.tree_node(ROOT_KEY)) and node.branches)
    beat = make_beat(by=identity(8), at=int(time.time()))  # whose orders are all elsewhere, if it has any
    verdict = holder.holdings.put(beat.wire, "", time.time(), "test")
    assert (verdict.taken, verdict.code) == (Taken.STORED, MOVED)


async def test_a_node_of_which_all_orders_have_moved_keeps_its_branches(network: list[Member]) -> None:
    await publish(network[0], orders())
    holder = next(member for member in network if (node := member.holdings.tree_node(ROOT_KEY)) and node.branches)
    for order in _node_orders(holder):
        holder.holdings.release(ROOT_KEY, order.id)
    node = holder.holdings.tree_node(ROOT_KEY)
    assert node is not None
    holder.holdings.put(make_beat(by=identity(8), at=int(time.time())).wire, "", time.time(), "test")
    assert holder.holdings.tree_node(ROOT_KEY) == node


async def test_a_node_with_branches_takes_a_few_orders_of_them_to_be_handed_on(network: list[Member]) -> None:
    made = orders()
    await publish(network[0], made)
    holder = next(member for member in network if (node := member.holdings.tree_node(ROOT_KEY)) and node.branches)
    for order in _node_orders(holder):
        holder.holdings.release(ROOT_KEY, order.id)
    node = holder.holdings.tree_node(ROOT_KEY)
    assert node is not None
    below = [order for order in made if tree_path(order).startswith(node.branches)]
    verdicts = [holder.holdings.put(order.wire, "", time.time(), "test") for order in below]
    assert [verdict.code for verdict in verdicts] == [MOVED] * len(below)
    assert [verdict.taken for verdict in verdicts][: limits.TREE_WITNESSES] == [Taken.STORED] * limits.TREE_WITNESSES
    assert {verdict.taken for verdict in verdicts[limits.TREE_WITNESSES :]} == {Taken.REFUSED}
    assert len(_node_orders(holder)) == limits.TREE_WITNESSES


async def test_the_end_of_an_order_is_told_between_the_root_and_its_place_too(network: list[Member]) -> None:
    """A node below the root that delegates keeps some orders, and whoever is moved is told of the deepest only."""
    created = int(time.time()) - 60
    dense = [
        make_order(
            number=1000 + number,
            price=f"{50_000 + (number + 1) * 0.05:.2f}".rstrip("0").rstrip("."),
            created=created,
            liveness=Liveness.MAILBOX,
        )
        for number in range(100)
    ]
    await publish(network[0], orders())
    await tend(network)
    await publish(network[0], dense)
    await tend(network, 5)
    held = (member.holdings.tree_node(key) for member in network for key in member.holdings.tree_keys())
    between = next(node for node in held if node is not None and node.prefix and node.branches and node.orders)
    kept = next(order for order in between.orders if order.path.startswith(between.branches))
    ended = next(order for order in dense if order.id == kept.id)
    await network[1].directory.publish(make_status(ended, Closing.CANCELED))  # by a node that knows no branches
    assert ended.id not in open_orders(await read(network[-1]))
