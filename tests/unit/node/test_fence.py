"""Whoever is back first after a power cut for all has few to ask: a restored maker waits for those it knew."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from dhtex.directory.reading import OrderReading
from dhtex.errors import NoPeerError
from dhtex.market.ids import RecordId, order_key
from dhtex.node.counter import Counter

ORDER = RecordId(bytes(32))


def counter(lead: int, silent: int) -> Counter:
    """One whose readings are answered by so many more than are silent, and that misses so many more holders."""

    async def read_order(order_id: RecordId) -> OrderReading:
        return OrderReading(answered=8, lead=lead)

    def silent_holders(key: bytes) -> int:
        assert key == order_key(ORDER)
        return silent

    directory = SimpleNamespace(read_order=read_order)
    overlay = SimpleNamespace(peers=lambda: [1], silent_holders=silent_holders)
    return Counter(cast(Any, directory), cast(Any, overlay), cast(Any, None), lambda: 0.0)


@pytest.mark.parametrize(("lead", "silent"), [(1, 0), (7, 6), (3, 2)])
async def test_most_have_answered_of_all_that_may_know(lead: int, silent: int) -> None:
    assert await counter(lead, silent).read_back(ORDER) == []


@pytest.mark.parametrize(("lead", "silent"), [(0, 0), (-2, 0), (1, 1), (1, 2), (7, 7)])
async def test_too_few_have_answered(lead: int, silent: int) -> None:
    with pytest.raises(NoPeerError):
        await counter(lead, silent).read_back(ORDER)
