"""From records to what faces show: the structures of `dhtex.views`.

Times become milliseconds and ISO 8601 in UTC, money stays a canonical string, byte strings become hex.
"""

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Final, Protocol

from dhtex import limits
from dhtex.market.merge import Meeting, OrderState, Slot, meet, slot
from dhtex.market.money import EXACT, canonical
from dhtex.market.records import RETRYABLE, Accept, Liveness, Order, Receipt, Record, Side, is_a, parse_record
from dhtex.market.trade import MakerState
from dhtex.views import OrderView, ReceiptView, TradeView

_SHOWN_MS_MAX: Final = 253_402_300_799_999  # the last moment of the year 9999, where the calendar of `datetime` ends


def milliseconds(time_s: float) -> int:
    """Unix time in milliseconds."""
    return int(time_s * 1000)


def iso_time(time_s: float) -> str:
    """ISO 8601 in UTC with milliseconds, as `2027-01-15T08:00:00.000Z`."""
    seconds, fraction = divmod(min(max(milliseconds(time_s), 0), _SHOWN_MS_MAX), 1000)
    return f"{_iso_second(seconds)}.{fraction:03d}Z"


@lru_cache(maxsize=4096)
def _iso_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:19]


def cost(amount: str, price: str) -> str:
    """What an amount of the base costs in the quote, exactly; it may have more decimals than the quote has coins."""
    return canonical(EXACT.multiply(Decimal(amount), Decimal(price)))


def _remaining(amount: str, filled: str) -> str:
    return amount if filled == "0" else canonical(max(Decimal(0), EXACT.subtract(Decimal(amount), Decimal(filled))))


def _hex(identifier: bytes) -> str | None:
    return identifier.hex() or None


def silent_from(order: Order, heard_of: float) -> float:
    """When an order is live no more unless its maker is heard of, Unix seconds."""
    return math.inf if order.liveness is Liveness.MAILBOX else heard_of + limits.BEAT_AGE_S_MAX


def is_live(order: Order, heard_of: float, now: float) -> bool:
    """Whether an order may be expected to be answered: its maker was heard of lately, or it waits for the maker."""
    return now <= silent_from(order, heard_of)


def order_look(
    order: Order, state: OrderState, *, heard_of: float, now: float, mine: bool, holders: int | None
) -> tuple[str, bool]:
    """The status that an order is shown with, and whether it may be expected to be answered.

    An own order that no other node is known to hold (`holders` 0) is still being published.
    """
    publishing = mine and state.state is MakerState.OPEN and holders == 0
    shown = MakerState.PUBLISHING if publishing else state.state
    return shown.value, mine or is_live(order, heard_of, now)


def order_view(
    order: Record[Order], state: OrderState, *, heard_of: float, now: float, mine: bool, holders: int | None = None
) -> OrderView:
    """An order as this node sees it. `heard_of`: when its maker last gave a sign of life, Unix seconds."""
    body, status = order.body, state.status.body if state.status else None
    shown, live = order_look(body, state, heard_of=heard_of, now=now, mine=mine, holders=holders)
    filled = status.amount if status and status.amount else "0"
    return OrderView(
        id=order.id.hex(),
        clientOrderId=body.reference,
        symbol=body.pair,
        side=body.side.value,
        price=body.price,
        amount=body.amount,
        minimum=body.minimum,
        filled=filled,
        remaining=_remaining(body.amount, filled),
        status=shown,
        timestamp=milliseconds(body.created),
        datetime=iso_time(body.created),
        expires=milliseconds(body.expires),
        expiresDatetime=iso_time(body.expires),
        maker=body.maker.hex(),
        payment=list(body.payments),
        note=body.note,
        liveness=body.liveness.value,
        confirm=body.confirm.value,
        live=live,
        mine=mine,
        holders=holders,
        accept=_hex(status.accept_id) if status else None,
        replaces=_hex(body.replaces),
        replacedBy=_hex(status.replaced_by) if status else None,
        parent=_hex(body.parent),
        group=_hex(body.group),
        proof=[status.wire.hex() for status in state.proof],
    )


class TradeRow(Protocol):
    """What a trade's row in the journal offers; the journal lies in a higher layer."""

    @property
    def role(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def code(self) -> str: ...
    @property
    def order_wire(self) -> bytes: ...
    @property
    def accept_wire(self) -> bytes: ...
    @property
    def message(self) -> str: ...
    @property
    def reply(self) -> str: ...


class ReceiptRow(Protocol):
    """What a receipt's row in the journal offers."""

    @property
    def role(self) -> str: ...
    @property
    def outcome(self) -> str: ...
    @property
    def at(self) -> int: ...
    @property
    def reason(self) -> str: ...
    @property
    def published(self) -> int: ...


def _receipt_view(row: ReceiptRow) -> ReceiptView:
    return ReceiptView(
        by=row.role,
        outcome=row.outcome,
        timestamp=milliseconds(row.at),
        datetime=iso_time(row.at),
        reason=row.reason,
        held=bool(row.published),
    )


def public_receipts(order: Order, receipts: Iterable[Record[Receipt]], now: float) -> list[ReceiptView]:
    """What the sides of an order's trade say became of it, as anybody can read it: the newest word of each."""
    newest: dict[Slot, Record[Receipt]] = {}
    for receipt in receipts:
        before = newest.get(slot(receipt))
        if before is None or meet(receipt, before, now) is Meeting.NEW_WINS:
            newest[slot(receipt)] = receipt
    found = [
        ReceiptView(
            by="maker" if receipt.body.signer == order.maker else "taker",
            outcome=receipt.body.outcome,
            timestamp=milliseconds(receipt.body.at),
            datetime=iso_time(receipt.body.at),
        )
        for receipt in newest.values()
    ]
    return sorted(found, key=lambda view: (view.by, view.timestamp, view.outcome))


def trade_view(trade: TradeRow, receipts: Sequence[ReceiptRow] = ()) -> TradeView:
    """A trade from the side of this node: who accepts an offer to sell, buys."""
    order, accept = parse_record(trade.order_wire, None), parse_record(trade.accept_wire, None)
    assert is_a(order, Order), "the journal holds what was parsed before"
    assert is_a(accept, Accept), "the journal holds what was parsed before"
    maker, body = trade.role == "maker", accept.body
    buys = (order.body.side is Side.BUY) == maker
    return TradeView(
        id=accept.id.hex(),
        accept=accept.id.hex(),
        order=order.id.hex(),
        role=trade.role,
        state=trade.state,
        code=trade.code or None,
        retryable=trade.code in RETRYABLE,
        symbol=order.body.pair,
        side=(Side.BUY if buys else Side.SELL).value,
        price=order.body.price,
        amount=body.amount,
        cost=cost(body.amount, order.body.price),
        timestamp=milliseconds(body.created),
        datetime=iso_time(body.created),
        deadline=milliseconds(body.deadline),
        deadlineDatetime=iso_time(body.deadline),
        counterparty=(body.taker if maker else order.body.maker).hex(),
        message=trade.message,
        reply=trade.reply,
        receipts=[_receipt_view(row) for row in receipts],
    )
