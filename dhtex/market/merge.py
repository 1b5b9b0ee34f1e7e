"""What holds when records compete, and what an order's statuses say together.

Records that compete share a slot; `meet` is the whole rule for two of them. Where several are held in one slot, a new
record comes in unless one of them stays against it, and replaces those that it wins over.

Two statuses that contradict each other with equal right are *both* kept: together they prove that their maker signed
twice, and the order is disputed. Equal right is an equal `seq`; fills of different accepts contradict whatever their
`seq`. A higher number must not wipe out the certificate of an earlier trade: a fill stays beside a later end of another
kind, and it is the fill that counts.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from dhtex.market.records import Accept, AnyRecord, Beat, Closing, Kind, Order, Receipt, Record, Refusal, Status
from dhtex.market.trade import MakerState

Slot = tuple[Kind, bytes, bytes]


class Meeting(StrEnum):
    """How a new record gets on with one that is held already."""

    NEW_WINS = "new_wins"
    OLD_STAYS = "old_stays"
    BOTH_STAY = "both_stay"
    SAME = "same"


@dataclass(frozen=True, slots=True)
class OrderState:
    """Where an order stands, and the status that says so (None while it is open, or when it expired). `proof`: of a
    disputed order, the statuses that contradict each other, by id."""

    state: MakerState
    status: Record[Status] | None = None
    proof: tuple[Record[Status], ...] = ()


_CLOSED: Final = {
    Closing.FILLED: MakerState.FILLED,
    Closing.CANCELED: MakerState.CANCELED,
    Closing.REPLACED: MakerState.REPLACED,
}


def slot(record: AnyRecord) -> Slot:
    """The name of what a record competes for: there is room for one of a kind, about one thing, by one author."""
    return record.kind, subject(record), record.body.author


def subject(record: AnyRecord) -> bytes:
    """What a record is about, among those of its kind."""
    body = record.body
    if isinstance(body, Order):
        return record.id
    if isinstance(body, (Refusal, Receipt)):
        return body.accept_id
    return f"{body.pair} {body.side} {body.prefix}".encode() if isinstance(body, Beat) else body.order_id


def meet(new: AnyRecord, old: AnyRecord, now: float) -> Meeting:
    """What becomes of two records of one slot, both admitted, when `new` arrives where `old` is held.

    Status: the higher `seq`. Accept: the old one while it may still be answered. Order and Refusal: the old one. Beat:
    the newer. Receipt: the higher `seq`, of equal ones the smaller id, so that all agree. Records with the same id are
    the same, whatever their stamps.
    """
    if new.id == old.id:
        return Meeting.SAME
    match new.body, old.body:
        case Status() as ours, Status() as theirs:
            return _meet_statuses(ours, theirs)
        case Accept() as ours, Accept() as theirs:
            over = now > theirs.deadline and ours.deadline > theirs.deadline
            return Meeting.NEW_WINS if over else Meeting.OLD_STAYS
        case Beat() as ours, Beat() as theirs:
            newer = (ours.at, new.id) > (theirs.at, old.id)
            return Meeting.NEW_WINS if newer else Meeting.OLD_STAYS
        case Receipt() as ours, Receipt() as theirs:
            later = ours.seq > theirs.seq or (ours.seq == theirs.seq and new.id < old.id)
            return Meeting.NEW_WINS if later else Meeting.OLD_STAYS
    return Meeting.OLD_STAYS


def _meet_statuses(new: Status, old: Status) -> Meeting:
    if new.accept_id != old.accept_id or new.seq == old.seq:  # both are empty when neither is a fill
        return Meeting.BOTH_STAY
    return Meeting.NEW_WINS if new.seq > old.seq else Meeting.OLD_STAYS


def order_state(order: Record[Order], statuses: Iterable[Record[Status]], now: float) -> OrderState:
    """Where an order stands, given all statuses known of it (admitted ones, in any order, repeated or not).

    Statuses of other orders or by other keys are ignored. Disputed when those that stay contradict each other; a fill
    outlives any later end, and each end expiry.
    """
    own = {s.id: s for s in statuses if s.body.order_id == order.id and s.body.maker == order.body.maker}
    if not own:
        return OrderState(MakerState.EXPIRED if now >= order.body.expires else MakerState.OPEN)
    fills = [s for s in own.values() if s.body.accept_id]
    highest = max(s.body.seq for s in fills or own.values())
    top = [s for s in own.values() if s.body.seq == highest]
    winner = min(top, key=lambda s: s.id)
    if len(top) > 1 or len({s.body.accept_id for s in fills}) > 1:
        proof = {status.id: status for status in (*fills, *top)}
        return OrderState(MakerState.DISPUTED, winner, tuple(proof[status_id] for status_id in sorted(proof)))
    return OrderState(_CLOSED[winner.body.closing], winner)


def may_sign_receipt(receipt: Receipt, statuses: Iterable[Record[Status]]) -> bool:
    """Whether a certificate among the statuses of an order makes a receipt's signer a side of the trade it is about."""
    return any(
        status.body.order_id == receipt.order_id
        and status.body.accept_id == receipt.accept_id
        and receipt.signer in (status.body.maker, status.body.taker)
        and receipt.expires == status.body.expires
        for status in statuses
    )
