"""A node whose disk could not be read for a while does all of its work again afterwards."""

import asyncio
import logging
from typing import Any

import pytest

from dhtex import limits
from dhtex.errors import StateError
from dhtex.views import OrderDraft
from tests.sim.test_tree import MAKERS, PAIR, Room, play

REFUSED_S = 40.0


def refuse(sql: str, *parameters: object) -> Any:
    raise StateError("the state file cannot be read: disk I/O error")


def test_a_maker_whose_disk_could_not_be_read_is_heard_of_again(caplog: pytest.LogCaptureFixture) -> None:
    async def story(room: Room) -> None:
        await room.start(MAKERS)
        maker, reader = room.hosts[:2]
        await room.publish(MAKERS, "beat")
        brief = OrderDraft(side="sell", amount="1", pair=PAIR, price="60000", cancel_after_s=10)
        await maker.ask(lambda node: node.add_order(brief))
        await asyncio.sleep(5)
        database, lasting = maker.parts.database, len(maker.node._tasks)
        database.rows = refuse  # type: ignore[method-assign]
        maker.parts.overlay.resumed()
        await asyncio.sleep(REFUSED_S)
        del database.rows
        assert sum(record.levelno == logging.ERROR for record in caplog.records) < REFUSED_S / 2
        await asyncio.sleep(2 * limits.BEAT_AGE_S_MAX)
        assert len(maker.node._tasks) == lasting
        assert [order.live for order in (await room.listing(reader, 10)).orders] == [True] * MAKERS

    play(story, MAKERS)
