"""Checks the signatures of many records at once, on all cores, while the loop goes on.

A signature is what a record costs its reader: half of the time of a listing. libsodium lets go of the interpreter's
lock meanwhile, so threads help. They and the loop take records from one list, a few at a time: where the machine or the
interpreter has no time for the threads, the loop does all of it, and is never away for longer than a few signatures.
"""

import asyncio
import os
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Set
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from dhtex.clock import Clock
from dhtex.market.admission import Verifier, admit, signature_holds
from dhtex.market.records import AnyRecord, Code

THREADS_MAX: Final = 3
_POOL: Final = ThreadPoolExecutor(THREADS_MAX, "dhtex-proof")  # the loop's own looks up names, which must not wait
APART_MIN: Final = 16  # of fewer records than this, waking a thread costs more than it saves
LOOP_SHARE: Final = 8  # signatures: half a millisecond

Prove = Callable[[Iterable[AnyRecord]], Awaitable[Set[bytes]]]
"""Find out about signatures before they are asked for one by one; the bytes of records whose signature is bad."""


class Gate:
    """What is wrong with records by a node's clock, in a network that asks for so many bits of work."""

    def __init__(self, verifier: Verifier, network_bits: int, clock: Clock) -> None:
        self._verifier = verifier
        self._network_bits = network_bits
        self._clock = clock

    def check(self, record: AnyRecord) -> Code | None:
        """As `admit`."""
        return admit(record, self._clock.now(), self._network_bits, self._verifier.check)

    async def prove(self, records: Iterable[AnyRecord]) -> Set[bytes]:
        """Find out about the signatures that `check` would want to know of these records; the bytes of the forged."""
        now, bits, unknown = self._clock.now(), self._network_bits, self._verifier.is_unknown
        return await prove(self._verifier, [record for record in records if admit(record, now, bits, unknown) is None])


async def prove(verifier: Verifier, records: Iterable[AnyRecord]) -> Set[bytes]:
    """Have `verifier` know those of these records that are signed well; the bytes of the others. Of a few, it is left
    to find out."""
    left = deque(records)
    if len(left) < APART_MIN:
        return frozenset()
    good: list[AnyRecord] = []
    bad: set[bytes] = set()
    begun: set[int] = set()

    def work(most: int) -> None:
        while most > 0:
            try:
                record = left.popleft()
            except IndexError:
                return
            most -= 1
            if signature_holds(record):
                good.append(record)
            else:
                bad.add(record.wire)

    def help_out(number: int) -> None:
        begun.add(number)
        work(len(left))

    loop = asyncio.get_running_loop()
    threads = min(THREADS_MAX, (os.cpu_count() or 1) - 1)
    helpers = [loop.run_in_executor(_POOL, help_out, number) for number in range(threads)]
    try:
        while left:
            work(LOOP_SHARE)
            await asyncio.sleep(0)
        await asyncio.gather(*(helpers[number] for number in tuple(begun)))  # who begins later finds nothing to do
    finally:
        left.clear()  # cancelled: nobody waits for the rest
        for record in good:
            verifier.remember(record)
    return bad
