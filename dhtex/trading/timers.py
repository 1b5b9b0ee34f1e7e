"""Steps of a desk that are due at a time of the wall clock."""

import asyncio
from collections.abc import Callable
from typing import Final

from dhtex.clock import Clock
from dhtex.market.ids import RecordId
from dhtex.trading.effects import Effect

AGAIN_S: Final = 60.0  # after which a step that the disk has refused is tried again

Step = Callable[[float], list[Effect]]


class Timers:
    """Timers by what they do and whom they concern. `run` carries a due step out, and says whether it could."""

    def __init__(self, clock: Clock, run: Callable[[Callable[[], list[Effect]]], bool]) -> None:
        self._clock = clock
        self._run = run
        self._handles: dict[tuple[str, RecordId], asyncio.TimerHandle] = {}

    def __contains__(self, name: tuple[str, RecordId]) -> bool:
        return name in self._handles

    def __len__(self) -> int:
        return len(self._handles)

    def at(self, what: str, name: RecordId, when: float, step: Step) -> None:
        """Run a step at a Unix time, once; another of the same name takes its place."""
        self.cancel(what, name)

        def due() -> None:
            if self._clock.now() < when:  # the wall clock was set back, or the loop's runs a little fast
                self.at(what, name, when, step)
                return
            self._handles.pop((what, name), None)
            if not self._run(lambda: step(self._clock.now())):
                self.at(what, name, self._clock.now() + AGAIN_S, step)

        loop = asyncio.get_running_loop()
        self._handles[what, name] = loop.call_later(max(0.001, when - self._clock.now()), due)

    def cancel(self, what: str, name: RecordId) -> None:
        """Forget a step; no error if there is none."""
        handle = self._handles.pop((what, name), None)
        if handle is not None:
            handle.cancel()

    def stop(self) -> None:
        """Forget all."""
        for handle in self._handles.values():
            handle.cancel()
        self._handles.clear()
