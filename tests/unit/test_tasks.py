"""Work that many ask for at once is done one at a time, and work that is to last begins again when it fails."""

import asyncio
import logging

import pytest

from dhtex.errors import StateError
from dhtex.tasks import BEGIN_AGAIN_S_MAX, Again, Tasks, lasting
from tests.unit.trading.world import play


async def test_a_storm_of_calls_is_one_run_and_one_more() -> None:
    started, go_on = 0, asyncio.Event()

    async def work() -> None:
        nonlocal started
        started += 1
        await go_on.wait()

    again = Again(pause_s=0.0)
    first = asyncio.create_task(again.run(work))
    await asyncio.sleep(0)
    for _ in range(50):
        await again.run(work)
    assert started == 1
    go_on.set()
    await first
    assert started == 2
    await again.run(work)
    assert started == 3


async def test_what_fails_can_be_asked_for_again() -> None:
    async def fail() -> None:
        raise ValueError

    done = []

    async def work() -> None:
        done.append(1)

    again = Again(pause_s=0.0)
    with pytest.raises(ValueError, match=r"^$"):
        await again.run(fail)
    await again.run(work)
    assert done == [1]


@pytest.mark.parametrize("error", [StateError("the state file cannot be read"), OSError("no memory")])
def test_what_is_to_last_goes_on_when_an_error_has_passed(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> list[float]:
        loop, begun = asyncio.get_running_loop(), list[float]()

        async def routine() -> None:
            begun.append(loop.time())
            if loop.time() < 3600:
                raise error
            await asyncio.Event().wait()

        tasks = Tasks()
        tasks.keep_up(routine)
        await asyncio.sleep(7200)
        assert len(tasks) == 1
        await tasks.end()
        return begun

    begun = play(story())
    assert 3600 <= begun[-1] <= 3600 + BEGIN_AGAIN_S_MAX
    assert begun[1] < 2
    logged = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(logged) == len(begun) - 1 <= 3600 / BEGIN_AGAIN_S_MAX + 5  # it neither spins nor floods the log


def test_after_a_long_time_of_rest_the_first_pause_is_short_again() -> None:
    async def story() -> list[float]:
        loop, begun = asyncio.get_running_loop(), list[float]()

        async def routine() -> None:
            begun.append(loop.time())
            await asyncio.sleep(0 if len(begun) < 9 else 3600)
            raise StateError("the state file cannot be read")

        tasks = Tasks()
        tasks.keep_up(routine)
        await asyncio.sleep(3600 + 300)
        await tasks.end()
        return begun

    *_, before, last = play(story())
    assert last - before == pytest.approx(3601)


async def test_what_comes_to_its_end_is_not_begun_again() -> None:
    done = []

    async def routine() -> None:
        done.append(1)

    await lasting(routine)
    assert done == [1]
