"""The maker's answer to one accept, as a pure function of what the journal knows.

The checks run in one order, cheapest first: size (done by `parse_record`), stamp, deadline, signature, replay, then the
order itself. An accept that has an answer gets the same bytes again, whatever has changed since. What nobody can have
paid for or signed gets no answer at all; nor does what comes after deadline and grace, because it is void.

The quota of an order counts all accepts that left a row in the journal, and comes last: a quota that strangers can use
up must never stop a fill.
"""

from collections.abc import Callable, Set
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Final

import msgspec

from dhtex import limits
from dhtex.errors import UsageError
from dhtex.market import stamp
from dhtex.market.ids import PublicKey, RecordId
from dhtex.market.money import EXACT, Pair, canonical, parse_amount
from dhtex.market.records import VERSION, Accept, AnyRecord, Closing, Code, Confirm, Order, Record, Refusal, Status
from dhtex.market.trade import MAKER, MakerEvent, MakerState, advance

GoodSignature = Callable[[AnyRecord], bool]
ReadBack = frozenset[RecordId]
"""Orders of an older epoch whose keys were read just now: what copies of this node have signed about them is known."""
NOTHING: Final = ReadBack()


class Reason(StrEnum):
    """Why an accept is not answered."""

    STAMP = "stamp"
    OTHER_ORDER = "other_order"
    VOID = "void"
    SIGNATURE = "signature"
    WAITING = "waiting"
    FENCED = "fenced"
    QUOTA = "quota"


@dataclass(frozen=True, slots=True)
class Ignore:
    """No answer."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Repeat:
    """The answer that was given before."""

    wire: bytes


@dataclass(frozen=True, slots=True)
class Refuse:
    """No, for good."""

    code: Code


@dataclass(frozen=True, slots=True)
class Ask:
    """A person decides."""


@dataclass(frozen=True, slots=True)
class Fill:
    """Yes: the order goes to this accept, if nobody was quicker."""


Decision = Ignore | Repeat | Refuse | Ask | Fill


@dataclass(frozen=True, slots=True)
class Standing:
    """What the journal knows when an accept arrives: the order and its state, what was answered to this accept (empty:
    nothing), whether it waits for a person, how many accepts of the order are kept, and how many wait. `fenced`: the
    order is older than this node's epoch and was not read back just now, so a copy of this node may have filled it, or
    refused this accept."""

    order: Record[Order]
    state: str
    answered: bytes = b""
    waiting: bool = False
    accepts: int = 0
    waiting_count: int = 0
    fenced: bool = False


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for all orders of this node. `good` checks a record's signature."""

    own_keys: Set[PublicKey]
    epoch: int
    pow_bits: int
    good: GoodSignature


ENDED: Final = {
    MakerState.FILLED: Code.TAKEN,
    MakerState.CANCELED: Code.CANCELED,
    MakerState.REPLACED: Code.REPLACED,
    MakerState.EXPIRED: Code.EXPIRED,
    MakerState.DISPUTED: Code.WRONG_EPOCH,  # somebody else signs with this key: nothing may be promised
}


def decide(accept: Record[Accept], standing: Standing, rules: Rules, now: float) -> Decision:
    """What to answer to an accept."""
    body = accept.body
    bits_min = stamp.required_bits(accept.kind, rules.pow_bits)
    if body.order_id != standing.order.id:
        return Ignore(Reason.OTHER_ORDER)
    if not stamp.check(accept.stamp, accept.id, bits_min, body.created):
        return Ignore(Reason.STAMP)
    if now > body.deadline + limits.ACCEPT_GRACE_S:
        return Ignore(Reason.VOID)
    if not rules.good(accept):
        return Ignore(Reason.SIGNATURE)
    if standing.answered:
        return Repeat(standing.answered)
    code = objection(accept, standing.order, standing.state, rules, now)
    has_room = standing.accepts < limits.ACCEPTS_PER_ORDER_MAX
    asks = code is None and standing.order.body.confirm is Confirm.ASK
    if standing.fenced and not asks:  # to ask a person is to decide nothing yet
        return Ignore(Reason.FENCED)
    if code is not None:
        return Refuse(code) if has_room else Ignore(Reason.QUOTA)
    if standing.waiting:
        return Ignore(Reason.WAITING)
    if not asks:
        return Fill()
    return Ask() if has_room and standing.waiting_count < limits.PENDING_PER_ORDER_MAX else Ignore(Reason.QUOTA)


def objection(accept: Record[Accept], order: Record[Order], state: str, rules: Rules, now: float) -> Code | None:
    """What stands against giving an order to an accept; None when nothing does."""
    if advance(MAKER, MakerState(state), MakerEvent.FILL) is None:
        return ENDED[MakerState(state)]
    if now >= order.body.expires:
        return Code.EXPIRED
    if accept.body.taker in rules.own_keys:
        return Code.SELF_TRADE
    if not _in_range(accept.body, order.body):
        return Code.AMOUNT_OUT_OF_RANGE
    if now > accept.body.deadline:
        return Code.LATE
    if order.body.epoch > rules.epoch:
        return Code.WRONG_EPOCH
    return None


def _in_range(accept: Accept, order: Order) -> bool:
    try:
        amount = parse_amount(accept.amount, Pair.parse(order.pair))  # refuses more decimals than the currency has
    except UsageError:
        return False
    return Decimal(order.minimum) <= amount <= Decimal(order.amount)


def remainder(order: Record[Order], accept: Accept, epoch: int, now: float) -> Order | None:
    """What a part fill leaves, as a new order of the same terms, key, salt and expiry, to be signed; None when nothing
    is left."""
    body = order.body
    rest = EXACT.subtract(Decimal(body.amount), Decimal(accept.amount))
    if rest <= 0:
        return None
    return msgspec.structs.replace(
        body,
        amount=canonical(rest),
        minimum=canonical(min(Decimal(body.minimum), rest)),
        created=max(int(now), body.created),  # were the clock set back, the life of the order would grow
        epoch=epoch,
        replaces=b"",
        parent=order.id,
    )


def closing_status(
    order: Record[Order],
    seq: int,
    closing: Closing,
    successor: bytes,
    now: float,
    *,
    accept: Record[Accept] | None = None,
    sealed: bytes = b"",
) -> Status:
    """The end of an order, to be signed. `successor` is what replaces it, or empty; `accept` who has it, if it is
    filled: then this is the certificate of the trade, with a reply `sealed` to its taker."""
    body = order.body
    return Status(
        version=VERSION,
        network=body.network,
        order_id=order.id,
        maker=body.maker,
        pair=body.pair,
        side=body.side,
        price=body.price,
        expires=body.expires,
        epoch=body.epoch,
        seq=seq,
        closing=closing,
        at=int(now),
        accept_id=b"" if accept is None else accept.id,
        taker=b"" if accept is None else accept.body.taker,
        amount="" if accept is None else accept.body.amount,
        replaced_by=successor,
        sealed=sealed,
    )


def refusal(order: Record[Order], accept: Record[Accept], code: Code, now: float) -> Refusal:
    """A no, to be signed."""
    return Refusal(
        version=VERSION,
        network=order.body.network,
        order_id=RecordId(order.id),
        maker=order.body.maker,
        accept_id=accept.id,
        code=code,
        at=int(now),
        expires=accept.body.deadline,
    )
