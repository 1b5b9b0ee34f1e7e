"""The overlay's datagrams: the frame of `rpcudp`, and our own verbs in it.

    datagram = kind(1: 0 request, 1 reply) | request id(20) | MessagePack body | [trailer, see `trailer.py`]
    body     = [verb, arguments] of a request, the bare answer of a reply

All decoders raise only what stands in DECODE_ERRORS, check every length, and a datagram bounds what they can allocate.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec
from msgspec.structs import asdict

from dhtex import limits
from dhtex.market.ids import DhtKey, NodeId
from dhtex.market.pricebits import PRICE_BYTES
from dhtex.overlay.trailer import REPLY_TRAILER_BYTES_MAX, REQUEST_TRAILER_BYTES, request_trailer

REQUEST: Final = 0
REPLY: Final = 1
FRAME_BYTES: Final = 21
OK: Final = 0
TOKEN_NEEDED: Final = 1
DECODE_ERRORS: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

_PADDING_HEAD_BYTES: Final = 3
_NAME_AT: Final = FRAME_BYTES + 2  # behind the heads of the array and of the name

_Id = Annotated[NodeId, msgspec.Meta(min_length=20, max_length=20)]
_Key = Annotated[DhtKey, msgspec.Meta(min_length=20, max_length=20)]
_Net = Annotated[bytes, msgspec.Meta(min_length=4, max_length=4)]
_Token = Annotated[bytes, msgspec.Meta(max_length=8)]
_Digest = Annotated[bytes, msgspec.Meta(min_length=8, max_length=8)]
_Bound = Annotated[bytes, msgspec.Meta(max_length=PRICE_BYTES)]
_Number = Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]


class _Message(msgspec.Struct, array_like=True, gc=False):
    """Base of all bodies: positional, unknown further fields are ignored."""

    def opening(self) -> "_Message":
        """What a peer is sent first that has given us no token yet."""
        return self


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

    def opening(self) -> "GetArgs":
        """The same, as long as a first answer: so it may come before we have proven our address. Later pages do not."""
        if self.rank:
            return self
        short = limits.OPENING_BYTES - FRAME_BYTES - len(GET.head) - len(encode(self)) - _PADDING_HEAD_BYTES
        return _Padded(**asdict(self), padding=bytes(max(0, short)))


class _Padded(GetArgs, gc=False):
    padding: bytes = b""


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

    def opening(self) -> "PutArgs":
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
_FIND_BYTES: Final = FRAME_BYTES + len(FIND_NODE.head) + 1 + 22 + 22 + REQUEST_TRAILER_BYTES
FIND_PADDING_BYTES: Final = max(0, PONG_BYTES - _FIND_BYTES)


def verb_of(datagram: bytes) -> tuple[Verb, int] | None:
    """The verb of a request and where its encoded arguments start; None if it is none of ours."""
    if len(datagram) <= _NAME_AT:
        return None
    end = _NAME_AT + (datagram[_NAME_AT - 1] & 0x1F)
    verb = _HEADS.get(datagram[FRAME_BYTES:end])
    return None if verb is None else (verb, end)


def pings(own_id: NodeId, net: bytes) -> tuple[bytes, bytes, bytes]:
    """The bodies of a ping: as stock nodes send it, as long as its answer, and long enough to be pinged back too."""
    body = PING.head + encode((own_id,))
    short = PONG_BYTES - FRAME_BYTES - len(body) - len(request_trailer(net))
    return body, body + request_trailer(net, short), body + request_trailer(net, short + PONG_BYTES)
