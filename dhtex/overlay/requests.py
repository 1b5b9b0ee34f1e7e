"""Requests that await their answers: matching, repetition, and giving up.

Theory of operation. A datagram may get lost, so a request is sent up to REQUEST_TRIES times under one id; the first
answer from the asked address settles it, whichever copy caused it. The time between tries comes from the peer's round
trip times. When the usual time has passed once, `soft` is called: the asker may turn to somebody else, while the answer
is still welcome. After the last try `done` is called without an answer.

A timeout that fires late shows that *we* were busy: the answer may lie unread in the socket. Then the requests get a
little more time, and the peer gets no blame.

Deadlines live in a heap, with the ids of their requests. They stay there when the request is settled, which is gone at
once with all that its asker knows, and are swept out when they are many.
"""

import heapq
from collections.abc import Callable
from typing import Any, Final

from dhtex import limits
from dhtex.overlay.addresses import Address
from dhtex.overlay.contact import Peer
from dhtex.overlay.families import Families
from dhtex.overlay.rtt import Rtt
from dhtex.overlay.wire import Verb

BACKOFF: Final = 1.25  # three tries at a stranger take 1.9 s
LAG_S: Final = 0.02
GRACES_MAX: Final = 5
SOFT_S_MIN: Final = 0.1
_SETTLED_MAX: Final = 32

Done = Callable[["Request", Any], None]
Soft = Callable[["Request"], None]


def _nobody(_request: "Request") -> None:
    return


class Request:
    """One request. `context` is the asker's; `args` are what a repetition with a fresh token is made of; `tries` is how
    often it was sent; `datagram` is sent first, `again` then, if it is not empty."""

    __slots__ = (
        "again", "args", "context", "datagram", "deadline", "done", "graces", "id", "peer", "renewed", "sent_at",
        "soft", "soft_at", "timeout_s", "tries", "tries_max", "verb",
    )  # fmt: skip

    def __init__(
        self, peer: Peer, verb: Verb, args: Any, done: Done, soft: Soft = _nobody, context: Any = None
    ) -> None:
        self.peer = peer
        self.verb = verb
        self.args = args
        self.done = done
        self.soft = soft
        self.context = context
        self.id = b""
        self.datagram = b""
        self.again = b""
        self.tries = 0
        self.tries_max = limits.REQUEST_TRIES
        self.graces = 0
        self.renewed = False
        self.sent_at = 0.0
        self.timeout_s = 0.0
        self.deadline = 0.0
        self.soft_at = 0.0


class Requests:
    """All requests of one node that await answers. `send` must not raise."""

    def __init__(self, send: Callable[[bytes, Address], None]) -> None:
        self._send = send
        self._open: dict[bytes, Request] = {}
        self._heap: list[tuple[float, bytes]] = []
        self._refused: list[Request] = []
        self.families = Families()
        self._everybody = Rtt()  # what a round trip to a peer that we do not know yet may take

    def __len__(self) -> int:
        return len(self._open)

    def start(self, request: Request, now: float) -> None:
        """Send a request that has its id and datagram. Beyond REQUESTS_OUTSTANDING_MAX it fails at once, unsent: the
        next `expire` returns it."""
        if len(self._open) >= limits.REQUESTS_OUTSTANDING_MAX:
            request.soft_at = now
            self._refused.append(request)
            return
        self._open[request.id] = request
        rtt = request.peer.rtt
        request.timeout_s = rtt.timeout_s
        request.sent_at = now
        request.tries = 1
        request.deadline = request.soft_at = now + request.timeout_s
        if request.soft is not _nobody:
            usual_s = rtt.usual_s if rtt.smooth_s is not None else max(SOFT_S_MIN, self._everybody.usual_s)
            if usual_s < request.timeout_s:
                request.soft_at = now + usual_s
                heapq.heappush(self._heap, (request.soft_at, request.id))
        heapq.heappush(self._heap, (request.deadline, request.id))
        self._send(request.datagram, request.peer.address)

    def find(self, request_id: bytes) -> Request | None:
        """The open request with this id."""
        return self._open.get(request_id)

    def settle(self, request: Request, now: float) -> None:
        """Its answer came: learn the round trip time. The caller calls `done`."""
        del self._open[request.id]
        self.families.answered(request.peer.address)
        if request.tries == 1:
            rtt, rtt_s = request.peer.rtt, now - request.sent_at
            if rtt.smooth_s is None:
                self._everybody.sample(rtt_s)
            rtt.sample(rtt_s)

    def next_deadline(self) -> float | None:
        """When `expire` should be called next."""
        heap = self._heap
        while heap and heap[0][1] not in self._open:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def expire(self, now: float, late_s: float) -> list[Request]:
        """Repeat what is due and call `soft`; returns the requests that failed, whose `done` the caller calls.

        `late_s` says how much later than intended this is called.
        """
        heap = self._heap
        if len(heap) > 2 * len(self._open) + _SETTLED_MAX:  # one sweep is cheaper than to take each off the top
            heap[:] = [entry for entry in heap if entry[1] in self._open]
            heapq.heapify(heap)
        failed, self._refused = self._refused, []
        while heap and heap[0][0] <= now:
            request = self._open.get(heapq.heappop(heap)[1])
            if request is None or min(request.soft_at or request.deadline, request.deadline) > now:
                continue  # settled, or postponed by another entry
            if late_s > LAG_S and request.graces < GRACES_MAX:
                request.graces += 1
                request.soft_at = now + LAG_S if request.soft_at else 0.0
                request.deadline = max(request.deadline, now + LAG_S)
                heapq.heappush(heap, (now + LAG_S, request.id))
                if request.deadline > now + LAG_S:
                    heapq.heappush(heap, (request.deadline, request.id))
                continue
            if request.soft_at and request.soft_at <= now:
                request.soft_at = 0.0
                request.soft(request)
            if request.id not in self._open or request.deadline > now:
                continue
            request.peer.rtt.back_off(request.sent_at, now)
            if request.tries >= request.tries_max:
                del self._open[request.id]
                if request.tries > 1:  # one try proves little
                    self.families.silent(request.peer.address)
                failed.append(request)
                continue
            request.tries += 1
            request.timeout_s *= BACKOFF
            request.deadline = now + request.timeout_s
            heapq.heappush(heap, (request.deadline, request.id))
            self._send(request.again or request.datagram, request.peer.address)
        return failed

    def abandon(self) -> list[Request]:
        """Give up all; returns them, so that their askers can be told."""
        requests = [*self._open.values(), *self._refused]
        self._open.clear()
        self._heap.clear()
        self._refused.clear()
        return requests
