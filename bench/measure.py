"""Measuring and reporting: interleaved rounds, medians, Markdown tables.

Absolute times say more about the machine than about the program. So contestants take turns within one run, each round
in another order, and what is reported beside the medians is their ratio.
"""

import platform
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from os import cpu_count
from pathlib import Path

SCHEDSTAT = Path("/proc/thread-self/schedstat")


@dataclass(slots=True)
class Timing:
    """What one contestant took: seconds of wall time by operation, and CPU seconds of the process in all."""

    wall_s: list[float] = field(default_factory=list)
    cpu_s: float = 0.0

    @property
    def median_ms(self) -> float:
        return statistics.median(self.wall_s) * 1000

    @property
    def p90_ms(self) -> float:
        return percentile(self.wall_s, 0.9) * 1000

    @property
    def cpu_ms(self) -> float:
        """CPU milliseconds of one operation, all nodes of the process together."""
        return self.cpu_s / len(self.wall_s) * 1000


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of all values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def microseconds(times_s: list[float]) -> dict[str, float]:
    return {"p50": percentile(times_s, 0.5) * 1e6, "p99": percentile(times_s, 0.99) * 1e6, "max": max(times_s) * 1e6}


class Stay:
    """How long this thread is kept by what it does: working, or waiting for the disk, but not for a processor that
    another process has."""

    def __init__(self) -> None:
        self._started, self._waited = time.perf_counter(), self._waiting_s()

    def seconds(self) -> float:
        return max(0.0, time.perf_counter() - self._started - self._waiting_s() + self._waited)

    @staticmethod
    def _waiting_s() -> float:
        return int(SCHEDSTAT.read_text().split()[1]) / 1e9 if SCHEDSTAT.exists() else 0.0


async def interleave(
    contestants: Mapping[str, Callable[[int], Awaitable[object]]], rounds: int, operations: int
) -> dict[str, Timing]:
    """Let contestants take turns: each round everyone does so many operations, one after the other.

    A contestant is called with the number of the operation and returns what to await; only the latter is measured.
    """
    timings = {name: Timing() for name in contestants}
    names = list(contestants)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            timing = timings[name]
            for index in range(operations):
                operation = contestants[name](turn * operations + index)
                cpu, started = time.process_time(), time.perf_counter()
                await operation
                timing.wall_s.append(time.perf_counter() - started)
                timing.cpu_s += time.process_time() - cpu
    return timings


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; the first column is text, the others are numbers."""
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    lines += ["| " + " | ".join(map(_cell, row)) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
    return str(value)


def machine() -> str:
    """What the numbers were measured on, without naming the host."""
    return f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {cpu_count()} cores"
