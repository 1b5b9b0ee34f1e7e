"""Finding the nodes closest to a key: a state machine that is stepped by whoever talks to the network.

Theory of operation. Candidates are kept by distance to the target. `next` hands out those to ask, closest first, while
fewer than `parallel` answers are awaited; every answer brings more candidates. There are no rounds: each answer is used
when it comes, and what it brings is asked at once. When somebody near knows of nobody nearer, the neighbourhood is
known, and all of it is asked at once (Kademlia, section 2.3).

A candidate that has not answered within its usual time is *slow*: it gives up its slot, and the end no longer waits for
it, but if it answers late it counts. It is *failed* once all repetitions went unanswered. So a dead peer costs one soft
timeout of one slot and no more. A *suspect* (known to have failed lately) gets no slot: a few are asked beside the
others, and nobody waits for them.

The lookup is finished when the `wanted` closest of those that can still count have all answered. What they know of
their neighbourhood is exact, so few answers show also who else is near: `near` names those too that nobody needed to
ask. It does not finish on few answers while many are slow, unless PATIENCE has passed: then the trouble may be ours,
and the slow ones the truth.

Where any holder will do, those within `reach` are asked by their `pace`, and the others after them.

A liar can name contacts without end. So candidates, requests and time are bounded; of the contacts that one peer named,
only a few may be awaited at once, and when several of them turned out silent and none has answered, the others become
suspects. One public IP is asked a few times only, whatever ports are named there: it may be that of a victim. Routers
(stock peers) are asked for contacts but are no result.
"""

import enum
from bisect import bisect_right
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Final

from dhtex import limits
from dhtex.overlay.contact import Contact

PATIENCE_S: Final = 0.3
AWAITED_OF_ONE_SOURCE_MAX: Final = 3
SILENT_OF_ONE_SOURCE_MAX: Final = 3


class State(enum.IntEnum):
    """How far a candidate is. Up to ANSWERED it counts among those that the result is made of."""

    KNOWN = 0
    ASKED = 1
    ANSWERED = 2
    SLOW = 3
    ROUTER = 4
    FAILED = 5


# Plain numbers on the hot path: an enum's own attributes cost more than the work done here.
_KNOWN, _ASKED, _ANSWERED, _SLOW = map(int, (State.KNOWN, State.ASKED, State.ANSWERED, State.SLOW))


class _Source:
    """One peer's credit: of the contacts it named, how many we wait for, how many were silent, did any answer."""

    __slots__ = ("answered", "awaited", "ours", "silent")

    def __init__(self, ours: bool) -> None:
        self.ours = ours
        self.awaited = 0
        self.silent = 0
        self.answered = 0

    @property
    def discredited(self) -> bool:
        return not self.answered and self.silent >= SILENT_OF_ONE_SOURCE_MAX


class _Row:
    __slots__ = ("contact", "distance", "source", "state", "suspect")

    def __init__(self, contact: Contact, distance: int, source: _Source, suspect: bool) -> None:
        self.contact = contact
        self.distance = distance
        self.source = source
        self.state = _KNOWN
        self.suspect = suspect

    @property
    def doubtful(self) -> bool:
        """Whether it is not waited for, nor believed to be there before it answers."""
        return self.suspect or (not self.source.ours and self.source.discredited)


_DISTANCE: Final = attrgetter("distance")


def _crowded(row: _Row, near: dict[bytes, int]) -> bool:
    """Whether the closer rows of this row's network already have all the places that it gets; counts the row."""
    subnet = row.contact.subnet
    if subnet is None:
        return False
    near[subnet] = near.get(subnet, 0) + 1
    return near[subnet] > limits.PEERS_PER_SUBNET_IN_BUCKET


