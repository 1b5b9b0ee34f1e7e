"""Spoiling bytes and values, from a seed: small changes, because what is quite wrong is refused at the first check."""

import random
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

_NUMBERS = (
    0,
    1,
    -1,
    2,
    127,
    128,
    255,
    256,
    65535,
    65536,
    (1 << 31) - 1,
    1 << 32,
    (1 << 63) - 1,
    -(1 << 63),
    (1 << 64) - 1,
)
_HEADS = bytes.fromhex("00017f808f90919fa0bfc0c1c2c3c4c5c6c7cacbcccfd0d3d4d9dbdcdddedfe0ff")


_Item = TypeVar("_Item")


def pick(chance: random.Random, items: Sequence[_Item]) -> _Item:
    """As `choice`, which takes three times as long."""
    return items[int(chance.random() * len(items))]


def below(chance: random.Random, end: int) -> int:
    """As `randrange`, likewise."""
    return int(chance.random() * end)


def spoil_bytes(data: bytes, chance: random.Random, other: bytes = b"") -> bytes:
    """One small change: a bit, a byte, a head of MessagePack, a piece gone, doubled, or from another message."""
    if not data:
        return chance.randbytes(below(chance, 40))
    place, way = below(chance, len(data)), below(chance, 8)
    if way == 0:
        return data[:place] + bytes((data[place] ^ 1 << below(chance, 8),)) + data[place + 1 :]
    if way == 1:
        return data[:place] + bytes((below(chance, 256),)) + data[place + 1 :]
    if way == 2:
        return data[:place] + bytes((pick(chance, _HEADS),)) + data[place + 1 :]
    if way == 3:
        return data[:place]
    end = min(len(data), place + 1 + below(chance, 32))
    if way == 4:
        return data[:place] + data[end:]
    if way == 5:
        return data[:place] + data[place:end] * pick(chance, (2, 3, 40)) + data[end:]
    if way == 6:
        return data[:place] + chance.randbytes(1 + below(chance, 23)) + data[place:]
    return data[:place] + other[min(place, len(other)) :]


def any_value(chance: random.Random, depth: int = 0) -> Any:
    """Any value that MessagePack and JSON can carry."""
    way = below(chance, 9 if depth < 3 else 6)
    if way == 0:
        return pick(chance, (None, True, False))
    if way == 1:
        return pick(chance, _NUMBERS)
    if way == 2:
        return pick(chance, (0.0, -1.5, 1e308, float("inf"), float("nan")))
    if way == 3:
        return pick(chance, ("", "a", "0", "01" * 60, "\x00", "é" * 70, "BTC/USD", "1e9", "-1", "x" * 300))
    if way in (4, 5):
        return chance.randbytes(pick(chance, (0, 1, 4, 8, 19, 20, 21, 32, 64, 900)))
    if way == 6:
        return {str(number): any_value(chance, depth + 1) for number in range(below(chance, 3))}
    return [any_value(chance, depth + 1) for _ in range(pick(chance, (0, 1, 2, 7)))]


def spoil_list(values: list[Any], chance: random.Random) -> list[Any]:
    """One value replaced, left out, doubled, or moved to the end."""
    if not values:
        return [any_value(chance)]
    place, way = below(chance, len(values)), below(chance, 4)
    if way == 0:
        return [*values[:place], any_value(chance), *values[place + 1 :]]
    if way == 1:
        return values[:place] + values[place + 1 :]
    if way == 2:
        return values[:place] + values[place : place + 1] + values[place:]
    return values[:place] + values[place + 1 :] + values[place : place + 1]


def spoil_record(wire: bytes, chance: random.Random) -> bytes:
    """A record with one field spoilt inside its body or envelope, or one byte anywhere."""
    if chance.random() < 0.4:
        return spoil_bytes(wire, chance)
    envelope = msgspec.msgpack.decode(wire)
    if chance.random() < 0.3:
        return msgspec.msgpack.encode(spoil_list(envelope, chance))
    body = spoil_list(msgspec.msgpack.decode(envelope[1]), chance)
    return msgspec.msgpack.encode([envelope[0], msgspec.msgpack.encode(body), *envelope[2:]])
