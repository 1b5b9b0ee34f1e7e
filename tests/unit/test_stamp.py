"""What a stamp proves, and what it costs."""

import hashlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from dhtex import limits
from dhtex.market import stamp
from dhtex.market.records import Kind
from tests.builders import NOW, make_order
from tests.strategies import ids

HOUR = NOW // 3600
RECORD = hashlib.sha256(b"a record").digest()
MINTED = stamp.mint(RECORD, 6, HOUR)


def test_a_stamp_is_for_one_record_and_as_many_bits_as_it_says() -> None:
    assert len(MINTED) == stamp.STAMP_BYTES == 38
    assert stamp.check(MINTED, RECORD, 6, NOW)
    assert stamp.check(MINTED, RECORD, 0, NOW)
    assert not stamp.check(MINTED, RECORD, 7, NOW)
    assert not stamp.check(MINTED, hashlib.sha256(b"another").digest(), 6, NOW)
    assert stamp.bits_of(MINTED) == 6


def test_the_puzzles_are_as_documented() -> None:
    pad, block = b"", b"dhtex/stamp/pad/1\0"
    while len(pad) < 4051:
        block = hashlib.sha256(block).digest()
        pad += block
    nonces = struct.unpack(">4Q", MINTED[6:])
    for puzzle, nonce in enumerate(nonces):
        message = nonce.to_bytes(8) + bytes([puzzle]) + RECORD + HOUR.to_bytes(4) + pad[:4051]
        assert len(message) == limits.STAMP_MESSAGE_BYTES
        assert hashlib.sha256(message).digest()[0] >> 2 == 0
    assert MINTED[:6] == bytes([1, 6]) + HOUR.to_bytes(4)


@pytest.mark.parametrize("hours", range(-4, 5))
def test_the_hour_must_be_near_the_record_s_time(hours: int) -> None:
    near = abs(hours) <= limits.STAMP_HOURS_SKEW
    assert stamp.check(MINTED, RECORD, 6, NOW + hours * 3600) is near


@pytest.mark.parametrize("bit", range(6 * 8))
def test_no_bit_of_the_head_can_be_changed(bit: int) -> None:
    changed = (int.from_bytes(MINTED) ^ 1 << (32 * 8 + bit)).to_bytes(38)
    assert not stamp.check(changed, RECORD, 6, NOW)


@given(garbage=st.binary(max_size=60), record_id=ids, bits=st.integers(0, 24))
def test_check_never_raises(garbage: bytes, record_id: bytes, bits: int) -> None:
    assert not stamp.check(garbage, record_id, bits, NOW)


def test_a_stamp_of_no_bits_costs_nothing_and_has_one_spelling() -> None:
    free = stamp.mint(RECORD, 0, HOUR, start=77)
    assert free == bytes([1, 0]) + HOUR.to_bytes(4) + bytes(32)
    assert stamp.check(free, RECORD, 0, NOW)
    assert not stamp.check(free[:-1] + b"\1", RECORD, 0, NOW)
    assert not stamp.check(free, RECORD, 1, NOW)


def test_more_bits_than_anyone_may_ask_are_no_stamp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STAMP_BITS_MAX", 5)
    assert not stamp.check(MINTED, RECORD, 0, NOW)


def test_minting_pauses_often_and_its_progress_only_grows() -> None:
    steps = stamp.mint_steps(RECORD, 11, HOUR, 5)
    fractions: list[float] = []
    while True:
        try:
            fractions.append(next(steps))
        except StopIteration as found:
            minted: bytes = found.value
            break
    assert len(fractions) > 4
    assert fractions == sorted(fractions)
    assert all(0 < fraction < 1 for fraction in fractions)
    assert minted == stamp.mint(RECORD, 11, HOUR, 5)
    assert stamp.check(minted, RECORD, 11, NOW)


def test_searches_that_start_elsewhere_find_other_stamps() -> None:
    last = 2**64 - 2
    assert stamp.mint(RECORD, 6, HOUR, 10**6) != MINTED
    assert stamp.check(stamp.mint(RECORD, 6, HOUR, last), RECORD, 6, NOW), "nonces wrap around"


def test_what_each_kind_needs() -> None:
    assert stamp.required_bits(Kind.ORDER, 16) == 16
    assert stamp.required_bits(Kind.ACCEPT, 16) == 16 - limits.STAMP_ACCEPT_BITS_LESS
    assert stamp.required_bits(Kind.ACCEPT, 2) == 0
    assert {stamp.required_bits(kind, 16) for kind in Kind if kind not in stamp.STAMPED} == {0}
    assert {Kind.ORDER, Kind.ACCEPT} == stamp.STAMPED


def test_bits_of_what_is_no_stamp() -> None:
    assert stamp.bits_of(b"") == stamp.bits_of(b"\2" + MINTED[1:]) == stamp.bits_of(MINTED + b"x") == 0


def test_a_stamp_does_not_change_what_was_signed() -> None:
    plain, stamped = make_order(), make_order(bits=3)
    assert plain.id == stamped.id
    assert plain.signature == stamped.signature
    assert replace(stamped, stamp=plain.stamp, wire=plain.wire) == plain
