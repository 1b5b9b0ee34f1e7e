"""Answers to our own verbs, from what this node holds and knows. Arguments have been decoded, tokens checked."""

from collections.abc import Callable
from typing import Final

from dhtex import limits
from dhtex.clock import Clock
from dhtex.market.holding import EITHER, NO_DIGEST, NO_KIND, WIRE_HEAD_BYTES, PutVerdict, Span, Taken
from dhtex.market.ids import DhtKey, NodeId
from dhtex.overlay import wire
from dhtex.overlay.addresses import Address, neighbourhood
from dhtex.overlay.ports import Answering, Holdings
from dhtex.overlay.table import Table

# What a dx_get reply has beside contacts and records: frame, id, token, digest, numbers, and heads of fields.
_GET_OVERHEAD_BYTES: Final = wire.FRAME_BYTES + 1 + 22 + 10 + 1 + 1 + 5 + 10 + 3 + 3


Stored = Callable[[DhtKey, bytes], None]  # told of each record that was new here


class Serving:
    """The holder's side of dx_get and dx_put, and the shelf behind stock find_value and store."""

    def __init__(self, own_id: NodeId, table: Table, holdings: Holdings, clock: Clock, on_stored: Stored) -> None:
        self._own_id = own_id
        self._table = table
        self._holdings = holdings
        self._clock = clock
        self._on_stored = on_stored
        self.on_digest_asked: Callable[[wire.GetArgs, Address], None]

    def get(
        self, args: wire.GetArgs, token: bytes, address: Address, room_bytes: int = limits.DATAGRAM_BYTES_MAX
    ) -> wire.GetReply:
        """Contacts near the key and a page of its records; a record that does not fit beside contacts waits."""
        room = room_bytes - _GET_OVERHEAD_BYTES
        if args.rank >= wire.PAST_THE_END:
            self.on_digest_asked(args, address)
        if args.kind != NO_KIND and args.kind & EITHER:
            reply = self._reply(args, token, [], room)
            if reply.wires:
                return reply
        return self._reply(args, token, self._contacts(args, room) if args.want_contacts else [], room)

    def _contacts(self, args: wire.GetArgs, room: int) -> list[bytes]:
        count = limits.LOOKUP_CONTACTS_ALONE if args.kind == NO_KIND else limits.LOOKUP_CONTACTS
        near = self._table.closest(args.key, count, dhtex_only=True, sound_only=True, exclude=args.sender)
        contacts = [peer.contact.wire for peer in near if peer.contact is not None]
        while contacts and sum(map(len, contacts)) + 2 * len(contacts) > room:
            contacts.pop()
        return contacts

    def _reply(self, args: wire.GetArgs, token: bytes, contacts: list[bytes], room: int) -> wire.GetReply:
        """Contacts, and the records that fit beside them."""
        if args.kind == NO_KIND:
            return wire.GetReply(self._own_id, token, wire.OK, contacts, 0, NO_DIGEST, [])
        room -= sum(map(len, contacts)) + 2 * len(contacts)
        span = Span(args.best, args.worst)
        page = self._holdings.page(args.key, args.kind & ~EITHER, args.rank, room, self._clock.now(), span)
        branches = page.branches if args.rank == 0 or args.rank >= page.total else b""
        trim(page.wires, room - len(branches))
        return wire.GetReply(self._own_id, token, wire.OK, contacts, page.total, page.digest, page.wires, branches)

    def put(self, args: wire.PutArgs, token: bytes, address: Address) -> wire.PutReply:
        """Hand a record to the shelf and say what became of it."""
        verdict = self.store(args.wire, args.prefix, address)
        return wire.PutReply(self._own_id, token, wire.OK, verdict.taken, verdict.code, verdict.bits, verdict.newer)

    def store(self, record: bytes, prefix: str | None, source: Address | None) -> PutVerdict:
        """Hand a record to the shelf; watchers are told if it was new."""
        verdict = self._holdings.put(record, prefix, self._clock.now(), neighbourhood(source[0]) if source else "self")
        if verdict.taken is Taken.STORED and verdict.key is not None:
            self._on_stored(verdict.key, record)
        return verdict

    def stock_value(self, key: DhtKey) -> bytes | None:
        """The order at this key, for a stock reader."""
        return self._holdings.stock_value(key, self._clock.now())

    def stock_store(self, key: DhtKey, value: object, source: Address) -> bool:
        """What a stock peer stores: an order at its own key, or nothing."""
        if not isinstance(value, bytes) or len(value) > limits.RECORD_BYTES_MAX:
            return False
        now = self._clock.now()
        new = self._holdings.stock_value(key, now) is None
        taken = self._holdings.stock_put(key, value, now, neighbourhood(source[0]))
        if taken and new:
            self._on_stored(key, value)
        return taken


TokenNeeded = wire.GetReply | wire.PutReply | wire.WatchReply | wire.DownReply | wire.ProbeReply


def answer_opening(
    serving: Answering, args: wire.GetArgs, token: bytes, address: Address, asked_bytes: int
) -> tuple[wire.GetReply, int] | None:
    """The answer to a first dx_get of an address that is not proven, in no more bytes than it has, and how many it has
    left; None if it was not padded, or what it asks for needs more."""
    if args.rank or asked_bytes < limits.OPENING_BYTES:
        return None
    room = min(asked_bytes, limits.DATAGRAM_BYTES_MAX)
    reply = serving.get(args, token, address, room - wire.PONG_BYTES if args.kind == NO_KIND else room)
    left = asked_bytes - wire.FRAME_BYTES - len(wire.encode(reply))
    lacks_room = reply.total > 0 and not reply.wires and args.kind & EITHER
    return None if left < 0 or lacks_room else (reply, left)


def ask_for_token(verb: wire.Verb, own_id: NodeId, token: bytes) -> TokenNeeded:
    """The answer to a request without a valid token: nothing but a token, and smaller than any request."""
    if verb is wire.GET:
        return wire.GetReply(own_id, token, wire.TOKEN_NEEDED, [], 0, NO_DIGEST, [])
    if verb is wire.PUT:
        return wire.PutReply(own_id, token, wire.TOKEN_NEEDED, "", "", 0, b"")
    if verb is wire.DOWN:
        return wire.DownReply(own_id, token, wire.TOKEN_NEEDED)
    if verb is wire.PROBE:
        return wire.ProbeReply(own_id, token, wire.TOKEN_NEEDED, False)
    return wire.WatchReply(own_id, token, wire.TOKEN_NEEDED, 0, False, 0)


def trim(wires: list[bytes], room_bytes: int) -> None:
    """Drop records from the end until the others fit with their heads."""
    total = sum(map(len, wires)) + WIRE_HEAD_BYTES * len(wires)
    while wires and total > room_bytes:
        total -= len(wires.pop()) + WIRE_HEAD_BYTES
