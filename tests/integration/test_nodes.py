"""Whole nodes in one process, real UDP on loopback: what each promise looks like from the library's face."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import msgspec
import pytest

from dhtex.config import NodeConfig
from dhtex.errors import DhtexError, NotFoundError, RefusedError, StateError, UsageError
from dhtex.node import Node
from dhtex.store.database import Database
from dhtex.views import AcceptRequest, Amendment, OrderDraft, OrderQuery

DRAFT = OrderDraft(side="sell", amount="1", pair="BTC/USD", price="50000")


def config(*bootstrap: Node, home: Path | None = None) -> NodeConfig:
    return NodeConfig(
        host="127.0.0.1",
        network="test",
        pow_bits=0,
        bootstrap=tuple(f"127.0.0.1:{node.port}" for node in bootstrap),
        home=home,
    )


@asynccontextmanager
async def network(count: int) -> AsyncIterator[list[Node]]:
    """So many nodes that know each other."""
    async with AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(Node(config()))]
        for _ in range(count - 1):
            nodes.append(await stack.enter_async_context(Node(config(nodes[0]))))
        await until(lambda: all(node.status().peers == count - 1 for node in nodes))
        yield nodes


async def until(condition: Callable[[], bool | Awaitable[bool]], deadline_s: float = 15.0) -> None:
    """Wait for a condition, checking often; fails with the condition's source when it never holds."""
    async with asyncio.timeout(deadline_s):
        while True:
            result = condition()
            if result if isinstance(result, bool) else await result:
                return
            await asyncio.sleep(0.01)


async def lists(node: Node, pair: str = "BTC/USD") -> set[str]:
    return {order.id for order in (await node.list_orders(OrderQuery(pair=pair))).orders}


async def test_connecting_later_syncs_and_trades() -> None:
    async with Node(config()) as one, Node(config()) as two:
        published = await one.add_order(DRAFT)
        assert (published.holders, published.order.status) == (0, "publishing")
        assert await lists(two) == set()
        assert await two.connect("127.0.0.1", one.port)

        async def listed() -> bool:
            return await lists(two) == {published.order.id}

        await until(listed)
        outcome = await two.accept_order(published.order.id[:8], AcceptRequest(message="call me"))
        assert (outcome.state, outcome.code) == ("confirmed", None)
        assert [trade.state for trade in one.trades() + two.trades()] == ["confirmed", "confirmed"]
        assert one.trades()[0].message == "call me"
        for node in (one, two):
            assert (await node.show_order(published.order.id)).status == "filled"
            assert await lists(node) == set()


async def test_of_two_accepts_at_once_one_wins_and_the_other_is_told_taken() -> None:
    async with network(5) as nodes:
        maker, first, second = nodes[0], nodes[3], nodes[4]
        order = (await maker.add_order(DRAFT)).order.id
        await asyncio.gather(first.list_orders(OrderQuery(pair="BTC/USD")), second.list_orders(OrderQuery()))
        outcomes = await asyncio.gather(*(node.accept_order(order, AcceptRequest()) for node in (first, second)))
        assert sorted((o.state, o.code or "") for o in outcomes) == [("confirmed", ""), ("refused", "taken")]
        fills = [trade for trade in maker.trades() if trade.state == "confirmed"]
        assert [fill.accept for fill in fills] == [o.accept for o in outcomes if o.state == "confirmed"]


class FullDisk(Database):
    """A disk that may be full."""

    full = False
    refused = 0

    @contextmanager
    def batch(self) -> Iterator[sqlite3.Connection]:
        if FullDisk.full:
            FullDisk.refused += 1
            raise StateError("the disk is full")
        with super().batch() as connection:
            yield connection


async def test_what_a_full_disk_refuses_is_written_when_there_is_room(tmp_path: Path) -> None:
    async with Node(config(home=tmp_path), open_database=FullDisk.open) as holder, Node(config(holder)) as maker:
        FullDisk.full = True
        await maker.add_order(DRAFT)
        await until(lambda: FullDisk.refused > 1)
        FullDisk.full = False
        file = sqlite3.connect(tmp_path / "node.db")
        await until(lambda: bool(file.execute("SELECT count(*) FROM held").fetchone()[0]))
        file.close()
        FullDisk.full = True  # and a node stops all the same
    FullDisk.full = False


async def test_one_cannot_accept_ones_own_order() -> None:
    async with network(2) as (one, _):
        order = (await one.add_order(DRAFT)).order.id
        with pytest.raises(RefusedError) as refusal:
            await one.accept_order(order, AcceptRequest())
        assert refusal.value.reason == "self_trade"


async def test_every_node_lists_every_order_with_full_coverage() -> None:
    async with network(4) as nodes:
        for index, node in enumerate(nodes):
            await node.add_order(OrderDraft(side="buy", amount="1", pair="XMR/BTC", price=f"0.00{index + 1}"))
        for node in nodes:
            listing = await node.list_orders(OrderQuery(pair="XMR/BTC", side="buy"))
            assert [order.price for order in listing.orders] == ["0.004", "0.003", "0.002", "0.001"]
            assert listing.coverage.complete
            assert listing.coverage.answered == listing.coverage.asked == listing.coverage.agreed == 4


