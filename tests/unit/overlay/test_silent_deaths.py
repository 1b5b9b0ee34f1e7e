"""What a quarter of all nodes, killed silently a moment ago, costs those who put and get: next to nothing."""

import asyncio
import random
import statistics

import pytest

from dhtex import limits
from dhtex.market.ids import DhtKey
from dhtex.overlay.server import Overlay
from tests.unit.overlay.fakes import held, record, timed, until
from tests.unit.overlay.sky import PORT, Sky, end, virtual
from tests.unit.overlay.test_hints import kill
from tests.unit.overlay.test_overlay import key_of


def true_holders(nodes: list[Overlay], key: DhtKey) -> list[Overlay]:
    goal = int.from_bytes(key)
    return sorted(nodes, key=lambda node: int.from_bytes(node.protocol.own_id) ^ goal)[: limits.HOLDERS]


@virtual
async def test_puts_reach_all_live_holders_and_nobody_waits_for_the_dead() -> None:
    nodes = await Sky().network(64)
    keys = [key_of(number) for number in range(10)]
    for number, key in enumerate(keys):
        await nodes[number].put(key, record(key), None)
    living = [node for number, node in enumerate(nodes) if number % 4]
    for node in nodes[::4]:
        kill(node)
    puts, gets, misses, unplaced = [], [], [], 0
    for number, key in enumerate(keys):
        fresh = key_of(100 + number)
        puts.append(await timed(living[number].put(fresh, record(fresh), None)))
        unplaced += sum(fresh not in held(node).rows for node in true_holders(living, fresh))
        reader = next(node for node in living[11 * number % 40 :] + living if key not in held(node).rows)
        gets.append(await timed(reader.fetch(key, 0, record(key).__eq__)))
        misses.append(await timed(living[-number - 1].get(key_of(200 + number))))
    assert unplaced <= 1, "of 80 places"  # in a network that is five seconds old not everybody knows enough
    assert statistics.median(puts) < 0.5
    assert statistics.median(gets) < 0.05
    assert statistics.median(misses) < 0.5
    await end(nodes)


@virtual
async def test_a_put_that_met_silence_says_that_it_goes_on_and_ends_complete() -> None:
    nodes = await Sky().network(24)
    await asyncio.sleep(60)
    assert all(len(node.peers()) > 20 for node in nodes)
    for node in nodes[1::4]:
        kill(node)
    living = [node for number, node in enumerate(nodes) if number % 4 != 1]
    keys = [key_of(number) for number in range(8)]
    results = [await living[number].put(key, record(key), None) for number, key in enumerate(keys)]
    assert any(result.unfinished for result in results)
    assert all(result.holders + result.local >= limits.HOLDERS // 2 for result in results)
    places = [(key, node) for key in keys for node in true_holders(living, key)]
    await until(lambda: all(key in held(node).rows for key, node in places))
    settled = await living[0].put(keys[0], record(keys[0]), None)
    assert settled.holders + settled.local >= limits.HOLDERS
    await end(nodes)


async def minute_old(first: int) -> list[Overlay]:
    """64 nodes that have known each other for a minute; `first` numbers the chance of the first one."""
    sky = Sky()
    nodes = [await sky.node(first + number, ip=f"8.{number}.1.1") for number in range(64)]
    for number, node in enumerate(nodes[1:]):
        assert await node.connect((f"8.{number // 2}.1.1", PORT))
    await asyncio.sleep(60)
    return nodes


@pytest.mark.parametrize("seed", range(4))
@virtual
async def test_each_put_reaches_every_living_holder_within_a_second_or_so(seed: int) -> None:
    """Also where most of those near the key are dead, and all who answer name them; a round trip takes 40 ms."""
    nodes, chance = await minute_old(64 * seed), random.Random(seed)
    living = [node for number, node in enumerate(nodes) if number % 4]
    for node in nodes[::4]:
        kill(node)
    for node in living:
        key = key_among_the_dead(nodes[::4], living, chance)
        assert await timed(put_everywhere(node, key, true_holders(living, key))) < 1.5
    await end(nodes)


@pytest.mark.parametrize("seed", [2, 3])
@virtual
async def test_no_put_waits_for_the_dead_when_half_of_all_are(seed: int) -> None:
    nodes = await minute_old(64 * seed)
    for node in nodes[::2]:
        kill(node)
    for number, node in enumerate(nodes[1::2]):
        key = key_of(100 * seed + number)
        assert await timed(node.put(key, record(key), None)) < 1.7
    await end(nodes)


async def put_everywhere(node: Overlay, key: DhtKey, places: list[Overlay]) -> None:
    """Put a record, and wait until it is everywhere where it belongs."""
    await node.put(key, record(key), None)
    await until(lambda: all(key in held(place).rows for place in places))


def key_among_the_dead(dead: list[Overlay], living: list[Overlay], chance: random.Random) -> DhtKey:
    """A key near which at least half of the nodes are dead."""
    while True:
        key = DhtKey(chance.randbytes(20))
        near = true_holders([*dead, *living], key)
        if sum(node in dead for node in near) >= limits.HOLDERS // 2:
            return key
