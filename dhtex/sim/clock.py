"""The clocks of a simulated machine: its wall clock may be wrong and may jump, its monotonic clock only goes on."""

from collections.abc import Callable
from typing import Final

EPOCH_S: Final = 1_900_000_000.0  # Unix time at which every history begins


class NodeClock:
    """A machine's clocks on the time of the virtual loop. `skew_s` may be changed at any moment."""

    def __init__(self, time: Callable[[], float], booted_s: float, skew_s: float = 0.0) -> None:
        self._time = time
        self._booted_s = booted_s
        self.skew_s = skew_s

    def now(self) -> float:
        return EPOCH_S + self._time() + self.skew_s

    def monotonic(self) -> float:
        return self._booted_s + self._time()
