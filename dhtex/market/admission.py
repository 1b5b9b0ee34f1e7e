"""Who comes in: whether a decoded record may be kept and shown now, where it belongs, and for how long.

The checks run cheapest first: size and form (done by `parse_record`), stamp, time, signature. The answer is a `Code`,
because a refused record is its sender's fault. A record is let in exactly as long as it would be kept, so that holders
with the same records agree on them and can hand them on; whether an accept still comes in time is for the maker to say.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from dhtex import limits
from dhtex.market import stamp
from dhtex.market.identity import verify
from dhtex.market.ids import DhtKey, RecordId, index_key, order_key
from dhtex.market.pricebits import path_of
from dhtex.market.records import Accept, AnyRecord, Beat, Body, Code, Order, Receipt, Refusal, Status, signed_message

ROOT: Final = ""  # the prefix of a price tree's root


def signature_holds(record: AnyRecord) -> bool:
    """Whether the author named in a record signed it."""
    return verify(record.body.author, signed_message(record.id), record.signature)


class Verifier:
    """Remembers which signatures were found good, because one record arrives many times. Bad ones are not kept."""

    def __init__(self, size: int = limits.SIGNATURES_REMEMBERED_MAX) -> None:
        self._good: OrderedDict[tuple[RecordId, bytes], None] = OrderedDict()
        self._size = size

    def __len__(self) -> int:
        return len(self._good)

    def check(self, record: AnyRecord) -> bool:
        """As `signature_holds`; the id covers author and message, so id and signature are all there is to remember."""
        if not self.is_unknown(record):
            self._good.move_to_end((record.id, record.signature))
            return True
        if not signature_holds(record):
            return False
        self.remember(record)
        return True

    def is_unknown(self, record: AnyRecord) -> bool:
        """Whether the signature was not found good before."""
        return (record.id, record.signature) not in self._good

    def remember(self, record: AnyRecord) -> None:
        """That the signature was found good."""
        self._good[record.id, record.signature] = None
        if len(self._good) > self._size:
            self._good.popitem(last=False)


def made_at(body: Body) -> int:
    """When the author says that a record was made, Unix seconds."""
    if isinstance(body, (Order, Accept)):
        return body.created
    return body.at


def keep_until(record: AnyRecord) -> int:
    """The moment from which a record is of no use to anyone and is dropped, Unix seconds.

    A Status and a Refusal outlive what they close, so that a late copy of that does not come back to life.
    """
    body = record.body
    if isinstance(body, Order):
        return body.expires
    if isinstance(body, Beat):
        return body.at + limits.BEAT_AGE_S_MAX
    if isinstance(body, Accept):
        return body.deadline + limits.TOMBSTONE_S
    return body.expires + limits.TOMBSTONE_S


def _stamp_fault(record: AnyRecord, network_bits: int) -> Code | None:
    if record.kind not in stamp.STAMPED:
        # Not the author's envelope: an unsigned rider would make many spellings of one record.
        return Code.BAD_SIGNATURE if record.stamp else None
    bits_min = stamp.required_bits(record.kind, network_bits)
    return None if stamp.check(record.stamp, record.id, bits_min, made_at(record.body)) else Code.STAMP_TOO_LOW


def _time_fault(record: AnyRecord, now: float) -> Code | None:
    if now >= keep_until(record):
        return Code.LATE if isinstance(record.body, Accept) else Code.EXPIRED
    if made_at(record.body) > now + limits.CLOCK_SKEW_S_MAX:
        return Code.NOT_LIVE  # not yet: the one code about time that may be retried
    return None


def admit(
    record: AnyRecord, now: float, network_bits: int, good: Callable[[AnyRecord], bool] = signature_holds
) -> Code | None:
    """Why a record must not be taken; None when it may.

    stamp_too_low: missing, wrong, or for another hour; expired (for accepts late): past `keep_until`; not_live: made in
    the future; bad_signature. `good` checks signatures: `Verifier.check` where records come more than once.
    """
    fault = _stamp_fault(record, network_bits) or _time_fault(record, now)
    if fault is not None:
        return fault
    return None if good(record) else Code.BAD_SIGNATURE


def place(record: AnyRecord, prefix: str | None) -> DhtKey | None:
    """The key under which a record may be stored; None when it does not belong there.

    `prefix` None means the order key (all but beats). Otherwise it names a node of the price
    tree: orders and statuses whose price lies below it, and beats that were signed for it.
    """
    body = record.body
    if prefix is None:
        if isinstance(body, Beat):
            return None
        return order_key(record.id if isinstance(body, Order) else RecordId(body.order_id))
    if isinstance(body, (Accept, Refusal, Receipt)) or prefix.strip("01"):
        return None
    fits = prefix == body.prefix if isinstance(body, Beat) else not prefix or tree_path(record).startswith(prefix)
    return index_key(body.network, body.pair, body.side, prefix) if fits else None


def tree_path(record: AnyRecord) -> str:
    """The path in the price tree of the order that an Order is or a Status speaks of; empty for what has none."""
    body = record.body
    if isinstance(body, Order):
        return path_of(body.price, record.id)
    return path_of(body.price, RecordId(body.order_id)) if isinstance(body, Status) else ""
