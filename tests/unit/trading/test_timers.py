"""Steps that are due at a time of the wall clock: each once, whatever the two clocks do."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest

from dhtex.market.ids import RecordId
from dhtex.trading.effects import Effect
from dhtex.trading.timers import AGAIN_S, LOOK_S, Timers
from tests.builders import NOW
from tests.unit.trading.world import VirtualClock, VirtualLoop, play

ONE, OTHER = RecordId(b"one"), RecordId(b"other")


class Clock(VirtualClock):
    """`ahead_s`: how long the machine has slept, in which the loop's clock stood still."""

    ahead_s = 0.0

    def now(self) -> float:
        return super().now() + self.ahead_s


class Desk:
    """Timers, and which step ran when, in seconds after NOW."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.refuses = 0
        self.ran: list[tuple[str, float]] = []
        self.timers = Timers(self.clock, self._run)

    def _run(self, step: Callable[[], list[Effect]]) -> bool:
        self.refuses -= 1
        if self.refuses >= 0:
            return False
        step()
        return True

    def at(self, what: str, name: RecordId, after_s: float) -> None:
        self.timers.at(what, name, NOW + after_s, partial(self._step, what))

    def _step(self, what: str, now: float) -> list[Effect]:
        self.ran.append((what, round(now - NOW)))
        return []


def played(story: Callable[[Desk], Coroutine[Any, Any, None]]) -> list[tuple[str, float]]:
    async def told() -> Desk:
        desk = Desk()
        await story(desk)
        return desk

    return play(told()).ran


def test_what_fell_due_while_the_machine_slept_runs_soon_after() -> None:
    async def story(desk: Desk) -> None:
        desk.at("lapse", ONE, 3600)
        await asyncio.sleep(10)
        desk.clock.ahead_s = 7200
        await asyncio.sleep(LOOK_S)
        assert len(desk.timers) == 0

    ((what, at),) = played(story)
    assert what == "lapse"
    assert at <= 7200 + 10 + LOOK_S


def test_steps_run_once_in_the_order_of_their_times() -> None:
    async def story(desk: Desk) -> None:
        for what, name, after_s in (("c", ONE, 30), ("a", ONE, 10), ("b", OTHER, 20), ("d", ONE, 4000)):
            desk.at(what, name, after_s)
        desk.at("a", OTHER, 5)
        desk.at("a", ONE, 40)  # in its place
        desk.timers.cancel("b", OTHER)
        await asyncio.sleep(5000)

    assert played(story) == [("a", 5), ("c", 30), ("a", 40), ("d", 4000)]


def test_a_step_that_the_disk_refused_comes_again_and_the_others_in_time() -> None:
    async def story(desk: Desk) -> None:
        desk.refuses = 1
        desk.at("first", ONE, 10)
        desk.at("second", ONE, 11)
        await asyncio.sleep(200)

    assert played(story) == [("second", 11), ("first", 10 + AGAIN_S)]


def test_a_clock_that_was_set_back_lets_nothing_run_too_early() -> None:
    async def story(desk: Desk) -> None:
        desk.at("lapse", ONE, 100)
        await asyncio.sleep(90)
        desk.clock.ahead_s = -50
        await asyncio.sleep(100)

    assert played(story) == [("lapse", 100)]


def test_a_step_that_breaks_does_not_keep_the_others_from_running() -> None:
    loop, ran = VirtualLoop(), list[float]()
    broken = list[object]()
    loop.set_exception_handler(lambda _, context: broken.append(context["exception"]))

    async def story() -> None:
        desk = Desk()

        def breaks(now: float) -> list[Effect]:
            raise AssertionError

        desk.timers.at("breaks", ONE, NOW + 10, breaks)
        desk.at("lapse", ONE, 10)
        await asyncio.sleep(60)
        ran.extend(at for _, at in desk.ran)

    loop.run_until_complete(story())
    loop.close()
    assert ran == [10]
    assert len(broken) == 1


def test_many_steps_cost_an_idle_loop_one_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(desk: Desk) -> None:
        loop, calls = asyncio.get_running_loop(), list[float]()
        call_later = loop.call_later

        def counted(delay_s: float, *more: Any) -> asyncio.TimerHandle:
            calls.append(delay_s)
            return call_later(delay_s, *more)

        for number in range(1000):
            desk.at("expire", RecordId(b"%d" % number), 86_400)
        monkeypatch.setattr(loop, "call_later", counted)
        await asyncio.sleep(3600)
        assert len(calls) <= 3600 / LOOK_S + 2

    assert played(story) == []
