"""What became of an accept, and what to do until that is known. Pure: records and time in, a verdict or a step out.

Push is a hint, pull closes the gaps: the accept is put again with growing pauses, sooner while few nodes hold it, and
the order's key is read now and then. After deadline and grace one last read decides that it is void. Even then the key
is read at long intervals for as long as its holders keep a Status, and once more at the end: a maker whose node went
down may have decided in time, and returns when it can. Who was away for all that time finds nothing and has learned
nothing: then the accept is void, and its code says that it may not be. A read tells of the moment at which it began:
one that the end of the grace overtakes decides nothing, and the next follows at once.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from dhtex import limits
from dhtex.market.merge import order_state
from dhtex.market.records import Accept, AnyRecord, Closing, Code, Order, Record, Refusal, Status, is_a
from dhtex.market.trade import MakerState, TakerEvent

DISPUTED: Final = "disputed"
UNHEARD: Final = "unheard"  # of a void accept whose answer, if there was one, nobody holds any more
PUT_PAUSE_S_MIN: Final = 1.0
PUT_PAUSE_S_MAX: Final = 300.0
ENOUGH_HOLDERS_PAUSE: Final = 4  # an accept that enough nodes hold is put again so much later
READ_PAUSE_S_MIN: Final = 1.0
READ_PAUSE_S_MAX: Final = 120.0
VOID_READ_PAUSE_S_MAX: Final = 3600.0
UNANSWERED_PAUSE_S: Final = 5.0

_CODES: Final = {Closing.FILLED: Code.TAKEN, Closing.CANCELED: Code.CANCELED, Closing.REPLACED: Code.REPLACED}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an accept came to. `answer` is the record that says so; `code` why not, or that it is in doubt."""

    event: TakerEvent
    code: str
    answer: Record[Status] | Record[Refusal]


def outcome(order: Record[Order], accept: Record[Accept], records: Iterable[AnyRecord], now: float) -> Outcome | None:
    """What the records of an order's key, their signatures checked, say about an accept; None while they say nothing.

    A certificate that names the accept confirms it, whatever else was signed later. When the maker contradicted itself
    nobody can tell who has the trade: it is refused as disputed.
    """
    heard = [record for record in records if record.body.author == order.body.maker]
    statuses = [record for record in heard if is_a(record, Status) and record.body.order_id == order.id]
    state = order_state(order, statuses, now)
    if state.state is MakerState.DISPUTED and state.status is not None:
        return Outcome(TakerEvent.REFUSE, DISPUTED, state.status)
    for status in statuses:
        if _certifies(status.body, accept):
            return Outcome(TakerEvent.CONFIRM, "", status)
    for record in heard:
        if is_a(record, Refusal) and record.body.accept_id == accept.id:
            return Outcome(TakerEvent.REFUSE, record.body.code, record)
    if state.status is not None:
        return Outcome(TakerEvent.REFUSE, _CODES[state.status.body.closing], state.status)
    return None


def _certifies(status: Status, accept: Record[Accept]) -> bool:
    body = accept.body
    named = (status.accept_id, status.taker, status.amount) == (accept.id, body.taker, body.amount)
    return named and status.at <= body.deadline


class Step(StrEnum):
    """What to do next about an accept."""

    PUT = "put"
    READ = "read"
    REST = "rest"
    END = "end"


class Plan:
    """When an accept is put and its order's key read. `until` is when nothing can come any more (Unix s)."""

    def __init__(self, deadline: float, until: float, now: float) -> None:
        self._deadline = deadline
        self._final = deadline + limits.ACCEPT_GRACE_S
        self._until = max(until, self._final)
        self._next_put = now
        self._next_read = now + READ_PAUSE_S_MIN
        self._hurried = False  # since the last read began
        self._puts = 0
        self._reads = 0
        self._settled = False  # whether the read that makes an accept void was answered

    def next(self, now: float) -> tuple[Step, float]:
        """The next step, and for REST how many seconds to rest."""
        if now <= self._deadline and now >= self._next_put:
            return Step.PUT, 0.0
        if now >= self._next_read:
            self._hurried = False
            return Step.READ, 0.0
        if self._settled and self._next_read > self._until:
            return Step.END, 0.0
        may_put = max(now, self._next_put) <= self._deadline  # one that was missed is not waited for
        due = min(self._next_put, self._next_read) if may_put else self._next_read
        return Step.REST, max(0.0, due - now)

    def put_done(self, holders: int, now: float) -> None:
        """Note how many other nodes hold the accept now."""
        first = PUT_PAUSE_S_MIN * (1 if holders < limits.HOLDERS // 2 else ENOUGH_HOLDERS_PAUSE)
        self._next_put = now + min(first * 2**self._puts, PUT_PAUSE_S_MAX)
        self._puts = min(self._puts + 1, 16)

    def read_done(self, answered: bool, begun: float, now: float) -> None:
        """Note that the order's key was read, from `begun` until now, or that nobody answered. A read that was to make
        the accept void counts as not answered when that could not be written."""
        over = self.lapsed(begun)
        self._settled = self._settled or (over and answered)
        longest = VOID_READ_PAUSE_S_MAX if over else READ_PAUSE_S_MAX
        pause = min(READ_PAUSE_S_MIN * 2**self._reads, longest)
        self._reads = min(self._reads + 1, 16)
        self._next_read = now + (pause if answered else min(pause, UNANSWERED_PAUSE_S))
        if not over:
            self._next_read = min(self._next_read, self._final)
        elif begun < self._until:
            self._next_read = min(self._next_read, self._until)  # however long the pauses: nothing is left unread
        if self._hurried:  # what was missed may have come after the holders had answered
            self._next_read = min(self._next_read, now)

    def hurry(self, now: float) -> None:
        """Read at the next occasion: something may have been missed."""
        self._hurried = True
        self._next_read = min(self._next_read, now)

    def lapsed(self, begun: float) -> bool:
        """Whether a read that began at this time and found nothing makes the accept void."""
        return begun >= self._final
