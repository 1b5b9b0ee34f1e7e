"""Makers and takers that are away, crash, and come back."""

import asyncio

import pytest

from dhtex import limits
from dhtex.errors import StateError
from dhtex.market.ids import RecordId
from dhtex.market.records import Closing, Confirm, Liveness, Status, is_a
from tests.builders import NOW, make_accept, make_status
from tests.unit.trading.world import VirtualClock, asked, new_network, parties, play, states, stop, until


def test_a_mailbox_order_is_decided_when_the_maker_returns() -> None:
    async def story() -> None:
        network = new_network()
        maker, one, other = await parties(network)
        order = maker.publish(liveness=Liveness.MAILBOX)
        await maker.kill()
        first, second = await one.accept(order), await other.accept(order)
        trade = await one.desk.wait(first.accept_id, 3600)
        assert trade.state == "sent"
        await maker.restart()
        ends = [await one.desk.wait(first.accept_id, 60), await other.desk.wait(second.accept_id, 60)]
        assert sorted((end.state, end.code) for end in ends) == [("confirmed", ""), ("refused", "taken")]
        await stop(maker, one, other)

    play(story())


def test_a_maker_that_returns_too_late_fills_nothing() -> None:
    async def story() -> None:
        network = new_network()
        maker, taker = await parties(network, 2)
        order = maker.publish()
        await maker.kill()
        trade = await taker.accept(order, wait_s=600)
        assert (trade.state, trade.code) == ("void", "")
        assert VirtualClock().now() == pytest.approx(trade.deadline + limits.ACCEPT_GRACE_S, abs=1)
        await maker.restart()
        await until(lambda: VirtualClock().now() > trade.deadline + 3600, 10_000)
        assert maker.state(order) == "open"
        assert maker.journal.trades() == []
        await stop(maker, taker)

    play(story())


@pytest.mark.parametrize(("away_s", "ends"), [(0.9, ("confirmed", "")), (1.1, ("void", "unheard"))])
def test_a_taker_that_was_away_until_nobody_remembers_does_not_say_that_nobody_has_answered(
    away_s: float, ends: tuple[str, str]
) -> None:
    async def story() -> None:
        network = new_network()
        maker, taker = await parties(network, 2)
        order = maker.publish(liveness=Liveness.MAILBOX, expires=NOW + 3600)
        await maker.kill()
        trade = await taker.accept(order)
        await asyncio.sleep(5)
        await taker.kill()
        await maker.restart()
        await until(lambda: states(maker) == [("confirmed", "")], 90)
        await asyncio.sleep(3600 + limits.TOMBSTONE_S * away_s)
        if away_s > 1:
            network.at_order.clear()
        await taker.restart()
        await taker.desk.wait(trade.accept_id, 60)
        assert states(taker) == [ends]
        await stop(maker, taker)

    play(story())


def test_a_read_that_the_end_of_the_grace_overtakes_does_not_put_the_outcome_off() -> None:
    async def story() -> None:
        maker, taker = await parties(new_network(), 2)
        order = maker.publish()
        await maker.kill()
        trade = await taker.accept(order)
        over = trade.deadline + limits.ACCEPT_GRACE_S
        await asyncio.sleep(over - 0.005 - VirtualClock().now())
        taker.desk.on_gap(order.id)  # a read takes 0.01 s
        ended = await taker.desk.wait(trade.accept_id, 60)
        assert ended.state == "void"
        assert over <= VirtualClock().now() < over + 1
        await stop(taker)

    play(story())


@pytest.mark.parametrize("away_s", [200, 4000, 80_000])
def test_a_maker_that_decided_in_time_and_then_was_away_is_heard_whenever_it_returns(away_s: int) -> None:
    async def story() -> None:
        network = new_network()
        network.silent = True
        maker, taker = await parties(network, 2)
        order = maker.publish(expires=NOW + 300)
        trade = await taker.accept(order)
        while maker.state(order) == "open":
            await maker.desk._pull(order.id)
        await maker.kill()  # before anybody heard of it
        network.at_order[order.id] = {k: r for k, r in network.at_order[order.id].items() if not is_a(r, Status)}
        ended = await taker.desk.wait(trade.accept_id, away_s)
        assert ended.state == "void"
        await maker.restart()
        await until(lambda: states(taker) == [("confirmed", "")], 2 * 86_400)
        await stop(maker, taker)

    play(story())


