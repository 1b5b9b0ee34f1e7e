"""Node ids that follow from an address, as in BEP 42: who wants many ids near a key needs many addresses. Pure.

The first 21 bits of an id and its last byte are bound: with the address masked, so that one /24-like range still gives
several, and three bits r of chance,

    crc32c((ip & mask) | r << 29) >> 11    equals the id's first 21 bits,    r = last byte & 7

Such ids are preferred, not required; addresses that are not global have no rule.
"""

import ipaddress
from functools import lru_cache
from typing import Final

from dhtex.overlay.addresses import is_local

ID_BYTES: Final = 20
_BOUND_BITS: Final = 21
_MASK_4: Final = bytes.fromhex("030f3fff")
_MASK_6: Final = bytes.fromhex("0103070f1f3f7fff")
_POLYNOMIAL: Final = 0x82F63B78  # Castagnoli's, reflected
_CACHED: Final = 8192


def _row(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (_POLYNOMIAL if byte & 1 else 0)
    return byte


_TABLE: Final = tuple(map(_row, range(256)))


def crc32c(data: bytes) -> int:
    """The checksum of RFC 3720."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


@lru_cache(_CACHED)
def _bound(ip: str, chance: int) -> int:
    """The 21 bits that an address and three bits of chance stand for."""
    packed = ipaddress.ip_address(ip).packed
    mask = _MASK_4 if len(packed) == 4 else _MASK_6
    masked = bytearray(part & bits for part, bits in zip(packed, mask, strict=False))
    masked[0] |= (chance & 7) << 5
    return crc32c(bytes(masked)) >> 32 - _BOUND_BITS


def node_id_for(ip: str, noise: bytes) -> bytes:
    """The id of a node at an address, otherwise made of 20 random bytes."""
    assert len(noise) == ID_BYTES
    free = 24 - _BOUND_BITS
    head = _bound(ip, noise[-1]) << free | noise[2] & (1 << free) - 1
    return head.to_bytes(3) + noise[3:]


def follows(node_id: bytes, ip: str) -> bool:
    """Whether an id follows from an address; True wherever there is no rule."""
    return is_local(ip) or int.from_bytes(node_id[:3]) >> 24 - _BOUND_BITS == _bound(ip, node_id[-1])