class Lookup:
    """One search for the `wanted` nodes closest to `target`, with at most `parallel` answers awaited at a time (it may
    be changed meanwhile), up to `parallel_last` once the neighbourhood is known, and as many suspects beside them as
    `parallel` was at first. With a `pace` those within the distance `reach` are asked in its order; none is below 0."""

    def __init__(
        self,
        target: bytes,
        own_id: bytes,
        now: float,
        wanted: int = limits.HOLDERS,
        parallel: int = limits.LOOKUP_PARALLEL,
        parallel_last: int = 0,
        reach: int = 0,
        pace: Callable[[Contact], int] | None = None,
    ) -> None:
        self.target = target
        self.wanted = wanted
        self.requests = 0
        self._goal = int.from_bytes(target)
        self._own_id = own_id
        self.parallel = self._suspects_max = parallel
        self._parallel_last = parallel_last
        self._reach = reach
        self._pace = pace
        self._started = now
        self._rows: list[_Row] = []
        self._by_wire: dict[bytes, _Row] = {}
        self._sources: dict[bytes, _Source] = {}
        self._in_slots = 0
        self._asked_at: dict[str, int] = {}
        self._slow = 0
        self._suspects = 0

    def knows(self, wire: bytes) -> bool:
        """Whether the contact with this compact form is a candidate, so that it need not be parsed."""
        return wire in self._by_wire

    def add(self, contacts: Iterable[Contact], source: bytes = b"", *, suspect: bool = False) -> None:
        """Add candidates; `source` is the id of the peer that named them, empty for our own table."""
        credit, added = self._sources.get(source), False
        if credit is None:
            credit = self._sources[source] = _Source(not source)
        for contact in contacts:
            if contact.wire in self._by_wire or contact.id == self._own_id:
                continue
            if self._asked_at and self._is_spent(contact.ip):
                continue
            row = _Row(contact, contact.long_id ^ self._goal, credit, suspect)
            if len(self._rows) >= limits.LOOKUP_CANDIDATES_MAX and not self._make_room(row):
                continue
            self._by_wire[contact.wire] = row
            self._rows.append(row)
            added = True
            if len(self._rows) >= limits.LOOKUP_CANDIDATES_MAX:
                self._rows.sort(key=_DISTANCE)
        if added:
            self._rows.sort(key=_DISTANCE)

    def _make_room(self, newcomer: _Row) -> bool:
        """Drop the farthest candidate that was not asked yet, if the newcomer is closer."""
        for place in range(len(self._rows) - 1, -1, -1):
            row = self._rows[place]
            if row.distance <= newcomer.distance:
                return False
            if row.state == _KNOWN:
                del self._rows[place]
                del self._by_wire[row.contact.wire]
                return True
        return False

    def next(self, now: float) -> list[Contact]:
        """Whom to ask now. Each is handed out once; report back by `on_reply`, `on_slow` and `on_failure`."""
        if self._in_slots >= self.parallel:
            return []
        chosen: list[Contact] = []
        passed_over: list[_Row] = []
        near: dict[bytes, int] = {}
        counting = 0
        for row in self._rows if self._pace is None else self._quickest_first(self._pace):
            if counting >= self.wanted:
                break
            if row.state > _ANSWERED or (row.contact.subnet and _crowded(row, near)):
                continue
            if row.state != _KNOWN:
                counting += 1
            elif row.doubtful:
                row.suspect = True
                if self._suspects < self._suspects_max and self._may_ask(now):
                    self._ask(row, _SLOW, chosen)
            else:
                counting += 1
                if self._in_slots < self.parallel and self._may_ask(now):
                    if row.source.ours or row.source.awaited < AWAITED_OF_ONE_SOURCE_MAX:
                        self._ask(row, _ASKED, chosen)
                    else:
                        passed_over.append(row)
        for row in passed_over:
            if row.state == _KNOWN and self._in_slots < self.parallel and self._may_ask(now):
                self._ask(row, _ASKED, chosen)
        return chosen

    def _quickest_first(self, pace: Callable[[Contact], int]) -> list[_Row]:
        """The candidates, with those first and by their pace that are near enough to be holders."""
        near, subnets = min(bisect_right(self._rows, self._reach, key=_DISTANCE), self.wanted), dict[bytes, int]()
        fit = [row for row in self._rows[:near] if row.state <= _ANSWERED and not _crowded(row, subnets)]
        following = next((row for row in fit if row.state == _KNOWN), None)
        if following is not None and pace(following.contact):  # else it comes first in any case
            fit.sort(key=lambda row: pace(row.contact))
        return fit + self._rows[near:]

    def _may_ask(self, now: float) -> bool:
        return self.requests < limits.LOOKUP_REQUESTS_MAX and now - self._started <= limits.LOOKUP_S_MAX

    def _ask(self, row: _Row, state: int, chosen: list[Contact]) -> None:
        self.requests += 1
        self._enter(row, state)
        chosen.append(row.contact)
        if row.contact.subnet is not None:
            ip = row.contact.ip
            self._asked_at[ip] = self._asked_at.get(ip, 0) + 1
            if self._is_spent(ip):
                for other in self._rows:
                    if other.state == _KNOWN and other.contact.ip == ip:
                        other.state = State.FAILED  # as good as

    def _is_spent(self, ip: str) -> bool:
        """Whether a public IP was asked as often as it may be."""
        return self._asked_at.get(ip, 0) >= limits.LOOKUP_REQUESTS_PER_IP_MAX

    def _enter(self, row: _Row, state: int) -> None:
        """Change a row's state; all counts of what is awaited are kept here."""
        self._count(row, row.state, -1)
        self._count(row, state, 1)
        row.state = state

    def _count(self, row: _Row, state: int, step: int) -> None:
        if state == _ASKED:
            self._in_slots += step
            row.source.awaited += step
        elif state == _SLOW and row.suspect:
            self._suspects += step
        elif state == _SLOW:
            self._slow += step

    def _awaited(self, contact: Contact) -> _Row | None:
        row = self._by_wire.get(contact.wire)
        return row if row is not None and row.state in (_ASKED, _SLOW) else None

    def on_reply(self, contact: Contact, contacts: Iterable[Contact], *, router: bool = False) -> None:
        """An answer, late or not. A router's contacts are used, but it is no result itself."""
        if (row := self._awaited(contact)) is not None:
            self._enter(row, State.ROUTER if router else State.ANSWERED)
            row.source.answered += 1
            nearest = self._rows[: self.wanted]
            self.add(contacts, contact.id)
            if row in nearest and self._rows[: self.wanted] == nearest:
                self.parallel = max(self.parallel, self._parallel_last)

    def on_slow(self, contact: Contact) -> None:
        """The usual time has passed; the answer may still come."""
        row = self._awaited(contact)
        if row is not None and row.state == _ASKED:
            self._enter(row, State.SLOW)
            row.source.silent += 1

    def on_failure(self, contact: Contact) -> None:
        """No answer will come, or it was unusable."""
        if (row := self._awaited(contact)) is not None:
            if row.state == _ASKED:
                row.source.silent += 1
            self._enter(row, State.FAILED)

    def patience_s(self, now: float) -> float:
        """For how long the slow ones are still waited for, however many they are."""
        return max(0.0, self._started + PATIENCE_S - now)

    def finished(self, now: float) -> bool:
        """Whether nothing more is worth waiting for. Ask after `next`."""
        if not self._in_slots and not self._slow and not self._suspects:
            return True
        answered = 0
        near: dict[bytes, int] = {}
        for row in self._rows:
            if row.state > _ANSWERED or (row.contact.subnet and _crowded(row, near)):
                continue
            if row.state == _ANSWERED:
                answered += 1
                if answered >= self.wanted:
                    return True
            elif row.state == _ASKED or (self._may_ask(now) and not row.doubtful):
                return False
        return answered > 0 and (answered >= self._slow or now - self._started >= PATIENCE_S)

    def result(self) -> list[Contact]:
        """Those that answered, closest first; of one network (a /24 or /64) only a few, local addresses exempt."""
        near: dict[bytes, int] = {}
        found = [row.contact for row in self._rows if row.state == _ANSWERED and not _crowded(row, near)]
        return list({contact.id: contact for contact in reversed(found)}.values())[::-1]

    def near(self) -> list[Contact]:
        """Those that answered and those that nobody needed to ask, closest first, with the bounds of `result`."""
        near: dict[bytes, int] = {}
        rows = (row for row in self._rows if row.state == _ANSWERED or (row.state < _ANSWERED and not row.doubtful))
        found = [row.contact for row in rows if not _crowded(row, near)]
        return list({contact.id: contact for contact in reversed(found)}.values())[::-1]

    @property
    def doubtful(self) -> bool:
        """Whether anybody has failed to answer in time: then the others may not have known all that is near."""
        return any(row.state == _SLOW or row.state == State.FAILED for row in self._rows)

    def slow(self) -> list[Contact]:
        """Those that were asked and may still answer, closest first."""
        return [row.contact for row in self._rows if row.state in (_ASKED, _SLOW)]


def is_holder(own_id: bytes, key: bytes, others: list[Contact]) -> bool:
    """Whether a node is among the HOLDERS closest to a key, given the closest others."""
    if len(others) < limits.HOLDERS:
        return True
    goal = int.from_bytes(key)
    return int.from_bytes(own_id) ^ goal < others[limits.HOLDERS - 1].long_id ^ goal
