"""Watching: what is new is heard at once and once, holders are replaced, and what was missed is known to be missed."""

import asyncio
from collections import Counter

import pytest

from dhtex import limits
from dhtex.market.ids import DhtKey
from dhtex.overlay import leases, replicate, server, watching, wire
from dhtex.overlay.contact import Peer
from dhtex.overlay.server import Overlay
from tests.unit.overlay.fakes import address_of, asking, cluster, held, make_overlay, record, until
from tests.unit.overlay.sky import Sky, end, virtual
from tests.unit.overlay.test_overlay import key_of


class Ear:
    """Collects what a node is told."""

    def __init__(self, node: Overlay) -> None:
        self.records: list[tuple[DhtKey, bytes]] = []
        self.gaps: list[DhtKey] = []
        node.on_record = lambda key, wire: self.records.append((key, wire))
        node.on_gap = self.gaps.append


def leased(nodes: list[Overlay], key: DhtKey) -> list[Overlay]:
    now = nodes[0].protocol.monotonic()
    return [node for node in nodes if node._watching.leases.watching(key, now)]


async def test_what_is_new_is_heard_at_once_and_once() -> None:
    async with cluster(16) as nodes:
        key = key_of(1)
        ear = Ear(nodes[3])
        nodes[3].watch(key)
        nodes[3].watch(key)
        await until(lambda: len(leased(nodes, key)) == limits.WATCH_HOLDERS)
        await until(lambda: ear.gaps == [key])  # now it is worth a get: something may have come before the lease
        for number in range(20):
            wire_ = record(key, b"%d" % number)
            await nodes[number % 16].put(key, wire_, None)
            await nodes[(number + 1) % 16].put(key, wire_, None)
        await until(lambda: len(ear.records) >= 20)
        await asyncio.sleep(0.1)
        assert sorted(ear.records) == sorted((key, record(key, b"%d" % number)) for number in range(20))
        await until(lambda: ear.gaps == [key])


@virtual
async def test_a_push_comes_as_soon_as_the_put() -> None:
    nodes = await Sky().network(8)
    key = key_of(1)
    ear = Ear(nodes[0])
    nodes[0].watch(key)
    await until(lambda: len(leased(nodes, key)) == limits.WATCH_HOLDERS)
    await nodes[5].put(key, record(key), None)
    assert ear.records == [(key, record(key))]
    await end(nodes)


async def test_an_unwatched_key_is_heard_no_more_and_its_leases_end() -> None:
    async with cluster(6) as nodes:
        one, other = key_of(1), key_of(2)
        ear = Ear(nodes[0])
        nodes[0].watch(one)
        nodes[0].watch(other)
        await until(lambda: len(leased(nodes, one)) == len(leased(nodes, other)) == limits.WATCH_HOLDERS)
        nodes[0].unwatch(one)
        await until(lambda: not leased(nodes, one))
        await nodes[1].put(one, record(one), None)
        await nodes[1].put(other, record(other), None)
        await until(lambda: bool(ear.records))
        assert ear.records == [(other, record(other))]
        nodes[0].unwatch(other)
        await until(lambda: all(not len(node._watching.leases) for node in nodes))


async def test_many_keys_share_leases() -> None:
    async with cluster(4) as nodes:
        keys = [key_of(number) for number in range(150)]
        for key in keys:
            nodes[0].watch(key)
        await until(lambda: all(len(leased(nodes, key)) == 3 for key in keys))
        assert [len(node._watching.leases) for node in nodes[1:]] == [1, 1, 1]
        assert [node.counters["leased_keys"] for node in nodes[1:]] == [150] * 3
        await until(lambda: not nodes[0].protocol.requests)
        for holder in nodes[0]._watching._holders.values():
            holder.renew_at = 0.0
        with asking(nodes[0]) as asked:
            nodes[0]._watching.tick(nodes[0].protocol.monotonic())
            await until(lambda: not nodes[0].protocol.requests)
        assert [verb for verb, _ in asked].count(wire.WATCH) == 3  # one renewal each, whatever the number of keys


async def test_own_holdings_are_heard_too() -> None:
    async with cluster(1) as (node,):
        key = key_of(1)
        ear = Ear(node)
        node.watch(key)
        await node.put(key, record(key), None)
        await node.put(key, record(key), None)
        assert ear.records == [(key, record(key))]


async def test_a_watch_of_a_lone_node_starts_when_somebody_comes() -> None:
    async with cluster(1) as (node,):
        key = key_of(1)
        ear = Ear(node)
        node.watch(key)
        other = make_overlay(50)
        await other.listen(0, "127.0.0.1")
        try:
            assert await other.connect(address_of(node))
            await until(lambda: leased([other], key) == [other])
            await until(lambda: ear.gaps == [key])
        finally:
            await other.close()


async def test_a_silent_holder_is_replaced_and_the_key_pulled() -> None:
    async with cluster(12) as nodes:
        key = key_of(4)
        ear = Ear(nodes[0])
        nodes[0].watch(key)
        await until(lambda: len(leased(nodes, key)) == limits.WATCH_HOLDERS)
        gone = leased(nodes, key)[0]
        await gone.close()
        ear.gaps.clear()
        for holder in nodes[0]._watching._holders.values():
            holder.renew_at = 0.0
        living = [node for node in nodes if node is not gone]
        await until(lambda: len(leased(living, key)) == limits.WATCH_HOLDERS)
        await until(lambda: ear.gaps == [key])
        await nodes[7 if nodes[7] is not gone else 8].put(key, record(key), None)
        await until(lambda: bool(ear.records))


