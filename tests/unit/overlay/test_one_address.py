"""Sixty-four honest nodes behind one public address meet no limit: they join at once, put, read, watch and are told."""

import asyncio

from dhtex import limits
from dhtex.market.ids import DhtKey
from dhtex.overlay.server import Overlay
from tests.unit.overlay.fakes import record
from tests.unit.overlay.sky import PORT, Sky, end, virtual
from tests.unit.overlay.test_overlay import key_of

NODES = 64
SHARED = "9.9.9.9"
WATCHED = key_of(500)


async def use(node: Overlay, number: int) -> None:
    """What a trader's node does in its first seconds."""
    assert await node.connect(("8.0.1.1", PORT))
    node.watch(WATCHED)
    assert (await node.put(key_of(number), record(key_of(number)), None)).holders >= limits.HOLDERS - 1


async def read(node: Overlay, key: DhtKey) -> None:
    result = await node.get(key)
    assert any(record(key) in version.wires for version in result.versions)


@virtual
async def test_sixty_four_nodes_at_one_address_meet_no_limit() -> None:
    sky = Sky()
    others = await sky.network(20)
    crowd = [await sky.node(100 + number, SHARED, PORT + number) for number in range(NODES)]
    heard: set[int] = set()
    for number, node in enumerate(crowd):
        node.on_record = lambda key, wire, number=number: heard.add(number)  # type: ignore[misc]
    await asyncio.gather(*(use(node, number) for number, node in enumerate(crowd)))
    await asyncio.gather(*(read(node, key_of((number + 7) % NODES)) for number, node in enumerate(crowd)))
    await asyncio.sleep(10)
    await others[3].put(WATCHED, record(WATCHED), None)
    await asyncio.sleep(2)
    assert heard == set(range(NODES))
    for node in (*others, *crowd):
        assert not [name for name in node.counters if name.startswith("dropped_rate")]
    await asyncio.sleep(400)  # and all of them may ask to be reached
    assert all(node.selfview.reachable is not False for node in crowd)
    await end([*others, *crowd])
