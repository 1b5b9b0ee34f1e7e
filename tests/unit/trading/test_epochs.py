"""Two copies of one maker: what was closed by one is never given away again by the other."""

import contextlib

import pytest

from dhtex import limits
from dhtex.errors import NoPeerError, NotFoundError, RefusedError
from dhtex.market.merge import order_state
from dhtex.market.records import (
    AnyRecord,
    Closing,
    Code,
    Confirm,
    Liveness,
    Order,
    Record,
    Refusal,
    Status,
    is_a,
    parse_record,
)
from tests.builders import NOW, identity, make_accept, make_refusal, make_status
from tests.unit.trading.world import Network, Party, VirtualClock, new_network, parties, play, states, stop, until

GROUP = identity(1).group("house")


async def restored(network: Network, original: Party) -> Party:
    """Another node that is made of a copy of the original's state, not yet started."""
    copy = Party(network, 1, epoch=original.terms.epoch + 1)
    original.database._journal.backup(copy.database._journal)
    return copy


def statuses(network: Network, order: Record[Order]) -> list[Record[Status]]:
    return [record for record in network.at_order[order.id].values() if is_a(record, Status)]


def refusals(network: Network, order: Record[Order]) -> list[Record[Refusal]]:
    return [record for record in network.at_order[order.id].values() if is_a(record, Refusal)]


def never_disputed(network: Network, *orders: Record[Order]) -> bool:
    now = VirtualClock().now()
    return all(order_state(order, statuses(network, order), now).state != "disputed" for order in orders)


@pytest.mark.parametrize("pushed", [True, False])
@pytest.mark.parametrize("ask", [Confirm.AUTO, Confirm.ASK])
def test_what_the_original_has_filled_the_copy_does_not_fill_again(pushed: bool, ask: Confirm) -> None:
    async def story() -> None:
        network = new_network(silent=not pushed)
        original, one, other = await parties(network)
        order = original.publish(liveness=Liveness.MAILBOX, confirm=ask)
        copy = await restored(network, original)
        if ask is Confirm.AUTO:
            assert (await one.accept(order, wait_s=300)).state == "confirmed"
        else:
            first = await one.accept(order)
            await until(lambda: len(original.journal.pending()) == 1)
            await original.desk.confirm(order.id, None)
            assert (await one.desk.wait(first.accept_id, 300)).state == "confirmed"
        await until(lambda: len(statuses(network, order)) == 1)
        await original.kill()
        now = int(VirtualClock().now())
        late = make_accept(order, by=other.identity, created=now, deadline=now + 600)
        network.store(order.id, late)
        await copy.start()
        copy.desk.on_record(late)
        if ask is Confirm.ASK:
            with pytest.raises((RefusedError, NotFoundError)):
                await copy.desk.confirm(order.id, late.id)
        await until(lambda: copy.journal.answer(late.id) is not None)
        assert copy.state(order) == "filled"
        assert len(statuses(network, order)) == 1
        assert [(t.state, t.code) for t in copy.journal.trades() if t.accept_id == late.id] == [("refused", "taken")]
        await stop(copy, one, other)

    play(story())


def test_the_copy_takes_over_the_trade_that_it_has_missed() -> None:
    async def story() -> None:
        network = new_network()
        original, taker = await parties(network, 2)
        order = original.publish(confirm=Confirm.ASK)
        trade = await taker.accept(order)
        await until(lambda: len(original.journal.pending()) == 1)
        copy = await restored(network, original)  # the accept waits in it
        await original.desk.confirm(order.id, None)
        await until(lambda: len(statuses(network, order)) == 1)
        await original.kill()
        await copy.start()
        await until(lambda: states(copy) == [("confirmed", "")])
        (own,) = copy.journal.trades()
        assert own.answer_wire == statuses(network, order)[0].wire
        assert copy.journal.pending() == []
        assert (await taker.desk.wait(trade.accept_id, 30)).state == "confirmed"
        assert not [r for r in network.at_order[order.id].values() if r.kind.name == "REFUSAL"]
        await stop(copy, taker)

    play(story())


