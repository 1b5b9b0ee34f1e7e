"""Whether strangers reach a node is found out by asking, and liars among those who are asked do not decide it."""

import asyncio
from collections.abc import Callable

import pytest

from dhtex import limits
from dhtex.overlay import wire
from dhtex.overlay.addresses import Address, pack_address
from dhtex.overlay.contact import Peer
from dhtex.overlay.server import Overlay
from dhtex.overlay.trailer import network_tag
from dhtex.sim.clock import NodeClock
from tests.unit.overlay.sky import PORT, Sky, end, virtual
from tests.unit.overlay.test_hostile import ID, request, wired


async def pass_until(node: Overlay, reachable: bool, within_s: float) -> float:
    """Let time pass until the node knows that; how long it took."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while node.selfview.reachable is not reachable:
        assert loop.time() < began + within_s, node.selfview.reachable
        await asyncio.sleep(1)
    return loop.time() - began


def quiet(node: Overlay) -> None:
    """Nobody finds the node by itself: strangers' requests prove nothing, so only knocks do."""
    node.protocol.meetings.on_unasked = lambda ip, now: None


@pytest.mark.parametrize("seed", [200, 201])
@virtual
async def test_a_node_behind_a_wall_becomes_a_client_soon_and_turns_back_when_the_wall_falls(seed: int) -> None:
    sky = Sky()
    nodes = await sky.network(30)
    sky.walled.add(f"8.{seed}.1.1")
    hidden = await sky.node(seed)
    assert await hidden.connect(("8.0.1.1", PORT))
    await pass_until(hidden, False, 600)
    await asyncio.sleep(2 * limits.PING_IDLE_S)
    assert hidden.selfview.client
    assert all(node.protocol.table.get(hidden.protocol.own_id) is None for node in nodes)
    sky.walled.clear()
    await asyncio.sleep(limits.PROBE_AGAIN_S + 2 * limits.PROBE_WAIT_S)
    assert not hidden.selfview.client
    await end([*nodes, hidden])


@virtual
async def test_a_node_that_nobody_would_visit_learns_that_it_is_reached() -> None:
    sky = Sky()
    nodes = await sky.network(90)
    knocks = []
    for number in range(200, 210):
        node = await sky.node(number)
        quiet(node)
        assert await node.connect(("8.0.1.1", PORT))
        await pass_until(node, True, 300)
        knocks.append(node.counters["knocks"])
        await node.close()
    assert max(knocks) > 1  # some come from whom the node knows, and prove nothing
    await end(nodes)


def lie(node: Overlay) -> None:
    """Says that it passes on and knocks, and does neither."""
    own_id = node.protocol.own_id
    node.protocol.on_verb[wire.PROBE] = lambda args, token, peer: wire.ProbeReply(own_id, token, wire.OK, True)


async def among_liars(sky: Sky, count: int, lies: Callable[[Overlay], None]) -> list[Overlay]:
    """A network, a third of which lie so."""
    nodes = await sky.network(count)
    for node in nodes[::3]:
        lies(node)
    return nodes


@pytest.mark.parametrize("seed", [201, 202])
@virtual
async def test_a_third_of_liars_makes_nobody_a_client(seed: int) -> None:
    sky = Sky()
    nodes = await among_liars(sky, 90, lie)
    node = await sky.node(seed)
    quiet(node)
    assert await node.connect(("8.1.1.1", PORT))
    for _ in range(700):
        assert not node.selfview.client
        await asyncio.sleep(1)
    await end([*nodes, node])


def knock_back(node: Overlay) -> None:
    """Knocks itself, from where it was asked: through the hole that the question made."""
    protocol = node.protocol

    def asked(args: wire.ProbeArgs, token: bytes, peer: Peer) -> wire.ProbeReply:
        protocol.transport.sendto(b"\1" + args.nonce + wire.encode(protocol.own_id), peer.address)
        return wire.ProbeReply(protocol.own_id, token, wire.OK, True)

    protocol.on_verb[wire.PROBE] = asked


