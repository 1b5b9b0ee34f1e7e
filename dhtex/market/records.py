"""Signed records: the only things that travel and are stored.

Theory of operation. A record is an *envelope* `[kind, body, signature, stamp]` around a *body*. Both are positional
MessagePack arrays, and bytes are accepted only if decoding and encoding them again gives the same bytes, so a record
has one spelling. The body names its author's key and is hashed under a tag of its kind:

    id        = SHA-256("dhtex/<kind>/1\\0" ‖ body)
    signature = Ed25519("dhtex/sig/1\\0" ‖ id)          by the author: maker or taker

The stamp, the price of publishing, stands outside the id: it can be made anew without changing what was signed.

Bodies validate themselves where they are built, so an invalid one exists neither here nor after decoding. Whether the
signature, the stamp and the time are right is for `dhtex.market.admission`.
"""

import hashlib
from collections.abc import Callable
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Final, Generic, TypeGuard, TypeVar

import msgspec

from dhtex import limits
from dhtex.market.codes import RETRYABLE as RETRYABLE
from dhtex.market.codes import Code as Code
from dhtex.market.codes import Fault as Fault
from dhtex.market.fields import (
    REFERENCE,
    canonical_pair,
    check,
    check_bytes,
    check_network,
    check_optional_id,
    check_payments,
    check_span,
    check_text,
    check_times,
)
from dhtex.market.ids import PublicKey, RecordId
from dhtex.market.money import check_canonical, is_canonical

VERSION: Final = 1


class Kind(IntEnum):
    """The kinds of record; the number is on the wire."""

    ORDER = 1
    STATUS = 2
    ACCEPT = 3
    REFUSAL = 4
    BEAT = 5
    RECEIPT = 6


class Side(StrEnum):
    """What the maker does with the base currency."""

    BUY = "buy"
    SELL = "sell"


class Liveness(StrEnum):
    """`beat`: hidden while the maker is silent. `mailbox`: may be accepted while the maker is away."""

    BEAT = "beat"
    MAILBOX = "mailbox"


class Confirm(StrEnum):
    """Who answers an accept: the maker's node by itself, or a person."""

    AUTO = "auto"
    ASK = "ask"


class Closing(StrEnum):
    """How an order ended, as its maker signs it. Expiry needs no record: it is in the order."""

    FILLED = "filled"
    CANCELED = "canceled"
    REPLACED = "replaced"


class Outcome(StrEnum):
    """What became of a trade, as one of its sides says."""

    SETTLED = "settled"
    FAILED = "failed"


def _check_head(version: int, network: str) -> None:
    check(version == VERSION, f"version {version} is not known")
    check_network(network)


class _Body(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True, kw_only=True, gc=False):
    """Base of all bodies: a positional array, with nothing optional and nothing unknown. Values without references
    back: the collector of cycles, which would visit each held record time and again, need not know them."""


class Order(_Body, frozen=True, kw_only=True, gc=False):
    """A maker's offer. Immutable: whatever changes is a new order or a Status.

    `price` is in quote for one base, `amount` and `minimum` in base; an accept may take any amount between the two.
    Times are Unix seconds. Empty bytes or text mean "none".
    """

    version: int
    network: str
    maker: bytes
    pair: str
    side: Side
    price: str
    amount: str
    minimum: str
    payments: tuple[str, ...]
    note: str
    created: int
    expires: int
    liveness: Liveness
    confirm: Confirm
    encryption_key: bytes
    epoch: int
    salt: bytes
    reference: str
    replaces: bytes
    parent: bytes
    group: bytes

    def __post_init__(self) -> None:
        _check_head(self.version, self.network)
        check_bytes(32, maker=self.maker, encryption_key=self.encryption_key)
        check_bytes(8, salt=self.salt)
        check_optional_id(replaces=self.replaces, parent=self.parent, group=self.group)
        check_times(created=self.created, expires=self.expires)
        check(0 <= self.epoch < 1 << 32, "epoch out of range")
        check(0 < self.expires - self.created <= limits.ORDER_LIFE_S_MAX, "life out of range")
        pair = canonical_pair(self.pair)
        check_canonical(self.price, "price", pair.quote)
        check_canonical(self.amount, "amount", pair.base)
        if self.minimum != self.amount:
            check_canonical(self.minimum, "minimum", pair.base)
            check(Decimal(self.minimum) <= Decimal(self.amount), "minimum above amount")
        check_payments(self.payments)
        check(REFERENCE.fullmatch(self.reference) is not None, "not a reference")
        check_text(self.note, "note", limits.NOTE_CHARS_MAX, limits.NOTE_BYTES_MAX)

    @property
    def author(self) -> PublicKey:
        return PublicKey(self.maker)


