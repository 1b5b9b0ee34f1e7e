"""Whole nodes: joining, putting, getting, losing peers, and closing without a trace."""

import asyncio
import random

import pytest

from dhtex import limits
from dhtex.errors import PortInUseError, UsageError
from dhtex.market.ids import DhtKey, NodeId
from dhtex.overlay import server, upkeep
from dhtex.overlay.addresses import Address
from dhtex.overlay.server import Overlay
from dhtex.overlay.transport import Endpoint, Receiver, open_endpoint
from tests.unit.overlay.fakes import address_of, asking, cluster, gets, held, make_overlay, record, timed, until
from tests.unit.overlay.sky import PORT, Sky, end, virtual


def key_of(number: int) -> DhtKey:
    return DhtKey(random.Random(f"key {number}").randbytes(20))


async def test_a_lone_node_keeps_what_it_puts() -> None:
    async with cluster(1) as (node,):
        key = key_of(1)
        result = await node.put(key, record(key), None)
        assert (result.asked, result.holders, result.local) == (0, 0, True)
        read = await node.get(key)
        assert (read.asked, read.answered) == (1, 1)
        assert [(v.wires, v.holders, v.complete) for v in read.versions] == [((record(key),), 1, True)]
        empty = await node.get(key_of(2))
        assert [(v.total, v.wires, v.complete) for v in empty.versions] == [(0, (), True)]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_two_nodes_know_each_other_and_both_hold(host: str) -> None:
    async with cluster(2, host) as (one, other):
        assert one.peers()[0].id == other.protocol.own_id
        assert one.peers()[0].kind == "dhtex"
        assert one.peers()[0].address == address_of(other, host)
        key = key_of(1)
        result = await one.put(key, record(key), None)
        assert (result.asked, result.holders, result.local) == (1, 1, True)
        assert held(one).rows == held(other).rows == {key: [(None, record(key))]}
        read = await other.get(key)
        assert (read.asked, read.answered, len(read.versions), read.versions[0].holders) == (2, 2, 1, 2)


async def test_one_port_serves_both_families() -> None:
    async with cluster(1, None) as (both,):
        four, six = make_overlay(101), make_overlay(102)
        await four.listen(0, "127.0.0.1")
        await six.listen(0, "::1")
        try:
            assert await four.connect(address_of(both))
            assert await six.connect(address_of(both, "::1"))
            await until(lambda: len(both.peers()) == 2)
            key = key_of(1)
            assert (await both.put(key, record(key), None)).holders == 2
        finally:
            await asyncio.gather(four.close(), six.close())


async def test_in_a_small_network_everybody_holds() -> None:
    async with cluster(5) as nodes:
        key = key_of(3)
        result = await nodes[0].put(key, record(key), "0101")
        assert (result.asked, result.holders, result.local) == (4, 4, True)
        assert all(held(node).rows == {key: [("0101", record(key))]} for node in nodes)


async def test_in_a_large_network_the_closest_hold() -> None:
    async with cluster(24) as nodes:
        for number in range(8):
            key = key_of(number)
            result = await nodes[number].put(key, record(key), None)
            goal = int.from_bytes(key)
            nearest = sorted(nodes, key=lambda node: node.node.long_id ^ goal)[: limits.HOLDERS]
            holders = [node for node in nodes if key in held(node).rows]
            assert result.holders + result.local == limits.HOLDERS
            assert len(set(nearest) & set(holders)) >= limits.HOLDERS - 1
            read = await nodes[-number].get(key)
            assert (read.asked, read.answered) == (limits.HOLDERS, limits.HOLDERS)
            assert read.versions[0].wires == (record(key),)
        assert all(node.counters.get("unexpected", 0) == 0 for node in nodes)


async def test_verdicts_are_reported() -> None:
    async with cluster(3) as nodes:
        key = key_of(1)
        refused = await nodes[0].put(key, record(key, b"!"), None)
        assert (refused.asked, refused.holders, refused.local) == (2, 0, False)
        assert (refused.refusals, refused.bits_asked) == ({"stamp_too_low": 3}, 12)
        superseded = await nodes[0].put(key, record(key, b"@"), None)
        assert (superseded.holders, superseded.newer) == (0, (record(key, b"newer"),))


