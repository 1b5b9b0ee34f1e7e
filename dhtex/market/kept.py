"""Records that were found valid when they came in, decoded again from their own bytes without asking everything anew.

The id of a record is the hash of its body. So bytes that still hash to the id under which they were kept have the body
that was checked then, and its fields need not be checked again, which is most of the work of `parse_record`.
"""

from typing import Any, Final

import msgspec

from dhtex.market.ids import RecordId
from dhtex.market.records import (
    Accept,
    AnyRecord,
    Beat,
    Body,
    Kind,
    Order,
    Receipt,
    Record,
    Refusal,
    Status,
    record_id,
)

_Envelope = tuple[int, bytes, bytes, bytes]
_ENVELOPES: Final = msgspec.msgpack.Decoder(_Envelope)
_ENCODER: Final = msgspec.msgpack.Encoder()
_NUMBERS: Final[dict[int, Kind]] = {int(kind): kind for kind in Kind}


def _unchecked(body_type: type[Body]) -> msgspec.msgpack.Decoder[Any]:
    """Decodes bodies of a type, each with the types of its fields and without what these say."""
    kept = msgspec.defstruct(
        body_type.__name__,
        [],
        bases=(body_type,),
        namespace={"__post_init__": lambda self: None},
        frozen=True,
        kw_only=True,
        forbid_unknown_fields=True,
    )
    return msgspec.msgpack.Decoder(kept)


_DECODERS: Final[dict[Kind, msgspec.msgpack.Decoder[Any]]] = {
    Kind.ORDER: _unchecked(Order),
    Kind.STATUS: _unchecked(Status),
    Kind.ACCEPT: _unchecked(Accept),
    Kind.REFUSAL: _unchecked(Refusal),
    Kind.BEAT: _unchecked(Beat),
    Kind.RECEIPT: _unchecked(Receipt),
}


def decode_kept(wire: bytes, kind: Kind, identifier: RecordId) -> AnyRecord:
    """The record that these bytes are known to be."""
    _, encoded, signature, stamp = _ENVELOPES.decode(wire)
    return Record(kind, identifier, _DECODERS[kind].decode(encoded), signature, stamp, wire)


def reopen(wire: object, identifier: object, network: str) -> AnyRecord | None:
    """The record that a file has kept; None when its body is not what it was, or of another network. Its signature and
    stamp are believed."""
    if not isinstance(wire, bytes) or not isinstance(identifier, bytes):
        return None
    try:
        envelope = _ENVELOPES.decode(wire)
        number, encoded, signature, stamp = envelope
        if number not in _NUMBERS or len(signature) != 64 or _ENCODER.encode(envelope) != wire:
            return None
        kind = _NUMBERS[number]
        if record_id(kind, encoded) != identifier:
            return None
        body: Body = _DECODERS[kind].decode(encoded)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return None if body.network != network else Record(kind, RecordId(identifier), body, signature, stamp, wire)
