"""Orders of an older epoch that are over: those who wait are refused in the end, and sales are not forgotten."""

import asyncio
from typing import Any, cast

import pytest

from dhtex.market.records import Closing, Confirm, Liveness, Order, Record, seal_record
from dhtex.node.offers import Offers
from dhtex.trading.maker import closing_status
from tests.builders import NETWORK, NOW, make_status
from tests.unit.trading.test_epochs import refusals, restored
from tests.unit.trading.world import Network, Party, VirtualClock, new_network, parties, play, stop, until


async def copy_that_has_cancelled(network: Network, original: Party, taker: Party) -> tuple[Party, Record[Order]]:
    """A restored maker that has just noted the end of an order for which an accept waits, and told nobody."""
    order = original.publish(confirm=Confirm.ASK, liveness=Liveness.MAILBOX)
    await taker.accept(order)
    await until(lambda: len(original.journal.pending()) == 1)
    copy = await restored(network, original)
    await original.kill()
    await copy.start()
    await copy.desk.read_back(order.id)
    end = closing_status(order, 1, Closing.CANCELED, b"", VirtualClock().now())
    assert copy.journal.close_order(order.id, "canceled", seal_record(end, copy.identity.sign).wire)
    return copy, order


@pytest.mark.parametrize("killed", [True, False])
def test_who_waits_for_an_order_that_has_ended_is_refused_after_a_restart_or_a_long_silence(killed: bool) -> None:
    async def story() -> None:
        network = new_network()
        original, taker = await parties(network, 2)
        copy, order = await copy_that_has_cancelled(network, original, taker)
        if killed:
            await copy.restart()
        else:
            network.few = True
            copy.desk.order_closed(order.id)
            await asyncio.sleep(900)
            assert not refusals(network, order)
            network.few = False
        await until(lambda: len(refusals(network, order)) == 1, 3600)
        await until(lambda: [trade.code for trade in taker.journal.trades()] == ["canceled"], 600)
        assert not copy.journal.pending()
        await stop(copy, taker)

    play(story())


def test_a_remainder_that_another_copy_has_sold_is_not_noted_as_expired() -> None:
    async def story() -> None:
        network = new_network()
        original, taker = await parties(network, 2)
        order = original.publish(expires=NOW + 600)
        copy = await restored(network, original)
        with copy.database.decision() as connection:
            connection.execute("UPDATE orders SET state='publishing'")  # as when the backup came before its stamp
        assert (await taker.accept(order, wait_s=30)).state == "confirmed"
        await original.kill()
        await until(lambda: VirtualClock().now() > NOW + 700, 1000)
        await copy.start()
        nobody = cast(Any, None)
        offers = Offers(
            NETWORK, copy.keys, 2, copy.journal, nobody, nobody, 0, VirtualClock(), network.entropy,
            copy.desk.order_opened, copy.desk.order_closed, copy.desk.read_back,
        )  # fmt: skip
        await offers.relist()
        await until(lambda: [trade.state for trade in copy.journal.trades()] == ["confirmed"], 300)
        assert copy.state(order) == "filled"
        await stop(copy, taker)

    play(story())


def test_an_order_that_ended_with_its_group_keeps_its_own_end_once_it_is_told() -> None:
    async def story() -> None:
        network = new_network()
        (maker,) = await parties(network, 1)
        order = maker.publish()
        assert maker.journal.close_order(order.id, "canceled", b"")  # as when a copy has filled another of its group
        status = make_status(order, Closing.CANCELED)
        maker.desk.on_record(status)
        own = maker.journal.order(order.id)
        assert own is not None
        assert (own.state, own.status_wire) == ("canceled", status.wire)
        await stop(maker)

    play(story())