@pytest.mark.parametrize("seed", [200, 202])
@virtual
async def test_a_node_behind_a_wall_is_not_fooled_by_knocks_through_its_own_holes(seed: int) -> None:
    sky = Sky()
    nodes = await among_liars(sky, 30, knock_back)
    sky.walled.add(f"8.{seed}.1.1")
    hidden = await sky.node(seed)
    assert await hidden.connect(("8.1.1.1", PORT))
    await pass_until(hidden, False, 300)
    for _ in range(1200):
        assert hidden.selfview.client
        await asyncio.sleep(1)
    await end([*nodes, hidden])


@virtual
async def test_liars_of_few_networks_make_nobody_a_client() -> None:
    """Many nodes have one voice for each of their networks."""
    sky = Sky()
    nodes = [await sky.node(number, f"8.{number % (limits.PROBERS_SILENT - 1)}.1.{number}") for number in range(20)]
    for number, node in enumerate(nodes):
        lie(node)
        if number:
            assert await node.connect(("8.0.1.0", PORT))
    node = await sky.node(200)
    quiet(node)
    assert await node.connect(("8.0.1.0", PORT))
    await asyncio.sleep(1500)
    assert node.selfview.reachable is None
    await end([*nodes, node])


@virtual
async def test_a_node_at_a_local_address_asks_nobody() -> None:
    sky = Sky()
    nodes = [await sky.node(number, f"10.0.0.{number + 1}") for number in range(12)]
    for node in nodes[1:]:
        assert await node.connect(("10.0.0.1", PORT))
    await asyncio.sleep(900)
    assert not any(node.selfview.client for node in nodes)
    assert not any(node.counters.get("probes_passed_on") for node in nodes)
    await end(nodes)


THERE: Address = ("8.8.4.4", 4001)


def probe(token: bytes, target: bytes, number: int = 0) -> bytes:
    net = network_tag("test")
    return request("dx_probe", net, ID, token, number.to_bytes(20), target, request_id=number.to_bytes(20))


async def test_a_knock_goes_where_it_is_asked_for_within_a_budget_and_is_shorter_than_the_request() -> None:
    async with wired(NodeClock(lambda: 0.0, 1000.0)) as (node, line):
        target: Address = ("9.9.9.9", 3001)
        asked = [probe(node.protocol.tokens.issue(THERE[0]), pack_address(target), n) for n in range(100)]
        for datagram in asked:
            node.protocol.datagram_received(datagram, THERE)
        knocks = [data for data, to in line.sent if to == target]
        assert 1 <= len(knocks) <= limits.PROBES_PER_S + 1
        assert max(map(len, knocks)) < min(map(len, asked)) / 2
        assert node.counters.get("tokens_renewed", 0) == 0


async def test_without_a_token_nobody_is_asked_and_nobody_is_knocked_at() -> None:
    async with wired() as (node, line):
        for token in (b"", b"12345678"):
            for target in (b"", pack_address(("9.9.9.9", 3001))):
                node.protocol.datagram_received(probe(token, target), THERE)
        assert {to for _, to in line.sent} == {THERE}


@pytest.mark.parametrize("target", [("192.168.0.1", 53), ("127.0.0.1", 53), ("9.9.9.9", 0), ("224.0.0.1", 5)])
async def test_nobody_outside_has_a_local_address_or_none_at_all_knocked_at(target: Address) -> None:
    async with wired() as (node, line):
        node.protocol.datagram_received(probe(node.protocol.tokens.issue(THERE[0]), pack_address(target)), THERE)
        assert {to for _, to in line.sent} == {THERE}
        assert "knocks_sent" not in node.counters


@pytest.mark.parametrize("size", [1, 5, 7, 17, 19, 300])
async def test_a_spoilt_target_is_refused(size: int) -> None:
    async with wired() as (node, _):
        node.protocol.datagram_received(probe(node.protocol.tokens.issue(THERE[0]), bytes(size)), THERE)
        assert "unexpected" not in node.counters
        assert "knocks_sent" not in node.counters
