"""What desks hear: late, twice, forged, contradicting, or nothing at all."""

import asyncio

import pytest
from msgspec.structs import replace

from dhtex.market.records import Closing, Confirm, Kind, Liveness, Order, is_a
from dhtex.views import AcceptRequest
from tests.builders import identity, make_accept, make_status
from tests.unit.trading.world import Party, VirtualClock, new_network, parties, play, states, stop, until


def test_everything_works_by_pull_alone() -> None:
    async def story() -> None:
        network = new_network(silent=True)
        maker, taker = await parties(network, 2)
        order = maker.publish()
        trade = await taker.accept(order, wait_s=5)
        assert trade.state == "sent"
        maker.desk.on_gap(order.id)
        assert (await taker.desk.wait(trade.accept_id, 20)).state == "confirmed"
        second = maker.publish(number=1)
        third = await taker.accept(second, wait_s=200)  # nobody says that something was missed: the rotation finds it
        assert third.state in ("confirmed", "void")
        await stop(maker, taker)

    play(story())


def test_one_order_that_is_doubted_all_the_time_keeps_no_other_from_its_turn() -> None:
    async def story() -> None:
        maker, taker = await parties(new_network(silent=True), 2)
        doubted, order = maker.publish(), maker.publish(number=1)
        trade = await taker.accept(order, wait_s=0)
        for _ in range(12):
            await asyncio.sleep(5)
            maker.desk.on_gap(doubted.id)
        assert (await taker.desk.wait(trade.accept_id, 20)).state == "confirmed"
        await stop(maker, taker)

    play(story())


def test_an_accept_heard_many_times_is_answered_with_one_set_of_bytes() -> None:
    async def story() -> None:
        network = new_network()
        (maker,) = await parties(network, 1)
        order = maker.publish()
        accept, late = make_accept(order), make_accept(order, by=identity(3))
        for _ in range(5):
            maker.desk.on_record(accept)
            maker.desk.on_record(late)
        await until(lambda: not maker.journal.unpublished())
        maker.desk.on_record(accept)
        await until(lambda: len(network.puts) == 3)
        answers = [record for record in network.at_order[order.id].values() if not is_a(record, Order)]
        assert sorted(type(record.body).__name__ for record in answers) == ["Refusal", "Status"]
        assert len(maker.journal.trades()) == 2
        await stop(maker)

    play(story())


def test_forged_accepts_and_answers_change_nothing() -> None:
    async def story() -> None:
        network = new_network()
        maker, taker = await parties(network, 2)
        order = maker.publish(liveness=Liveness.MAILBOX, confirm=Confirm.ASK)
        trade = await taker.accept(order)
        accept = taker.desk._buying._terms.records(trade)[1]
        maker.desk.on_record(replace(make_accept(order, by=identity(9)), signature=bytes(64)))
        stranger = identity(66)
        for status in (
            make_status(order, Closing.FILLED, accept=accept, by=stranger, maker=stranger.public),
            replace(make_status(order, Closing.FILLED, accept=accept), signature=bytes(64)),
            replace(make_status(order, Closing.CANCELED), signature=bytes(64)),
        ):
            taker.desk.on_record(status)
            maker.desk.on_record(status)
        maker.desk.on_record(order)
        assert states(taker)[0][0] in ("sent", "pending")
        assert maker.state(order) == "open"
        await until(lambda: states(maker) == [("pending", "")])
        await stop(maker, taker)

    play(story())


def test_a_maker_that_promises_twice_is_found_out() -> None:
    async def story() -> None:
        network = new_network()
        taker = await Party(network, 2).start()
        cheat = await Party(network, 1).start()
        order = cheat.publish()
        await cheat.kill()
        trade = await taker.accept(order)
        accept = taker.desk._buying._terms.records(trade)[1]
        network.store(order.id, make_status(order, Closing.FILLED, accept=accept))
        assert (await taker.desk.wait(trade.accept_id, 30)).state == "confirmed"
        network.store(order.id, make_status(order, Closing.FILLED, accept=make_accept(order, by=identity(3))))
        await until(lambda: states(taker) == [("confirmed", "disputed")])
        await stop(taker)

    play(story())


def test_an_order_closed_by_a_copy_of_this_node_is_not_given_away_again() -> None:
    async def story() -> None:
        network = new_network()
        (maker,) = await parties(network, 1)
        order, other = maker.publish(), maker.publish(number=1)
        status = make_status(order, Closing.CANCELED, seq=3)
        maker.desk.on_record(status)
        assert maker.state(order) == "canceled"
        assert maker.ended == [(order.id, "canceled")]
        maker.desk.on_record(make_accept(order))
        assert states(maker) == [("refused", "canceled")]
        maker.desk.on_record(make_accept(other))
        own = maker.journal.order(other.id)
        assert own is not None
        maker.desk.on_record(make_status(other, Closing.FILLED, accept=make_accept(other, by=identity(5))))
        assert maker.state(other) == "disputed"
        await stop(maker)

    play(story())


def test_keys_are_watched_no_longer_than_needed() -> None:
    async def story() -> None:
        network = new_network()
        maker, taker = await parties(network, 2)
        order = maker.publish()
        trade = await taker.accept(order, wait_s=30)
        assert maker.access.watches(order.id)
        await until(lambda: not maker.access.watches(order.id))
        await until(lambda: not taker.access.watches(order.id))
        assert VirtualClock().now() < trade.deadline + 60
        assert not taker.desk._followed
        await stop(maker, taker)
        assert not maker.desk._tasks
        assert not maker.desk._timers

    play(story())


def test_a_full_disk_decides_nothing_and_tells_nobody() -> None:
    async def story() -> None:
        network = new_network()
        maker, taker = await parties(network, 2)
        order = maker.publish()
        maker.database._journal.execute("PRAGMA query_only=ON")
        trade = await taker.accept(order, wait_s=10)
        assert trade.state == "sent"
        assert {record.kind for record in network.at_order[order.id].values()} == {Kind.ORDER, Kind.ACCEPT}
        maker.database._journal.execute("PRAGMA query_only=OFF")
        maker.desk.on_gap(order.id)
        assert (await taker.desk.wait(trade.accept_id, 30)).state == "confirmed"
        await stop(maker, taker)

    play(story())


def test_waiting_ends_with_its_time_and_with_the_node() -> None:
    async def story() -> None:
        network = new_network()
        maker, taker = await parties(network, 2)
        order = maker.publish(confirm=Confirm.ASK)
        trade = await taker.desk.accept(order, AcceptRequest())
        begun = VirtualClock().now()
        assert (await taker.desk.wait(trade.accept_id, 7)).state == "pending"
        assert VirtualClock().now() - begun == pytest.approx(7, abs=0.1)
        await stop(maker, taker)
        assert taker.desk._waiting.get(trade.accept_id, []) == []

    play(story())


def test_a_crowd_of_new_peers_causes_two_readings_of_what_is_open() -> None:
    async def story() -> None:
        network = new_network()
        (maker,) = await parties(network, 1)
        maker.publish()
        await asyncio.sleep(1)
        before = network.reads
        for _ in range(50):
            maker.desk.refresh()
            await asyncio.sleep(0.05)
        assert network.reads == before + 1
        await asyncio.sleep(10)
        assert network.reads == before + 2
        await stop(maker)

    play(story())
