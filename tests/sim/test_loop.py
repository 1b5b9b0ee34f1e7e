"""The loop in virtual time: hours pass at once, and a life that ends leaves nothing running."""

import asyncio
import contextlib
import gc
import warnings

import pytest

from dhtex.sim.loop import Crash, Life, StuckError, VirtualLoop, play


def test_hours_pass_in_no_time_and_in_order() -> None:
    heard: list[tuple[str, float]] = []

    async def sleeper(name: str, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        heard.append((name, asyncio.get_running_loop().time()))

    async def story() -> None:
        await asyncio.gather(sleeper("late", 7200.0), sleeper("early", 3600.0))

    play(story())
    assert [name for name, _ in heard] == ["early", "late"]
    assert heard[1][1] == pytest.approx(7200.0, abs=0.001)


def test_a_life_that_ends_runs_no_clean_up_that_could_be_seen() -> None:
    seen: list[str] = []

    async def works() -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(5.0, seen.append, "timer")
        try:
            while True:
                await asyncio.sleep(1.0)
                seen.append("step")
        finally:
            loop.call_soon(seen.append, "clean-up")

    async def story() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        life, other = Life("one"), Life("other")
        task, survivor = life.spawn(works()), other.spawn(works())
        await asyncio.sleep(1.5)
        loop.end(life)
        seen.append("ended")
        await asyncio.sleep(2.0)
        assert not task.done()
        survivor.cancel()

    play(story())
    assert seen == ["step", "step", "ended", "step", "step"]


def test_what_the_clean_up_of_an_ended_life_begins_never_runs_and_is_not_missed() -> None:
    seen: list[str] = []

    async def closes() -> None:
        seen.append("closed")

    async def works() -> None:
        try:
            await asyncio.sleep(60.0)
        finally:
            await asyncio.shield(asyncio.ensure_future(closes()))

    async def story() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        life = Life("one")
        task = life.spawn(works())
        await asyncio.sleep(1.5)
        loop.end(life)
        await asyncio.sleep(1.5)
        assert not task.done()

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        play(story())
        gc.collect()
    assert not warned
    assert not seen


def test_a_crash_in_the_middle_of_a_step_is_caught_by_no_border() -> None:
    caught: list[str] = []

    async def step(life: Life) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        try:
            loop.end(life)
            raise Crash
        except Exception:  # what the product's borders catch
            caught.append("survived")

    async def story() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        life = Life("one")
        task = life.spawn(step(life))
        await asyncio.sleep(1.0)
        assert task.done()
        assert isinstance(task.exception(), Crash)

    play(story())
    assert not caught


def test_waiting_for_nothing_is_told_and_not_waited_for() -> None:
    async def story() -> None:
        await asyncio.get_running_loop().create_future()

    loop = VirtualLoop()
    task = loop.create_task(story())
    with pytest.raises(StuckError, match="everyone waits"):
        loop.run_until_complete(task)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    loop.close()


def test_who_waits_for_less_than_a_rounding_error_does_not_wait_for_ever() -> None:
    async def story() -> float:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(1000.0)
        due = loop.time() + 1e-12
        while loop.time() < due:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(due - loop.time()):
                    await loop.create_future()
        return loop.time()

    assert play(story()) == pytest.approx(1000.0)
