"""Holders that lie about what they hold: a reading still ends, and still has what the honest ones gave."""

import asyncio
import hashlib
from collections.abc import Iterator
from itertools import count

import pytest

from dhtex import limits
from dhtex.market.holding import WHOLE, Page, Span
from dhtex.market.ids import DhtKey
from dhtex.overlay.addresses import Address
from dhtex.overlay.server import Overlay
from tests.unit.overlay.fakes import FakeHoldings, cluster, held, record
from tests.unit.overlay.sky import Sky, end, virtual


def key_of(number: int) -> DhtKey:
    return DhtKey(hashlib.sha1(b"key %d" % number, usedforsecurity=False).digest())


class Liar(FakeHoldings):
    """Repeats total and digest of an honest shelf, or invents its own, and gives junk."""

    def __init__(self, honest: FakeHoldings, total: int | None = None) -> None:
        super().__init__()
        self._honest = honest
        self._total = total
        self.pages: Iterator[int] = count()

    def page(self, key: DhtKey, kind: int, rank: int, room_bytes: int, now: float, span: Span = WHOLE) -> Page:
        truth = self._honest.page(key, kind, rank, room_bytes, now, span)
        if self._total is None:
            return Page(truth.total, truth.digest, [b"junk %d" % place for place in range(truth.total)])
        return Page(self._total, b"invented", [b"junk %d" % next(self.pages)])


async def test_a_holder_that_repeats_the_digest_of_others_hides_nothing() -> None:
    async with cluster(9) as nodes:
        for number in range(4):  # whoever is closest to the key is asked first
            key = key_of(number)
            nodes.sort(key=lambda node: int.from_bytes(node.node.id) ^ int.from_bytes(key))
            liar, *honest, reader = nodes
            for node in honest:
                held(node).rows[key] = [(None, record(key, b"%d" % row)) for row in range(5)]
            truth, shelf = held(honest[0]), liar.protocol.stock.serving._holdings
            liar.protocol.stock.serving._holdings = Liar(truth)
            (version,) = (await reader.get(key)).versions
            assert set(version.wires) == {wire for _, wire in truth.rows[key]}
            assert version.complete
            liar.protocol.stock.serving._holdings = shelf


def stall(liar: Overlay, honest: Overlay) -> None:
    """Let a node invent a list without end, and answer late."""
    liar.protocol.stock.serving._holdings = Liar(held(honest), limits.RECORDS_PER_INDEX_KEY_MAX)
    send, loop = liar.protocol.send, asyncio.get_running_loop()

    def send_late(data: bytes, address: Address) -> None:
        loop.call_later(0.04, send, data, address)

    liar.protocol.send = send_late  # type: ignore[method-assign]


@virtual
async def test_a_holder_that_stalls_ends_the_reading_late_but_not_never(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "READ_S_MAX", 0.5)
    reader, honest, liar = nodes = await Sky().network(3)
    key = key_of(1)
    held(honest).rows[key] = [(None, record(key))]
    stall(liar, honest)
    async with asyncio.timeout(5):
        read = await reader.get(key)
    lie = next(version for version in read.versions if version.digest == b"invented")
    assert not lie.complete
    assert any(record(key) in version.wires and version.complete for version in read.versions)
    await end(nodes)


@virtual
async def test_a_holder_that_stalls_costs_little_once_most_have_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "READ_GRACE_S", 0.2)
    reader, *honest, liar = nodes = await Sky().network(4)
    key = key_of(1)
    for node in (reader, *honest):
        held(node).rows[key] = [(None, record(key))]
    stall(liar, honest[0])
    async with asyncio.timeout(5):
        read = await reader.get(key)
    assert read.versions[0].wires == (record(key),)
    assert (read.versions[0].holders, read.versions[0].complete) == (3, True)
    assert not read.versions[-1].complete
    await end(nodes)