def test_the_copy_takes_over_a_trade_of_an_order_that_is_over() -> None:
    async def story() -> None:
        network = new_network()
        original, taker = await parties(network, 2)
        order, other = (original.publish(number=number, expires=NOW + 600) for number in range(2))
        copy = await restored(network, original)
        trade = await taker.accept(order, wait_s=30)
        assert trade.state == "confirmed"
        await until(lambda: not original.journal.unpublished())
        await original.kill()
        network.few = True
        await until(lambda: VirtualClock().now() > NOW + 700, 1000)
        assert taker.desk._followed == {}  # nobody repeats it
        hidden = network.at_order.pop(order.id)
        await copy.start()
        await until(lambda: VirtualClock().now() > NOW + 900, 1000)
        assert [copy.state(each) for each in (order, other)] == ["open", "open"]  # nothing is known yet
        network.at_order[order.id] = hidden
        network.few = False
        await until(lambda: [copy.state(each) for each in (order, other)] == ["filled", "expired"])
        assert [(t.accept_id, t.state) for t in copy.journal.trades()] == [(trade.accept_id, "confirmed")]
        assert len(statuses(network, order)) == 1
        await stop(copy, taker)

    play(story())


def test_after_a_day_an_order_of_an_older_epoch_is_over_whoever_answers() -> None:
    async def story() -> None:
        network = new_network()
        original = (await parties(network, 1))[0]
        order = original.publish(expires=NOW + 600)
        copy = await restored(network, original)
        await original.kill()
        network.down = True
        await copy.start()
        await until(lambda: VirtualClock().now() > NOW + 700, 1000)
        assert copy.state(order) == "open"
        await until(lambda: copy.state(order) == "expired", 90_000)
        assert VirtualClock().now() > NOW + 600 + limits.TOMBSTONE_S
        await stop(copy)

    play(story())


def test_an_order_that_most_holders_know_without_a_status_is_good_again() -> None:
    async def story() -> None:
        network = new_network()
        original, taker = await parties(network, 2)
        order = original.publish(amount="1", minimum="0.5")
        copy = await restored(network, original)
        await original.kill()
        await copy.start()
        assert (await taker.accept(order, amount="0.5", wait_s=30)).state == "confirmed"
        child = copy.journal.child(order.id)
        assert child is not None
        assert copy.desk._selling.fenced(child.order_id) == []  # it is of the new epoch
        await stop(copy, taker)

    play(story())


def test_while_too_few_holders_answer_nothing_is_filled_and_nothing_is_refused() -> None:
    async def story() -> None:
        network = new_network(few=True)
        original, taker = await parties(network, 2)
        order = original.publish(liveness=Liveness.MAILBOX)
        asked = original.publish(number=1, liveness=Liveness.MAILBOX, confirm=Confirm.ASK)
        copy = await restored(network, original)
        await original.kill()
        await copy.start()
        trade = await taker.accept(order, wait_s=300)
        assert (trade.state, copy.state(order), copy.journal.answer(trade.accept_id)) == ("sent", "open", None)
        await taker.accept(asked)
        await until(lambda: len(copy.journal.pending()) == 1)
        with pytest.raises(NoPeerError):
            await copy.desk.confirm(asked.id, None)
        assert statuses(network, order) == statuses(network, asked) == []
        network.few = False
        assert (await taker.desk.wait(trade.accept_id, 300)).state == "confirmed"
        assert (await copy.desk.confirm(asked.id, None)).state == "confirmed"
        await stop(copy, taker)

    play(story())


