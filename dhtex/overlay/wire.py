"""The overlay's datagrams: the frame of `rpcudp`, our own verbs in it, and the trailer behind stock messages.

    datagram = kind(1: 0 request, 1 reply) | request id(20) | MessagePack body | [trailer]
    body     = [verb, arguments] of a request, the bare answer of a reply
    trailer  = ext | length of ext (u16, big endian) | c1 64 78

0xc1 never occurs in MessagePack, and the stock packages ignore bytes behind the body, so a trailer tells dhtex nodes
about each other without disturbing anybody. Its ext is `version(1) net(4) flags(1) padding` in a request and
`version(1) net(4) responder id(20) token(8) flags(1) time(4) IP(4 or 16) port(2)` in a reply.

All decoders raise only what stands in DECODE_ERRORS, check every length, and a datagram bounds what they can allocate.
"""

import hashlib
import ipaddress
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Final, NamedTuple

import msgspec

from dhtex import limits
from dhtex.market.ids import DhtKey, NodeId
from dhtex.market.pricebits import PRICE_BYTES
from dhtex.overlay.addresses import Address, canonical_ip

VERSION: Final = 1
REQUEST: Final = 0
REPLY: Final = 1
FRAME_BYTES: Final = 21
OK: Final = 0
TOKEN_NEEDED: Final = 1
DECODE_ERRORS: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

_NAME_AT: Final = FRAME_BYTES + 2  # behind the heads of the array and of the name
_MAGIC: Final = b"\xc1dx"
_TAIL_BYTES: Final = 2 + len(_MAGIC)
_REQUEST_EXT_BYTES: Final = 6
_REPLY_EXT_BYTES: Final = 33
_CLIENT: Final = 1  # in the flags of a reply: do not route to me
_VERSION: Final = bytes((VERSION,))
_CLIENT_FLAG: Final = bytes((_CLIENT,))
REPLY_TRAILER_BYTES_MAX: Final = _REPLY_EXT_BYTES + 23 + _TAIL_BYTES

_Id = Annotated[NodeId, msgspec.Meta(min_length=20, max_length=20)]
_Key = Annotated[DhtKey, msgspec.Meta(min_length=20, max_length=20)]
_Net = Annotated[bytes, msgspec.Meta(min_length=4, max_length=4)]
_Token = Annotated[bytes, msgspec.Meta(max_length=8)]
_Digest = Annotated[bytes, msgspec.Meta(min_length=8, max_length=8)]
_Bound = Annotated[bytes, msgspec.Meta(max_length=PRICE_BYTES)]
_Number = Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]


class _Message(msgspec.Struct, array_like=True, gc=False):
    """Base of all bodies: positional, unknown further fields are ignored."""


class GetArgs(_Message, gc=False):
    net: _Net
    sender: _Id
    token: _Token
    key: _Key
    kind: _Number
    rank: _Number
    want_contacts: bool
    best: _Bound = b""
    worst: _Bound = b""


class GetReply(_Message, gc=False):
    responder: _Id
    token: _Token
    ok: int
    contacts: list[bytes]
    total: _Number
    digest: _Digest
    wires: list[bytes]
    branches: bytes = b""


class PutArgs(_Message, gc=False):
    net: _Net
    sender: _Id
    token: _Token
    prefix: Annotated[str, msgspec.Meta(max_length=128)] | None
    wire: bytes

    def bare(self) -> "PutArgs":
        """The same without the record: it asks for a token, at an address that is only said to be a node's."""
        return PutArgs(self.net, self.sender, b"", None, b"")


class PutReply(_Message, gc=False):
    responder: _Id
    token: _Token
    ok: int
    taken: str
    code: str
    bits: int
    newer: bytes


class WatchArgs(_Message, gc=False):
    """`digest` is the exclusive or of the first 8 bytes of all keys that the lease covers after this change."""

    net: _Net
    sender: _Id
    token: _Token
    lease_s: _Number
    add: list[_Key]
    drop: list[_Key]
    digest: _Digest


class WatchReply(_Message, gc=False):
    """`settled` is the highest sequence number up to which no push is under way any more."""

    responder: _Id
    token: _Token
    ok: int
    granted_s: _Number
    in_step: bool
    settled: _Number


class PushArgs(_Message, gc=False):
    net: _Net
    sender: _Id
    sequence: _Number
    key: _Key
    wire: bytes


class PushReply(_Message, gc=False):
    responder: _Id


class DownArgs(_Message, gc=False):
    """`contact`, in its compact form, was named by the receiver and did not answer."""

    net: _Net
    sender: _Id
    token: _Token
    contact: bytes


class DownReply(_Message, gc=False):
    responder: _Id
    token: _Token
    ok: int


class ProbeArgs(_Message, gc=False):
    """`target` is empty for the sender's own address, else the packed address of whoever asked the sender."""

    net: _Net
    sender: _Id
    token: _Token
    nonce: Annotated[bytes, msgspec.Meta(min_length=20, max_length=20)]
    target: bytes


class ProbeReply(_Message, gc=False):
    """`passed`: whether somebody was asked, or the knock was sent."""

    responder: _Id
    token: _Token
    ok: int
    passed: bool


_ENCODER: Final = msgspec.msgpack.Encoder()
encode = _ENCODER.encode

_GENERIC: Final = msgspec.msgpack.Decoder()
_ID: Final = msgspec.msgpack.Decoder(_Id)


@dataclass(frozen=True, slots=True, eq=False)
class Verb:
    """A verb of the wire: how its requests begin, and the decoders of its arguments and answers."""

    name: bytes
    args: "msgspec.msgpack.Decoder[Any]"
    reply: "msgspec.msgpack.Decoder[Any]"
    head: bytes
    stock: bool
    method: str


