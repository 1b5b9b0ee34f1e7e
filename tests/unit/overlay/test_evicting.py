"""Who leaves the routing table, and who takes its place, is told to those who live by it."""

import asyncio

import pytest

from dhtex import limits
from dhtex.overlay.addresses import Address
from dhtex.overlay.contact import Peer
from dhtex.overlay.trailer import reply_trailer
from tests.unit.overlay import sky
from tests.unit.overlay.fakes import record, until
from tests.unit.overlay.sky import PORT, Sky, end, virtual
from tests.unit.overlay.test_hostile import HERE, pack, pong, wired
from tests.unit.overlay.test_overlay import key_of

THERE: Address = ("127.0.0.1", 4002)


@pytest.mark.parametrize("foreign", [False, True])
async def test_who_shows_another_id_or_network_is_lost_and_its_spare_found(foreign: bool) -> None:
    async with wired() as (node, line):
        protocol = node.protocol
        far = bytes([protocol.own_id[0] ^ 0x80])
        protocol.table.bucket_size = 1
        first, spare = protocol.peer_at(HERE), protocol.peer_at(THERE)
        for number, peer in enumerate((first, spare)):
            protocol.ping(peer)
            pong(node, line, far + bytes([number]) * 19, peer.address)
        assert list(protocol.table) == [first]
        told: list[tuple[str, Peer]] = []
        protocol.meetings.on_peer = lambda peer: told.append(("found", peer))
        protocol.meetings.on_peer_lost = lambda peer: told.append(("lost", peer))
        protocol.ping(first)
        if foreign:
            ping, _ = line.sent[-1]
            trailer = reply_trailer(b"else", far + bytes(19), b"t" * 8)
            protocol.datagram_received(b"\1" + ping[1:21] + pack(far + bytes(19)) + trailer, HERE)
        else:
            pong(node, line, far + b"\2" * 19)
        assert told == [("lost", first), ("found", spare)]
        assert list(protocol.table) == [spare]


@virtual
async def test_one_silence_is_one_failure_however_many_questions_it_leaves_open() -> None:
    air = Sky()
    asker, other = nodes = await air.network(2)
    peer = asker.protocol.table.get(other.protocol.own_id)
    assert peer is not None
    place = ("8.1.1.1", PORT)
    line = air.plugs.pop(place)
    await asyncio.gather(*(asker.get(key_of(number)) for number in range(4 * limits.FAILURES_BEFORE_EVICTION)))
    assert (peer.in_table, peer.failures) == (True, 1)
    air.plugs[place] = line
    await until(lambda: not peer.failures)
    del air.plugs[place]
    await asker.get(key_of(0))
    await until(lambda: not peer.in_table, within_s=10)  # the others come of pings
    await end(nodes)


@pytest.mark.parametrize("delay_s", [0.05, 0.2, 0.5])
@virtual
async def test_lines_that_become_much_slower_cost_nobody_his_peers(
    delay_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = await Sky().network(9)
    await asyncio.sleep(60)
    monkeypatch.setattr(sky, "DELAY_S", delay_s)
    await asyncio.sleep(3 * limits.PING_IDLE_S)
    assert [len(node.peers()) for node in nodes] == [8] * 9
    key = key_of(1)
    result = await nodes[0].put(key, record(key), None)
    assert (result.holders + result.local, result.unfinished) == (limits.HOLDERS, False)
    await end(nodes)