def test_a_decision_that_could_not_be_published_is_published_after_a_restart_to_the_byte() -> None:
    async def story() -> None:
        network = new_network()
        maker, one, other = await parties(network)
        order = maker.publish(liveness=Liveness.MAILBOX)
        trade = await one.accept(order)
        await until(lambda: bool(network.at_order[order.id].get(trade.accept_id)))
        network.down = True
        await until(lambda: maker.state(order) == "filled")
        await maker.kill()
        own = maker.journal.order(order.id)
        assert own is not None
        assert [answer.wire for answer in maker.journal.unpublished()] == [own.status_wire]
        network.down = False
        second = await other.accept(order)
        await maker.restart()
        end = await one.desk.wait(trade.accept_id, 60)
        assert (end.state, end.answer_wire) == ("confirmed", own.status_wire)
        end = await other.desk.wait(second.accept_id, 60)
        assert (end.state, end.code) == ("refused", "taken")
        await until(lambda: not maker.journal.unpublished())
        assert {wire for wire in network.puts if wire.startswith(own.status_wire[:2])} >= {own.status_wire}
        await stop(maker, one, other)

    play(story())


def test_an_answer_given_in_time_but_found_late_still_binds() -> None:
    async def story() -> None:
        network = new_network()
        maker, taker = await parties(network, 2)
        order = maker.publish()
        trade = await taker.accept(order)
        network.down = True
        maker.desk.on_record(taker.desk._buying._terms.records(trade)[1])
        assert maker.state(order) == "filled"
        await maker.kill()
        network.down = False
        assert (await taker.desk.wait(trade.accept_id, 600)).state == "void"
        await maker.restart()
        await until(lambda: states(taker) == [("confirmed", "")], 7200)
        await stop(maker, taker)

    play(story())


def test_pending_accepts_survive_the_makers_restart() -> None:
    async def story() -> None:
        (maker, one, other), order, accepts = await asked(new_network())
        await maker.restart()
        assert [row.accept_id for row in maker.journal.pending()] != []
        await maker.desk.decline(order.id, accepts[0])
        await maker.kill()
        status = make_status(order, Closing.CANCELED)
        maker.journal.close_order(order.id, "canceled", status.wire)  # and killed before the desk was told
        await maker.restart()
        assert (await other.desk.wait(accepts[1], 30)).code == "canceled"
        assert (await one.desk.wait(accepts[0], 30)).code == "declined"
        await stop(maker, one, other)

    play(story())


def test_the_time_to_decide_runs_on_through_the_makers_restart() -> None:
    async def story() -> None:
        network = new_network()
        (maker,) = await parties(network, 1)
        order = maker.publish(confirm=Confirm.ASK)
        maker.desk.on_record(make_accept(order))
        await maker.restart()
        await until(lambda: states(maker) == [("void", "")], 90)
        assert maker.journal.pending() == []
        await stop(maker)

    play(story())


def test_a_takers_accept_survives_its_own_restart() -> None:
    async def story() -> None:
        network = new_network()
        maker, taker = await parties(network, 2)
        order = maker.publish(liveness=Liveness.MAILBOX)
        network.silent = True
        await maker.kill()
        trade = await taker.accept(order)
        await taker.restart()
        await maker.restart()
        end = await taker.desk.wait(trade.accept_id, 300)
        assert end.state == "confirmed"
        await stop(maker, taker)

    play(story())


def test_an_expiry_that_a_full_disk_refused_is_noted_later(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        maker = (await parties(new_network(), 1))[0]
        order = maker.publish(expires=NOW + 30)
        close, refused = maker.journal.close_order, list[str]()

        def full(order_id: RecordId, state: str, status_wire: bytes) -> bool:
            if not refused:
                refused.append(state)
                raise StateError("the state file cannot be written: database or disk is full")
            return close(order_id, state, status_wire)

        monkeypatch.setattr(maker.journal, "close_order", full)
        await until(lambda: maker.state(order) == "expired", 200.0)
        assert refused == ["expired"]
        assert maker.ended == [(order.id, "expired")]
        await stop(maker)

    play(story())


@pytest.mark.parametrize("side", ["maker", "taker"])
def test_that_an_accept_is_void_is_noted_later_if_a_full_disk_refused_it(side: str) -> None:
    async def story() -> None:
        maker, taker = await parties(new_network(), 2)
        order = maker.publish(confirm=Confirm.ASK, expires=NOW + 2 * 86_400)
        trade = await taker.accept(order, wait_s=60)
        party = {"maker": maker, "taker": taker}[side]
        if side == "taker":
            await maker.kill()  # or the maker, reading the accept again, answers that it is late
        party.database._journal.execute("PRAGMA query_only=ON")
        await asyncio.sleep(trade.deadline + limits.ACCEPT_GRACE_S + 30 - VirtualClock().now())
        assert states(party) == [("pending", "")]
        party.database._journal.execute("PRAGMA query_only=OFF")
        await asyncio.sleep(90)
        assert states(party) == [("void", "")]
        assert not party.journal.pending()
        await stop(maker, taker)

    play(story())