async def test_what_a_node_alone_lists_is_all_that_it_has_and_not_called_complete() -> None:
    async with network(1) as (alone,):
        await alone.add_order(OrderDraft(side="buy", amount="1", pair="XMR/BTC", price="0.001"))
        listing, book = await alone.list_orders(OrderQuery(pair="XMR/BTC")), await alone.book("XMR/BTC")
        for coverage in (listing.coverage, book.coverage):
            assert (coverage.asked, coverage.answered, coverage.complete, coverage.missing) == (1, 1, False, [])
        assert len(listing.orders) == len(book.bids) == 1


async def test_a_name_that_cannot_be_is_told_with_what_can() -> None:
    async with network(1) as (node,):
        for wrong, says in (
            (msgspec.structs.replace(DRAFT, payment=["SEPA", "<b>"]), "'<b>' cannot name a payment method"),
            (msgspec.structs.replace(DRAFT, reference="a b"), "'a b' cannot be a reference"),
        ):
            with pytest.raises(UsageError, match=says) as misuse:
                await node.add_order(wrong)
            assert "letters, digits" in misuse.value.hint
        assert node.status().orders_open == 0


async def test_a_listing_that_was_cut_short_says_so() -> None:
    async with network(2) as (maker, other):
        for price in ("50000", "50001", "50002"):
            await maker.add_order(OrderDraft(side="sell", amount="1", pair="BTC/USD", price=price))
        listing = await other.list_orders(OrderQuery(pair="BTC/USD", limit=2))
        assert ([order.price for order in listing.orders], listing.hidden) == (["50000", "50001"], {"limit": 1})
        assert (await other.list_orders(OrderQuery(pair="BTC/USD", limit=3))).hidden == {}


async def test_a_cancelled_order_is_gone_everywhere_and_cannot_be_accepted() -> None:
    async with network(3) as (maker, taker, other):
        order = (await maker.add_order(DRAFT)).order.id
        assert await lists(taker) == {order}
        await maker.cancel_order(order)
        assert await lists(taker) == await lists(other) == set()
        with pytest.raises(RefusedError) as refusal:
            await taker.accept_order(order, AcceptRequest())
        assert refusal.value.reason == "canceled"
        with pytest.raises(RefusedError):
            await maker.cancel_order(order)


async def test_an_amended_order_is_replaced_by_its_successor() -> None:
    async with network(3) as (maker, taker, _):
        old = (await maker.add_order(DRAFT)).order.id
        assert await lists(taker) == {old}
        new = (await maker.amend_order(old, Amendment(price="49000"))).order
        assert new.replaces == old
        assert await lists(taker) == {new.id}
        with pytest.raises(RefusedError) as refusal:
            await taker.accept_order(old, AcceptRequest())
        assert refusal.value.reason == "replaced"
        assert (await taker.accept_order(new.id, AcceptRequest())).state == "confirmed"


async def test_an_amendment_whose_caller_goes_away_is_carried_out_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    async with network(2) as (maker, reader):
        old = (await maker.add_order(DRAFT)).order.id
        stuck = asyncio.Event()

        async def put(*_: object) -> None:
            stuck.set()
            await asyncio.Event().wait()

        with monkeypatch.context() as patched:
            patched.setattr("dhtex.overlay.server.Overlay.put", put)
            call = asyncio.create_task(maker.amend_order(old, Amendment(price="49000")))
            await stuck.wait()
            call.cancel()
            await asyncio.wait([call])
        assert call.cancelled()

        async def replaced() -> bool:
            return [order.price for order in (await reader.list_orders(OrderQuery(pair="BTC/USD"))).orders] == ["49000"]

        await until(replaced)


async def test_a_person_confirms_one_of_two_waiting_accepts() -> None:
    async with network(3) as (maker, first, second):
        draft = OrderDraft(side="sell", amount="1", pair="BTC/USD", price="50000", confirm="ask")
        order = (await maker.add_order(draft)).order.id
        await asyncio.gather(lists(first), lists(second))
        waiting = await asyncio.gather(
            first.accept_order(order, AcceptRequest(wait_s=0.2)), second.accept_order(order, AcceptRequest(wait_s=0.2))
        )
        assert {outcome.state for outcome in waiting} == {"pending"}
        await until(lambda: len(maker.trades()) == 2)
        with pytest.raises(UsageError):
            await maker.confirm_order(order, "", "")
        won = await maker.confirm_order(order, waiting[0].accept[:10], "meet me")
        assert won.state == "confirmed"
        await until(lambda: first.trades()[0].state == "confirmed" and second.trades()[0].state == "refused")
        assert first.trades()[0].reply == "meet me"
        assert second.trades()[0].code == "taken"


