"""Work that many ask for at once is done one at a time."""

import asyncio

import pytest

from dhtex.tasks import Again


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