class Status(_Body, frozen=True, kw_only=True, gc=False):
    """How an order ended, said once by its maker; a higher `seq` wins, an equal one with other bytes is equivocation.

    It repeats what a holder needs to place it without the order: pair, side, price, expires. A `filled` one is the
    certificate of the trade: it names the winning accept, its taker and the amount, and may carry a sealed reply.
    """

    version: int
    network: str
    order_id: bytes
    maker: bytes
    pair: str
    side: Side
    price: str
    expires: int
    epoch: int
    seq: int
    closing: Closing
    at: int
    accept_id: bytes
    taker: bytes
    amount: str
    replaced_by: bytes
    sealed: bytes

    def __post_init__(self) -> None:
        _check_head(self.version, self.network)
        check_bytes(32, order_id=self.order_id, maker=self.maker)
        check_optional_id(accept_id=self.accept_id, taker=self.taker, replaced_by=self.replaced_by)
        check_times(expires=self.expires, at=self.at)
        check_span(self.at, self.expires, limits.ORDER_LIFE_S_MAX)
        check(0 < self.seq < 1 << 32 and 0 <= self.epoch < 1 << 32, "number out of range")
        pair = canonical_pair(self.pair)
        check_canonical(self.price, "price", pair.quote)
        filled = self.closing is Closing.FILLED
        check(filled == bool(self.accept_id) == bool(self.taker) == bool(self.amount), "a fill names its accept")
        if filled:
            check_canonical(self.amount, "amount", pair.base)
        check(bool(self.replaced_by) == (self.closing is Closing.REPLACED), "a replacement names its successor")
        check(len(self.sealed) <= limits.SEALED_BYTES_MAX and (filled or not self.sealed), "sealed out of place")

    @property
    def author(self) -> PublicKey:
        return PublicKey(self.maker)


class Accept(_Body, frozen=True, kw_only=True, gc=False):
    """A taker's wish to trade `amount` of an order's base; void when no Status names it by `deadline`."""

    version: int
    network: str
    order_id: bytes
    taker: bytes
    amount: str
    created: int
    deadline: int
    encryption_key: bytes
    salt: bytes
    sealed: bytes

    def __post_init__(self) -> None:
        _check_head(self.version, self.network)
        check_bytes(32, order_id=self.order_id, taker=self.taker, encryption_key=self.encryption_key)
        check_bytes(8, salt=self.salt)
        check_times(created=self.created, deadline=self.deadline)
        check(0 < self.deadline - self.created <= limits.ACCEPT_DEADLINE_S_MAX, "deadline out of range")
        check(is_canonical(self.amount) and len(self.amount) <= limits.MONEY_DIGITS_MAX + 1, "not an amount")
        check(Decimal(self.amount) > 0, "not an amount")
        check(len(self.sealed) <= limits.SEALED_BYTES_MAX, "sealed too long")

    @property
    def author(self) -> PublicKey:
        return PublicKey(self.taker)


class Refusal(_Body, frozen=True, kw_only=True, gc=False):
    """A maker's no to one accept. `expires` (the accept's deadline) says how long it matters."""

    version: int
    network: str
    order_id: bytes
    maker: bytes
    accept_id: bytes
    code: Code
    at: int
    expires: int

    def __post_init__(self) -> None:
        _check_head(self.version, self.network)
        check_bytes(32, order_id=self.order_id, maker=self.maker, accept_id=self.accept_id)
        check_times(at=self.at, expires=self.expires)
        check_span(self.at, self.expires, limits.ACCEPT_DEADLINE_S_MAX)

    @property
    def author(self) -> PublicKey:
        return PublicKey(self.maker)


class Beat(_Body, frozen=True, kw_only=True, gc=False):
    """A maker's sign of life at the time `at`, for one node of the price tree. The newest wins."""

    version: int
    network: str
    maker: bytes
    pair: str
    side: Side
    prefix: str
    at: int

    def __post_init__(self) -> None:
        _check_head(self.version, self.network)
        check_bytes(32, maker=self.maker)
        canonical_pair(self.pair)
        check(len(self.prefix) <= 128 and not self.prefix.strip("01"), "not a prefix")
        check_times(at=self.at)

    @property
    def author(self) -> PublicKey:
        return PublicKey(self.maker)