@pytest.mark.parametrize("size", [600, 900, 970, 1000])
async def test_a_large_record_travels_both_ways(size: int) -> None:
    async with cluster(12) as nodes:
        key = key_of(1)
        wires = [record(key, bytes([number]) * (size - 20)) for number in range(3)]
        for wire in wires:
            assert (await nodes[0].put(key, wire, None)).holders >= limits.HOLDERS - 1
        read = await nodes[5].get(key)
        assert [version.complete for version in read.versions] == [True]
        assert sorted(read.versions[0].wires) == wires


@virtual
async def test_a_long_listing_is_pulled_in_order_from_all_its_holders() -> None:
    sky = Sky()
    nodes, reader, key = await sky.network(10), await sky.node(99), key_of(1)
    wires = [record(key, b"%04d" % number + b"." * 330) for number in range(1000)]
    for node in nodes:
        held(node).rows[key] = [("", wire) for wire in wires]
    assert await reader.connect(("8.0.1.1", PORT))
    started = asyncio.get_running_loop().time()
    read = await reader.get(key)
    assert asyncio.get_running_loop().time() - started < 1.0
    assert read.versions[0].wires == tuple(wires)
    assert read.versions[0].complete
    few = await nodes[0].get(key, limit=10)
    assert few.versions[0].wires == tuple(wires[:10])
    assert few.versions[0].total == 1000
    await end([*nodes, reader])


async def test_different_answers_are_told_apart() -> None:
    async with cluster(4) as nodes:
        key = key_of(1)
        for node in nodes:
            held(node).rows[key] = [(None, record(key, b"all"))]
        held(nodes[2]).rows[key].append((None, record(key, b"more")))
        del held(nodes[3]).rows[key]
        read = await nodes[0].get(key)
        assert (read.asked, read.answered) == (4, 4)
        assert [(v.holders, v.total, len(v.wires), v.complete) for v in read.versions] == [
            (2, 1, 1, True),
            (1, 2, 2, True),
            (1, 0, 0, True),
        ]


async def test_a_holder_whose_records_do_not_match_its_digest_is_not_complete() -> None:
    async with cluster(3) as nodes:
        key = key_of(1)
        held(nodes[1]).rows[key] = [(None, record(key, b"%d" % number)) for number in range(5)]
        held(nodes[1])._digests[(key, 5)] = b"forged!!"
        read = await nodes[0].get(key)
        (version,) = [version for version in read.versions if version.total]
        assert len(version.wires) == 5
        assert not version.complete


async def test_equal_gets_under_way_share_one_answer() -> None:
    async with cluster(3) as nodes:
        key = key_of(1)
        await nodes[0].put(key, record(key), None)
        with asking(nodes[1]) as asked:
            one, other = await asyncio.gather(nodes[1].get(key), nodes[1].get(key))
        assert one is other
        assert gets(asked, key) == 2
        cancelled = asyncio.ensure_future(nodes[1].get(key))
        kept = asyncio.ensure_future(nodes[1].get(key))
        await asyncio.sleep(0)
        cancelled.cancel()
        assert (await kept).answered == 3


async def test_a_fetch_takes_the_first_that_proves_itself_and_nothing_else() -> None:
    async with cluster(20) as nodes:
        key = key_of(1)
        true, false = record(key, b"true"), record(key, b"false")
        holders = sorted(nodes, key=lambda node: int.from_bytes(node.protocol.own_id) ^ int.from_bytes(key))[:8]
        for node in holders[:7]:
            held(node).rows[key] = [(None, false)]
        held(holders[7]).rows[key] = [(None, true)]
        reader = next(node for node in nodes if node not in holders)
        assert await reader.fetch(key, 0, true.__eq__) == true
        assert await reader.fetch(key, 0, lambda wire: False) is None
        assert await holders[7].fetch(key, 0, true.__eq__) == true


