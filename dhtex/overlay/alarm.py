"""One timer of the event loop for all deadlines of a node: it is set to the first of them."""

import asyncio
import math
from collections.abc import Callable


class Alarm:
    """Calls `ring` once with the deadline that has passed, in monotonic seconds. `at` is when; infinite: never."""

    def __init__(self, ring: Callable[[float], None]) -> None:
        self.at = math.inf
        self._ring = ring
        self._timer: asyncio.TimerHandle | None = None

    def set(self, deadline: float, now: float) -> None:
        """Ring at a deadline, unless it rings sooner."""
        if deadline < self.at:
            self.cancel()
            self.at = deadline
            self._timer = asyncio.get_running_loop().call_later(max(0.0, deadline - now), self._on_timer)

    def cancel(self) -> None:
        """Do not ring."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self.at = None, math.inf

    def _on_timer(self) -> None:
        deadline = self.at
        self._timer, self.at = None, math.inf
        self._ring(deadline)
