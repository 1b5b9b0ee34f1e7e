"""What the disk or the machine refuses for a while leaves no outcome unheard."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from dhtex.errors import DhtexError, StateError
from dhtex.market.ids import RecordId
from dhtex.market.records import Kind, Liveness
from dhtex.trading.ports import Progress
from tests.builders import NOW, make_accept
from tests.unit.trading.world import Party, new_network, parties, play, states, stop, until

REFUSED_S = 40.0


@contextmanager
def unreadable(party: Party) -> Iterator[None]:
    """Meanwhile the disk gives nothing back."""

    def refuse(sql: str, *parameters: object) -> Any:
        raise StateError("the state file cannot be read: disk I/O error")

    party.database.rows = refuse  # type: ignore[method-assign]
    yield
    del party.database.rows


@pytest.mark.parametrize("error", [DhtexError("the process that mints ended twice"), OSError("no memory")])
def test_a_taker_that_cannot_stamp_again_hears_the_outcome(error: Exception) -> None:
    async def story() -> None:
        maker, taker = await parties(new_network(), 2)
        order = maker.publish()
        mint = taker.access.mint

        async def refuse(record_id: RecordId, kind: Kind, progress: Progress | None, bits: int = 0) -> bytes:
            if bits:
                raise error
            return await mint(record_id, kind, progress)

        taker.access.mint = refuse  # type: ignore[method-assign]
        taker.access.bits_asked = lambda wire: 4  # type: ignore[method-assign]
        assert (await taker.accept(order, wait_s=30)).state == "confirmed"
        assert len(taker.desk._followed) == 1
        await stop(maker, taker)

    play(story())


def test_a_maker_whose_disk_could_not_be_read_goes_on_reading_its_orders() -> None:
    async def story() -> None:
        network = new_network(silent=True)
        maker, taker = await parties(network, 2)
        order = maker.publish(liveness=Liveness.MAILBOX)
        with unreadable(maker):
            maker.desk.on_gap(order.id)
            await asyncio.sleep(REFUSED_S)
        trade = await taker.accept(order)
        assert (await taker.desk.wait(trade.accept_id, 300)).state == "confirmed"
        await stop(maker, taker)

    play(story())


def test_a_taker_whose_disk_could_not_be_read_hears_the_outcome() -> None:
    async def story() -> None:
        network = new_network(silent=True)
        maker, taker = await parties(network, 2)
        order = maker.publish(liveness=Liveness.MAILBOX)
        trade = await taker.accept(order)
        with unreadable(taker):
            await asyncio.sleep(REFUSED_S)
        await until(lambda: states(taker) == [("confirmed", "")])
        assert (await taker.desk.wait(trade.accept_id, 0)).state == "confirmed"
        await stop(maker, taker)

    play(story())


def test_an_accept_that_comes_while_the_disk_cannot_be_read_is_confirmed_later() -> None:
    async def story() -> None:
        network = new_network()
        (maker,) = await parties(network, 1)
        order = maker.publish(liveness=Liveness.MAILBOX)
        accept = make_accept(order, deadline=NOW + 3600)
        network.store(order.id, accept)
        with unreadable(maker):
            maker.desk.on_record(accept)
        await until(lambda: states(maker) == [("confirmed", "")])
        await stop(maker)

    play(story())


def test_an_answer_whose_put_broke_off_is_put_again() -> None:
    async def story() -> None:
        maker, taker = await parties(new_network(), 2)
        put, broken = maker.access.put_order_key, list[bytes]()

        async def breaks_off(order_id: RecordId, wire: bytes) -> int:
            if not broken:
                broken.append(wire)
                raise StateError("the state file cannot be read: disk I/O error")  # by what holders sent in return
            return await put(order_id, wire)

        maker.access.put_order_key = breaks_off  # type: ignore[method-assign]
        maker.desk.on_record(make_accept(maker.publish()))
        await until(lambda: not maker.journal.unpublished())
        assert len(broken) == 1
        await stop(maker, taker)

    play(story())
