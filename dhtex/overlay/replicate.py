"""Holders hand on what they hold, so that records survive the coming and going of nodes.

Theory of operation. Every REPLICATE_INTERVAL_S, jittered, all keys that we hold come up once; keys for which a newly
met peer is a holder, or a lost one was, come up soon, at the closest holder first, and then only for who is new among
the holders as far as our table knows. For a key that is up, holders are asked for the digest of what they hold, by
kind; where it differs from ours, for the ids of what they hold; and what is missing there is sent, within a budget.
Whoever asks tells its own digest by the way, so of two that hold the same only one asks. Who the holders are, our table
knows: these are our neighbours. They are searched for if we are no holder any more, or if they lie suspiciously close.
Signed records end by their own time, which handing on does not change. Beats are not handed on: their makers repeat
them.
"""

import heapq
import math
import random
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from dhtex import limits
from dhtex.clock import Clock
from dhtex.market.holding import ANY_KIND, IDS, SHORT_ID_BYTES, Taken
from dhtex.market.ids import DhtKey, NodeId
from dhtex.market.records import Kind
from dhtex.overlay import wire
from dhtex.overlay.addresses import Address
from dhtex.overlay.contact import Contact
from dhtex.overlay.crawl import Network
from dhtex.overlay.pages import split_ids, wire_id
from dhtex.overlay.ports import Holdings
from dhtex.overlay.requests import Request

Row = tuple[str | None, bytes]

SETTLE_S: Final = (2.0, 4.0)  # newcomers come in groups
TURN_S: Final = 5.0  # the next closest holder waits this much longer, and then finds the work done
KEYS_PER_TICK: Final = 8  # or as many as let a round end before the next one, at most:
KEYS_PER_TICK_MAX: Final = 32  # some 25 kB/s of questions; a round of 100,000 keys takes an hour then
ROUND_PART: Final = 0.75  # of the interval, at the end of which the next round may begin
KEYS_AT_ONCE: Final = 1000  # noted, or forgotten
KEYS_WALKED_PER_TICK: Final = 2000
KEYS_WALKED_AT_ONCE: Final = 50  # about a millisecond
SENT_UNSEEN_MAX: Final = 3  # so few records are sent without asking which of them are missing
_KINDS: Final = (Kind.ORDER, Kind.STATUS)


@dataclass(slots=True)
class _Difference:
    """What a holder has at a key, as far as it has told, and what we have there."""

    contact: Contact
    key: DhtKey
    kind: int
    rows: list[Row]
    known: list[bytes] = field(default_factory=list)
    pages: int = 0


