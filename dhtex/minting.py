"""Mints stamps in worker processes, so that a node keeps answering while a second of one core is spent on an order.

Workers start when they are first needed, take one puzzle at a time, and end after some idle time, when their search is
cancelled, and with the node, however that ends. The four puzzles of a stamp are searched for in parallel.
"""

import asyncio
import os
import random
import subprocess
from collections.abc import Callable
from typing import Final

from dhtex import children, limits, mintworker
from dhtex.errors import DhtexError, NotRunningError
from dhtex.market.stamp import assemble, mint_steps

Progress = Callable[[float], None]
INLINE_BITS_MAX: Final = 6  # some hundred hashes: quicker done than handed over
_READ_BYTES: Final = 4096


class WorkerDiedError(Exception):
    """A worker ended without an answer; never leaves this file."""


class Mint:
    """Makes stamps. `entropy` says where searches start. Belongs to one event loop."""

    def __init__(self, entropy: random.Random) -> None:
        self._entropy = entropy
        self._slots = asyncio.Semaphore(min(limits.MINT_WORKERS_MAX, os.cpu_count() or 1))
        self._idle: list[_Worker] = []
        self._busy: set[_Worker] = set()
        self._retirement: asyncio.TimerHandle | None = None
        self._closed = False

    async def mint(self, record_id: bytes, bits: int, hour: int, progress: Progress | None = None) -> bytes:
        """A stamp of so many bits for a record. `progress` is told the estimated fraction done, never falling.

        Cancelling stops the search at once. Raises NotRunningError when the node stops meanwhile.
        """
        if self._closed:
            raise _stopped()
        start = self._entropy.getrandbits(64)
        if bits <= INLINE_BITS_MAX:
            return await _mint_here(record_id, bits, hour, start)
        fractions = [0.0] * limits.STAMP_PUZZLES

        def report(puzzle: int, fraction: float) -> None:
            fractions[puzzle] = fraction
            if progress is not None:
                progress(sum(fractions) / limits.STAMP_PUZZLES)

        tasks = [
            asyncio.create_task(self._solve(puzzle, mintworker.ask(puzzle, record_id, bits, hour, start), report))
            for puzzle in range(limits.STAMP_PUZZLES)
        ]
        try:
            return assemble(bits, hour, await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def close(self) -> None:
        """End all workers; what is being minted fails. Closing twice is no error."""
        self._closed = True
        if self._retirement is not None:
            self._retirement.cancel()
        for worker in [*self._idle, *self._busy]:
            worker.end()
        self._idle.clear()

    async def _solve(self, puzzle: int, question: bytes, report: Callable[[int, float], None]) -> int:
        async with self._slots:
            for _ in range(2):
                if self._closed:
                    raise _stopped()
                try:
                    nonce = await self._ask_worker(question, lambda fraction: report(puzzle, fraction))
                except WorkerDiedError:
                    continue
                report(puzzle, 1.0)
                return nonce
        if self._closed:
            raise _stopped()
        raise DhtexError("the process that mints stamps ended twice", hint="is the machine out of memory?")

    async def _ask_worker(self, question: bytes, report: Progress) -> int:
        worker = self._hire()
        self._busy.add(worker)
        try:
            nonce = await worker.solve(question, report)
        except BaseException:
            worker.end()
            raise
        else:
            self._idle.append(worker)
            return nonce
        finally:
            self._busy.discard(worker)
            self._retire_later()

    def _hire(self) -> "_Worker":
        while self._idle:
            worker = self._idle.pop()
            if worker.is_alive():
                return worker
            worker.end()
        return _Worker()

    def _retire_later(self) -> None:
        if self._retirement is not None:
            self._retirement.cancel()
        if not self._closed:
            self._retirement = asyncio.get_running_loop().call_later(limits.MINT_IDLE_S, self._retire)

    def _retire(self) -> None:
        for worker in self._idle:
            worker.end()
        self._idle.clear()


class _Worker:
    """One process and the question it works on."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._process = subprocess.Popen(
            children.command("dhtex.mintworker"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env=children.environment(),
            start_new_session=True,  # an interrupt from the terminal is for the node, which then ends its workers
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._questions, self._answers = self._process.stdin.fileno(), self._process.stdout.fileno()
        self._unread = b""
        self._outcome: asyncio.Future[int] | None = None

    def is_alive(self) -> bool:
        """Whether the process still runs; somebody else may have ended it."""
        return self._process.poll() is None

    async def solve(self, question: bytes, report: Progress) -> int:
        """The nonce that answers a question. Raises WorkerDiedError."""
        self._outcome = self._loop.create_future()
        self._loop.add_reader(self._answers, self._read, self._outcome, report)
        try:
            os.write(self._questions, question)
            return await self._outcome
        except BrokenPipeError:
            raise WorkerDiedError from None
        finally:
            self._loop.remove_reader(self._answers)
            self._outcome = None

    def _read(self, outcome: "asyncio.Future[int]", report: Progress) -> None:
        data = os.read(self._answers, _READ_BYTES)
        *lines, self._unread = (self._unread + data).split(b"\n")
        if outcome.done():
            return
        for line in lines:
            if line.startswith(b"="):
                outcome.set_result(int(line[1:]))
                return
            report(float(line))
        if not data:
            outcome.set_exception(WorkerDiedError())

    def end(self) -> None:
        """Kill the process and take leave of it."""
        if self._outcome is not None:
            self._loop.remove_reader(self._answers)
            if not self._outcome.done():
                self._outcome.set_exception(WorkerDiedError())
        self._process.kill()
        with self._process:  # closes the pipes and waits, which is short after a kill
            pass


async def _mint_here(record_id: bytes, bits: int, hour: int, start: int) -> bytes:
    steps = mint_steps(record_id, bits, hour, start)
    while True:
        try:
            next(steps)
        except StopIteration as found:
            stamp: bytes = found.value
            return stamp
        await asyncio.sleep(0)


def _stopped() -> NotRunningError:
    return NotRunningError("the node stopped before the stamp was made", hint="start it and try again")
