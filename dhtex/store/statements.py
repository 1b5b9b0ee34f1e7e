"""The statements behind the journal's methods: the SQL of its rows, and the steps of a decision.

Each step works inside the transaction of its caller, which takes all of them or none.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import astuple, fields
from typing import Final

from dhtex.market.ids import RecordId
from dhtex.market.trade import MAKER, MakerEvent, MakerState
from dhtex.store.rows import Answer, Closed, KeptReceipt, OwnOrder, Pending, Trade


def columns(row_type: type) -> str:
    return ", ".join(field.name for field in fields(row_type))


def marks(row_type: type) -> str:
    return ", ".join("?" * len(fields(row_type)))


def leading_to(event: MakerEvent) -> str:
    """The states that the table lets an event end, as an SQL list."""
    return ", ".join(f"'{row.state}'" for row in MAKER if row.event is event)


ORDER: Final = columns(OwnOrder)
TRADE: Final = columns(Trade)
PENDING: Final = columns(Pending)
ANSWER: Final = columns(Answer)
RECEIPT: Final = columns(KeptReceipt)
PUT_ORDER: Final = f"INSERT INTO orders({ORDER}) VALUES({marks(OwnOrder)})"
PUT_TRADE: Final = f"INSERT OR REPLACE INTO trades({TRADE}) VALUES({marks(Trade)})"
PUT_ANSWER: Final = f"INSERT INTO answers({ANSWER}) VALUES({marks(Answer)})"
OTHERS_OPEN: Final = f"group_id = ? AND order_id != ? AND state IN ({leading_to(MakerEvent.CANCEL)})"
EVENTS: Final = {
    MakerState.FILLED: MakerEvent.FILL,
    MakerState.CANCELED: MakerEvent.CANCEL,
    MakerState.REPLACED: MakerEvent.REPLACE,
    MakerState.EXPIRED: MakerEvent.EXPIRE,
}


def changed(connection: sqlite3.Connection, sql: str, parameters: Sequence[object]) -> bool:
    return connection.execute(sql, parameters).rowcount > 0


def close(
    connection: sqlite3.Connection, order_id: RecordId, state: MakerState, status_wire: bytes, replaced_by: bytes = b""
) -> bool:
    # An expiry is in the order itself: nothing is signed, so the sequence does not move.
    return changed(
        connection,
        f"UPDATE orders SET state = ?, seq = seq + ?, status_wire = ?, replaced_by = ?"
        f" WHERE order_id = ? AND state IN ({leading_to(EVENTS[state])})",
        (state, 1 if status_wire else 0, status_wire, replaced_by, order_id),
    )


def is_decided(connection: sqlite3.Connection, order: OwnOrder) -> bool:
    filled = "SELECT 1 FROM orders WHERE group_id = ? AND state IN (?, ?) AND expires > ?"
    values = (order.group_id, MakerState.FILLED, MakerState.DISPUTED, order.created)
    return connection.execute(filled, values).fetchone() is not None


def are_all_open(connection: sqlite3.Connection, order_id: RecordId, others: Sequence[Closed]) -> bool:
    """Whether no order of the group is open but these: one may have been added since they were signed off."""
    group = connection.execute("SELECT group_id FROM orders WHERE order_id = ?", (order_id,)).fetchone()
    if group is None or not group[0]:
        return True
    rows = connection.execute(f"SELECT order_id FROM orders WHERE {OTHERS_OPEN}", (group[0], order_id)).fetchall()
    return {row[0] for row in rows} <= {closed.order_id for closed in others}


def close_others(connection: sqlite3.Connection, others: Sequence[Closed]) -> None:
    for closed in others:
        close(connection, closed.order_id, MakerState.CANCELED, closed.status_wire)


def is_answered(connection: sqlite3.Connection, accept_id: RecordId) -> bool:
    return connection.execute("SELECT 1 FROM answers WHERE accept_id = ?", (accept_id,)).fetchone() is not None


def keep_answer(connection: sqlite3.Connection, answer: Answer, trade: Trade | None) -> None:
    connection.execute(PUT_ANSWER, astuple(answer))
    connection.execute("DELETE FROM pending WHERE accept_id = ?", (answer.accept_id,))
    if trade is not None:
        connection.execute(PUT_TRADE, astuple(trade))
