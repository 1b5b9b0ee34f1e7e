"""An event loop in virtual time: an hour passes in the time that its work takes, and a run can be repeated exactly.

Theory of operation. Waiting moves the clock: when nothing is ready, the clock jumps to the next timer. Nothing comes
from outside (no sockets, no signals, no threads), so the order of everything that happens follows from the program.

Whatever one node starts belongs to its *life*: tasks and timers inherit it through their context. A life can be ended
between any two steps, as a machine that loses power: nothing of it runs again, not even its clean-up.

This relies on a few private names of asyncio's loop; all of that stands here.
"""

import asyncio
import contextvars
import heapq
import socket
import weakref
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, TypeVar, TypeVarTuple

TURNS_WITHOUT_TIME_MAX: Final = 200_000  # somebody waits busily: virtual time will never go on
TURN_S: Final = 1e-9  # each turn takes time, or who waits for less than a rounding error waits for ever
WAKE_LATE_S: Final = 1e-6  # a timer is never early, as on a real machine
Result = TypeVar("Result")
Args = TypeVarTuple("Args")
_OWNER: Final[contextvars.ContextVar["Life | None"]] = contextvars.ContextVar("owner", default=None)


class Crash(BaseException):
    """A machine ends in the middle of a step. Not an `Exception`: no border of the product may survive it."""


class StuckError(Exception):
    """Time does not go on: somebody is busy for ever, or all wait for each other."""


class Life:
    """What runs from one start of a machine to its end."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.context = contextvars.copy_context()
        self.context.run(_OWNER.set, self)
        self.tasks: weakref.WeakValueDictionary[int, asyncio.Task[Any]] = weakref.WeakValueDictionary()
        self.tasks_begun = 0

    def spawn(self, routine: Coroutine[Any, Any, Result]) -> "asyncio.Task[Result]":
        """Run something as a part of this life."""
        return asyncio.get_running_loop().create_task(routine, context=self.context)


def current_life() -> Life | None:
    """To whom the running step belongs; None for the world around the machines."""
    return _OWNER.get()


class VirtualLoop(asyncio.BaseEventLoop):
    """The loop. `time()` is virtual seconds since its beginning."""

    def __init__(self) -> None:
        super().__init__()
        self.on_step: Callable[[Life], None] | None = None
        self._now = 0.0
        self._turns = 0
        self._timers: list[tuple[float, int, Any]] = []
        self._timers_made = 0
        self._generators: dict[int, Life | None] = {}
        self._ready: deque[Any]
        self._stopping: bool
        self.set_debug(False)
        self.set_task_factory(_task)

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        """Run what is ready; when nothing is, let the time pass until the next timer."""
        ready, timers = self._ready, self._timers
        if ready:
            self._turns += 1
            self._now += TURN_S
            if self._turns > TURNS_WITHOUT_TIME_MAX:
                raise StuckError(f"busy for ever at {self._now} s")
        elif not self._stopping:
            self._turns = 0
            while timers and timers[0][2]._cancelled:
                heapq.heappop(timers)
            if not timers:
                raise StuckError("everyone waits for someone else")
            self._now = max(self._now, timers[0][0]) + WAKE_LATE_S
        while timers and timers[0][0] <= self._now:
            ready.append(heapq.heappop(timers)[2])
        for _ in range(len(ready)):
            handle = ready.popleft()
            if self.on_step is not None and (life := handle._context.get(_OWNER)) is not None:
                self.on_step(life)
                if not life.alive:
                    continue
            if not handle._cancelled:
                handle._run()

    def call_soon(self, callback: Callable[[*Args], object], *args: *Args, context: Any = None) -> asyncio.Handle:
        handle = events.Handle(callback, args, self, context)
        if _is_dead(handle):
            handle.cancel()
        else:
            self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_at(
        self, when: float, callback: Callable[[*Args], object], *args: *Args, context: Any = None
    ) -> asyncio.TimerHandle:
        timer = events.TimerHandle(when, callback, args, self, context)
        if _is_dead(timer):
            timer.cancel()
        else:
            self._timers_made += 1
            due = max(when, self._now + WAKE_LATE_S)  # a wait takes time, however short
            heapq.heappush(self._timers, (due, self._timers_made, timer))
        return timer

    def _timer_handle_cancelled(self, _handle: asyncio.TimerHandle) -> None:
        return  # it is dropped when its time comes

    def end(self, life: Life) -> None:
        """Nothing of this life runs again. What is running at this moment is expected to raise `Crash`."""
        life.alive = False
        tasks = list(life.tasks.values())  # held, as the last to refer to one may be the handle that would wake it
        for handle in [*self._ready, *(timer for _, _, timer in self._timers)]:
            if handle._context.get(_OWNER) is life:
                handle.cancel()  # now, so that what it refers to is not let go of later, in another's name
        for task in tasks:
            with suppress(
                RuntimeError, ValueError, Crash
            ):  # it is the one that runs, or its clean-up meets dead ground
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                life.context.copy().run(task.get_coro().close)

    def _asyncgen_firstiter_hook(self, agen: Any) -> None:
        self._generators[id(agen)] = _OWNER.get()
        super()._asyncgen_firstiter_hook(agen)  # type: ignore[misc]

    def _asyncgen_finalizer_hook(self, agen: Any) -> None:
        life = self._generators.pop(id(agen), None)
        if life is None or life.alive:  # else nothing of it runs again, however late it is collected
            super()._asyncgen_finalizer_hook(agen)  # type: ignore[misc]

    def run_in_executor(self, _executor: Any, work: Callable[[*Args], Result], *args: *Args) -> asyncio.Future[Result]:
        """There are no threads: what would be done by one is done here and now."""
        done: asyncio.Future[Result] = self.create_future()
        done.set_result(work(*args))
        return done

    async def getaddrinfo(self, host: Any, port: Any, **_options: Any) -> Any:
        """Literal addresses only: there are no names here."""
        return [(socket.AF_INET, socket.SOCK_DGRAM, 0, "", (host, int(port)))]


def _is_dead(handle: Any) -> bool:
    life = handle._context.get(_OWNER)
    return life is not None and not life.alive


def _task(loop: Any, coro: Any, **options: Any) -> Any:
    task = asyncio.Task(coro, loop=loop, **options)
    context = options.get("context")
    life = _OWNER.get() if context is None else context.get(_OWNER)
    if life is not None:
        life.tasks_begun += 1
        life.tasks[life.tasks_begun] = task
        if not life.alive:  # its clean-up meets dead ground: what it would begin is over before it has begun
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            coro.close()
    return task


def play(story: Coroutine[Any, Any, Result]) -> Result:
    """Run a story in virtual time, from second 0."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(story)
    finally:
        loop.close()
