"""The stamp: what it costs to publish, paid in work and checked by everyone in microseconds.

Layout (38 bytes, big-endian):

    scheme u8 (= 1) ‖ bits u8 ‖ hour u32 ‖ nonce u64 x 4

Puzzle j of 0..3 is solved when

    SHA-256(nonce_j (8) ‖ j (1) ‖ record id (32) ‖ hour (4) ‖ PAD (4051))

begins with `bits` zero bits. `hour` is Unix time divided by 3600 and must be near the record's own time, so that stamps
cannot be hoarded. Four puzzles vary less than one of the same total; the nonce stands first, so no hash state can be
kept between attempts; messages of 4 KiB leave native code little to gain over `hashlib`. PAD is the start of the chain

    SHA-256("dhtex/stamp/pad/1\\0") ‖ SHA-256 of that ‖ SHA-256 of that ‖ …

Minting is a generator that pauses after every batch: whoever drives it can stop, show progress, or run it in another
process (its arguments are plain values). With 0 bits, for private networks, the stamp is made at once with nonces 0.
"""

import hashlib
import math
import struct
from collections.abc import Generator, Sequence
from typing import Final

from dhtex import limits
from dhtex.market.records import Kind

SCHEME: Final = 1
_LAYOUT: Final = struct.Struct(">BBI4Q")
STAMP_BYTES: Final = _LAYOUT.size
_HEAD_BYTES: Final = 8 + 1 + 32 + 4
_BATCH_HASHES: Final = 256  # about a millisecond
_HOUR_S: Final = 3600
_NONCES: Final = 1 << 64
STAMPED: Final = frozenset({Kind.ORDER, Kind.ACCEPT})  # all other kinds travel with an empty stamp


def _pad() -> bytes:
    block, chain = b"dhtex/stamp/pad/1\0", b""
    while len(chain) < limits.STAMP_MESSAGE_BYTES:
        block = hashlib.sha256(block).digest()
        chain += block
    return chain[: limits.STAMP_MESSAGE_BYTES - _HEAD_BYTES]


PAD: Final = _pad()


def required_bits(kind: Kind, network_bits: int) -> int:
    """How many bits the stamp of a record must have at least; 0 for kinds that bear none (see `STAMPED`)."""
    if kind is Kind.ORDER:
        return network_bits
    if kind is Kind.ACCEPT:
        return max(0, network_bits - limits.STAMP_ACCEPT_BITS_LESS)
    return 0


def bits_to_mint(asked: int, had: int, network_bits: int) -> int:
    """How many bits to stamp a record with that holders have refused, asking for so many; 0: it is not worth trying.

    Up to the price of the public network anything is, beyond that only a little more than this network's own.
    """
    ceiling = max(limits.STAMP_BITS_PUBLIC, network_bits + limits.STAMP_BITS_MORE_MAX)
    return asked if had < asked <= ceiling else 0


def hour_of(time_s: float) -> int:
    """The hour that a stamp for a record of this time should carry."""
    return int(time_s) // _HOUR_S


def bits_of(stamp: bytes) -> int:
    """The bits that a stamp claims, not checked; 0 for an empty or foreign one."""
    return stamp[1] if len(stamp) == STAMP_BYTES and stamp[0] == SCHEME else 0


def _tail(puzzle: int, record_id: bytes, hour: int) -> bytes:
    return puzzle.to_bytes(1) + record_id + hour.to_bytes(4) + PAD


def _ceiling(bits: int) -> bytes:
    """The largest digest that begins with so many zero bits."""
    return ((1 << (256 - bits)) - 1).to_bytes(32)


def puzzle_steps(puzzle: int, record_id: bytes, bits: int, hour: int, start: int) -> Generator[float, None, int]:
    """Search for the nonce of one puzzle: yields the estimated fraction done after every batch, returns the nonce."""
    ceiling, sha256 = _ceiling(bits), hashlib.sha256
    tail = _tail(puzzle, record_id, hour)
    first = nonce = start % _NONCES
    while sha256(nonce.to_bytes(8) + tail).digest() > ceiling:
        nonce = (nonce + 1) % _NONCES
        if (nonce - first) % _BATCH_HASHES == 0:
            yield 1 - math.exp(-((nonce - first) % _NONCES) / 2**bits)
    return nonce


def assemble(bits: int, hour: int, nonces: Sequence[int]) -> bytes:
    """The 38 bytes of a stamp, from the nonces of its four puzzles; with 0 bits these are 0."""
    return _LAYOUT.pack(SCHEME, bits, hour, *nonces)


def mint_steps(record_id: bytes, bits: int, hour: int, start: int) -> Generator[float, None, bytes]:
    """Search for a stamp: yields the estimated fraction done after every batch, and returns the 38 bytes.

    `start` is the first nonce to try, a random u64: two searches for one record then do not repeat each other's work.
    """
    assert 0 <= bits <= limits.STAMP_BITS_MAX, "stamp bits out of range"
    assert len(record_id) == 32, "a record id has 32 bytes"
    nonces = [0] * limits.STAMP_PUZZLES
    if bits > 0:
        for puzzle in range(limits.STAMP_PUZZLES):
            search = puzzle_steps(puzzle, record_id, bits, hour, start)
            while True:
                try:
                    fraction = next(search)
                except StopIteration as found:
                    nonces[puzzle] = found.value
                    break
                yield (puzzle + fraction) / limits.STAMP_PUZZLES
    return assemble(bits, hour, nonces)


def mint(record_id: bytes, bits: int, hour: int, start: int = 0) -> bytes:
    """Search for a stamp without pausing."""
    steps = mint_steps(record_id, bits, hour, start)
    while True:
        try:
            next(steps)
        except StopIteration as found:
            stamp: bytes = found.value
            return stamp


def check(stamp: bytes, record_id: bytes, bits_min: int, record_time: int) -> bool:
    """Whether a stamp belongs to this record, near this time (Unix seconds), and has at least `bits_min` bits.

    Cheapest first: form, claim, hour, then puzzle by puzzle until one fails. A stamp of 0 bits has one spelling.
    """
    if len(stamp) != STAMP_BYTES:
        return False
    scheme, bits, hour, *nonces = _LAYOUT.unpack(stamp)
    if scheme != SCHEME or not bits_min <= bits <= limits.STAMP_BITS_MAX:
        return False
    if abs(hour - hour_of(record_time)) > limits.STAMP_HOURS_SKEW:
        return False
    if bits == 0:
        return not any(nonces)
    ceiling = _ceiling(bits)
    return all(
        hashlib.sha256(nonce.to_bytes(8) + _tail(puzzle, record_id, hour)).digest() <= ceiling
        for puzzle, nonce in enumerate(nonces)
    )
