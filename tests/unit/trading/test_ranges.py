"""Range orders: a part fill closes the order, and what is left becomes a new one, in the same transaction."""

from decimal import Decimal
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dhtex.market.money import canonical
from dhtex.market.records import Accept, Order, Record, is_a, parse_record
from dhtex.trading.maker import remainder
from tests.builders import NETWORK, NOW, identity, make_accept, make_order
from tests.unit.trading.world import Party, new_network, parties, play, stop, until


def child_of(party: Party, order: Record[Order]) -> Record[Order] | None:
    own = party.journal.child(order.id)
    if own is None:
        return None
    child = parse_record(own.wire, NETWORK)
    assert is_a(child, Order)
    assert (own.order_id, own.parent, own.expires) == (child.id, order.id, child.body.expires)
    return child


def is_filled(party: Party, order: Record[Order]) -> bool:
    return party.state(order) == "filled"


def opened(party: Party, order: Record[Order]) -> Record[Order]:
    """The remainder as the node around the desk would publish it (here a stamp costs nothing)."""
    assert party.journal.stamp_order(order.id, order.wire)
    party.network.store(order.id, order)
    party.desk.order_opened(order.id)
    return order


@given(st.integers(1, 10**9), st.data())
def test_amounts_add_up_and_the_terms_stay(units: int, data: st.DataObject) -> None:
    smallest = data.draw(st.integers(1, units))
    taken = data.draw(st.integers(smallest, units))
    amount, minimum, part = (canonical(Decimal(n) / 10**8) for n in (units, smallest, taken))
    order = make_order(amount=amount, minimum=minimum, note="n", reference="r", replaces=b"r" * 32, group=b"g" * 32)
    child = remainder(order, make_accept(order, amount=part).body, 3, NOW + 60)
    if taken == units:
        assert child is None
        return
    assert child is not None
    assert Decimal(child.amount) + Decimal(part) == Decimal(amount)
    assert Decimal(child.minimum) == min(Decimal(minimum), Decimal(child.amount))
    assert (child.parent, child.replaces, child.epoch, child.created) == (order.id, b"", 3, NOW + 60)
    same = (
        "maker",
        "pair",
        "side",
        "price",
        "payments",
        "note",
        "expires",
        "liveness",
        "confirm",
        "reference",
        "group",
    )
    assert [getattr(child, field) for field in same] == [getattr(order.body, field) for field in same]


def test_a_clock_that_was_set_back_does_not_lengthen_the_life_of_a_remainder() -> None:
    order = make_order(minimum="0.5", expires=NOW + 7 * 86_400)
    child = remainder(order, make_accept(order, amount="0.5").body, 1, NOW - 9999)
    assert child is not None
    assert (child.created, child.expires) == (NOW, order.body.expires)


def test_a_part_fill_closes_the_order_and_journals_the_remainder() -> None:
    async def story() -> None:
        maker, taker, late = await parties(new_network())
        order = maker.publish(reply="pay me", amount="1", minimum="0.4")
        assert (await taker.accept(order, amount="0.7", wait_s=30)).state == "confirmed"
        assert (maker.state(order), len(maker.journal.orders("publishing"))) == ("filled", 1)
        child = child_of(maker, order)
        assert child is not None
        assert (child.body.amount, child.body.minimum) == ("0.3", "0.3")
        maker.desk.on_record(make_accept(order, by=identity(9), amount="0.4"))  # what is gone is gone
        assert [(trade.state, trade.code) for trade in maker.journal.trades()][1:] == [("refused", "taken")]
        opened(maker, child)
        bought = await late.accept(child, wait_s=30)
        assert (bought.state, bought.reply) == ("confirmed", "pay me")
        assert child_of(maker, child) is None
        assert maker.journal.orders("publishing") == []
        await stop(maker, taker, late)

    play(story())


def test_a_whole_fill_leaves_nothing() -> None:
    async def story() -> None:
        maker, taker = await parties(new_network(), 2)
        order = maker.publish(amount="1", minimum="0.4")
        assert (await taker.accept(order, wait_s=30)).state == "confirmed"
        assert len(maker.journal.orders()) == 1
        await stop(maker, taker)

    play(story())


@pytest.mark.parametrize("seed", range(12))
def test_of_many_takers_at_once_nobody_gets_more_than_is_left_whatever_crashes(seed: int) -> None:
    async def story() -> None:
        network = new_network(seed, loss=0.2, doubling=0.2)
        chance = network.entropy
        everyone = await parties(network, 4)
        maker, takers = everyone[0], everyone[1:]
        order: Record[Order] | None = maker.publish(amount="1", minimum="0.1")
        while order is not None:
            here = order
            for taker in takers:
                share = min(Decimal(here.body.amount), max(Decimal(here.body.minimum), Decimal("0.3")))
                maker.desk.on_record(make_accept(here, by=taker.identity, amount=canonical(share)))
                if chance.random() < 0.3:
                    await maker.restart()
            await until(partial(is_filled, maker, here))
            order = child_of(maker, here)
            if order is not None:
                opened(maker, order)
        sold = [trade for trade in maker.journal.trades() if trade.state == "confirmed"]
        records = [parse_record(trade.accept_wire, NETWORK) for trade in sold]
        assert sum((Decimal(r.body.amount) for r in records if is_a(r, Accept)), Decimal(0)) == 1
        assert len(sold) == len(maker.journal.orders("filled")) == len(maker.journal.orders()) == 4
        await stop(*everyone)

    play(story())
