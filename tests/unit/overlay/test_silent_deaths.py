"""What a quarter of all nodes, killed silently a moment ago, costs those who put and get: next to nothing."""

import asyncio
import statistics

from dhtex import limits
from dhtex.market.ids import DhtKey
from dhtex.overlay.server import Overlay
from tests.unit.overlay.fakes import held, record, timed, until
from tests.unit.overlay.sky import Sky, end, virtually
from tests.unit.overlay.test_hints import kill
from tests.unit.overlay.test_overlay import key_of


def true_holders(nodes: list[Overlay], key: DhtKey) -> list[Overlay]:
    goal = int.from_bytes(key)
    return sorted(nodes, key=lambda node: int.from_bytes(node.protocol.own_id) ^ goal)[: limits.HOLDERS]


def test_puts_reach_all_live_holders_and_nobody_waits_for_the_dead() -> None:
    async def story() -> None:
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

    virtually(story())


def test_a_put_that_met_silence_says_that_it_goes_on_and_ends_complete() -> None:
    async def story() -> None:
        nodes = await Sky().network(24)
        await asyncio.sleep(60)
        assert all(len(node.peers()) == 23 for node in nodes)
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

    virtually(story())
