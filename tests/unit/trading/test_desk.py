"""Whole trades between desks: one order and two takers, and what cannot be accepted."""

import asyncio

import pytest

from dhtex.errors import NoPeerError, RefusedError, UsageError
from dhtex.market.records import Closing, Code, Confirm, Status, is_a
from tests.builders import identity, make_accept, make_status
from tests.unit.trading.world import Party, VirtualClock, new_network, parties, play, states, stop, until


def test_an_accept_is_confirmed_on_both_sides_within_a_second() -> None:
    async def story() -> None:
        network = new_network()
        maker, taker = await parties(network, 2)
        order = maker.publish(reply="bank account 7")
        begun = VirtualClock().now()
        trade = await taker.accept(order, message="hello", wait_s=30)
        assert (trade.state, trade.code, trade.message, trade.reply) == ("confirmed", "", "hello", "bank account 7")
        assert VirtualClock().now() - begun < 1
        own = maker.journal.trade(trade.accept_id)
        assert own is not None
        assert (own.state, own.role, own.message, own.reply) == ("confirmed", "maker", "hello", "bank account 7")
        assert own.answer_wire == trade.answer_wire
        assert maker.state(order) == "filled"
        assert maker.ended == [(order.id, "filled")]
        await until(lambda: not maker.journal.unpublished())
        assert network.at_index == [own.answer_wire]
        assert [change.state for change in taker.changes] == ["sent", "confirmed"]
        await stop(maker, taker)

    play(story())


@pytest.mark.parametrize("seed", range(10))
def test_of_two_accepts_at_once_one_wins_and_the_other_is_told_taken(seed: int) -> None:
    async def story() -> None:
        network = new_network(seed)
        maker, one, other = await parties(network)
        order = maker.publish()
        first, second = await one.accept(order), await other.accept(order)
        ends = [await one.desk.wait(first.accept_id, 30), await other.desk.wait(second.accept_id, 30)]
        assert sorted((end.state, end.code) for end in ends) == [("confirmed", ""), ("refused", "taken")]
        await until(lambda: len(maker.journal.trades()) == 2)
        assert sorted(states(maker)) == [("confirmed", ""), ("refused", "taken")]
        statuses = [record for record in network.at_order[order.id].values() if is_a(record, Status)]
        assert len(statuses) == 1
        await stop(maker, one, other)

    play(story())


def test_an_order_without_its_own_reply_sends_the_nodes_contact() -> None:
    async def story() -> None:
        network = new_network()
        maker = await Party(network, 1, contact="mail me").start()
        taker = await Party(network, 2).start()
        assert (await taker.accept(maker.publish(), wait_s=30)).reply == "mail me"
        await stop(maker, taker)

    play(story())


def test_what_cannot_be_accepted_is_said_before_anything_is_sent() -> None:
    async def story() -> None:
        network = new_network()
        maker, taker = await parties(network, 2)
        order = maker.publish(amount="1", minimum="0.5")
        for amount in ("2", "0.1", "-1", "x", "0.500000001"):
            with pytest.raises(UsageError):
                await taker.accept(order, amount=amount)
        with pytest.raises(UsageError, match="message"):
            await taker.accept(order, message="x" * 300)
        with pytest.raises(RefusedError, match="your own") as caught:
            await maker.accept(order)
        assert caught.value.reason == Code.SELF_TRADE
        ends = [(Closing.CANCELED, "canceled"), (Closing.REPLACED, "replaced"), (Closing.FILLED, "taken")]
        for number, (closing, reason) in enumerate(ends, 10):
            gone = maker.publish(number=number)
            network.store(gone.id, make_status(gone, closing))
            with pytest.raises(RefusedError) as caught:
                await taker.accept(gone)
            assert caught.value.reason == reason
        twice = maker.publish(number=99)
        for number in (5, 6):
            network.store(twice.id, make_status(twice, Closing.FILLED, accept=make_accept(twice, by=identity(number))))
        with pytest.raises(RefusedError, match="contradicting") as caught:
            await taker.accept(twice)
        assert caught.value.reason == "disputed"
        network.down = True
        with pytest.raises(NoPeerError):
            await taker.accept(order)
        assert taker.journal.trades() == []
        await stop(maker, taker)

    play(story())


def test_the_same_wish_twice_is_one_accept() -> None:
    async def story() -> None:
        network = new_network()
        maker, taker = await parties(network, 2)
        order = maker.publish(amount="1", minimum="0.5", confirm=Confirm.ASK)
        trade = await taker.accept(order, message="pay this account")
        assert (await taker.accept(order)).accept_id == trade.accept_id
        for amount, message in (("0.5", "pay this account"), ("1", "pay another account")):
            with pytest.raises(RefusedError) as caught:
                await taker.accept(order, amount=amount, message=message)
            assert caught.value.reason == Code.RATE_LIMITED
        other = maker.publish(number=1)
        taker.access.mint_s = 5
        both = await asyncio.gather(taker.accept(other), taker.accept(other))
        assert both[0].accept_id == both[1].accept_id
        await stop(maker, taker)

    play(story())


def test_the_same_wish_twice_at_once_is_one_accept_however_soon_it_is_decided() -> None:
    async def story() -> None:
        network = new_network()
        maker, taker = await parties(network, 2)
        orders = [maker.publish(number=number) for number in range(2)]
        taker.access.mint_s = 1
        first = asyncio.ensure_future(taker.accept(orders[0], wait_s=30))
        await asyncio.sleep(0.5)
        taker.access.mint_s = 5
        second = asyncio.ensure_future(taker.accept(orders[0], wait_s=30))
        assert [(await first).state, (await second).state] == ["confirmed", "confirmed"]
        assert len(taker.journal.trades()) == 1
        leaver, stayer = [asyncio.ensure_future(taker.accept(orders[1], wait_s=30)) for _ in range(2)]
        await asyncio.sleep(2)
        leaver.cancel()
        assert (await stayer).state == "confirmed"
        await stop(maker, taker)

    play(story())