@virtual
async def test_connecting_to_nobody_is_false_and_quick() -> None:
    node = await Sky().node(1)
    assert await timed(node.connect(("9.9.9.9", 1))) < 2.3
    assert not await node.connect(("not-an-address", 1))
    assert not await node.connect(("9.9.9.9", 70_000))
    await node.close()


async def test_another_network_is_no_peer() -> None:
    async with cluster(1) as (node,):
        stranger = make_overlay(77, network="other")
        await stranger.listen(0, "127.0.0.1")
        try:
            assert not await stranger.connect(address_of(node))
            assert node.peers() == stranger.peers() == []
        finally:
            await stranger.close()


@virtual
async def test_put_and_get_stay_quick_after_a_quarter_died() -> None:
    nodes = await Sky().network(32)
    keys = [key_of(number) for number in range(6)]
    for key in keys:
        await nodes[0].put(key, record(key), None)
    dead = nodes[1::4]
    await end(dead)
    living = [node for node in nodes if node not in dead]
    for number, key in enumerate(keys):
        assert await timed(living[number].get(key)) < 1.0
        fresh, started = key_of(100 + number), asyncio.get_running_loop().time()
        result = await living[-number].put(fresh, record(fresh), None)
        assert asyncio.get_running_loop().time() - started < 1.0
        assert result.holders + result.local >= limits.HOLDERS - 1
        read = await living[number].get(key)
        assert any(version.wires == (record(key),) for version in read.versions)
    await end(living)


class _Lossy:
    """An endpoint that loses a share of what it sends."""

    def __init__(self, inner: Endpoint, loss: float, seed: int) -> None:
        self.port = inner.port
        self._inner = inner
        self._loss = loss
        self._chance = random.Random(seed)

    def sendto(self, data: bytes, addr: Address) -> None:
        if self._chance.random() >= self._loss:
            self._inner.sendto(data, addr)

    def send_afresh(self, data: bytes, addr: Address) -> None:
        self.sendto(data, addr)

    def close(self) -> None:
        self._inner.close()


async def test_a_lossy_network_loses_nothing() -> None:
    nodes: list[Overlay] = []
    for number in range(9):

        async def lossy(receiver: Receiver, host: str | None, port: int, seed: int = number) -> Endpoint:
            return _Lossy(await open_endpoint(receiver, host, port), 0.15, seed)

        nodes.append(make_overlay(number, open_with=lossy))
    try:
        for number, node in enumerate(nodes):
            await node.listen(0, "127.0.0.1")
            # One attempt in fifty loses all three tries; a node that starts goes on trying, and so do we.
            if number:
                assert await node.connect(address_of(nodes[0])) or await node.connect(address_of(nodes[0]))
        for number in range(6):
            key = key_of(number)
            result = await nodes[number].put(key, record(key), None)
            assert result.holders + result.local >= limits.HOLDERS - 2
            read = await nodes[number - 3].get(key)
            assert any(version.wires == (record(key),) for version in read.versions)
    finally:
        await asyncio.gather(*(node.close() for node in nodes))


async def test_a_holder_that_died_since_the_last_put_is_replaced() -> None:
    async with cluster(16) as nodes:
        key = key_of(2)
        await nodes[0].put(key, record(key, b"first"), None)
        gone = next(node for node in nodes[1:] if key in held(node).rows)
        await gone.close()
        result = await nodes[0].put(key, record(key, b"second"), None)
        assert result.holders + result.local == limits.HOLDERS


class _Cut:
    """An endpoint that reaches some ports only while `cut` is set."""

    def __init__(self, inner: Endpoint) -> None:
        self.port = inner.port
        self.beyond: set[int] = set()
        self._inner = inner

    def sendto(self, data: bytes, addr: Address) -> None:
        if addr[1] not in self.beyond:
            self._inner.sendto(data, addr)

    def send_afresh(self, data: bytes, addr: Address) -> None:
        self.sendto(data, addr)

    def close(self) -> None:
        self._inner.close()