class Receipt(_Body, frozen=True, kw_only=True, gc=False):
    """What one side of a confirmed trade says became of it; a higher `seq` takes the place of a lower one. `expires` is
    the order's. `sealed`: the reason of a failure, for the other side only."""

    version: int
    network: str
    order_id: bytes
    accept_id: bytes
    signer: bytes
    outcome: Outcome
    seq: int
    at: int
    expires: int
    sealed: bytes

    def __post_init__(self) -> None:
        _check_head(self.version, self.network)
        check_bytes(32, order_id=self.order_id, accept_id=self.accept_id, signer=self.signer)
        check_times(at=self.at, expires=self.expires)
        check_span(self.at, self.expires, limits.ORDER_LIFE_S_MAX)
        check(0 < self.seq <= limits.RECEIPT_SEQ_MAX, "number out of range")
        failed = self.outcome is Outcome.FAILED
        check(len(self.sealed) <= limits.SEALED_BYTES_MAX and (failed or not self.sealed), "sealed out of place")

    @property
    def author(self) -> PublicKey:
        return PublicKey(self.signer)


Body = Order | Status | Accept | Refusal | Beat | Receipt
AnyBody = TypeVar("AnyBody", bound=Body)
AnyBody_co = TypeVar("AnyBody_co", bound=Body, covariant=True)


class _Envelope(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True, gc=False):
    kind: int
    body: bytes
    signature: bytes
    stamp: bytes


class Record(msgspec.Struct, Generic[AnyBody_co], frozen=True, gc=False):
    """A decoded record together with the exact bytes that travel (`wire`)."""

    kind: Kind
    id: RecordId
    body: AnyBody_co
    signature: bytes
    stamp: bytes
    wire: bytes


AnyRecord = Record[Body]


def is_a(record: AnyRecord | Fault, body_type: type[AnyBody]) -> TypeGuard[Record[AnyBody]]:
    """Whether decoding gave a record, and one of this kind."""
    return isinstance(record, Record) and isinstance(record.body, body_type)


_TYPES: Final[dict[Kind, type[Body]]] = {
    Kind.ORDER: Order,
    Kind.STATUS: Status,
    Kind.ACCEPT: Accept,
    Kind.REFUSAL: Refusal,
    Kind.BEAT: Beat,
    Kind.RECEIPT: Receipt,
}
_KINDS: Final[dict[type, Kind]] = {body_type: kind for kind, body_type in _TYPES.items()}
_NUMBERED: Final[dict[int, Kind]] = {int(kind): kind for kind in Kind}
_TAGS: Final = {kind: f"dhtex/{kind.name.lower()}/1\0".encode() for kind in Kind}
_SIGNATURE_TAG: Final = b"dhtex/sig/1\0"
_ENCODER: Final = msgspec.msgpack.Encoder()
_ENVELOPES: Final = msgspec.msgpack.Decoder(_Envelope)
_DECODERS: Final = {kind: msgspec.msgpack.Decoder(body_type) for kind, body_type in _TYPES.items()}
_DECODE_ERRORS: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)  # of hostile bytes


def record_id(kind: Kind, body: bytes) -> RecordId:
    """The content hash of an encoded body."""
    return RecordId(hashlib.sha256(_TAGS[kind] + body).digest())


def signed_message(identifier: RecordId) -> bytes:
    """The bytes under an author's signature."""
    return _SIGNATURE_TAG + identifier


def id_of(body: Body) -> RecordId:
    """The id that a body will have as a record: what a stamp must be minted for before signing."""
    return record_id(_KINDS[type(body)], _ENCODER.encode(body))


def seal_record(body: AnyBody, sign: Callable[[bytes], bytes], stamp: bytes = b"") -> Record[AnyBody]:
    """Encode, hash and sign a body. `sign` maps a message to its 64-byte Ed25519 signature."""
    kind, encoded = _KINDS[type(body)], _ENCODER.encode(body)
    identifier = record_id(kind, encoded)
    signature = sign(signed_message(identifier))
    wire = _ENCODER.encode(_Envelope(kind, encoded, signature, stamp))
    assert len(wire) <= limits.RECORD_BYTES_MAX, "the bounds of the fields bound the record"
    return Record(kind, identifier, body, signature, stamp, wire)


def parse_record(wire: bytes, network: str | None) -> AnyRecord | Fault:
    """Decode bytes from anywhere. Never raises; the signature is not checked here. `network` None: of any network."""
    if len(wire) > limits.RECORD_BYTES_MAX:
        return Fault.TOO_LARGE
    try:
        envelope = _ENVELOPES.decode(wire)
        kind = _NUMBERED.get(envelope.kind)
        if kind is None or len(envelope.signature) != 64:
            return Fault.MALFORMED
        body = _DECODERS[kind].decode(envelope.body)
    except (*_DECODE_ERRORS, ValueError):
        return Fault.MALFORMED
    if _ENCODER.encode(body) != envelope.body or _ENCODER.encode(envelope) != wire:
        return Fault.NOT_CANONICAL
    if network is not None and body.network != network:
        return Fault.WRONG_NETWORK
    identifier = record_id(kind, envelope.body)
    return Record(kind, identifier, body, envelope.signature, envelope.stamp, wire)
