"""Short, seeded runs of `bench.churn`: nodes come and go, or all start at once, and nothing is lost or revived."""

import asyncio
import random
from collections import Counter

import pytest

from bench.churn import book, churn, restart
from bench.machines import Member, World
from dhtex import limits
from dhtex.market.ids import DhtKey
from dhtex.sim.loop import play
from tests.sim.test_tree import set_node_size

DATAGRAMS_PER_NODE_HOUR_MAX = 20_000  # 5.6 a second, while a network of this size changes completely in 12 minutes
PEAK_PER_NODE_S_MAX = 400


def test_nodes_that_come_and_go_lose_no_order_and_revive_none() -> None:
    report = play(churn(seed=3, size=20, orders=16, hours=0.34))
    assert report.replaced > 20
    assert report.reads >= 4 * 16
    assert (report.lost, report.revived) == ([], [])
    assert report.holders_least >= limits.HOLDERS // 2
    assert report.datagrams_per_node_hour < DATAGRAMS_PER_NODE_HOUR_MAX


def test_a_network_that_starts_at_once_lists_everything_again_without_a_storm() -> None:
    report = play(restart(seed=3, size=16, orders=160))
    assert report.listed_after_s < 30
    assert report.peak_per_node_s < PEAK_PER_NODE_S_MAX
    assert report.pings_starved == 0


def test_a_divided_book_outlives_its_holders(monkeypatch: pytest.MonkeyPatch) -> None:
    set_node_size(monkeypatch, 32)
    report = play(book(seed=4, size=16, orders=120, hours=0.34))
    assert report.replaced >= 10
    assert report.tree_nodes >= 4
    assert not report.lost


def test_spares_take_the_places_of_peers_that_died_silently(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BUCKET_SIZE", 2)  # of a sixteenth of all ids

    async def story() -> None:
        world, loop = World(4, random.Random(4)), asyncio.get_running_loop()
        try:
            for _ in range(52):
                await world.newcomer()
            await asyncio.sleep(60.0)
            sides = sorted(world.members, key=lambda one: one.node_id[0] & 128)
            member = sides[0] if sides[len(sides) // 2].node_id[0] & 128 else sides[-1]  # most others are far from it
            for _ in range(30):  # it meets others than those in its table
                await member.do(member.overlay.get(DhtKey(world.chance.randbytes(20))))
            before = far_peers(member)
            assert len(before) < sum(is_far(member, one.node_id) for one in world.members) - 6  # the others are spares
            victims = {bytes(one.node_id): one for one in world.members if one.node_id in before[:6]}
            for victim in victims.values():
                world.kill(victim)
            died_at = loop.time()
            while victims.keys() & far_peers(member):
                assert loop.time() - died_at < 2 * limits.PING_IDLE_S
                await asyncio.sleep(1.0)
            there = Counter(one.node_id[0] >> 4 for one in world.members if is_far(member, one.node_id))
            places = sum(min(limits.BUCKET_SIZE, count) for count in there.values())
            assert len(far_peers(member)) >= places - 1
            assert {bytes(one.node_id) for one in world.members}.issuperset(far_peers(member))
        finally:
            world.close()

    play(story())


def far_peers(member: Member) -> list[bytes]:
    """Whom a node knows in the other half of all ids."""
    ids = [bytes(info.id) for info in member.overlay.peers()]
    return [one for one in ids if is_far(member, one)]


def is_far(member: Member, node_id: bytes) -> bool:
    """Whether an id is in the other half."""
    return bool((node_id[0] ^ member.node_id[0]) & 128)