@pytest.mark.parametrize("waits_in_the_backup", [True, False])
def test_what_the_original_has_declined_the_copy_cannot_confirm(waits_in_the_backup: bool) -> None:
    async def story() -> None:
        network = new_network()
        original, taker = await parties(network, 2)
        order = original.publish(confirm=Confirm.ASK)
        copy = None if waits_in_the_backup else await restored(network, original)
        trade = await taker.accept(order)
        await until(lambda: len(original.journal.pending()) == 1)
        copy = copy or await restored(network, original)
        await original.desk.decline(order.id, None)
        await until(lambda: len(refusals(network, order)) == 1)
        await original.kill()
        await copy.start()
        copy.desk.on_record(parsed(trade.accept_wire))  # the taker goes on repeating it
        with pytest.raises((RefusedError, NotFoundError)):
            await copy.desk.confirm(order.id, trade.accept_id)
        with pytest.raises((RefusedError, NotFoundError)):
            await copy.desk.decline(order.id, trade.accept_id)
        copy.desk.on_record(parsed(trade.accept_wire))
        await until(lambda: not copy.journal.unpublished())
        (said,) = refusals(network, order)
        assert (copy.journal.answer(trade.accept_id), copy.state(order)) == (said.wire, "open")
        assert copy.journal.pending() == []
        assert {(t.state, t.code) for t in copy.journal.trades()} == {("refused", "declined")}
        await stop(copy, taker)

    play(story())


@pytest.mark.parametrize("pushed", [True, False])
def test_an_accept_is_refused_with_the_bytes_of_the_original_or_not_before_most_were_read(pushed: bool) -> None:
    async def story() -> None:
        network = new_network(silent=not pushed)
        original, taker = await parties(network, 2)
        order = original.publish(liveness=Liveness.MAILBOX)
        copy = await restored(network, original)
        first, second = (make_accept(order, by=identity(9 + n), amount="7", deadline=NOW + 900) for n in range(2))
        original.desk.on_record(first)
        await until(lambda: len(refusals(network, order)) == 1)
        await original.kill()
        network.few = True
        await copy.start()
        for accept in (first, second):
            network.store(order.id, accept)
            copy.desk.on_record(accept)
        await until(lambda: copy.journal.answer(first.id) is not None)  # whoever says that it was refused is enough
        await until(lambda: network.reads > 8)
        assert copy.journal.answer(second.id) is None
        network.few = False
        await until(lambda: copy.journal.answer(second.id) is not None)
        await until(lambda: not copy.journal.unpublished())
        assert len(refusals(network, order)) == 2
        assert copy.journal.answer(first.id) in [said.wire for said in refusals(network, order)]
        await stop(copy, taker)

    play(story())


def test_those_who_wait_for_an_order_that_has_ended_are_refused_when_it_was_read_back() -> None:
    async def story() -> None:
        network = new_network(silent=True)
        original, one, other = await parties(network)
        order = original.publish(confirm=Confirm.ASK)
        trades = [await taker.accept(order) for taker in (one, other)]
        await until(lambda: len(original.journal.pending()) == 2)
        copy = await restored(network, original)
        await original.desk.decline(order.id, trades[0].accept_id)
        await until(lambda: len(refusals(network, order)) == 1)
        await original.kill()
        hidden = network.at_order[order.id].pop(refusals(network, order)[0].id)
        network.few = True
        await copy.start()
        end = make_status(order, Closing.CANCELED)
        network.store(order.id, end)
        copy.desk.on_record(end)  # pushed by one holder; the others do not answer
        assert copy.state(order) == "canceled"
        await until(lambda: network.reads > 20)
        assert refusals(network, order) == []
        network.at_order[order.id][hidden.id] = hidden
        network.few = False
        await until(lambda: len(refusals(network, order)) == 2)
        assert set(states(copy)) == {("refused", "declined"), ("refused", "canceled")}
        await until(lambda: copy.journal.pending() == [])
        await until(lambda: not copy.access.watches(order.id))
        assert not copy.desk._open
        await stop(copy, one, other)

    play(story())


@pytest.mark.parametrize("by", [1, 2])
def test_only_a_refusal_of_the_maker_s_own_key_is_taken_over(by: int) -> None:
    async def story() -> None:
        network = new_network()
        maker, taker = await parties(network, 2)
        order = maker.publish(confirm=Confirm.ASK)
        accept = make_accept(order)
        maker.desk.on_record(accept)
        said = make_refusal(order, accept, Code.DECLINED, by=identity(by), maker=order.body.maker)
        maker.desk.on_record(said)
        assert (maker.journal.answer(accept.id) is not None) == (by == 1)
        assert len(maker.journal.pending()) == (by != 1)
        await stop(maker, taker)

    play(story())


