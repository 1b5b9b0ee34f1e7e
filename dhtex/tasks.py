"""Background tasks with an owner: kept alive, as the event loop refers to them weakly; their errors are logged, as
nobody awaits them; and they end with whoever began them.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from typing import Any, Final, TypeVar

from dhtex.errors import DhtexError

log = logging.getLogger(__name__)
Thing = TypeVar("Thing")

BEGIN_AGAIN_S_MIN: Final = 1.0  # most errors of a disk are gone then
BEGIN_AGAIN_S_MAX: Final = 30.0  # two lines of the log a minute; a maker that is quiet for so long still counts as live


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


async def lasting(routine: Callable[[], Awaitable[None]]) -> None:
    """Run what is to last. When the disk or the machine refuses, that is logged, and after a pause, which grows while
    it keeps failing, it begins again."""
    loop, pause_s = asyncio.get_running_loop(), BEGIN_AGAIN_S_MIN
    while True:
        begun = loop.time()
        try:
            await routine()
        except (DhtexError, OSError) as error:
            if loop.time() - begun > BEGIN_AGAIN_S_MAX:
                pause_s = BEGIN_AGAIN_S_MIN
            log.error("what runs in the background stopped, and goes on in %g s: %s", pause_s, error)
        else:
            return
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, BEGIN_AGAIN_S_MAX)


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

    def keep_up(self, routine: Callable[[], Awaitable[None]]) -> None:
        """Begin a task that is `lasting`."""
        self.spawn(lasting(routine))

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
