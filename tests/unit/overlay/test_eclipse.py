"""One person's nodes all around an order's key: the order is still stored at honest nodes, and found."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dhtex import limits
from dhtex.clock import SystemClock
from dhtex.market.holding import NO_DIGEST, WHOLE, Page, PutVerdict, Span, Taken
from dhtex.market.ids import DhtKey, NodeId
from dhtex.overlay.crawl import Crawl
from dhtex.overlay.estimate import SAMPLES_MIN
from dhtex.overlay.server import Overlay
from tests.unit.overlay.fakes import FakeHoldings, address_of, cluster, held, record, until
from tests.unit.overlay.test_overlay import key_of

HONEST = 64
SYBILS = 50


class Thief(FakeHoldings):
    """Says that it keeps what it is given, and shows nothing."""

    def put(self, wire: bytes, prefix: str | None, now: float, source: str) -> PutVerdict:
        return PutVerdict(Taken.STORED, DhtKey(wire[:20]))

    def page(self, key: DhtKey, kind: int, rank: int, room_bytes: int, now: float, span: Span = WHOLE) -> Page:
        return Page(0, NO_DIGEST, [])


@asynccontextmanager
async def besieged(key: DhtKey, honest: list[Overlay]) -> AsyncIterator[list[Overlay]]:
    """Fifty nodes that share 20 bits with the key join the network, and wait until all honest ones know of them."""
    sybils = []
    try:
        for number in range(SYBILS):
            entropy = random.Random(1000 + number)
            node_id = NodeId(key[:2] + bytes([key[2] & 0xF0 | entropy.randrange(16)]) + entropy.randbytes(17))
            sybil = Overlay(node_id, "test", Thief(), SystemClock(), entropy)
            await sybil.listen(0, "127.0.0.1")
            sybils.append(sybil)
        for sybil in sybils:
            assert await sybil.connect(address_of(honest[0]))
        yield sybils
    finally:
        await asyncio.gather(*(sybil.close() for sybil in sybils))


async def narrow(node: Overlay, key: DhtKey) -> Crawl:
    found: asyncio.Future[Crawl] = asyncio.get_running_loop().create_future()
    node._searches.start(key, found.set_result, narrow=True)
    return await found


async def test_fifty_sybils_around_a_key_neither_hide_an_order_nor_take_it_away() -> None:
    async with cluster(HONEST) as nodes:
        key = key_of(1)
        maker, *readers = nodes[3::10]
        for node in (maker, *readers):
            node._upkeep.joined()
        async with besieged(key, nodes) as sybils:
            await until(
                lambda: min(len(node._searches.widening.size) for node in (maker, *readers)) > SAMPLES_MIN, 20.0
            )
            found = await narrow(maker, key)
            assert {contact.id for contact in found.closest()[:8]} <= {sybil.node.id for sybil in sybils}
            put = await maker.put(key, record(key), None)
            keepers = [node for node in nodes if key in held(node).rows]
            assert len(keepers) >= 4
            reader = next(node for node in readers if node not in keepers)
            assert put.holders >= 8 + 4  # the thieves say that they have it
            read = await reader.get(key)
            assert any(record(key) in version.wires for version in read.versions)
            assert await reader.fetch(key, 0, lambda wire: wire == record(key)) == record(key)
            near: list[bytes] = []
            reader._searches.locate(key, lambda _, contacts: near.extend(contact.id for contact in contacts[:3]))
            await until(lambda: bool(near))
            assert set(near) & {node.node.id for node in keepers}  # watchers hear of what happens from an honest one


async def test_sixty_four_honest_nodes_on_one_address_meet_no_limit() -> None:
    """Joining, then all of them put, get and watch at once: no token bucket runs dry."""
    async with cluster(HONEST) as nodes:
        keys = [key_of(number) for number in range(HONEST)]
        puts = await asyncio.gather(*(node.put(key, record(key), None) for node, key in zip(nodes, keys, strict=True)))
        assert min(put.holders + put.local for put in puts) == limits.HOLDERS
        for node, key in zip(nodes, keys[1:] + keys[:1], strict=True):
            node.watch(key)
        reads = await asyncio.gather(*(node.get(key) for node, key in zip(nodes, keys[1:] + keys[:1], strict=True)))
        assert all(any(version.wires for version in read.versions) for read in reads)
        await until(lambda: sum(node.counters["leased_keys"] for node in nodes) >= HONEST)
        dropped = {name for node in nodes for name in node.counters if name.startswith("dropped_rate")}
        assert dropped == set()
