"""Background tasks with an owner: kept alive, as the event loop refers to them weakly; their errors are logged, as
nobody awaits them; and they end with whoever began them.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar

log = logging.getLogger(__name__)
Thing = TypeVar("Thing")


async def by_turns(things: Iterable[Thing], per_turn: int) -> AsyncIterator[Thing]:
    """Many things, one by one; after every few of them everything else in the event loop has its turn."""
    for number, thing in enumerate(things, 1):
        yield thing
        if number % per_turn == 0:
            await asyncio.sleep(0)


async def woken(wake: asyncio.Event, timeout_s: float | None) -> bool:
    """Wait until woken, or for some seconds (None: for ever); whether it was woken."""
    try:
        async with asyncio.timeout(timeout_s):  # not wait_for: Python 3.11's loses a cancel that meets the event
            await wake.wait()
    except TimeoutError:
        return False
    wake.clear()
    return True


class Tasks:
    """The tasks of one owner, in the order in which they began."""

    def __init__(self) -> None:
        self._running: dict[asyncio.Task[None], None] = {}

    def __len__(self) -> int:
        return len(self._running)

    def spawn(self, routine: Coroutine[Any, Any, None]) -> None:
        """Begin a task and let it go."""
        task = asyncio.get_running_loop().create_task(routine)
        self._running[task] = None
        task.add_done_callback(self._ended)

    async def end(self) -> None:
        """Cancel all of them, and wait until they are gone. Ending twice is no error."""
        tasks = list(self._running)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a background task failed", exc_info=error)


class Again:
    """Does something when it is asked to, one at a time: calls that come meanwhile make one more of it together, after
    a pause. So what a storm of news sets off costs as much as a little of it."""

    def __init__(self, pause_s: float) -> None:
        self._pause_s = pause_s
        self._running = False
        self._wanted = False

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do it, unless that is under way."""
        self._wanted = True
        if self._running:
            return
        self._running = True
        try:
            while self._wanted:
                self._wanted = False
                await work()
                if self._wanted:
                    await asyncio.sleep(self._pause_s)
        finally:
            self._running = False
