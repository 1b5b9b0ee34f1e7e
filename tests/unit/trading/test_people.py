"""Orders that a person decides: confirmed, declined, or overtaken by time."""

import asyncio

import pytest

from dhtex import limits
from dhtex.errors import NotFoundError, RefusedError, UsageError
from dhtex.market.records import Accept, Closing, Code, Confirm, is_a, parse_record
from dhtex.trading.service import PRUNE_S
from tests.builders import NETWORK, NOW, identity, make_accept, make_status
from tests.unit.trading.world import (
    VirtualClock,
    asked,
    new_network,
    parties,
    play,
    states,
    stop,
    until,
)


def test_a_person_confirms_one_and_the_others_are_told_taken() -> None:
    async def story() -> None:
        (maker, one, other), order, accepts = await asked(new_network())
        assert maker.state(order) == "open"
        with pytest.raises(UsageError, match="2 accepts"):
            await maker.desk.confirm(order.id, None)
        trade = await maker.desk.confirm(order.id, accepts[1], "see you")
        assert (trade.accept_id, trade.state, trade.reply) == (accepts[1], "confirmed", "see you")
        end = await other.desk.wait(accepts[1], 30)
        assert (end.state, end.reply) == ("confirmed", "see you")
        end = await one.desk.wait(accepts[0], 30)
        assert (end.state, end.code) == ("refused", "taken")
        assert maker.journal.pending() == []
        with pytest.raises(NotFoundError):
            await maker.desk.confirm(order.id, accepts[0])
        await stop(maker, one, other)

    play(story())


def test_a_person_declines_and_the_order_stays_open() -> None:
    async def story() -> None:
        (maker, one, other), order, accepts = await asked(new_network())
        trade = await maker.desk.decline(order.id, accepts[0])
        assert (trade.state, trade.code) == ("refused", "declined")
        assert (await one.desk.wait(accepts[0], 30)).code == "declined"
        assert maker.state(order) == "open"
        assert (await maker.desk.confirm(order.id, None)).accept_id == accepts[1]
        await stop(maker, one, other)

    play(story())


@pytest.mark.parametrize("closing", ["canceled", "replaced", "expired"])
def test_what_waits_is_refused_when_the_order_ends(closing: str) -> None:
    async def story() -> None:
        (maker, one, other), order, accepts = await asked(new_network())
        if closing == "expired":
            await until(lambda: maker.state(order) == "expired", 90_000)
            assert maker.ended == [(order.id, "expired")]
        else:
            status = make_status(order, Closing(closing))
            assert maker.journal.close_order(order.id, closing, status.wire)
            maker.desk.order_closed(order.id)
        await until(lambda: sorted(states(maker)) == [("refused", closing)] * 2)
        if closing != "expired":  # whose deadline is the order's own expiry
            for party, accept_id in ((one, accepts[0]), (other, accepts[1])):
                end = await party.desk.wait(accept_id, 30)
                assert (end.state, end.code) == ("refused", closing)
        with pytest.raises(NotFoundError):
            await maker.desk.confirm(order.id, None)
        await stop(maker, one, other)

    play(story())


def test_an_accept_nobody_decided_in_time_is_void_on_both_sides() -> None:
    async def story() -> None:
        (maker, taker), order, accepts = await asked(new_network(), 1)
        deadline = taker.journal.trades()[0].deadline
        assert deadline == NOW + limits.ACCEPT_DEADLINE_S_MAX  # a day, as long as the order lives
        await until(lambda: states(maker)[0][0] != "pending", 90_000)
        await until(lambda: states(taker)[0][0] != "pending", 600)
        assert states(maker)[0][0] in ("void", "refused")
        assert states(taker)[0][0] in ("void", "refused")
        with pytest.raises(NotFoundError):
            await maker.desk.confirm(order.id, accepts[0])
        await stop(maker, taker)

    play(story())


def test_a_decision_after_the_deadline_is_refused() -> None:
    async def story() -> None:
        network = new_network()
        (maker,) = await parties(network, 1)
        order = maker.publish(confirm=Confirm.ASK, expires=NOW + 86_400)
        accept = make_accept(order)
        maker.desk.on_record(accept)
        assert len(maker.journal.pending()) == 1
        await asyncio.sleep(accept.body.deadline + 0.5 - VirtualClock().now())
        with pytest.raises(RefusedError) as caught:
            await maker.desk.confirm(order.id, None)
        assert caught.value.reason == Code.LATE
        await until(lambda: states(maker) == [("void", "")])
        assert maker.state(order) == "open"
        await stop(maker)

    play(story())


def test_only_own_orders_can_be_confirmed() -> None:
    async def story() -> None:
        network = new_network()
        maker, taker = await parties(network, 2)
        order = maker.publish(confirm=Confirm.ASK)
        for party in (maker, taker):
            with pytest.raises(NotFoundError):
                await party.desk.confirm(order.id, None)
            with pytest.raises(NotFoundError):
                await party.desk.wait(order.id, 1)
        await stop(maker, taker)

    play(story())


def test_an_accept_whose_time_was_over_does_not_wait_again_when_the_clock_is_set_back() -> None:
    async def story() -> None:
        (maker, one, other), _, accepts = await asked(new_network())
        selling, late = maker.desk._selling, maker.journal.trade(accepts[0])
        assert late is not None
        assert selling.lapse(accepts[0], late.deadline + 1)
        again = parse_record(late.accept_wire, NETWORK)
        assert is_a(again, Accept)
        assert selling.consider(again, late.deadline - 1.0) == []
        assert (trade := maker.journal.trade(accepts[0])) is not None
        assert trade.state == "void"
        await stop(maker, one, other)

    play(story())


def test_accepts_that_nobody_decides_leave_few_traces_and_none_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        monkeypatch.setattr(limits, "ACCEPTS_PER_ORDER_MAX", 5)
        (maker,) = await parties(new_network(), 1)
        order = maker.publish(confirm=Confirm.ASK)
        for number in range(9):
            now = int(VirtualClock().now())
            maker.desk.on_record(make_accept(order, by=identity(9), number=number, created=now, deadline=now + 1))
            await asyncio.sleep(3)
            assert not maker.journal.pending()
        assert states(maker) == [("void", "")] * 5
        await asyncio.sleep(order.body.expires + limits.TOMBSTONE_S + PRUNE_S + 60 - VirtualClock().now())
        assert states(maker) == []
        await stop(maker)

    play(story())
