"""Many signatures are checked on all cores without keeping the loop; what is forged is not remembered as good."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from dhtex.clock import SystemClock
from dhtex.directory import proving
from dhtex.directory.proving import APART_MIN, LOOP_SHARE, Gate, prove
from dhtex.market.admission import Verifier, signature_holds
from dhtex.market.records import AnyRecord, Order, is_a, parse_record
from dhtex.sim.loop import play
from tests.builders import NETWORK, make_order

MANY = [make_order(number=number) for number in range(1, 10 * APART_MIN)]


def forged(record: AnyRecord) -> AnyRecord:
    spoilt = parse_record(record.wire.replace(record.signature, bytes(64)), NETWORK)
    assert is_a(spoilt, Order)
    return spoilt


@contextmanager
def no_thread_to_spare(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    over, pool = threading.Event(), ThreadPoolExecutor(1)
    pool.submit(over.wait)
    monkeypatch.setattr(proving, "_POOL", pool)
    try:
        yield
    finally:
        over.set()


async def test_the_good_are_known_and_the_forged_are_not() -> None:
    verifier, bad = Verifier(), [forged(record) for record in MANY[:5]]
    assert await prove(verifier, [*MANY, *bad]) == {record.wire for record in bad}
    assert not any(map(verifier.is_unknown, MANY))
    assert not any(map(verifier.check, bad))


async def test_a_few_are_left_to_whoever_asks() -> None:
    verifier = Verifier()
    await prove(verifier, MANY[: APART_MIN - 1])
    assert len(verifier) == 0
    assert verifier.check(MANY[0])


async def test_threads_take_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[str] = set()

    def noting(record: AnyRecord) -> bool:
        seen.add(threading.current_thread().name)
        return signature_holds(record)

    monkeypatch.setattr(proving, "signature_holds", noting)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    await prove(Verifier(), MANY)
    assert len(seen) == 2


async def test_the_loop_does_all_of_it_when_no_thread_has_time(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting, verifier = asyncio.create_task(count()), Verifier()
    with no_thread_to_spare(monkeypatch):
        await prove(verifier, MANY)
    counting.cancel()
    assert len(verifier) == len(MANY)
    assert turns >= len(MANY) // LOOP_SHARE


async def test_who_is_cancelled_leaves_the_rest_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[AnyRecord] = []

    def cancelling(record: AnyRecord) -> bool:
        checked.append(record)
        proven.cancel()
        return True

    monkeypatch.setattr(proving, "signature_holds", cancelling)
    verifier = Verifier()
    proven = asyncio.create_task(prove(verifier, MANY))
    with no_thread_to_spare(monkeypatch):
        await asyncio.gather(proven, return_exceptions=True)
    assert proven.cancelled()
    assert len(checked) == len(verifier) <= LOOP_SHARE  # and what is done is done


async def test_nobody_is_made_to_check_signatures_of_what_is_refused_anyway() -> None:
    verifier, clock = Verifier(), SystemClock()
    await Gate(verifier, 0, clock).prove(MANY)  # made in the future of this clock
    assert len(verifier) == 0


def test_in_virtual_time_it_is_done_at_once() -> None:
    verifier = Verifier()
    play(prove(verifier, MANY))
    assert len(verifier) == len(MANY)
