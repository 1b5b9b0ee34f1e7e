"""One cancels the other: of the orders of a group at most one is filled, whatever comes at once, whatever crashes."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dhtex.errors import NoPeerError, RefusedError
from dhtex.market.records import Closing, Confirm, Liveness, Order, Record, Status, is_a, parse_record
from dhtex.store.rows import Closed, Sequel
from tests.builders import NETWORK, NOW, identity, make_accept, make_status
from tests.unit.store.samples import STATUS, name, own_order, trade
from tests.unit.trading.world import Party, VirtualClock, new_network, parties, play, states, stop, until

GROUP = identity(1).group("house")


def published_status(party: Party, order: Record[Order]) -> Status:
    own = party.journal.order(order.id)
    assert own is not None
    status = parse_record(own.status_wire, NETWORK)
    assert is_a(status, Status)
    assert own.seq == status.body.seq
    return status.body


def test_a_group_says_nothing_about_its_name() -> None:
    assert len(GROUP) == 32
    assert identity(1).group("house") == GROUP
    assert GROUP not in (identity(2).group("house"), identity(1).group("car"))


@pytest.mark.parametrize("seed", range(10))
def test_of_two_accepts_on_two_orders_of_a_group_at_once_one_wins(seed: int) -> None:
    async def story() -> None:
        network = new_network(seed)
        maker, one, other = await parties(network)
        orders = [maker.publish(number=number, group=GROUP) for number in range(2)]
        alone = maker.publish(number=9)
        first, second = await one.accept(orders[0]), await other.accept(orders[1])
        ends = [await one.desk.wait(first.accept_id, 30), await other.desk.wait(second.accept_id, 30)]
        assert sorted((end.state, end.code) for end in ends) == [("confirmed", ""), ("refused", "canceled")]
        assert sorted(maker.state(order) for order in orders) == ["canceled", "filled"]
        assert sorted(maker.ended) == sorted((order.id, maker.state(order)) for order in orders)
        (loser,) = (order for order in orders if maker.state(order) == "canceled")
        assert published_status(maker, loser).closing is Closing.CANCELED
        assert maker.state(alone) == "open"
        await stop(maker, one, other)

    play(story())


@pytest.mark.parametrize("seed", range(20))
def test_a_group_has_one_winner_through_loss_and_crashes(seed: int) -> None:
    async def story() -> None:
        network = new_network(seed, loss=0.3, doubling=0.2)
        chance = network.entropy
        everyone = await parties(network, 4)
        maker, takers = everyone[0], everyone[1:]
        ways = [Confirm.AUTO, Confirm.AUTO, Confirm.ASK]
        orders = [
            maker.publish(
                number=n, group=GROUP, confirm=ways[n], amount="1", minimum="0.5", liveness=Liveness.MAILBOX,
                expires=NOW + 7200,
            )
            for n in range(3)
        ]  # fmt: skip
        for taker in takers:
            for order in chance.sample(orders, 2):
                try:
                    await taker.accept(order)
                except (NoPeerError, RefusedError):
                    continue
                if chance.random() < 0.4:
                    await maker.restart()
        await until(lambda: VirtualClock().now() > NOW + 9000, 20_000)
        filled = [order for order in orders if maker.state(order) == "filled"]
        sold = [trade for party in takers for trade in party.journal.trades() if trade.state == "confirmed"]
        assert len(filled) == len(sold) <= 1
        if filled:
            assert {maker.state(order) for order in orders} == {"filled", "canceled"}
        assert maker.journal.pending() == []
        await stop(*everyone)

    play(story())


def test_accepts_that_wait_for_a_person_are_refused_when_another_order_of_the_group_is_filled() -> None:
    async def story() -> None:
        network = new_network()
        maker, one, other = await parties(network)
        asked = maker.publish(number=1, group=GROUP, confirm=Confirm.ASK)
        quick = maker.publish(number=2, group=GROUP)
        waiting = await one.accept(asked)
        await until(lambda: len(maker.journal.pending()) == 1)
        assert (await other.accept(quick, wait_s=30)).state == "confirmed"
        end = await one.desk.wait(waiting.accept_id, 30)
        assert (end.state, end.code) == ("refused", "canceled")
        assert maker.journal.pending() == []
        late = make_accept(asked, by=identity(7))
        maker.desk.on_record(late)
        refused = maker.journal.trade(late.id)
        assert refused is not None
        assert (refused.state, refused.code) == ("refused", "canceled")
        await stop(maker, one, other)

    play(story())


def test_a_fill_that_was_signed_elsewhere_closes_the_group_too() -> None:
    async def story() -> None:
        network = new_network()
        (maker,) = await parties(network, 1)
        one, other = (maker.publish(number=number, group=GROUP) for number in range(2))
        maker.desk.on_record(make_status(one, Closing.FILLED, accept=make_accept(one)))
        assert (maker.state(one), maker.state(other)) == ("filled", "canceled")
        row = maker.journal.order(other.id)
        assert row is not None
        assert row.status_wire == b""  # who filled it has signed that too: a second Status would contradict the first
        await stop(maker)

    play(story())


def test_a_cancelled_order_leaves_the_rest_of_its_group_open() -> None:
    async def story() -> None:
        maker, taker = await parties(new_network(), 2)
        one, other = (maker.publish(number=number, group=GROUP) for number in range(2))
        maker.desk.on_record(make_status(one, Closing.CANCELED))
        assert (maker.state(one), maker.state(other)) == ("canceled", "open")
        assert (await taker.accept(other, wait_s=30)).state == "confirmed"
        assert states(maker) == [("confirmed", "")]
        await stop(maker, taker)

    play(story())


def test_a_group_is_closed_in_the_transaction_of_the_fill_or_not_at_all() -> None:
    async def story() -> None:
        (maker,) = await parties(new_network(), 1)
        journal = maker.journal
        for number in range(1, 4):
            assert journal.add_order(own_order(number, group_id=GROUP))
        closed = tuple(Closed(name(number), b"end %d" % number) for number in (2, 3))
        # One of the group was added after the others were signed off: nothing may change.
        assert not journal.decide_fill(name(1), name(100), STATUS, trade(), Sequel(closed[:1]))
        assert [row.state for row in journal.orders()] == ["open"] * 3
        assert journal.answer(name(100)) is None
        assert journal.decide_fill(name(1), name(100), STATUS, trade(), Sequel(closed))
        assert [row.state for row in journal.orders()] == ["filled", "canceled", "canceled"]
        assert [row.status_wire for row in journal.orders()] == [STATUS, b"end 2", b"end 3"]
        assert not journal.decide_fill(name(2), name(101), STATUS, trade(101))
        # What was being stamped meanwhile comes too late; once the filled order is over the name is free again.
        assert not journal.add_order(own_order(4, group_id=GROUP))
        assert journal.add_order(own_order(5, group_id=GROUP, created=NOW + 3600))
        assert journal.add_order(own_order(6))
        await stop(maker)

    play(story())


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=12))
def test_whatever_the_order_of_events_a_group_is_filled_once(events: list[tuple[int, int]]) -> None:
    async def story() -> None:
        (maker,) = await parties(new_network(), 1)
        orders = [maker.publish(number=number, group=GROUP, confirm=list(Confirm)[number % 2]) for number in range(4)]
        for which, what in events:
            order = orders[which]
            if what == 0 and maker.state(order) == "open":
                maker.desk.on_record(make_status(order, Closing.CANCELED))
            elif what == 1:
                await maker.restart()
            elif what == 2 and maker.journal.pending(order.id):
                await maker.desk.confirm(order.id, maker.journal.pending(order.id)[0].accept_id)
            elif what >= 2:
                maker.desk.on_record(make_accept(order, by=identity(10 + what)))
        states_now = [maker.state(order) for order in orders]
        assert states_now.count("filled") == len([t for t in maker.journal.trades() if t.state == "confirmed"]) <= 1
        if "filled" in states_now:
            assert "open" not in states_now
        await asyncio.sleep(0)
        await stop(maker)

    play(story())
