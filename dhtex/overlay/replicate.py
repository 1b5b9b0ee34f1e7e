"""Holders hand on what they hold, so that records survive the coming and going of nodes.

Theory of operation. Every REPLICATE_INTERVAL_S, jittered, all keys that we hold come up once, for all their holders;
keys for which a newly met peer is a holder come up soon, for that peer only, at the closest holder first. For a key
that is up, those holders are asked for the digest of what they hold, by kind; records are sent only where it differs
from ours, within a budget. Signed records end
by their own time, which handing on does not change. Beats are not handed on: their makers repeat them.
"""

import random
from collections import deque
from collections.abc import Callable
from typing import Final

from dhtex import limits
from dhtex.clock import Clock
from dhtex.market.holding import ANY_KIND, Taken
from dhtex.market.ids import DhtKey
from dhtex.market.records import Kind
from dhtex.overlay import wire
from dhtex.overlay.addresses import Address
from dhtex.overlay.contact import Contact
from dhtex.overlay.crawl import Network
from dhtex.overlay.pages import digest_of
from dhtex.overlay.ports import Holdings
from dhtex.overlay.requests import Request

Row = tuple[str | None, bytes]

PAST_THE_END: Final = (1 << 32) - 1
SETTLE_S: Final = (2.0, 4.0)  # newcomers come in groups
TURN_S: Final = 5.0  # the next closest holder waits this much longer, and then finds the work done
KEYS_PER_TICK: Final = 8
KEYS_WALKED_PER_TICK: Final = 2000
_KINDS: Final = (Kind.ORDER, Kind.STATUS)


class Replicator:
    """Hands on the records of one node. Driven by `tick`."""

    def __init__(
        self,
        network: Network,
        holdings: Holdings,
        store: Callable[[bytes, str | None, Address], object],
        locate: Callable[[DhtKey, Callable[[DhtKey, list[Contact]], None]], None],
        clock: Clock,
        entropy: random.Random,
    ) -> None:
        self._network = network
        self._holdings = holdings
        self._store = store
        self._locate = locate
        self._clock = clock
        self._entropy = entropy
        self._next_pass = network.monotonic() + limits.REPLICATE_INTERVAL_S * entropy.uniform(0.5, 1.0)
        self._walk_at = 0.0
        self._newcomers: list[Contact] = []
        self._walk: list[DhtKey] = []
        self._walk_for: list[Contact] = []
        self._due: dict[DhtKey, float] = {}
        self._due_for: dict[DhtKey, dict[Contact, None]] = {}  # newcomers; a key that is due and not here is for all
        self._rows: dict[DhtKey, list[Row]] = {}
        self._budget = 0.0
        self._ticked = network.monotonic()
        self._send_queue: deque[tuple[Contact, Row]] = deque()

    def peer_found(self, contact: Contact) -> None:
        """A peer was admitted, and may be a holder of what we hold."""
        if not self._newcomers:
            self._walk_at = self._network.monotonic() + self._entropy.uniform(*SETTLE_S)
        self._newcomers.append(contact)

    def tick(self, now: float) -> None:
        """Do a little. Call about once a second."""
        per_s = limits.REPLICATE_RECORDS_PER_S
        self._budget = min(float(per_s), self._budget + (now - self._ticked) * per_s)
        self._ticked = now
        if now >= self._next_pass:
            self._next_pass = now + limits.REPLICATE_INTERVAL_S * self._entropy.uniform(0.75, 1.25)
            self._rows = self._held()
            for key in self._rows:
                self._due[key] = now + self._entropy.uniform(0, limits.REPLICATE_INTERVAL_S / 2)
                self._due_for.pop(key, None)
        if self._newcomers and not self._walk and now >= self._walk_at:
            self._walk_for, self._newcomers = self._newcomers, []
            self._rows = self._held()
            self._walk = list(self._rows)
        self._walk_on(now)
        self._send_on()
        if not self._send_queue:
            for key in [key for key, due in self._due.items() if due <= now][:KEYS_PER_TICK]:
                del self._due[key]
                newcomers = self._due_for.pop(key, None)
                if newcomers is None:
                    self._locate(key, self._compare)
                else:
                    self._compare(key, list(newcomers))

    def _held(self) -> dict[DhtKey, list[Row]]:
        rows: dict[DhtKey, list[Row]] = {}
        for key, prefix, record in self._holdings.replicas(self._clock.now()):
            rows.setdefault(key, []).append((prefix, record))
        return rows

    def _walk_on(self, now: float) -> None:
        """Look for keys that newcomers should hold; a long list takes several ticks."""
        part, self._walk = self._walk[:KEYS_WALKED_PER_TICK], self._walk[KEYS_WALKED_PER_TICK:]
        own = int.from_bytes(self._network.own_id)
        for key in part:
            near = self._network.table.closest(key, limits.HOLDERS, dhtex_only=True)
            contacts = [peer.contact for peer in near if peer.contact is not None]
            newcomers = dict.fromkeys(contact for contact in self._walk_for if contact in contacts)
            if newcomers:
                goal = int.from_bytes(key)
                rank = sum(contact.long_id ^ goal < own ^ goal for contact in contacts)
                due = now + rank * TURN_S + self._entropy.uniform(0, 1.0)
                if key not in self._due or key in self._due_for:
                    self._due_for.setdefault(key, {}).update(newcomers)
                self._due[key] = min(due, self._due.get(key, due))

    def _compare(self, key: DhtKey, contacts: list[Contact]) -> None:
        """Ask each holder of a key whether it holds what we hold."""
        rows = self._rows.get(key, [])
        at_order = bool(rows) and rows[0][0] is None
        network = self._network
        for kind in (ANY_KIND,) if at_order else _KINDS:
            part = [row for row in rows if at_order or _kind(row[1]) == kind]
            if not part:
                continue
            digest = digest_of(record for _, record in part)
            for contact in contacts:
                args = wire.GetArgs(network.net, network.own_id, b"", key, kind, PAST_THE_END, False)
                peer = network.peer_at(contact.address, contact)
                network.ask(peer, wire.GET, args, self._compared, context=(contact, digest, part))

    def _compared(self, request: Request, answer: wire.GetReply | None) -> None:
        contact, digest, part = request.context
        if answer is not None and answer.digest != digest:
            room = limits.RECORDS_PER_INDEX_KEY_MAX - len(self._send_queue)
            self._send_queue.extend((contact, row) for row in part[: max(0, room)])
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


def _kind(record: bytes) -> int:
    """The kind of a record that we hold: the second byte of its envelope, whatever the length of the rest."""
    return record[1] if len(record) > 1 else 0
