"""What has ended is gone at once: nothing is left to the garbage collector, whose pauses all others would wait for."""

import gc
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import pytest

from dhtex.overlay.server import Overlay
from tests.unit.overlay.fakes import record
from tests.unit.overlay.sky import Sky, end, virtual
from tests.unit.overlay.test_overlay import key_of

KEYS = [key_of(number) for number in range(1, 9)]
ENDED = ("Crawl", "Fetch", "Lookup", "Putting", "Reading", "Request", "_Pull", "_Search")


async def fetch(node: Overlay, number: int) -> None:
    assert await node.fetch(KEYS[number], 0, record(KEYS[number]).__eq__) is not None


async def get(node: Overlay, number: int) -> None:
    assert (await node.get(KEYS[number])).versions


async def put(node: Overlay, number: int) -> None:
    assert (await node.put(KEYS[number], record(KEYS[number], b"another"), None)).holders


async def search(node: Overlay, number: int) -> None:
    assert (await node._searches.run(KEYS[number], quick=number % 2 == 0)).closest()


@contextmanager
def uncollected() -> Iterator[Callable[[], list[str]]]:
    """Nothing is collected within this; yields what would have to be, by name, of what should be gone by itself."""
    gc.collect()
    gc.disable()

    def left() -> list[str]:
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        gc.set_debug(0)
        names = [type(each).__name__ for each in gc.garbage]
        gc.garbage.clear()
        return sorted(name for name in names if name in ENDED)

    try:
        yield left
    finally:
        gc.enable()


@pytest.mark.parametrize("act", [fetch, get, put, search])
@virtual
async def test_an_operation_leaves_nothing_to_the_collector(act: Callable[[Overlay, int], Awaitable[None]]) -> None:
    nodes = await Sky().network(20)
    for key in KEYS:
        await nodes[0].put(key, record(key), None)
    with uncollected() as left:
        for number in range(len(KEYS)):
            await act(nodes[-1 - number], number)
        assert left() == []
    await end(nodes)