async def test_a_holder_that_lost_its_leases_gets_them_again() -> None:
    async with cluster(2) as (watcher, holder):
        keys = [key_of(number) for number in range(60)]
        ear = Ear(watcher)
        for key in keys:
            watcher.watch(key)
        await until(lambda: holder.counters["leased_keys"] == 60 and not watcher.protocol.requests)
        holder._watching.leases = leases.Leases()  # as after a restart
        ear.gaps.clear()
        for mine in watcher._watching._holders.values():
            mine.renew_at = 0.0
        await until(lambda: holder.counters["leased_keys"] == 60)
        await until(lambda: Counter(ear.gaps) == Counter(keys))


async def test_missed_pushes_are_noticed_at_the_renewal() -> None:
    async with cluster(2) as (watcher, holder):
        key = key_of(1)
        ear = Ear(watcher)
        watcher.watch(key)
        await until(lambda: bool(leased([holder], key)))
        await until(lambda: bool(ear.gaps))
        ear.gaps.clear()
        lease = holder._watching.leases.watching(key, 0.0)[0]
        sequence, _ = holder._watching.leases.next_push(lease)  # a push that nobody will ever get
        holder._watching.leases.settle(lease, sequence, arrived=False)
        for mine in watcher._watching._holders.values():
            mine.renew_at = 0.0
        await until(lambda: ear.gaps == [key])


async def test_a_push_that_nobody_asked_for_is_dropped() -> None:
    async with cluster(2) as (one, other):
        key = key_of(1)
        ear = Ear(one)
        args = wire.PushArgs(other.protocol.net, other.protocol.own_id, 1, key, record(key))
        other.protocol.ask(other.protocol.peers[address_of(one)], wire.PUSH, args, lambda request, answer: None)
        await until(lambda: one.counters.get("dropped_push", 0) > 0)
        assert ear.records == []


async def test_a_full_holder_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    async with cluster(8) as nodes:
        key = key_of(1)
        monkeypatch.setattr(watching, "LOOK_AGAIN_S_FEW", (0.0, 0.0))
        nearest = min(nodes[1:], key=lambda node: node.node.long_id ^ int.from_bytes(key))
        nearest._watching.leases.change = lambda *args: (None, 0.0)  # type: ignore[method-assign]
        nodes[0].watch(key)
        await until(lambda: len(leased(nodes, key)) == limits.WATCH_HOLDERS)
        assert nearest not in leased(nodes, key)


async def test_closing_says_goodbye() -> None:
    async with cluster(3) as nodes:
        nodes[0].watch(key_of(1))
        await until(lambda: len(leased(nodes, key_of(1))) == 2)
        await nodes[0].close()
        await until(lambda: not leased(nodes, key_of(1)))


async def test_a_newcomer_gets_what_it_should_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "TICK_S", 0.05)
    monkeypatch.setattr(replicate, "SETTLE_S", (0.1, 0.2))
    monkeypatch.setattr(replicate, "TURN_S", 0.1)
    async with cluster(3) as nodes:
        keys = [DhtKey(b"\x94\x01" + key_of(number)[2:]) for number in range(12)]  # begin as an order's record does
        for number, key in enumerate(keys):
            await nodes[0].put(key, record(key), "01" if number % 2 else None)
        newcomer = make_overlay(60)
        await newcomer.listen(0, "127.0.0.1")
        try:
            assert await newcomer.connect(address_of(nodes[0]))
            await until(lambda: len(held(newcomer).rows) == 12, 15.0)
            assert held(newcomer).rows[keys[0]] == [(None, record(keys[0]))]
            assert held(newcomer).rows[keys[1]] == [("01", record(keys[1]))]
        finally:
            await newcomer.close()


async def test_holders_hand_on_what_another_lacks_and_learn_what_is_newer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "TICK_S", 0.05)
    monkeypatch.setattr(limits, "REPLICATE_INTERVAL_S", 0.2)
    async with cluster(3) as nodes:
        key, old = DhtKey(b"\x94\x01" + key_of(1)[2:]), DhtKey(b"\x94\x02" + key_of(2)[2:])
        held(nodes[0]).rows[key] = [(None, record(key))]
        held(nodes[0]).rows[old] = [("0", record(old, b"@"))]
        await until(lambda: all(key in held(node).rows for node in nodes))
        await until(lambda: ("0", record(old, b"newer")) in held(nodes[0]).rows[old])
        ear = Ear(nodes[1])
        nodes[1].watch(key)
        held(nodes[2]).rows[key].append((None, record(key, b"unheard")))
        await until(lambda: ear.records == [(key, record(key, b"unheard"))])


def watcher(number: int) -> Peer:
    """One of many, each in a network of its own."""
    return Peer((f"10.{number // 250}.{number % 250}.1", 4000), None, 0.0)


def test_a_thousand_watchers_of_a_key_cost_three_pushes_each_and_there_is_room_for_them() -> None:
    holders = [leases.Leases() for _ in range(limits.HOLDERS)]
    key = key_of(1)

    def join(number: int) -> int:
        """As a watcher does: the nearest holders that have room."""
        granted = 0
        for holder in holders:
            peer = watcher(number)
            if granted < limits.WATCH_HOLDERS:
                granted += holder.change(peer, b"%d" % number, 120, [key], [], 0.0)[1] > 0
        return granted

    assert {join(number) for number in range(1000)} == {limits.WATCH_HOLDERS}
    pushes = [len(holder.watching(key, 1.0)) for holder in holders]
    assert (sum(pushes), max(pushes)) == (3000, 1000)
    later = [join(number) for number in range(1000, 3000)]
    assert later[: limits.WATCHERS_PER_KEY_MAX * limits.HOLDERS // limits.WATCH_HOLDERS - 1000].count(0) == 0
    assert max(len(holder.watching(key, 1.0)) for holder in holders) <= limits.WATCHERS_PER_KEY_MAX
