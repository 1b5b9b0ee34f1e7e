"""Handing a record to its holders.

Theory of operation. A quick search asks the few closest nodes, which know their neighbours; the record goes to all that
they name, but at once to those of whom we know beforehand (`Searches.evident`). Whoever does not answer in its usual
time may be dead: the next one is asked beside it, and nobody waits for it any more; nor for the last ones, for whom
there is no other. What the few named is then in doubt, so a thorough search follows, for which only those wait who have
no other proof that the record is held; then also for the last ones.
"""

from collections.abc import Callable, Iterable
from typing import Final

from dhtex import limits
from dhtex.market.holding import MOVED, Taken
from dhtex.overlay import wire
from dhtex.overlay.contact import Contact, contact_at
from dhtex.overlay.crawl import Network
from dhtex.overlay.ports import Answering
from dhtex.overlay.requests import Request
from dhtex.overlay.results import Holder, PutResult

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

    def result(self, *, unfinished: bool = False) -> PutResult:
        """What came of it until now."""
        refusals, newer, moved = dict(self.refusals), tuple(self.newer), dict(self.moved)
        return PutResult(self.asked, self.holders, self.local, refusals, self.bits, newer, moved, unfinished)


class _Turn:
    """One node's turn to answer, through all repetitions of the request: whether it is waited for, and has answered."""

    __slots__ = ("answered", "awaited", "contact")

    def __init__(self, contact: Contact, awaited: bool) -> None:
        self.contact = contact
        self.awaited = awaited
        self.answered = False


class Putting:
    """One put to nodes that a crawl found, closest first; a node that does not answer is replaced by the next.

    Those that were slow to answer the crawl, or are now, are not waited for as long as there are others, and count only
    if they answer. `start` may be called again, with what another crawl found.
    """

    def __init__(self, network: Network, record: bytes, prefix: str | None) -> None:
        self.record = record
        self.prefix = prefix
        self.tally = Tally()
        self._network = network
        self._done: Callable[[], None] | None = None
        self._spares: list[Contact] = []
        self._asked: dict[Contact, _Turn] = {}
        self._answered = 0
        self._silent = 0
        self.troubled = False  # whether anybody has not answered in time
        self._awaited = 0
        self._last: set[_Turn] = set()  # are slow, and there is nobody else; silent until they answer
        self._patient = False
        self._finished = False

    @property
    def enough(self) -> bool:
        """Whether anybody answered, and most of those did who were asked for lack of nobody else."""
        return self._answered > 0 and self._silent <= self._answered // 2

    def start_early(self, contacts: Iterable[Contact]) -> None:
        """Ask those who should be holders, before `start` tells who is. Who is slow until then is as if not asked."""
        for contact in contacts:
            self._ask(contact, awaited=True)

    def start(
        self, targets: list[Contact], wanted: int, slow: Iterable[Contact], done: Callable[[], None], *, patient: bool
    ) -> None:
        """Ask the first `wanted` of `targets`, except those that have been asked before; HOLDERS more may follow. If
        `patient`, wait for the last slow ones until it is enough."""
        self._done = done
        self._patient = patient
        self._finished = False
        self._silent = len(self._last)
        spares = [contact for contact in targets[wanted:] if contact not in self._asked]
        self._spares = spares[: limits.HOLDERS][::-1]
        for contact in targets[:wanted]:
            if contact not in self._asked:
                self._ask(contact, awaited=True)
        for contact in slow:
            self.start_late(contact)
        self._settle()

    def start_late(self, contact: Contact) -> None:
        """Ask one more node, whose answer to the crawl came late; it is not waited for."""
        if not self._finished and contact not in self._asked and contact not in self._spares:
            self._ask(contact, awaited=False)

    def _ask(self, contact: Contact, *, awaited: bool) -> None:
        turn = self._asked[contact] = _Turn(contact, awaited)
        self._awaited += awaited
        network = self._network
        args = wire.PutArgs(network.net, network.own_id, b"", self.prefix, self.record)
        network.ask(network.peer_at(contact.address, contact), wire.PUT, args, self._put, self._slow, turn)

    def _slow(self, request: Request) -> None:
        self.troubled = True
        turn: _Turn = request.context
        if turn.awaited and not self._finished:
            turn.awaited = False
            self._awaited -= 1
            if self._done is None:
                del self._asked[turn.contact]
            elif not self._ask_another():
                self._last.add(turn)
            self._settle()

    def _ask_another(self) -> bool:
        """Wait for somebody else instead of one that does not answer; whether there is anybody."""
        while self._spares:
            contact = self._spares.pop()
            if contact not in self._asked:  # it may have been asked early, and answer late
                self._ask(contact, awaited=True)
                return True
        self.tally.asked += 1
        self._silent += 1
        return False

    def _put(self, request: Request, answer: wire.PutReply | None) -> None:
        tally, turn = self.tally, request.context
        if self._asked.get(turn.contact) is not turn:
            if answer is None:
                return
            turn = self._asked.setdefault(turn.contact, turn)  # it may have been asked again
        if turn.answered:
            return
        turn.answered = answer is not None
        counted = turn in self._last
        self._last.discard(turn)
        if answer is not None:
            self._answered += 1
            tally.asked += not counted
            self._silent -= counted
            tally.holders += tally.add(answer.taken, answer.code, answer.bits, answer.newer)
        if turn.awaited:
            turn.awaited = False
            self._awaited -= 1
            if answer is None:
                self.troubled = True
                if self._done is None:
                    del self._asked[turn.contact]
                else:
                    self._ask_another()
        self._settle()

    def _settle(self) -> None:
        """End if nobody is waited for any more."""
        if self._done is None or self._finished or self._awaited:
            return
        if not self._patient or not self._last or self.enough:
            self._finished = True
            self._done()


def hand_on(
    network: Network, here: Answering, holder: Holder, record: bytes, prefix: str | None, told: Callable[[str], None]
) -> None:
    """Hand a record to one holder, this node perhaps, without waiting; `told` hears its verdict if one comes."""

    def answered(_request: Request, answer: wire.PutReply | None) -> None:
        if answer is not None:
            told(answer.taken)

    if holder.address is None:
        told(here.store(record, prefix, None).taken)
        return
    peer = network.peer_at(holder.address, contact_at(holder.id, *holder.address))
    network.ask(peer, wire.PUT, wire.PutArgs(network.net, network.own_id, b"", prefix, record), answered)
