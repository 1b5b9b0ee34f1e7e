"""Rows for tests of the store."""

from dataclasses import replace
from typing import Any

from dhtex.market.ids import RecordId
from dhtex.store.rows import OwnOrder, Pending, Trade
from tests.builders import NOW

STATUS = b"a signed status"
REFUSAL = b"a signed refusal"


def name(number: int) -> RecordId:
    return RecordId(number.to_bytes(32))


def own_order(number: int = 1, **changes: Any) -> OwnOrder:
    row = OwnOrder(
        order_id=name(number),
        wire=b"order %d" % number,
        state="open",
        seq=0,
        status_wire=b"",
        reply_text="call me",
        created=NOW,
        expires=NOW + 3600,
    )
    return replace(row, **changes)


def trade(number: int = 100, order: int = 1, **changes: Any) -> Trade:
    row = Trade(
        accept_id=name(number),
        order_id=name(order),
        role="maker",
        state="confirmed",
        code="",
        order_wire=b"order",
        accept_wire=b"accept %d" % number,
        answer_wire=STATUS,
        message="hello",
        reply="",
        created=NOW + number,
        deadline=NOW + 60,
    )
    return replace(row, **changes)


def pending(number: int = 100, order: int = 1) -> Pending:
    return Pending(name(number), name(order), b"accept %d" % number, NOW + 0.5)
