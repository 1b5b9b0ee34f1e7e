"""The life of an order at its maker, and of an accept, as tables. A transition that is not in a table does not exist.

The documentation's diagrams are drawn from these tables by `mermaid`, so they cannot disagree.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Final, Generic, NamedTuple, TypeVar


class MakerState(StrEnum):
    """Where an order stands."""

    PUBLISHING = "publishing"
    OPEN = "open"
    FILLED = "filled"
    CANCELED = "canceled"
    REPLACED = "replaced"
    EXPIRED = "expired"
    DISPUTED = "disputed"


class MakerEvent(StrEnum):
    """What may happen to an order."""

    HELD = "held"
    FILL = "fill"
    CANCEL = "cancel"
    REPLACE = "replace"
    EXPIRE = "expire"
    CONTRADICT = "contradict"


class TakerState(StrEnum):
    """Where an accept stands; the maker's copy of the trade uses the same words."""

    SENT = "sent"
    PENDING = "pending"
    CONFIRMED = "confirmed"
    REFUSED = "refused"
    VOID = "void"


class TakerEvent(StrEnum):
    """What may happen to an accept."""

    DEFER = "defer"
    CONFIRM = "confirm"
    REFUSE = "refuse"
    LAPSE = "lapse"


class ReceiptState(StrEnum):
    """What one side of a confirmed trade has said about it."""

    UNSAID = "unsaid"
    SETTLED = "settled"
    FAILED = "failed"


class ReceiptEvent(StrEnum):
    """What a side may say."""

    SETTLE = "settle"
    FAIL = "fail"


State = TypeVar("State", bound=StrEnum)
Event = TypeVar("Event", bound=StrEnum)


class Row(NamedTuple, Generic[State, Event]):
    """One transition, and why it exists."""

    state: State
    event: Event
    to: State
    why: str


Table = tuple[Row[State, Event], ...]
MakerRow = Row[MakerState, MakerEvent]
TakerRow = Row[TakerState, TakerEvent]
ReceiptRow = Row[ReceiptState, ReceiptEvent]

_M, _ME = MakerState, MakerEvent
MAKER: Final[Table[MakerState, MakerEvent]] = (
    MakerRow(_M.PUBLISHING, _ME.HELD, _M.OPEN, "another node holds it"),
    MakerRow(_M.PUBLISHING, _ME.FILL, _M.FILLED, "a holder's answer was lost, but a taker found the order"),
    MakerRow(_M.PUBLISHING, _ME.CANCEL, _M.CANCELED, "withdrawn before anyone is known to hold it"),
    MakerRow(_M.PUBLISHING, _ME.REPLACE, _M.REPLACED, "amended before anyone is known to hold it"),
    MakerRow(_M.PUBLISHING, _ME.EXPIRE, _M.EXPIRED, "no peer was reached in its whole life"),
    MakerRow(_M.OPEN, _ME.FILL, _M.FILLED, "one accept was confirmed, durably, and its certificate signed"),
    MakerRow(_M.OPEN, _ME.CANCEL, _M.CANCELED, "the maker withdrew it, or another order of its group was filled"),
    MakerRow(_M.OPEN, _ME.REPLACE, _M.REPLACED, "the maker amended it: the changed offer is a new order"),
    MakerRow(_M.OPEN, _ME.EXPIRE, _M.EXPIRED, "its time is over"),
    *(
        MakerRow(state, _ME.CONTRADICT, _M.DISPUTED, "two signed statuses contradict each other")
        for state in (_M.PUBLISHING, _M.OPEN, _M.FILLED, _M.CANCELED, _M.REPLACED, _M.EXPIRED)
    ),
)

_T, _TE = TakerState, TakerEvent
TAKER: Final[Table[TakerState, TakerEvent]] = (
    TakerRow(_T.SENT, _TE.DEFER, _T.PENDING, "a person decides at the maker's"),
    TakerRow(_T.SENT, _TE.CONFIRM, _T.CONFIRMED, "the maker's Status names this accept"),
    TakerRow(_T.SENT, _TE.REFUSE, _T.REFUSED, "the maker signed a refusal, or a Status that names another accept"),
    TakerRow(_T.SENT, _TE.LAPSE, _T.VOID, "deadline and grace are over without an answer"),
    TakerRow(_T.PENDING, _TE.CONFIRM, _T.CONFIRMED, "the person agreed"),
    TakerRow(_T.PENDING, _TE.REFUSE, _T.REFUSED, "the person declined, or the order went to another"),
    TakerRow(_T.PENDING, _TE.LAPSE, _T.VOID, "deadline and grace are over without an answer"),
    TakerRow(_T.VOID, _TE.CONFIRM, _T.CONFIRMED, "the answer was given in time but found late: it binds its maker"),
    TakerRow(_T.VOID, _TE.REFUSE, _T.REFUSED, "the answer was found late: now both sides know why"),
)

_R, _RE = ReceiptState, ReceiptEvent
RECEIPT: Final[Table[ReceiptState, ReceiptEvent]] = (
    ReceiptRow(_R.UNSAID, _RE.SETTLE, _R.SETTLED, "both have what they wanted, says this side"),
    ReceiptRow(_R.UNSAID, _RE.FAIL, _R.FAILED, "the other side did not do its part"),
    ReceiptRow(_R.FAILED, _RE.SETTLE, _R.SETTLED, "it did so late"),
    ReceiptRow(_R.SETTLED, _RE.FAIL, _R.FAILED, "a payment was called back"),
    ReceiptRow(_R.FAILED, _RE.FAIL, _R.FAILED, "another reason"),
)


def advance(table: Table[State, Event], state: State, event: Event) -> State | None:
    """The state after an event; None when the table has no such transition, and nothing may change."""
    for row in table:
        if row.state is state and row.event is event:
            return row.to
    return None


def mermaid(table: Iterable[Row[State, Event]]) -> str:
    """A table as a Mermaid state diagram; the first row's state is where life begins."""
    rows = list(table)
    left = {row.state for row in rows}
    ends = list(dict.fromkeys(row.to for row in rows if row.to not in left))
    lines = ["stateDiagram-v2", f"    [*] --> {rows[0].state}"]
    lines += [f"    {row.state} --> {row.to}: {row.event}" for row in rows]
    lines += [f"    {end} --> [*]" for end in ends]
    return "\n".join(lines) + "\n"
