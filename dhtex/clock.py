"""Time and randomness, injected at the edges.

Everything pure takes `now` as an argument. What runs on its own is given a `Clock` and a `random.Random`: in production
the system's clock and `random.SystemRandom`, in simulation a virtual clock and one seeded generator. This is the only
file of the package that reads a clock or opens a source of entropy.
"""

import random
import time
from typing import Protocol


class Clock(Protocol):
    """Two clocks: `now` may jump (it is what people and signatures mean), `monotonic` never goes back."""

    def now(self) -> float:
        """Unix time, seconds."""
        ...

    def monotonic(self) -> float:
        """Seconds since some fixed moment; only differences mean anything."""
        ...


class SystemClock:
    """The machine's clocks, without a call between: they are read several times for each datagram."""

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)


def system_entropy() -> random.Random:
    """The operating system's cryptographic generator behind the `random.Random` interface."""
    return random.SystemRandom()
