"""Records on the wire: one spelling each, bounded, and no bytes from anywhere make the decoder raise."""

from typing import Any

import kademlia.utils
import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dhtex import limits
from dhtex.market.identity import verify
from dhtex.market.ids import PublicKey, RecordId, index_key, order_key
from dhtex.market.records import (
    Accept,
    AnyRecord,
    Body,
    Closing,
    Code,
    Confirm,
    Fault,
    Kind,
    Liveness,
    Order,
    Record,
    Side,
    id_of,
    is_a,
    parse_record,
    seal_record,
    signed_message,
)
from tests.builders import (
    NETWORK,
    NOW,
    identity,
    make_accept,
    make_beat,
    make_order,
    make_refusal,
    make_status,
    one_of_each,
)
from tests.strategies import ids, records

ORDER = make_order()
FAR = (1 << 40) - 1  # the longest number that is still a time
WIDE = "n" * limits.NETWORK_CHARS_MAX


@given(record=records())
def test_what_was_sealed_is_parsed_to_the_same_record(record: AnyRecord) -> None:
    assert parse_record(record.wire, NETWORK) == record
    assert id_of(record.body) == record.id
    assert verify(record.body.author, signed_message(record.id), record.signature)


@given(wire=st.binary(max_size=1100))
@example(b"")
@example(b"\x91" * 999)  # arrays in arrays
@example(b"\x81" * 999)
@example(b"\xdd\xff\xff\xff\xff" + b"\x01" * 100)  # an array of 2^32 - 1
@example(b"\x94\x01\xc6\xff\xff\xff\xff")  # bytes of 2^32 - 1
@example(b"\x94\x01\xc4\x05\xdd\xff\xff\xff\xff\xc4\x00\xc4\x00")
@example(b"\x94\x01\xc4\x03\xa2\xff\xfe\xc4\x00\xc4\x00")
@example(b"\x94\xcf" + b"\xff" * 8 + b"\xc4\x00\xc4\x00\xc4\x00")
def test_random_bytes_never_raise(wire: bytes) -> None:
    assert isinstance(parse_record(wire, NETWORK), Fault)


@given(record=records(), data=st.data())
@settings(max_examples=300)
def test_a_mutated_record_is_a_fault_or_another_valid_record(record: AnyRecord, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(record.wire)))
    end = data.draw(st.integers(start, min(len(record.wire), start + 4)))
    wire = record.wire[:start] + data.draw(st.binary(max_size=4)) + record.wire[end:]
    parsed = parse_record(wire, NETWORK)
    if isinstance(parsed, Record):
        assert parsed.wire == wire
        assert seal_record(parsed.body, lambda _: parsed.signature, parsed.stamp) == parsed
        assert parsed.id == record.id or not verify(parsed.body.author, signed_message(parsed.id), parsed.signature), (
            "signed content changed and the signature still holds"
        )


def _wire(kind: int, body: bytes) -> bytes:
    return msgspec.msgpack.encode([kind, body, bytes(64), b""])


def _fields(record: AnyRecord) -> list[Any]:
    fields: list[Any] = msgspec.msgpack.decode(msgspec.msgpack.encode(record.body))
    return fields


def _position(body_type: type[Body], name: str) -> int:
    return [field.name for field in msgspec.structs.fields(body_type)].index(name)


def _with(record: AnyRecord, **changes: object) -> bytes:
    fields = _fields(record)
    for name, value in changes.items():
        fields[_position(type(record.body), name)] = value
    return _wire(record.kind, msgspec.msgpack.encode(fields))


