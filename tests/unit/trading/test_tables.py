"""What the state tables do not allow, journal and desks refuse: every missing row, tried on the code that writes."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import pytest

from dhtex.market.records import Closing
from dhtex.market.trade import MAKER, TAKER, MakerEvent, MakerState, TakerEvent, TakerState, advance
from dhtex.store.database import Database
from dhtex.store.journal import Journal
from dhtex.store.rows import OwnOrder
from tests.builders import NOW, make_order, make_status
from tests.unit.store.samples import STATUS, name, own_order, trade
from tests.unit.trading.world import new_network, parties, play, stop

WRITES: dict[MakerEvent, Callable[[Journal], bool]] = {
    MakerEvent.HELD: lambda journal: journal.stamp_order(name(1), b"stamped"),
    MakerEvent.FILL: lambda journal: journal.decide_fill(name(1), name(100), STATUS, trade()),
    MakerEvent.CANCEL: lambda journal: journal.close_order(name(1), MakerState.CANCELED, b"end"),
    MakerEvent.REPLACE: lambda journal: journal.replace_order(name(1), own_order(2), b"end"),
    MakerEvent.EXPIRE: lambda journal: journal.close_order(name(1), MakerState.EXPIRED, b""),
}


@pytest.mark.parametrize(("state", "event"), list(product(MakerState, WRITES)))
def test_the_journal_writes_what_the_makers_table_has_and_nothing_else(state: MakerState, event: MakerEvent) -> None:
    journal = Journal(Database.open(None))
    journal.add_order(replace(own_order(), state=state))
    to = advance(MAKER, state, event)
    assert WRITES[event](journal) == (to is not None)
    order = journal.order(name(1))
    assert order is not None
    assert order.state == (to or state)
    if to is None:
        assert (len(journal.orders()), journal.trades(), journal.answer(name(100))) == (1, [], None)


ENDS = {MakerEvent.FILL: Closing.FILLED, MakerEvent.CANCEL: Closing.CANCELED, MakerEvent.REPLACE: Closing.REPLACED}


@pytest.mark.parametrize(("state", "event"), list(product(MakerState, [*ENDS, MakerEvent.CONTRADICT])))
def test_what_others_say_of_an_order_changes_what_the_makers_table_has_and_nothing_else(
    state: MakerState, event: MakerEvent
) -> None:
    async def story() -> None:
        (maker,) = await parties(new_network(), 1)
        order = make_order(by=maker.identity)
        row = OwnOrder(order.id, order.wire, state, 0, b"", "", order.body.created, order.body.expires)
        if event is MakerEvent.CONTRADICT:
            row = replace(row, seq=1, status_wire=make_status(order, Closing.CANCELED).wire)
        elif state == ENDS[event].name.lower():  # it knows its own end; one without is told it, in test_epochs_ended
            row = replace(row, seq=1, status_wire=make_status(order, ENDS[event]).wire)
        maker.journal.add_order(row)
        to = advance(MAKER, state, event)
        effects = maker.desk._selling.reconcile(make_status(order, ENDS.get(event, Closing.REPLACED)), NOW + 5)
        assert bool(effects) == (to is not None)
        assert maker.state(order) == (to or state)
        await stop(maker)

    play(story())


@pytest.mark.parametrize(("state", "event"), list(product(TakerState, TakerEvent)))
def test_the_takers_desk_writes_what_its_table_has_and_nothing_else(state: TakerState, event: TakerEvent) -> None:
    async def story() -> None:
        maker, taker = await parties(new_network(), 2)
        await taker.accept(maker.publish())
        before = replace(taker.journal.trades()[0], state=state)
        taker.journal.update_trade(before.accept_id, taker.journal.trades()[0].state, before)
        to = advance(TAKER, state, event)
        assert bool(taker.desk._buying._advance(before, event)) == (to is not None)
        assert taker.journal.trades() == [replace(before, state=to or state)]
        await stop(maker, taker)

    play(story())