async def test_a_network_cut_in_two_finds_itself_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "TICK_S", 0.05)
    monkeypatch.setattr(upkeep, "SUSPECT_S", 0.05)
    monkeypatch.setattr(limits, "PING_IDLE_S", 0.2)
    async with cluster(6) as nodes:
        cuts = []
        for node in nodes:
            cut = _Cut(node.protocol.transport)
            node.protocol.transport = cut
            cuts.append(cut)
        for number, cut in enumerate(cuts):
            cut.beyond = {other.port for place, other in enumerate(cuts) if place % 2 != number % 2}
        await until(lambda: all(len(node.peers()) == 2 for node in nodes), 10.0)
        for cut in cuts:
            cut.beyond = set()
        await until(lambda: all(len(node.peers()) == 5 for node in nodes), 10.0)


async def test_a_restarted_node_is_found_at_its_new_port() -> None:
    async with cluster(3) as nodes:
        again = make_overlay(2)  # the same id
        assert again.protocol.own_id == nodes[2].protocol.own_id
        await nodes[2].close()
        await again.listen(0, "127.0.0.1")
        try:
            again.load_peers([(nodes[0].protocol.own_id, address_of(nodes[0]))])
            await until(lambda: any(p.address == address_of(again) for p in nodes[0].peers()))
            await until(lambda: len(again.peers()) > 0)
        finally:
            await again.close()


async def test_a_dead_peer_is_forgotten_and_told() -> None:
    async with cluster(2) as (one, other):
        told: list[int] = []
        one.on_peers = lambda: told.append(len(one.peers()))
        await other.close()
        for number in range(limits.FAILURES_BEFORE_EVICTION):
            await one.get(key_of(number))
        await until(lambda: not one.peers())
        assert told == [0]
        key = key_of(1)
        result = await one.put(key, record(key), None)
        assert (result.asked, result.holders, result.local) == (0, 0, True)


async def test_operations_end_when_the_node_closes() -> None:
    async with cluster(3) as nodes:
        key = key_of(1)
        await asyncio.gather(nodes[1].close(), nodes[2].close())
        running = [asyncio.ensure_future(work) for work in (nodes[0].get(key), nodes[0].put(key, record(key), None))]
        await asyncio.sleep(0)
        await nodes[0].close()
        await asyncio.wait_for(asyncio.gather(*running), 0.5)
        await nodes[0].close()


async def test_a_taken_port_and_a_foreign_host_are_said_so() -> None:
    async with cluster(1) as (node,):
        other = make_overlay(9)
        with pytest.raises(PortInUseError):
            await other.listen(address_of(node)[1], "127.0.0.1")
        with pytest.raises(UsageError):
            await other.listen(0, "192.0.2.1")
        await other.close()


async def test_a_typo_is_no_remote_call() -> None:
    async with cluster(1) as (node,):
        with pytest.raises(AttributeError):
            node.protocol.find_nodes(("127.0.0.1", 1))  # type: ignore[attr-defined]
        assert not hasattr(node.protocol, "anything")


async def test_holders_near_tells_who_is_close() -> None:
    async with cluster(12) as nodes:
        await until(lambda: len(nodes[0].peers()) >= 10)
        key = key_of(5)
        near = nodes[0].holders_near(key)
        goal = int.from_bytes(key)
        ids: list[NodeId] = sorted((p.id for p in nodes[0].peers()), key=lambda i: int.from_bytes(i) ^ goal)
        assert near == ids[: limits.HOLDERS]


async def test_who_could_not_be_asked_for_lack_of_room_is_not_blamed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with cluster(2) as nodes:
        await until(lambda: not nodes[0].protocol.requests)
        monkeypatch.setattr(limits, "REQUESTS_OUTSTANDING_MAX", 0)
        for number in range(2 * limits.FAILURES_BEFORE_EVICTION):
            assert (await nodes[0].get(key_of(number))).answered == 1, "by itself"
        assert [peer.failures for peer in nodes[0].peers()] == [0]


async def test_what_the_machine_refuses_to_send_is_counted() -> None:
    async with cluster(1) as (node,):
        node.protocol.send(b"datagram", ("127.0.0.1", 70_000))
        assert node.counters["lost_at_send"] == 1
