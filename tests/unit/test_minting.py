"""Stamps minted in worker processes: right, reported, cancellable, and leaving no process behind."""

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dhtex import limits, minting
from dhtex.errors import NotRunningError
from dhtex.market import stamp
from dhtex.minting import Mint

RECORD = bytes(range(32))
HOUR = 480_000
ENDLESS_BITS = limits.STAMP_BITS_MAX  # minutes of work


@pytest.fixture
def mint() -> Iterator[Mint]:
    found = Mint(random.Random(1))
    yield found
    found.close()


def workers(mint: Mint) -> list["subprocess.Popen[bytes]"]:
    return [worker._process for worker in [*mint._idle, *mint._busy]]


def is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


async def until(condition: object, deadline_s: float = 10.0) -> None:
    assert callable(condition)
    async with asyncio.timeout(deadline_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("bits", [0, 5, 9])
async def test_a_stamp_is_right(mint: Mint, bits: int) -> None:
    made = await mint.mint(RECORD, bits, HOUR)
    assert stamp.check(made, RECORD, bits, HOUR * 3600)
    assert stamp.bits_of(made) == bits


async def test_few_bits_need_no_process(mint: Mint) -> None:
    await mint.mint(RECORD, 0, HOUR)
    await mint.mint(RECORD, minting.INLINE_BITS_MAX, HOUR)
    assert workers(mint) == []


async def test_workers_are_bounded_and_used_again(mint: Mint) -> None:
    records = [bytes([number]) * 32 for number in range(5)]
    made = await asyncio.gather(*(mint.mint(record, 8, HOUR) for record in records))
    assert all(stamp.check(found, record, 8, HOUR * 3600) for found, record in zip(made, records, strict=True))
    first = {process.pid for process in workers(mint)}
    assert 1 <= len(first) <= limits.MINT_WORKERS_MAX
    await mint.mint(RECORD, 8, HOUR)
    assert {process.pid for process in workers(mint)} == first


async def test_progress_never_falls_and_ends_at_one(mint: Mint) -> None:
    seen: list[float] = []
    await mint.mint(RECORD, 13, HOUR, seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert len(seen) > limits.STAMP_PUZZLES


async def test_cancelling_kills_the_search_and_the_mint_stays_useful(mint: Mint) -> None:
    seen: list[float] = []
    task = asyncio.create_task(mint.mint(RECORD, ENDLESS_BITS, HOUR, seen.append))
    await until(lambda: seen)
    pids = [process.pid for process in workers(mint)]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not any(map(is_alive, pids))
    assert stamp.check(await mint.mint(RECORD, 8, HOUR), RECORD, 8, HOUR * 3600)


async def test_closing_fails_what_is_being_minted(mint: Mint) -> None:
    seen: list[float] = []
    task = asyncio.create_task(mint.mint(RECORD, ENDLESS_BITS, HOUR, seen.append))
    await until(lambda: seen)
    pids = [process.pid for process in workers(mint)]
    mint.close()
    with pytest.raises(NotRunningError):
        await task
    assert not any(map(is_alive, pids))
    with pytest.raises(NotRunningError):
        await mint.mint(RECORD, 0, HOUR)


async def test_a_killed_worker_is_replaced(mint: Mint) -> None:
    await mint.mint(RECORD, 8, HOUR)
    for process in workers(mint):
        process.kill()
        process.wait()
    assert stamp.check(await mint.mint(RECORD, 8, HOUR), RECORD, 8, HOUR * 3600)


async def test_idle_workers_end(mint: Mint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MINT_IDLE_S", 0.01)
    await mint.mint(RECORD, 8, HOUR)
    await until(lambda: not workers(mint))


NODE_THAT_DIES = """
import asyncio, random, sys
from dhtex.minting import Mint
mint = Mint(random.Random(1))
def tell(_):
    print(*(worker._process.pid for worker in mint._busy), flush=True)
asyncio.run(mint.mint(bytes(32), 24, 1, tell))
"""


def test_workers_die_with_a_killed_node() -> None:
    with subprocess.Popen([sys.executable, "-c", NODE_THAT_DIES], stdout=subprocess.PIPE, text=True) as node:
        assert node.stdout is not None
        pids = [int(word) for word in node.stdout.readline().split()]
        assert pids
        assert all(map(is_alive, pids))
        os.kill(node.pid, signal.SIGKILL)
    asyncio.run(until(lambda: not any(map(is_alive, pids))))