def _verb(name: bytes, args: Any, reply: "msgspec.msgpack.Decoder[Any]", *, stock: bool = False) -> Verb:
    return Verb(
        name,
        msgspec.msgpack.Decoder(args),
        reply,
        bytes((0x92, 0xA0 | len(name))) + name,
        stock,
        "rpc_" + name.decode(),
    )


GET: Final = _verb(b"dx_get", GetArgs, msgspec.msgpack.Decoder(GetReply))
PUT: Final = _verb(b"dx_put", PutArgs, msgspec.msgpack.Decoder(PutReply))
WATCH: Final = _verb(b"dx_watch", WatchArgs, msgspec.msgpack.Decoder(WatchReply))
PUSH: Final = _verb(b"dx_push", PushArgs, msgspec.msgpack.Decoder(PushReply))
DOWN: Final = _verb(b"dx_down", DownArgs, msgspec.msgpack.Decoder(DownReply))
PROBE: Final = _verb(b"dx_probe", ProbeArgs, msgspec.msgpack.Decoder(ProbeReply))
PING: Final = _verb(b"ping", tuple[_Id], _ID, stock=True)
STUN: Final = _verb(b"stun", tuple[()], _GENERIC, stock=True)
STORE: Final = _verb(b"store", tuple[_Id, _Key, Any], _GENERIC, stock=True)
FIND_NODE: Final = _verb(b"find_node", tuple[_Id, _Key], _GENERIC, stock=True)
FIND_VALUE: Final = _verb(b"find_value", tuple[_Id, _Key], _GENERIC, stock=True)
_STOCK: Final = (PING, STUN, STORE, FIND_NODE, FIND_VALUE)
VERBS: Final = {verb.name: verb for verb in (GET, PUT, WATCH, PUSH, DOWN, PROBE, *_STOCK)}
_HEADS: Final = {verb.head: verb for verb in VERBS.values()}


PAST_THE_END: Final = 1 << 31  # a rank with this bit asks for the digest alone; the other bits are of the asker's own

# A stranger's question must be as long as the ping back that it causes; so find_node is padded by this.
PONG_BYTES: Final = FRAME_BYTES + 22 + REPLY_TRAILER_BYTES_MAX
_FIND_BYTES: Final = FRAME_BYTES + len(FIND_NODE.head) + 1 + 22 + 22 + _REQUEST_EXT_BYTES + _TAIL_BYTES
FIND_PADDING_BYTES: Final = max(0, PONG_BYTES - _FIND_BYTES)


def network_tag(network: str) -> bytes:
    """Four bytes that keep networks apart which share machines by accident."""
    return hashlib.sha256(b"dhtex/network/1\0" + network.encode()).digest()[:4]


def verb_of(datagram: bytes) -> tuple[Verb, int] | None:
    """The verb of a request and where its encoded arguments start; None if it is none of ours."""
    if len(datagram) <= _NAME_AT:
        return None
    end = _NAME_AT + (datagram[_NAME_AT - 1] & 0x1F)
    verb = _HEADS.get(datagram[FRAME_BYTES:end])
    return None if verb is None else (verb, end)


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


def pings(own_id: NodeId, net: bytes) -> tuple[bytes, bytes, bytes]:
    """The bodies of a ping: as stock nodes send it, as long as its answer, and long enough to be pinged back too."""
    body = PING.head + encode((own_id,))
    short = PONG_BYTES - FRAME_BYTES - len(body) - len(request_trailer(net))
    return body, body + request_trailer(net, short), body + request_trailer(net, short + PONG_BYTES)


class View(NamedTuple):
    """How a responder sees itself, the time (Unix s), and the asker's address."""

    client: bool
    time: int
    seen: Address


def encode_view(client: bool, time: int, seen: Address) -> bytes:
    """Flags, time and address in 11 bytes (IPv4) or 23."""
    return (_CLIENT_FLAG if client else b"\0") + time.to_bytes(4) + pack_address(seen)


@lru_cache(limits.ADDRESSES_TRACKED_MAX)
def pack_address(address: Address) -> bytes:
    """An address in 6 bytes (IPv4) or 18."""
    return ipaddress.ip_address(address[0]).packed + address[1].to_bytes(2)


@lru_cache(limits.ADDRESSES_TRACKED_MAX)
def unpack_address(packed: bytes) -> Address | None:
    """The address, which must have 6 or 18 bytes; None if nobody can live there."""
    ip = canonical_ip(ipaddress.ip_address(packed[:-2]).compressed)
    return None if ip is None else (ip, int.from_bytes(packed[-2:]))


def reply_trailer(net: bytes, responder: bytes, token: bytes, view: bytes = b"") -> bytes:
    """What makes the answer to a stock request ours; at most REPLY_TRAILER_BYTES_MAX."""
    ext = _VERSION + net + responder + token + view
    return ext + len(ext).to_bytes(2) + _MAGIC


def is_client(ext: bytes | None) -> bool:
    """Whether a reply's trailer says that its sender cannot be reached."""
    return ext is not None and len(ext) > _REPLY_EXT_BYTES and bool(ext[_REPLY_EXT_BYTES] & _CLIENT)


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


def reply_marks(ext: bytes | None) -> tuple[bytes, NodeId, bytes] | None:
    """Network, responder id and token in a reply's trailer; None if it has none that we understand."""
    if ext is None or len(ext) < _REPLY_EXT_BYTES or ext[0] != VERSION:
        return None
    return ext[1:5], NodeId(ext[5:25]), ext[25:33]
