"""Steps of a desk that are due at a time of the wall clock.

Theory of operation. One timer of the event loop serves them all: it looks what is due, and is set again for the first
of the others, but never far ahead, because the loop's clock stands still while the machine sleeps.
"""

import asyncio
import math
from collections.abc import Callable
from typing import Final

from dhtex.clock import Clock
from dhtex.market.ids import RecordId
from dhtex.trading.effects import Effect

AGAIN_S: Final = 60.0  # after which a step that the disk has refused is tried again
LOOK_S: Final = 60.0  # after which what fell due while the machine slept is found, at the latest
STEPS_PER_TURN: Final = 32  # each may wait for the disk: everything else has its turn between
_LOOK_S_MIN: Final = 0.001

Step = Callable[[float], list[Effect]]


class Timers:
    """Timers by what they do and whom they concern. `run` carries a due step out, and says whether it could."""

    def __init__(self, clock: Clock, run: Callable[[Callable[[], list[Effect]]], bool]) -> None:
        self._clock = clock
        self._run = run
        self._steps: dict[tuple[str, RecordId], tuple[float, Step]] = {}
        self._handle: asyncio.TimerHandle | None = None
        self._next = math.inf  # the first of their times, Unix s, or an earlier one

    def __contains__(self, name: tuple[str, RecordId]) -> bool:
        return name in self._steps

    def __len__(self) -> int:
        return len(self._steps)

    def at(self, what: str, name: RecordId, when: float, step: Step) -> None:
        """Run a step at a Unix time, once; another of the same name takes its place."""
        self._steps[what, name] = when, step
        if when < self._next:
            self._set(when)

    def cancel(self, what: str, name: RecordId) -> None:
        """Forget a step; no error if there is none."""
        self._steps.pop((what, name), None)

    def stop(self) -> None:
        """Forget all."""
        self._steps.clear()
        self._set(math.inf)

    def _set(self, when: float) -> None:
        self._next = when
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if self._steps:
            wait_s = min(max(_LOOK_S_MIN, when - self._clock.now()), LOOK_S)
            self._handle = asyncio.get_running_loop().call_later(wait_s, self._look)

    def _look(self) -> None:
        now = self._clock.now()
        try:
            due = sorted((when, name) for name, (when, _) in self._steps.items() if when <= now)
            for when, name in due[:STEPS_PER_TURN]:
                if self._steps.get(name, (math.inf,))[0] == when:  # no other step has moved or cancelled it
                    self._run_step(name)
        finally:
            self._set(min((when for when, _ in self._steps.values()), default=math.inf))

    def _run_step(self, name: tuple[str, RecordId]) -> None:
        _, step = self._steps.pop(name)
        if not self._run(lambda: step(self._clock.now())):
            self._steps[name] = self._clock.now() + AGAIN_S, step