class Replicator:
    """Hands on the records of one node. Driven by `tick`."""

    def __init__(
        self,
        network: Network,
        holdings: Holdings,
        store: Callable[[bytes, str | None, Address], object],
        locate: Callable[[DhtKey, Callable[[DhtKey, list[Contact]], None]], None],
        crowded: Callable[[DhtKey, list[bytes]], bool],
        clock: Clock,
        entropy: random.Random,
    ) -> None:
        self._network = network
        self._holdings = holdings
        self._store = store
        self._locate = locate
        self._crowded = crowded
        self._clock = clock
        self._entropy = entropy
        self._next_pass = network.monotonic() + limits.REPLICATE_INTERVAL_S * entropy.uniform(0.5, 1.0)
        self._walk_at = 0.0
        self._changes: list[Contact] = []  # peers that came or went
        self._walk: list[DhtKey] = []
        self._walk_for: list[Contact] = []
        self._due: dict[DhtKey, tuple[float, list[Contact]]] = {}  # when, and whom to ask if not all
        # Heaps of the same, and of times that no longer hold: whom a change concerns, and then the round.
        self._queues: tuple[list[tuple[float, DhtKey]], ...] = ([], [])
        self._prefixes: dict[DhtKey, str | None] = {}  # of the keys that we hold
        self._told: OrderedDict[tuple[DhtKey, int, NodeId], tuple[int, float]] = OrderedDict()
        self._budget = 0.0
        self._ticked = network.monotonic()
        self._send_queue: deque[tuple[Contact, Row]] = deque()

    def peer_found(self, contact: Contact) -> None:
        """A peer was admitted, and may be a holder of what we hold."""
        if not self._changes:
            self._walk_at = self._network.monotonic() + self._entropy.uniform(*SETTLE_S)
        self._changes.append(contact)

    def peer_lost(self, contact: Contact) -> None:
        """A peer was evicted, and may have been a holder of what we hold: another one takes its place."""
        self.peer_found(contact)

    def asked(self, args: wire.GetArgs, address: Address) -> None:
        """Somebody asks for a digest. If it is a peer, remember for a while what it said of its own."""
        peer = self._network.table.get(args.sender)
        if peer is not None and peer.address == address:
            until = self._network.monotonic() + limits.REPLICATE_INTERVAL_S
            self._told[args.key, args.kind, args.sender] = args.rank, until
            if len(self._told) > limits.DIGESTS_REMEMBERED_MAX:
                self._told.popitem(last=False)

    def tick(self, now: float) -> Iterator[None]:
        """Do a little. Call about once a second, and let others have their turn at each yield."""
        per_s = limits.REPLICATE_RECORDS_PER_S
        self._budget = min(float(per_s), self._budget + (now - self._ticked) * per_s)
        self._ticked = now
        if now >= self._next_pass:
            self._next_pass = now + limits.REPLICATE_INTERVAL_S * self._entropy.uniform(ROUND_PART, 2 - ROUND_PART)
            yield from self._begin_round(now)
        if self._changes and not self._walk and now >= self._walk_at:
            self._walk_for, self._changes = self._changes, []
            self._prefixes = self._holdings.keys(self._clock.now())
            self._walk = list(self._prefixes)
        yield from self._walk_on(now)
        self._send_on()
        at_ease = math.ceil(len(self._prefixes) / (ROUND_PART * limits.REPLICATE_INTERVAL_S))
        keys = min(KEYS_PER_TICK_MAX, max(KEYS_PER_TICK, at_ease))
        for queue in self._queues:
            forgotten = 0
            while keys and not self._send_queue and queue and queue[0][0] <= now:
                due, key = heapq.heappop(queue)
                if self._due.get(key, (None,))[0] != due:
                    forgotten += 1
                    if not forgotten % KEYS_AT_ONCE:
                        yield
                    continue
                keys -= 1
                _, fresh = self._due.pop(key)
                if fellows := fresh or self._fellows(key):
                    self._compare(key, fellows)
                else:
                    self._locate(key, self._compare)
                yield

    def _begin_round(self, now: float) -> Iterator[None]:
        """Have each key come up, but those that do so soon for a change of their holders."""
        self._prefixes = self._holdings.keys(self._clock.now())
        for number, key in enumerate(list(self._prefixes), 1):
            if not self._due.get(key, (0.0, ()))[1]:
                self._plan(key, now + self._entropy.uniform(0, limits.REPLICATE_INTERVAL_S / 2), [])
            if not number % KEYS_AT_ONCE:
                yield

    def _plan(self, key: DhtKey, due: float, fresh: list[Contact]) -> None:
        before = self._due.get(key)
        if before is None or before[0] != due or bool(before[1]) is not bool(fresh):
            heapq.heappush(self._queues[not fresh], (due, key))
        self._due[key] = due, fresh

    def _walk_on(self, now: float) -> Iterator[None]:
        """Look for keys whose holders have changed; a long list takes several ticks."""
        part, self._walk = self._walk[:KEYS_WALKED_PER_TICK], self._walk[KEYS_WALKED_PER_TICK:]
        for number, key in enumerate(part, 1):
            if not number % KEYS_WALKED_AT_ONCE:
                yield
            rank, contacts = self._near(key)
            goal = int.from_bytes(key)
            farthest = contacts[-1].long_id ^ goal if len(contacts) >= limits.HOLDERS - 1 else 1 << 160
            changed = [contact for contact in self._walk_for if contact.long_id ^ goal <= farthest]
            if changed:
                came = [contact for contact in changed if contact in contacts]
                gone = len(changed) - len(came)
                due = now + rank * TURN_S + self._entropy.uniform(0, 1.0)
                fresh = dict.fromkeys([*came, *(contacts[-gone:] if gone else ())])
                before = self._due.get(key)
                if before is not None and before[1]:
                    due, fresh = min(due, before[0]), dict.fromkeys([*before[1], *fresh])
                self._plan(key, due, list(fresh))

    def _near(self, key: DhtKey) -> tuple[int, list[Contact]]:
        """How many peers are closer to a key than we are (HOLDERS: too many), and its other holders, by our table."""
        own, goal = int.from_bytes(self._network.own_id), int.from_bytes(key)
        near = self._network.table.closest(key, limits.HOLDERS, dhtex_only=True)
        contacts = [peer.contact for peer in near if peer.contact is not None]
        rank = sum(contact.long_id ^ goal < own ^ goal for contact in contacts)
        return rank, contacts[: limits.HOLDERS - 1] if rank < limits.HOLDERS else contacts

    def _fellows(self, key: DhtKey) -> list[Contact]:
        """The other holders, where our table knows them for sure: we are one of them, and they are no crowd."""
        rank, contacts = self._near(key)
        ids = [self._network.own_id, *(contact.id for contact in contacts)]
        return contacts if rank < limits.HOLDERS and not self._crowded(key, ids) else []

    def _compare(self, key: DhtKey, contacts: list[Contact]) -> None:
        """Ask each holder of a key whether it holds what we hold."""
        if key not in self._prefixes:
            return
        prefix, network, now = self._prefixes[key], self._network, self._network.monotonic()
        for kind in (ANY_KIND,) if prefix is None else _KINDS:
            own = self._holdings.page(key, kind, 0, 0, self._clock.now())
            if not own.total:
                continue
            rank = wire.PAST_THE_END | int.from_bytes(own.digest[:4]) >> 1
            for contact in contacts:
                told, until = self._told.pop((key, kind, contact.id), (0, 0.0))
                if told == rank and until > now:
                    continue
                args = wire.GetArgs(network.net, network.own_id, b"", key, kind, rank, False)
                peer = network.peer_at(contact.address, contact)
                network.ask(peer, wire.GET, args, self._compared, context=(contact, prefix, own.digest))

    def _compared(self, request: Request, answer: wire.GetReply | None) -> None:
        contact, prefix, digest = request.context
        if answer is None or answer.digest == digest:
            return
        key, kind = request.args.key, request.args.kind
        room = limits.RECORDS_PER_INDEX_KEY_MAX * limits.RECORD_BYTES_MAX
        rows = [(prefix, record) for record in self._holdings.page(key, kind, 0, room, self._clock.now()).wires]
        lone = _only_one_between(digest, answer.digest, rows)
        if lone is not None:
            ended = prefix is None and any(_kind(record) == Kind.STATUS for _, record in rows)
            if not (ended and _kind(lone[1]) == Kind.ORDER):  # who has the Status takes the order no more
                self._hand_on(contact, [lone])
        elif not answer.total or len(rows) <= SENT_UNSEEN_MAX:
            self._hand_on(contact, rows)
        else:
            self._ask_ids(_Difference(contact, key, kind, rows))

    def _ask_ids(self, difference: "_Difference") -> None:
        network, contact = self._network, difference.contact
        kind, rank = difference.kind | IDS, len(difference.known)
        args = wire.GetArgs(network.net, network.own_id, b"", difference.key, kind, rank, False)
        peer = network.peer_at(contact.address, contact)
        network.ask(peer, wire.GET, args, self._told_ids, context=difference)

    def _told_ids(self, request: Request, answer: wire.GetReply | None) -> None:
        difference: _Difference = request.context
        if answer is None:
            return
        ids = split_ids(answer.wires)
        difference.known += ids
        difference.pages += 1
        if ids and len(difference.known) < answer.total and difference.pages < limits.ID_PAGES_MAX:
            self._ask_ids(difference)
            return
        known = frozenset(difference.known)
        lacking = [row for row in difference.rows if wire_id(row[1])[:SHORT_ID_BYTES] not in known]
        self._hand_on(difference.contact, lacking)

    def _hand_on(self, contact: Contact, rows: list[Row]) -> None:
        room = limits.RECORDS_PER_INDEX_KEY_MAX - len(self._send_queue)
        self._send_queue.extend((contact, row) for row in rows[: max(0, room)])
        self._send_on()

    def _send_on(self) -> None:
        network = self._network
        while self._send_queue and self._budget >= 1.0:
            self._budget -= 1.0
            contact, (prefix, record) = self._send_queue.popleft()
            args = wire.PutArgs(network.net, network.own_id, b"", prefix, record)
            peer = network.peer_at(contact.address, contact)
            network.ask(peer, wire.PUT, args, self._handed_on, context=prefix)

    def _handed_on(self, request: Request, answer: wire.PutReply | None) -> None:
        """A holder that knows better tells us."""
        if answer is not None and answer.taken == Taken.SUPERSEDED and answer.newer:
            self._store(answer.newer, request.context, request.peer.address)


def _only_one_between(ours: bytes, theirs: bytes, rows: list[Row]) -> Row | None:
    """The row that alone makes the difference between two digests, which are exclusive ors of short ids."""
    between = (int.from_bytes(ours) ^ int.from_bytes(theirs)).to_bytes(SHORT_ID_BYTES)
    return next((row for row in rows if wire_id(row[1])[:SHORT_ID_BYTES] == between), None)


def _kind(record: bytes) -> int:
    """The kind of a record that we hold: the second byte of its envelope, whatever the length of the rest."""
    return record[1] if len(record) > 1 else 0