def test_a_reading_that_is_over_is_no_evidence_for_the_next_accept() -> None:
    async def story() -> None:
        network = new_network(silent=True)
        original, one, other = await parties(network)
        order = original.publish(liveness=Liveness.MAILBOX)
        copy = await restored(network, original)
        await copy.start()
        await until(lambda: copy.access.network.reads > 2)  # read, and nothing was found
        original.desk.on_record(make_accept(order, by=one.identity))  # both copies run, against the advice
        await until(lambda: len(statuses(network, order)) == 1)
        copy.desk.on_record(make_accept(order, by=other.identity))
        await until(lambda: copy.state(order) == "filled")
        assert len(statuses(network, order)) == 1
        await stop(original, copy, one, other)

    play(story())


def test_a_group_is_read_back_before_one_of_it_is_filled() -> None:
    async def story() -> None:
        network = new_network()
        original, taker = await parties(network, 2)
        old = [original.publish(number=number, group=GROUP) for number in range(2)]
        copy = await restored(network, original)
        await original.kill()
        # The original withdrew one of them; the copy has not heard of it, and makes a new one.
        network.silent = True
        await copy.start()
        network.store(old[0].id, make_status(old[0], Closing.CANCELED))
        fresh = copy.publish(number=7, group=GROUP, epoch=2)
        network.silent = False
        assert (await taker.accept(fresh, wait_s=30)).state == "confirmed"
        assert [copy.state(order) for order in (*old, fresh)] == ["canceled", "canceled", "filled"]
        assert never_disputed(network, *old, fresh)
        own = copy.journal.order(old[0].id)
        assert own is not None
        assert own.status_wire == statuses(network, old[0])[0].wire  # the original's, not another beside it
        await stop(copy, taker)

    play(story())


@pytest.mark.parametrize("seed", range(20))
def test_through_loss_and_restores_an_order_has_one_winner(seed: int) -> None:
    async def story() -> None:
        network = new_network(seed, loss=0.3, doubling=0.2)
        chance = network.entropy
        maker, *takers = everyone = await parties(network, 4)
        orders = [maker.publish(number=n, expires=NOW + 3600, group=GROUP if n else b"") for n in range(3)]
        backup = await restored(network, maker)
        retired: list[Party] = []
        for taker in takers:
            for order in chance.sample(orders, 2):
                with contextlib.suppress(NoPeerError, RefusedError):
                    await taker.accept(order)
            if chance.random() < 0.5 and not retired:
                await settle(maker, network, orders)
                await maker.kill()
                retired.append(maker)
                maker = everyone[0] = await backup.start()
        await until(lambda: VirtualClock().now() > NOW + 5000, 20_000)
        assert never_disputed(network, *orders)
        for order in orders:
            fills = {s.body.accept_id for s in statuses(network, order) if s.body.accept_id}
            won = [t for p in takers for t in p.journal.trades_of(order.id) if t.state == "confirmed"]
            assert {trade.accept_id for trade in won} == fills
            assert len(fills) <= 1
            refused = [said.body.accept_id for said in refusals(network, order)]
            assert len(refused) == len(set(refused))
        assert len([order for order in orders[1:] if maker.state(order) == "filled"]) <= 1
        await stop(*everyone)

    async def settle(maker: Party, network: Network, orders: list[Record[Order]]) -> None:
        """What the original has decided is held by the network; here the ends of a group too, which its node puts."""
        await until(lambda: not maker.journal.unpublished(), 4000)
        for order in orders:
            own = maker.journal.order(order.id)
            if own is not None and own.status_wire and not statuses(network, order):
                network.store(order.id, parsed(own.status_wire))

    play(story())


def parsed(wire: bytes) -> AnyRecord:
    record = parse_record(wire, None)
    assert not isinstance(record, str)
    return record
