"""Handing a record to its holders."""

from collections.abc import Callable, Iterable
from typing import Final

from dhtex import limits
from dhtex.market.holding import MOVED, Taken
from dhtex.market.ids import DhtKey
from dhtex.overlay import wire
from dhtex.overlay.contact import Contact, contact_at
from dhtex.overlay.crawl import Crawl, Network
from dhtex.overlay.requests import Request
from dhtex.overlay.results import Holder, PutResult
from dhtex.overlay.serving import Serving

_BRANCH_BYTES_MAX: Final = 17  # the length of a path, and 128 bits
_HELD: Final = frozenset({Taken.STORED, Taken.KNOWN})


class Tally:
    """Collects the verdicts of holders, ours included."""

    def __init__(self) -> None:
        self.asked = 0
        self.holders = 0
        self.local = False
        self.judged = False  # whether we are a holder ourselves, and have said what we think of it
        self.refusals: dict[str, int] = {}
        self.bits = 0
        self.newer: dict[bytes, None] = {}
        self.moved: dict[bytes, int] = {}

    def add(self, taken: str, code: str, bits: int, newer: bytes) -> bool:
        """Count one verdict; whether it says that the record is held."""
        if code == MOVED:
            newer = newer[:_BRANCH_BYTES_MAX]
            self.moved[newer] = self.moved.get(newer, 0) + 1
            return taken in _HELD
        if taken in _HELD:
            return True
        if taken == Taken.SUPERSEDED:
            if 0 < len(newer) <= limits.RECORD_BYTES_MAX:
                self.newer[newer] = None
        else:
            code = code[: limits.REFUSAL_CODE_CHARS_MAX] or "malformed"
            self.refusals[code] = self.refusals.get(code, 0) + 1
            self.bits = max(self.bits, min(bits, limits.STAMP_BITS_MAX))
        return False

    def result(self) -> PutResult:
        return PutResult(self.asked, self.holders, self.local, self.refusals, self.bits, tuple(self.newer), self.moved)


class Putting:
    """One put to nodes that a crawl found, closest first; a node that does not answer is replaced by the next.

    Those that were slow to answer the crawl are asked too, as nobody knows yet whether they are dead; they are not
    waited for, and count only if they answer. `start` may be called again, with what another crawl found.
    """

    def __init__(self, network: Network, record: bytes, prefix: str | None) -> None:
        self.record = record
        self.prefix = prefix
        self.tally = Tally()
        self._network = network
        self._done: Callable[[], None]
        self._spares: list[Contact] = []
        self._asked: set[Contact] = set()
        self._answered = 0
        self.silent = 0
        self._awaited = 0
        self._finished = False

    @property
    def enough(self) -> bool:
        """Whether most of those answered who were asked for lack of nobody else."""
        return self.silent <= self._answered // 2

    def start(self, targets: list[Contact], wanted: int, slow: Iterable[Contact], done: Callable[[], None]) -> None:
        """Ask the first `wanted` of `targets`, except those that have been asked before."""
        self._done = done
        self._finished = False
        self.silent = 0
        self._spares = [contact for contact in targets[wanted:] if contact not in self._asked][::-1]
        fresh = [contact for contact in targets[:wanted] if contact not in self._asked]
        self._awaited = len(fresh)
        for contact in fresh:
            self._ask(contact, awaited=True)
        for contact in slow:
            self.start_late(contact)
        if not fresh:
            self._end()

    def start_late(self, contact: Contact) -> None:
        """Ask one more node, whose answer to the crawl came late; it is not waited for."""
        if not self._finished and contact not in self._asked and contact not in self._spares:
            self._ask(contact, awaited=False)

    def _ask(self, contact: Contact, *, awaited: bool) -> None:
        self._asked.add(contact)
        network = self._network
        args = wire.PutArgs(network.net, network.own_id, b"", self.prefix, self.record)
        network.ask(network.peer_at(contact.address, contact), wire.PUT, args, self._put, context=awaited)

    def _put(self, request: Request, answer: wire.PutReply | None) -> None:
        awaited: bool = request.context
        if self._finished:
            return
        tally = self.tally
        if answer is not None:
            self._answered += 1
            tally.asked += 1
            tally.holders += tally.add(answer.taken, answer.code, answer.bits, answer.newer)
        elif awaited:
            tally.asked += 1
            if self._spares:
                self._ask(self._spares.pop(), awaited=True)
                return
            self.silent += 1
        if awaited:
            self._awaited -= 1
            if not self._awaited:
                self._end()

    def _end(self) -> None:
        self._finished = True
        self._done()


def hand_on(network: Network, here: Serving, holder: Holder, record: bytes, prefix: str | None) -> None:
    """Hand a record to one holder, this node perhaps, without waiting for what becomes of it."""
    if holder.address is None:
        here.store(record, prefix, None)
        return
    peer = network.peer_at(holder.address, contact_at(holder.id, *holder.address))
    network.ask(peer, wire.PUT, wire.PutArgs(network.net, network.own_id, b"", prefix, record), lambda *_: None)


class Regions:
    """Who held a key when we last looked, for a short while: puts and watches of one key need one search."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._rows: dict[DhtKey, tuple[float, tuple[Contact, ...]]] = {}

    def remember(self, crawl: Crawl) -> None:
        """Keep the result of a crawl."""
        self._rows.pop(crawl.target, None)
        until = self._network.monotonic() + limits.HOLDERS_REMEMBERED_S
        self._rows[crawl.target] = (until, tuple(crawl.closest()[: limits.HOLDERS]))
        if len(self._rows) > limits.HOLDERS_REMEMBERED_MAX:
            del self._rows[next(iter(self._rows))]

    def forget(self, key: DhtKey) -> None:
        """Look again the next time."""
        self._rows.pop(key, None)

    def holders(self, key: DhtKey) -> tuple[Contact, ...] | None:
        """The holders of a key; None if unknown, or if one of them failed since, or somebody closer turned up."""
        until, contacts = self._rows.get(key, (0.0, ()))
        network = self._network
        if until <= network.monotonic() or not contacts:
            return None
        known = {contact.id for contact in contacts}
        if any(network.peer_at(contact.address, contact).failures for contact in contacts):
            return None
        near = network.table.closest(key, len(contacts), dhtex_only=True, sound_only=True)
        if len(contacts) < limits.HOLDERS and len(near) < len(network.table):
            near = network.table.closest(key, limits.HOLDERS, dhtex_only=True, sound_only=True)
        goal = int.from_bytes(key)
        farthest = contacts[-1].long_id ^ goal
        for peer in near:
            if (
                peer.contact is not None
                and peer.contact.id not in known
                and (len(contacts) < limits.HOLDERS or peer.contact.long_id ^ goal < farthest)
            ):
                return None
        return contacts
