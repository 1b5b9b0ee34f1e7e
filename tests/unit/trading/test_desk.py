"""Whole trades between desks: two takers and one order, people who decide, makers that are away or crash."""

import asyncio
from dataclasses import replace

import pytest

from dhtex import limits
from dhtex.errors import NoPeerError, NotFoundError, RefusedError, UsageError
from dhtex.market.ids import RecordId
from dhtex.market.merge import order_state
from dhtex.market.records import Closing, Code, Confirm, Liveness, Order, Record, Refusal, Status, is_a
from dhtex.views import AcceptRequest
from tests.builders import NOW, identity, make_accept, make_status
from tests.unit.trading.world import Network, Party, VirtualClock, new_network, play, until


async def parties(network: Network, count: int = 3) -> list[Party]:
    return [await Party(network, number).start() for number in range(1, count + 1)]


async def stop(*everyone: Party) -> None:
    for party in everyone:
        await party.desk.stop()


def states(party: Party) -> list[tuple[str, str]]:
    return [(trade.state, trade.code) for trade in party.journal.trades()]


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
        trade = await taker.accept(order)
        assert (await taker.accept(order)).accept_id == trade.accept_id
        with pytest.raises(RefusedError) as caught:
            await taker.accept(order, amount="0.5")
        assert caught.value.reason == Code.RATE_LIMITED
        other = maker.publish(number=1)
        taker.access.mint_s = 5
        both = await asyncio.gather(taker.accept(other), taker.accept(other))
        assert both[0].accept_id == both[1].accept_id
        await stop(maker, taker)

    play(story())


# --- people -------------------------------------------------------------------------------------------------------


async def asked(network: Network, takers: int = 2) -> tuple[list[Party], Record[Order], list[RecordId]]:
    everyone = await parties(network, 1 + takers)
    order = everyone[0].publish(confirm=Confirm.ASK)
    trades = [await taker.accept(order) for taker in everyone[1:]]
    await until(lambda: len(everyone[0].journal.pending()) == takers)
    await until(lambda: all(states(taker) == [("pending", "")] for taker in everyone[1:]))
    return everyone, order, [trade.accept_id for trade in trades]


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


# --- makers that are away -----------------------------------------------------------------------------------------


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
        maker.desk.on_record(taker.desk._buying.records(trade)[1])
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


# --- what is heard ------------------------------------------------------------------------------------------------


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
        accept = taker.desk._buying.records(trade)[1]
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
        accept = taker.desk._buying.records(trade)[1]
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


def test_an_order_of_an_older_epoch_is_refused() -> None:
    async def story() -> None:
        network = new_network()
        maker = await Party(network, 1, epoch=2).start()
        taker = await Party(network, 2).start()
        trade = await taker.accept(maker.publish(), wait_s=30)
        assert (trade.state, trade.code) == ("refused", "wrong_epoch")
        await stop(maker, taker)

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
        assert not any(is_a(record, Status | Refusal) for record in network.at_order[order.id].values())  # type: ignore[arg-type]
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


# --- chance -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
def test_whatever_is_lost_doubled_or_killed_there_is_one_winner_and_both_sides_agree(seed: int) -> None:
    async def story() -> None:
        network = new_network(seed, loss=0.3, doubling=0.2)
        chance = network.entropy
        everyone = await parties(network, 5)
        maker, takers = everyone[0], everyone[1:]
        mailbox = Liveness.MAILBOX if chance.random() < 0.5 else Liveness.BEAT
        order = maker.publish(liveness=mailbox, expires=NOW + 7200)
        accepts: dict[Party, RecordId] = {}
        for taker in takers:
            try:
                accepts[taker] = (await taker.accept(order)).accept_id
            except (NoPeerError, RefusedError):
                continue
            if chance.random() < 0.4:
                await chance.choice(everyone).restart()
            if chance.random() < 0.2:
                await maker.kill()
                await asyncio.sleep(chance.uniform(0, 100))
                await maker.restart()
        await until(lambda: VirtualClock().now() > NOW + 9000, 20_000)
        statuses = [record for record in network.at_order[order.id].values() if is_a(record, Status)]
        assert len(statuses) <= 1
        confirmed = [taker for taker in accepts if states(taker)[0][0] == "confirmed"]
        sold = [trade for trade in maker.journal.trades() if trade.state == "confirmed"]
        assert len(sold) == len(statuses) == len(confirmed) == (maker.state(order) == "filled")
        assert [trade.accept_id for trade in sold] == [accepts[taker] for taker in confirmed]
        for taker in accepts:
            assert states(taker)[0][0] in ("confirmed", "refused", "void")
        assert order_state(order, statuses, VirtualClock().now()).state == maker.state(order)
        await stop(*everyone)

    play(story())