def test_nesting_without_end_inside_a_body_is_a_fault() -> None:
    for opening in (b"\x91", b"\x81\x01", b"\xdc\x00\x01"):
        body = opening * (900 // len(opening))
        for kind in Kind:
            assert parse_record(_wire(kind, body), NETWORK) is Fault.MALFORMED


def test_bad_utf_8_is_a_fault() -> None:
    assert parse_record(ORDER.wire.replace(b"BTC/USD", b"BTC/\xff\xfeD"), NETWORK) is Fault.MALFORMED


@pytest.mark.parametrize("kind", [0, 6, 255, -1, 2**64 - 1])
def test_an_unknown_kind_is_a_fault(kind: int) -> None:
    assert parse_record(_wire(kind, b"\x90"), NETWORK) is Fault.MALFORMED


def test_a_body_under_another_kind_is_a_fault() -> None:
    for record in one_of_each().values():
        body = msgspec.msgpack.encode(record.body)
        for kind in Kind:
            if kind is not record.kind:
                assert parse_record(_wire(kind, body), NETWORK) is Fault.MALFORMED


def test_too_much_is_refused_unread() -> None:
    assert parse_record(bytes(limits.RECORD_BYTES_MAX + 1), NETWORK) is Fault.TOO_LARGE
    assert parse_record(ORDER.wire + b"\0", NETWORK) is Fault.MALFORMED


def test_another_network_s_record_is_a_fault() -> None:
    assert parse_record(ORDER.wire, "other") is Fault.WRONG_NETWORK
    assert parse_record(ORDER.wire, None) == ORDER


@pytest.mark.parametrize("length", [0, 63, 65])
def test_a_signature_has_64_bytes(length: int) -> None:
    body = msgspec.msgpack.encode(ORDER.body)
    wire = msgspec.msgpack.encode([1, body, bytes(length), b""])
    assert parse_record(wire, NETWORK) is Fault.MALFORMED


def test_a_record_has_one_spelling() -> None:
    body = msgspec.msgpack.encode(ORDER.body)
    spellings = {
        "version as 16 bits": body[:3] + b"\xcd\x00\x01" + body[4:],
        "pair with a long header": body.replace(b"\xa7BTC/USD", b"\xd9\x07BTC/USD"),
        "number as text of the same value": body.replace(b"\xa550000", b"\xa750000.0"),
        "one field more": b"\xdc" + (22).to_bytes(2) + body[3:] + b"\xc0",
        "a float": body[:3] + b"\xcb" + b"\x3f\xf0" + bytes(6) + body[4:],
    }
    assert isinstance(parse_record(_wire(1, body), NETWORK), Record)
    for what, other in spellings.items():
        assert other != body, what
        assert parse_record(_wire(1, other), NETWORK) in (Fault.NOT_CANONICAL, Fault.MALFORMED), what
    long_kind = b"\x94\xcc\x01" + ORDER.wire[2:]
    assert parse_record(long_kind, NETWORK) is Fault.NOT_CANONICAL


WRONG_ORDERS: list[dict[str, object]] = [
    {"version": 2},
    {"network": "Test"},
    {"maker": bytes(31)},
    {"pair": "btc/usd"},
    {"pair": "BTC/BTC"},
    {"side": "hold"},
    {"price": "0"},
    {"price": "50000.001"},
    {"price": "050000"},
    {"amount": "-1"},
    {"amount": "0.000000001"},
    {"amount": "1e3"},
    {"minimum": "2"},
    {"minimum": "0"},
    {"payments": ["sepa"] * 2},
    {"payments": [f"p{n}" for n in range(9)]},
    {"payments": ["a\nb"]},
    {"note": "x" * 141},
    {"note": "€" * 100},
    {"note": "a\x1b[31m"},
    {"note": "a\u202eb"},
    {"created": 0},
    {"expires": NOW},
    {"expires": NOW + limits.ORDER_LIFE_S_MAX + 1},
    {"expires": 2**41},
    {"epoch": -1},
    {"epoch": 2**32},
    {"salt": bytes(9)},
    {"reference": "with space"},
    {"replaces": bytes(31)},
    {"encryption_key": b""},
    {"liveness": "ghost"},
    {"created": True},
    {"note": None},
]


@pytest.mark.parametrize("changes", WRONG_ORDERS, ids=lambda changes: str(changes)[:40])
def test_an_invalid_order_is_never_decoded(changes: dict[str, object]) -> None:
    assert parse_record(_with(ORDER, **changes), NETWORK) is Fault.MALFORMED


def test_an_invalid_other_record_is_never_decoded() -> None:
    made = one_of_each()
    wrong: list[tuple[Kind, dict[str, object]]] = [
        (Kind.STATUS, {"seq": 0}),
        (Kind.STATUS, {"closing": "lost"}),
        (Kind.STATUS, {"accept_id": b""}),
        (Kind.STATUS, {"taker": b""}),
        (Kind.STATUS, {"amount": ""}),
        (Kind.STATUS, {"closing": "canceled"}),
        (Kind.STATUS, {"replaced_by": bytes(32)}),
        (Kind.STATUS, {"sealed": bytes(limits.SEALED_BYTES_MAX + 1)}),
        (Kind.STATUS, {"expires": NOW + 8 * 86_400}),
        (Kind.ACCEPT, {"amount": "0"}),
        (Kind.ACCEPT, {"amount": "1" * 32}),
        (Kind.ACCEPT, {"deadline": NOW}),
        (Kind.ACCEPT, {"deadline": NOW + 2 * limits.ACCEPT_DEADLINE_S_MAX}),
        (Kind.ACCEPT, {"sealed": bytes(limits.SEALED_BYTES_MAX + 1)}),
        (Kind.REFUSAL, {"code": "mood"}),
        (Kind.REFUSAL, {"expires": NOW + 2 * limits.ACCEPT_DEADLINE_S_MAX}),
        (Kind.BEAT, {"prefix": "02"}),
        (Kind.BEAT, {"prefix": "0" * 129}),
        (Kind.BEAT, {"at": -5}),
    ]
    for kind, changes in wrong:
        record: AnyRecord = made[kind]
        assert parse_record(_with(record), NETWORK) != Fault.MALFORMED
        assert parse_record(_with(record, **changes), NETWORK) is Fault.MALFORMED, (kind, changes)


def _largest_order() -> Record[Order]:
    longest = "9" * 15 + "." + "9" * 15
    return make_order(
        network=WIDE,
        pair="ETH/DAI",  # 18 decimals each: three longest numbers outweigh a longer pair
        price=longest,
        amount=longest,
        minimum=longest,
        payments=tuple(f"{n}" + "x" * (limits.PAYMENT_CHARS_MAX - 1) for n in range(limits.PAYMENTS_MAX)),
        note="é" * (limits.NOTE_BYTES_MAX // 2),
        created=FAR - limits.ORDER_LIFE_S_MAX,
        expires=FAR,
        liveness=Liveness.MAILBOX,
        confirm=Confirm.AUTO,
        epoch=2**32 - 1,
        side=Side.SELL,
        reference="r" * limits.REFERENCE_CHARS_MAX,
        replaces=bytes(32),
        parent=bytes(32),
        group=bytes(32),
    )


def test_the_largest_of_each_kind_fits_a_datagram() -> None:
    order, sealed = _largest_order(), bytes(limits.SEALED_BYTES_MAX)
    accept = make_accept(order, network=WIDE, created=FAR - 9, deadline=FAR, sealed=sealed)
    beat = make_beat(network=WIDE, pair="ABCDEFGHIJ/ABCDEFGHIK", prefix="0" * 128, at=FAR)
    fill = make_status(order, Closing.FILLED, accept=accept, network=WIDE, sealed=sealed, seq=2**32 - 1, at=FAR)
    replaced = make_status(order, Closing.REPLACED, network=WIDE, seq=2**32 - 1, at=FAR)
    refusal = make_refusal(order, accept, Code.AMOUNT_OUT_OF_RANGE, network=WIDE, at=FAR)
    for record in (order, accept, fill, replaced, refusal, beat):
        assert len(record.wire) <= limits.RECORD_BYTES_MAX, record.kind.name
        assert parse_record(record.wire, WIDE) == record


def _stock_digest(text: str) -> bytes:
    key: bytes = kademlia.utils.digest(text)  # type: ignore[no-untyped-call]
    return key


def test_order_keys_are_those_of_a_stock_client() -> None:
    assert order_key(ORDER.id) == _stock_digest(ORDER.id.hex())


@given(order_id=ids)
def test_every_order_key_is_kademlia_s_digest_of_the_hex_id(order_id: bytes) -> None:
    assert order_key(RecordId(order_id)) == _stock_digest(order_id.hex())


def test_index_keys_differ_by_everything_they_name() -> None:
    named = [
        ("test", "BTC/USD", "sell", ""),
        ("main", "BTC/USD", "sell", ""),
        ("test", "BTC/EUR", "sell", ""),
        ("test", "BTC/USD", "buy", ""),
        ("test", "BTC/USD", "sell", "0"),
        ("test", "BTC/USD", "sell", "00"),
    ]
    assert len({index_key(*names) for names in named}) == len(named)
    for prefix in ("2", "0" * 129, "0\n"):
        with pytest.raises(ValueError, match="prefix"):
            index_key("test", "BTC/USD", "sell", prefix)


def test_is_a_tells_kinds_apart() -> None:
    assert is_a(ORDER, Order)
    assert not is_a(make_accept(ORDER), Order)
    assert is_a(make_accept(ORDER), Accept)
    assert not is_a(Fault.MALFORMED, Order)


def test_the_author_is_who_must_sign() -> None:
    made = one_of_each()
    assert made[Kind.ACCEPT].body.author == PublicKey(identity(2).public)
    assert {record.body.author for kind, record in made.items() if kind is not Kind.ACCEPT} == {identity(1).public}
