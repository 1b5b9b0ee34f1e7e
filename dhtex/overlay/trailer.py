"""The trailer behind stock messages, by which dhtex nodes know each other while the stock packages ignore it.

    trailer = ext | length of ext (u16, big endian) | c1 64 78

0xc1 never occurs in MessagePack, so no body ends like that. The ext is `version(1) net(4) flags(1) padding` in a
request and `version(1) net(4) responder id(20) token(8) flags(1) time(4) IP(4 or 16) port(2)` in a reply. What cannot
be read is no trailer: nothing here raises, whatever a stranger sends.
"""

import hashlib
from typing import Final, NamedTuple

from dhtex.market.ids import NodeId
from dhtex.overlay.addresses import Address, pack_address, unpack_address

VERSION: Final = 1

_MAGIC: Final = b"\xc1dx"
_TAIL_BYTES: Final = 2 + len(_MAGIC)
_REQUEST_EXT_BYTES: Final = 6
_REPLY_EXT_BYTES: Final = 33
_CLIENT: Final = 1  # in the flags of a reply: do not route to me
_VERSION: Final = bytes((VERSION,))
_CLIENT_FLAG: Final = bytes((_CLIENT,))
REQUEST_TRAILER_BYTES: Final = _REQUEST_EXT_BYTES + _TAIL_BYTES  # without padding
REPLY_TRAILER_BYTES_MAX: Final = _REPLY_EXT_BYTES + 23 + _TAIL_BYTES


def network_tag(network: str) -> bytes:
    """Four bytes that keep networks apart which share machines by accident."""
    return hashlib.sha256(b"dhtex/network/1\0" + network.encode()).digest()[:4]


def cut_trailer(body: bytes) -> tuple[bytes, bytes | None]:
    """Take the trailer off a body: what stands before it, and its ext; None if there is no sound trailer."""
    if not body.endswith(_MAGIC):
        return body, None
    end = len(body) - _TAIL_BYTES
    start = end - (body[end] << 8 | body[end + 1])
    return (body[:start], body[start:end]) if start > 0 else (body, None)


def request_trailer(net: bytes, padding_bytes: int = 0) -> bytes:
    """What makes a stock request ours. Padding pays for an answer that is longer than the question."""
    ext = _VERSION + net + bytes(1 + padding_bytes)
    return ext + len(ext).to_bytes(2) + _MAGIC


class View(NamedTuple):
    """How a responder sees itself, the time (Unix s), and the asker's address."""

    client: bool
    time: int
    seen: Address


def encode_view(client: bool, time: int, seen: Address) -> bytes:
    """Flags, time and address in 11 bytes (IPv4) or 23."""
    return (_CLIENT_FLAG if client else b"\0") + time.to_bytes(4) + pack_address(seen)


def reply_trailer(net: bytes, responder: bytes, token: bytes, view: bytes = b"") -> bytes:
    """What makes the answer to a stock request ours; at most REPLY_TRAILER_BYTES_MAX."""
    ext = _VERSION + net + responder + token + view
    return ext + len(ext).to_bytes(2) + _MAGIC


def reply_view(ext: bytes | None) -> View | None:
    """The responder's view in a reply's trailer; None if it has none."""
    rest = b"" if ext is None else ext[_REPLY_EXT_BYTES:]
    if len(rest) not in (11, 23):
        return None
    seen = unpack_address(rest[5:])
    return None if seen is None else View(bool(rest[0] & _CLIENT), int.from_bytes(rest[1:5]), seen)


def request_net(ext: bytes | None) -> bytes | None:
    """The network in a request's trailer; None if it has none that we understand."""
    if ext is None or len(ext) < _REQUEST_EXT_BYTES or ext[0] != VERSION:
        return None
    return ext[1:5]


def reply_marks(ext: bytes | None) -> tuple[bytes, NodeId, bytes, bool] | None:
    """Network, responder id, token, and whether nobody can reach the responder; None if we do not understand them."""
    if ext is None or len(ext) < _REPLY_EXT_BYTES or ext[0] != VERSION:
        return None
    client = len(ext) > _REPLY_EXT_BYTES and bool(ext[_REPLY_EXT_BYTES] & _CLIENT)
    return ext[1:5], NodeId(ext[5:25]), ext[25:33], client
