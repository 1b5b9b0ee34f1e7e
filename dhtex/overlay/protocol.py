"""The border to the network: every datagram comes in here, and nothing that one contains can raise past it.

Theory of operation. The frame, the verbs and the shapes of `kademlia` and `rpcudp` are kept, so stock nodes can talk to
us; their code paths for datagrams, calls, timeouts and storage are not reached. A request is answered synchronously: no
task, no future, no logging. Answers are matched by id *and* by the address that was asked.

Whoever answers one of our requests has proven its address for a while and is offered to the routing table; nothing that
merely arrives is. A stranger's ping is answered and pinged back, if it was long enough to pay for both; other stock
requests of strangers are parked until the stranger's pong. Our own verbs carry tokens instead (see `guard`), and the
first question to a node is long enough to be answered without one.
Whether a peer speaks our verbs is told by the trailer behind its answers to stock verbs; see `wire`.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from typing import Any, Final

from dhtex import limits
from dhtex.clock import Clock
from dhtex.market.ids import NodeId
from dhtex.overlay import wire
from dhtex.overlay.addresses import Address
from dhtex.overlay.alarm import Alarm
from dhtex.overlay.contact import Contact, Peer, PeerKind, Peers
from dhtex.overlay.guard import Parking, Strangers, Tokens, within_rate
from dhtex.overlay.meeting import Meetings
from dhtex.overlay.ports import Answering
from dhtex.overlay.requests import Done, Request, Requests, Soft, _nobody
from dhtex.overlay.selfview import SelfView
from dhtex.overlay.serving import answer_opening, ask_for_token
from dhtex.overlay.stock import StockVerbs
from dhtex.overlay.table import Table
from dhtex.overlay.trailer import cut_trailer, reply_marks, reply_trailer, reply_view, request_net, request_trailer
from dhtex.overlay.transport import Endpoint

log = logging.getLogger(__name__)

_UNEXPECTED_LOGGED_MAX: Final = 10
_FINDING: Final = limits.PEER_DATAGRAMS_PER_S / limits.STOCK_FINDS_PER_S


class Protocol:
    """The overlay's datagrams. Built by `server.Overlay`, which sets the `on_…` callbacks."""

    transport: Endpoint

    def __init__(
        self, source_node: Any, storage: Any, ksize: int, net: bytes, clock: Clock, entropy: random.Random
    ) -> None:
        self.own_id = NodeId(source_node.id)
        self.table = Table(self.own_id, ksize)
        self.stock = StockVerbs(source_node, storage, self.table)
        self.serving: Answering
        self.net = net
        self.peers = Peers()
        self.meetings = Meetings(self)
        self.counts: dict[str, int] = {}
        self.tokens = Tokens(entropy, clock.monotonic())
        self.requests = Requests(self.send)
        self.worth_asking = self.requests.families.worth_asking
        self.on_verb: dict[wire.Verb, Callable[[Any, bytes, Peer], Any]] = {}
        self.selfview: SelfView
        self.on_push: Callable[[wire.PushArgs, Address], bool]
        self.on_knock: Callable[[bytes, Address], bool]
        self.hint: Callable[[Contact, Contact], None]
        self.datagrams_in = self.datagrams_out = self.bytes_in = self.bytes_out = 0
        self.monotonic = clock.monotonic
        self._random_bytes = entropy.randbytes
        self._parking = Parking()
        now = clock.monotonic()
        self._strangers = Strangers(entropy.randbytes(16), now)
        self._alarm = Alarm(self._on_deadline)
        self._closed = False
        self._ping_stock, self._ping_back, self._ping_first = wire.pings(self.own_id, net)

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    # --- Sending ---------------------------------------------------------------------------------------------------

    def send(self, data: bytes, address: Address) -> None:
        """Send a datagram, unless it is too large to pass everywhere."""
        if len(data) > limits.DATAGRAM_BYTES_MAX:
            self.count("dropped_too_large_to_send")
            return
        self.datagrams_out += 1
        self.bytes_out += len(data)
        self.transport.sendto(data, address)

    def ask(
        self, peer: Peer, verb: wire.Verb, args: Any, done: Done, soft: Soft = _nobody, context: Any = None
    ) -> None:
        """Send one of our own verbs; `done` gets the answer, or None when none came."""
        request = Request(peer, verb, args, done, soft, context)
        if verb is not wire.PUSH:
            args.token = peer.token
        if peer.token or verb is wire.PUSH:
            self._start(request, verb.head + wire.encode(args))
        else:  # it may be a third party's address: one padded question is enough, and repetitions are short
            again = verb.head + wire.encode(args) if verb is wire.GET else b""
            self._start(request, verb.head + wire.encode(args.opening()), again)

    def ask_find_node(self, peer: Peer, target: bytes, done: Done, soft: Soft = _nobody, context: Any = None) -> None:
        """Ask a peer of any kind for contacts; its answer tells what it is."""
        verb = wire.FIND_NODE
        body = verb.head + wire.encode((self.own_id, target)) + request_trailer(self.net, wire.FIND_PADDING_BYTES)
        self._start(Request(peer, verb, None, done, soft, context), body)

    def ping(self, peer: Peer, done: Done = lambda request, answer: None, *, tries: int = limits.REQUEST_TRIES) -> None:
        """Ask a peer who it is."""
        peer.pinging = True
        request = Request(peer, wire.PING, None, done)
        request.tries_max = tries
        self._start(request, self._ping_back if peer.verified_until > self.monotonic() else self._ping_first)

    def ping_stranger(self, peer: Peer, marked: bool) -> None:
        """Ask somebody whose address is not proven who he is, once; `marked`: he says to be a dhtex node."""
        if not peer.pinging:
            peer.pinging, peer.came_first = True, not peer.last_asked
            body = self._ping_back if marked else self._ping_stock
            request = Request(peer, wire.PING, None if marked else "unmarked", lambda request, answer: None)
            request.tries_max = 1  # a forged source must not get more than it paid for
            self._start(request, body)

    def _start(self, request: Request, body: bytes, again: bytes = b"") -> None:
        if self._closed:
            asyncio.get_running_loop().call_soon(request.done, request, None)
            return
        now = self.monotonic()
        request.id = self._random_bytes(20)
        request.datagram = b"\0" + request.id + body
        request.again = b"\0" + request.id + again if again else b""
        request.peer.last_asked = now
        self.requests.start(request, now)
        if request.soft_at < self._alarm.at:
            self._alarm.set(request.soft_at, now)

    def later(self, delay_s: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        """Call something after a while."""
        return asyncio.get_running_loop().call_later(delay_s, call)

    def _on_deadline(self, deadline: float) -> None:
        now = self.monotonic()
        for request in self.requests.expire(now, now - deadline):
            self._failed(request)
        if (following := self.requests.next_deadline()) is not None:
            self._alarm.set(following, now)

    def _failed(self, request: Request) -> None:
        peer = request.peer
        if request.verb is wire.PING:
            peer.pinging = peer.came_first = False
        if request.tries and request.sent_at >= peer.failed_at:  # was asked, and not within a silence that has counted
            self.meetings.silent(peer, pinged=request.verb is wire.PING)
        request.done(request, None)

    def close(self) -> None:
        """Answer nothing and ask nothing any more; askers are told that no answer will come."""
        self._closed = True
        self._alarm.cancel()
        for request in self.requests.abandon():
            request.done(request, None)

    # --- Peers -----------------------------------------------------------------------------------------------------

    def peer_at(self, address: Address, contact: Contact | None = None) -> Peer:
        """What we know of an address; remembers at most ADDRESSES_TRACKED_MAX of them, those of the table for sure."""
        return self.peers.at(address, contact, self.monotonic())

    # --- Receiving -------------------------------------------------------------------------------------------------

    def datagram_received(self, data: bytes, addr: Address) -> None:
        """Take a datagram of any content. Never raises."""
        size = len(data)
        self.datagrams_in += 1
        self.bytes_in += size
        try:
            if not wire.FRAME_BYTES < size <= limits.DATAGRAM_BYTES_RECEIVE_MAX or self._closed:
                self.count("dropped_size")
            elif data[0] == wire.REPLY:
                self._take_reply(data, addr, self.monotonic())
            elif data[0] == wire.REQUEST:
                self._take_request(data, addr, self.monotonic())
            else:
                self.count("dropped_frame")
        except Exception:
            self.count("unexpected")
            if self.counts["unexpected"] <= _UNEXPECTED_LOGGED_MAX:
                log.exception("datagram raised bytes=%d from=%s", size, addr)

    def _take_reply(self, data: bytes, addr: Address, now: float) -> None:
        request = self.requests.find(data[1:21])
        if request is None:
            self.count("knocks" if self.on_knock(data[1:21], addr) else "dropped_unasked")
            return
        peer = request.peer
        if peer.address != addr:
            self.count("dropped_misdirected")
            return
        answer, responder = self._decode_reply(request, data[wire.FRAME_BYTES :], now)
        self.requests.settle(request, now)
        if request.verb is wire.PING:
            peer.pinging = False
        if answer is None:
            self._failed(request)
            return
        peer.failures = 0
        peer.last_seen = now
        peer.verified_until = now + limits.TOKEN_LIFE_S
        self.meetings.answered(peer, responder, now)
        if request.args is not None and getattr(answer, "ok", wire.OK) != wire.OK:
            self._renew(request)
        else:
            request.done(request, answer)
        for parked in self._parking.release(addr, now) if self._parking.waiting else ():
            self._take_request(parked, addr, now)

    def _decode_reply(self, request: Request, body: bytes, now: float) -> tuple[Any, NodeId | None]:
        """The answer and who says to have given it; notes what kind of peer it is. None if unusable."""
        peer, verb = request.peer, request.verb
        ext: bytes | None = None
        if verb.stock:
            body, ext = cut_trailer(body)
        try:
            answer = verb.reply.decode(body)
        except wire.DECODE_ERRORS:
            self.count("dropped_malformed_reply")
            return None, None
        if not verb.stock:
            if verb is not wire.PUSH:
                peer.token = answer.token
            peer.kind = PeerKind.DHTEX
            return answer, answer.responder
        marks = reply_marks(ext)
        if marks is None:
            if request.args is None or peer.kind is PeerKind.UNKNOWN:
                peer.kind = PeerKind.STOCK
            return answer, answer if verb is wire.PING else None
        net, responder, token, client = marks
        if net != self.net:
            self.count("foreign_peers")
            peer.kind = PeerKind.FOREIGN
            if peer.in_table:
                self.meetings.evict(peer)
            return None, None
        peer.kind, peer.token, peer.client = PeerKind.DHTEX, token, client
        votes = peer.in_table or self.selfview.address is None  # who wants a vote must first find a place in the table
        if votes and now >= peer.view_due and (view := reply_view(ext)) is not None:
            peer.view_due = now + limits.VIEW_S
            self.selfview.heard(peer.address, view, now)
        return answer, responder

    def _renew(self, request: Request) -> None:
        """The peer gave us a fresh token instead of an answer: repeat with it, once. It may see us elsewhere by now."""
        if request.renewed:
            self._failed(request)
            return
        if request.args.token and not request.peer.pinging and self.monotonic() >= request.peer.view_due:
            self.ping(request.peer)
        request.args.token = request.peer.token
        again = Request(request.peer, request.verb, request.args, request.done, request.soft, request.context)
        again.renewed = True
        self._start(again, request.verb.head + wire.encode(request.args))

    def _take_request(self, data: bytes, addr: Address, now: float) -> None:
        found = wire.verb_of(data)
        if found is None:
            self.count("dropped_unknown_verb")
            return
        verb, start = found
        peer = self.peers.get(addr)
        if peer is not None and peer.verified_until > now:
            if not within_rate(peer, now, _FINDING if verb in (wire.FIND_NODE, wire.FIND_VALUE) else 1.0):
                self.count("dropped_rate_peer")
                return
        elif not self._strangers.admit(addr, verb is wire.PING, now):
            self.count("dropped_rate_strangers")
            return
        body, ext = cut_trailer(data[start:]) if verb.stock else (data[start:], None)
        try:
            args = verb.args.decode(body)
        except wire.DECODE_ERRORS:
            self.count("dropped_malformed")
            return
        if verb.stock:
            self._take_stock(verb, args, ext, data, self.peer_at(addr) if peer is None else peer, now)
        else:
            self._take_ours(verb, args, data, addr, peer)

    # --- Our own verbs ---------------------------------------------------------------------------------------------

    def _take_ours(self, verb: wire.Verb, args: Any, data: bytes, addr: Address, peer: Peer | None) -> None:
        if args.net != self.net or args.sender == self.own_id:
            self.count("dropped_foreign")
            return
        reply: Any
        if verb is wire.PUSH:
            if not self.on_push(args, addr):
                self.count("dropped_push")
                return
            reply = wire.PushReply(self.own_id)
        else:
            token = self.tokens.issue(addr[0])
            if not self.tokens.valid(addr[0], args.token):
                opening = answer_opening(self.serving, args, token, addr, len(data)) if verb is wire.GET else None
                if opening is None:
                    self.count("tokens_renewed")
                    reply = ask_for_token(verb, self.own_id, token)
                else:
                    reply, left = opening
                    if left >= wire.PONG_BYTES:
                        self.meetings.meet(args.sender, self.peer_at(addr) if peer is None else peer)
            else:
                peer = self.meetings.met(args.sender, addr, peer)
                if verb is wire.GET:
                    reply = self.serving.get(args, token, addr)
                elif verb is wire.PUT:
                    reply = self.serving.put(args, token, addr)
                else:
                    reply = self.on_verb[verb](args, token, peer)
        self.send(b"\1" + data[1:21] + wire.encode(reply), addr)

    # --- Stock verbs -----------------------------------------------------------------------------------------------

    def _take_stock(
        self, verb: wire.Verb, args: Sequence[Any], ext: bytes | None, data: bytes, peer: Peer, now: float
    ) -> None:
        net = request_net(ext)
        sender: NodeId | None = args[0] if args else None
        if (net is not None and net != self.net and verb is not wire.PING) or sender == self.own_id:
            self.count("dropped_foreign")
            return
        addr = peer.address
        if net is None or net == self.net:
            if peer.verified_until <= now:
                if not self._may_answer(verb, data, peer, net is not None, now):
                    return
            elif sender is not None and (peer.contact is None or peer.contact.id != sender) and not peer.pinging:
                self.ping(peer)
        elif len(data) < wire.PONG_BYTES:
            return
        response = self.own_id if verb is wire.PING else getattr(self.stock, verb.method)(addr, *args)
        trailer = b""
        if net is not None:
            view = self.selfview.tell(addr)
            trailer = reply_trailer(self.net, self.own_id, self.tokens.issue(addr[0]), view)
        self.send(b"\1" + data[1:21] + wire.encode(response) + trailer, addr)

    def _may_answer(self, verb: wire.Verb, data: bytes, peer: Peer, marked: bool, now: float) -> bool:
        """Whether a stranger's request is answered now. If not, it is parked until the stranger proves its address."""
        if verb is wire.PING and marked and len(data) >= 2 * wire.PONG_BYTES:
            self.ping_stranger(peer, marked)
            return True
        if verb is wire.PING and peer.pinging and len(data) >= (wire.PONG_BYTES if marked else wire.FRAME_BYTES + 22):
            return True  # two strangers who ask each other at the same time must not wait for each other
        if len(data) < (wire.PONG_BYTES if marked else wire.FRAME_BYTES + len(self._ping_stock)):
            self.count("dropped_unproven")
            return False
        self._parking.park(peer.address, data[1:21], data, now)
        self.ping_stranger(peer, marked)
        return False