async def test_an_order_for_the_mailbox_is_accepted_while_its_maker_is_away(tmp_path: Path) -> None:
    async with network(3) as (one, two, _):
        async with Node(config(one, home=tmp_path)) as maker:
            draft = OrderDraft(side="sell", amount="1", pair="BTC/USD", price="50000", liveness="mailbox")
            order = (await maker.add_order(draft)).order.id
        outcome = await two.accept_order(order, AcceptRequest(wait_s=0.2))
        assert outcome.state in {"sent", "pending"}
        async with Node(config(one, home=tmp_path)) as maker:
            await until(lambda: [trade.state for trade in maker.trades()] == ["confirmed"])
            await until(lambda: two.trades()[0].state == "confirmed")


async def test_a_restarted_node_has_its_identity_orders_and_trades(tmp_path: Path) -> None:
    async with network(2) as (one, two):
        async with Node(config(one, home=tmp_path)) as maker:
            before = maker.status()
            kept, filled = [(await maker.add_order(DRAFT)).order.id for _ in range(2)]
            assert (await two.accept_order(filled, AcceptRequest())).state == "confirmed"
        async with Node(config(one, home=tmp_path)) as maker:
            after = maker.status()
            assert (after.node, after.maker, after.orders_open) == (before.node, before.maker, 1)
            assert [trade.order for trade in maker.trades()] == [filled]
            assert await lists(maker) == {kept}
            with pytest.raises(RefusedError) as refusal:
                await one.accept_order(filled, AcceptRequest())
            assert refusal.value.reason == "taken"


async def test_a_watcher_sees_what_is_there_then_each_change() -> None:
    async with network(3) as (maker, watcher, _):
        first = (await maker.add_order(DRAFT)).order.id
        events = watcher.watch("BTC/USD")
        seen = await anext(events)
        assert seen.order is not None
        assert (seen.order.id, seen.order.status) == (first, "open")
        second = (await maker.add_order(DRAFT)).order.id
        await maker.cancel_order(first)
        told: dict[str, str] = {}
        async with asyncio.timeout(10):
            while len(told) < 2:
                event = await anext(events)
                assert event.order is not None
                told[event.order.id] = event.order.status
        assert told == {second: "open", first: "canceled"}
        await events.aclose()  # type: ignore[attr-defined]


async def test_events_tell_of_own_orders_from_their_publication_to_their_end() -> None:
    async with network(1) as (node,):
        events = node.events()
        waiting = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        old = (await node.add_order(DRAFT)).order.id
        new = (await node.amend_order(old, Amendment(price="49000"))).order.id
        await node.cancel_order(new)
        async with asyncio.timeout(10):
            told = [await waiting] + [await anext(events) for _ in range(3)]
        orders = [event.order for event in told if event.order is not None]
        assert [(order.id, order.status) for order in orders] == [
            (old, "open"),
            (new, "open"),
            (old, "replaced"),
            (new, "canceled"),
        ]
        await events.aclose()  # type: ignore[attr-defined]


async def test_a_watcher_does_not_wait_for_one_who_has_left() -> None:
    async with network(2) as (maker, watcher):
        order = (await maker.add_order(DRAFT)).order.id
        first = asyncio.ensure_future(anext(watcher.watch("BTC/USD")))
        await asyncio.sleep(0)
        second = watcher.watch("BTC/USD")
        event = asyncio.ensure_future(anext(second))
        await asyncio.sleep(0)
        assert not first.done()
        first.cancel()
        async with asyncio.timeout(10):
            seen = (await event).order
        assert seen is not None
        assert seen.id == order
        await second.aclose()  # type: ignore[attr-defined]


@pytest.mark.parametrize("turns", [0, 3, 6])
async def test_a_node_that_stops_in_the_middle_of_things_raises_nothing_strange(
    turns: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with network(3) as (maker, stopped, other):
        protocol = stopped._running.overlay.protocol
        work = [asyncio.ensure_future(node.add_order(DRAFT)) for node in (stopped, maker, stopped, other, maker)]
        for _ in range(turns):
            await asyncio.sleep(0)
        await stopped.stop()
        async with asyncio.timeout(15):
            ends = await asyncio.gather(*work, return_exceptions=True)
        assert all(not isinstance(end, BaseException) or isinstance(end, DhtexError) for end in ends)
        assert protocol.counts.get("unexpected", 0) == 0
        assert not [record for record in caplog.records if record.exc_info]


async def test_bad_ids_and_bad_drafts_are_said_in_one_line() -> None:
    async with Node(config()) as node:
        for bad in ("xyz", "abc12", "zz" * 32, "a" * 65):
            with pytest.raises(UsageError):
                await node.show_order(bad)
        with pytest.raises(NotFoundError):
            await node.show_order("abcdef")
        good = {"side": "sell", "amount": "1", "pair": "BTC/USD", "price": "5"}
        for change in ({"amount": "0"}, {"amount": "-1"}, {"price": "1e5"}, {"pair": "BTCUSD"}, {"side": "hold"}):
            with pytest.raises(UsageError) as error:
                await node.add_order(msgspec.convert(good | change, OrderDraft))
            assert "\n" not in str(error.value)
        assert node.status().orders_open == 0
