"""A machine that slept, or woke up at another address, meets the network again without being told."""

import asyncio
import random

from dhtex import limits
from dhtex.clock import SystemClock
from dhtex.errors import StateError
from dhtex.market.ids import DhtKey, NodeId
from dhtex.overlay.server import Overlay
from dhtex.overlay.trailer import View
from dhtex.sim.clock import NodeClock
from tests.unit.overlay.fakes import FakeHoldings, address_of, cluster, until
from tests.unit.overlay.sky import PORT, Sky, end, virtual
from tests.unit.overlay.test_overlay import key_of


class SleepyClock(SystemClock):
    """A wall clock that goes on while the monotonic one sleeps."""

    slept_s = 0.0

    def now(self) -> float:
        return super().now() + self.slept_s


def sleeper(clock: SleepyClock) -> Overlay:
    entropy = random.Random(77)
    return Overlay(NodeId(entropy.randbytes(20)), "test", FakeHoldings(), clock, entropy)


async def test_after_a_sleep_peers_are_asked_leases_renewed_and_watched_keys_read() -> None:
    async with cluster(3) as nodes:
        clock = SleepyClock()
        node = sleeper(clock)
        gaps: list[DhtKey] = []
        resumed: list[bool] = []
        node.on_resumed = lambda: resumed.append(True)
        await node.listen(0, "127.0.0.1")
        try:
            assert await node.connect(address_of(nodes[0]))
            node.watch(key_of(1))
            await until(lambda: len(node._watching._holders) == 3 and len(node.peers()) == 3)
            node.on_gap = gaps.append
            for other in nodes:
                other._watching.leases.expire(other.protocol.monotonic() + 2 * limits.LEASE_S)  # they have forgotten us
            before = node.protocol.monotonic()
            clock.slept_s = limits.RESUMED_S + 5
            await until(lambda: resumed == [True])
            assert key_of(1) in gaps
            await until(lambda: all(peer.last_seen > before for peer in node.peers()))
            await until(lambda: all(len(other._watching.leases) == 1 for other in nodes))
            assert node.counters["resumed"] == 1
        finally:
            await node.close()


async def test_another_public_address_counts_as_a_sleep_and_another_port_does_not() -> None:
    async with cluster(2) as (node, _):
        now = node.protocol.monotonic()

        def vote(voter: int, ip: str, port: int, later_s: float = 0.0) -> None:
            view = View(False, int(SystemClock().now()), (ip, port))
            node.selfview.heard(("10.0.0.1", voter), view, now + later_s)

        for voter in range(1, 6):
            vote(voter, "9.9.9.9", 1)
        count = node.counters.get("resumed", 0)
        for voter in range(1, 6):
            vote(voter, "9.9.9.9", 2)
        assert node.counters.get("resumed", 0) == count
        vote(6, "8.8.8.8", 1)  # one alone may lie
        assert node.counters.get("resumed", 0) == count
        for voter in range(1, 6):
            vote(voter, "8.8.8.8", 1, limits.MOVED_PAUSE_S + 1)
        assert node.counters["resumed"] == count + 1


@virtual
async def test_a_node_that_fails_once_goes_on_with_its_chores() -> None:
    air = Sky()
    node, other = await air.network(2)
    refusals = [OSError("too many open files"), StateError("the state file cannot be read")]

    def refuse() -> None:
        if refusals:
            raise refusals.pop()

    node.on_resumed = refuse
    clock = node._clock
    assert isinstance(clock, NodeClock)
    for _ in range(2):
        clock.skew_s += 2 * limits.RESUMED_S
        await asyncio.sleep(60)
    assert not refusals
    await other.close()
    await asyncio.sleep(10 * 60)
    assert node.peers() == []  # it has asked, and nobody was there
    await node.close()


@virtual
async def test_peers_of_an_earlier_life_count_as_silent_holders_until_they_are_back_or_it_is_long_over() -> None:
    air = Sky()
    nodes = await air.network(4)
    reader = await air.node(99)
    known = [(node.protocol.own_id, (f"8.{number}.1.1", PORT)) for number, node in enumerate(nodes)]
    nobody = [(NodeId(bytes((number,)) * 20), (f"9.{number}.1.1", PORT)) for number in range(1, 4)]
    reader.load_peers([*known, *nobody])
    await asyncio.sleep(5.0)
    assert len(reader.peers()) == len(nodes)
    assert reader.silent_holders(key_of(1)) == len(nobody)
    await asyncio.sleep(limits.SILENT_HOLDER_S)
    assert reader.silent_holders(key_of(1)) == 0
    await end([*nodes, reader])
