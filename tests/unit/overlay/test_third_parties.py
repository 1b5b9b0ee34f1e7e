"""What liars may have a node send to others, how long they hold it up, and whether they may take somebody's place."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable

import pytest

from dhtex import limits
from dhtex.market.ids import DhtKey, NodeId
from dhtex.overlay import wire
from dhtex.overlay.addresses import Address
from dhtex.overlay.contact import contact_at
from dhtex.overlay.server import Overlay
from tests.unit.overlay.fakes import held, record, timed
from tests.unit.overlay.sky import PORT, Sky, end, virtual

KEY = DhtKey(b"k" * 20)
VICTIM = "9.9.9.9"


class Watched(Sky):
    """Counts what is sent to each IP; `off` has those that are switched off."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self.pings: Counter[str] = Counter()
        self.off: set[str] = set()

    def arrive(self, data: bytes, source: Address, target: Address) -> None:
        self.sent[target[0]] += 1
        self.bytes[target[0]] += len(data)
        self.pings[target[0]] += (wire.verb_of(data) or [None])[0] is wire.PING
        if not self.off & {source[0], target[0]}:
            super().arrive(data, source, target)


def lie(node: Overlay, address: Callable[[int], Address]) -> None:
    """Let a node name twelve nodes that are nearer to the key than anybody, and live where the liar says."""
    serving, chance = node.protocol.serving, random.Random(node.node.id)
    honest = serving.get

    def get(args: wire.GetArgs, token: bytes, asker: Address, room_bytes: int = 1200) -> wire.GetReply:
        reply = honest(args, token, asker, room_bytes)
        named = (contact_at(KEY[:4] + chance.randbytes(16), *address(chance.randrange(1, 60_000))) for _ in range(12))
        reply.contacts = [contact.wire for contact in named if contact is not None]
        return reply

    serving.get = get  # type: ignore[method-assign, assignment]


async def surrounded(sky: Sky, liars: int, address: Callable[[int], Address]) -> list[Overlay]:
    """A reader, honest nodes that hold a record, and liars."""
    nodes = await sky.network(5 + liars)
    for node in nodes[1:5]:
        held(node).put(record(KEY), None, 0.0, "self")
    for node in nodes[5:]:
        lie(node, address)
    return nodes


@virtual
async def test_names_of_nobody_hold_a_search_up_for_a_moment_only() -> None:
    nodes = await surrounded(Sky(), 1, lambda number: (f"9.{number % 200}.{number // 200 % 200}.1", number))
    assert await timed(nodes[0].get(KEY)) < 1.0
    assert any(version.wires for version in (await nodes[0].get(KEY)).versions)
    await end(nodes)


@pytest.mark.parametrize("liars", [1, 6])
@virtual
async def test_a_third_party_that_liars_name_gets_few_requests(liars: int) -> None:
    sky = Watched()
    nodes = await surrounded(sky, liars, lambda number: (VICTIM, number))
    await nodes[0].get(KEY)
    await asyncio.sleep(5)  # all repetitions
    sky.sent.clear()
    sky.bytes.clear()
    await nodes[0].get(KEY)
    await asyncio.sleep(5)
    assert 0 < sky.sent[VICTIM] <= limits.LOOKUP_REQUESTS_PER_IP_MAX * limits.REQUEST_TRIES
    once = limits.OPENING_BYTES + (limits.REQUEST_TRIES - 1) * 110
    assert sky.bytes[VICTIM] <= limits.LOOKUP_REQUESTS_PER_IP_MAX * once
    await end(nodes)


@virtual
async def test_a_third_party_that_liars_name_is_met_once() -> None:
    """Each node asks whoever is named who he is, beside all searches; but nobody at an IP that it asked before."""
    sky = Watched()
    nodes = await surrounded(sky, 2, lambda number: (f"9.9.{number % 7}.9", number))
    await nodes[0].get(KEY)
    await asyncio.sleep(5)
    sky.pings.clear()
    await asyncio.sleep(60)
    assert all(sky.pings[f"9.9.{number}.9"] <= len(nodes) for number in range(7))
    await end(nodes)


@pytest.mark.parametrize("ip", ["127.0.0.1", "192.168.1.1", "::1"])
@virtual
async def test_nobody_far_away_has_a_node_send_to_its_own_machine_or_network(ip: str) -> None:
    sky = Watched()
    nodes = await surrounded(sky, 2, lambda number: (ip, number))
    await nodes[0].get(KEY)
    await nodes[0].put(KEY, record(KEY, b"more"), None)
    assert sky.sent[ip] == 0
    await end(nodes)


@pytest.mark.parametrize("outage_s", [1.0, 120.0])
@virtual
async def test_who_claims_the_id_of_somebody_who_is_away_for_a_moment_does_not_keep_it(outage_s: float) -> None:
    sky = Watched()
    nodes = await sky.network(6)
    away = nodes[5]
    clone = await sky.node(99, VICTIM, node_id=NodeId(away.node.id))

    def known() -> set[str]:
        tables = (node.protocol.table.get(NodeId(away.node.id)) for node in nodes[:5])
        return {peer.address[0] for peer in tables if peer is not None}

    assert known() == {"8.5.1.1"}
    sky.off = {"8.5.1.1"}
    for _ in range(int(outage_s)):
        await asyncio.gather(*(clone.connect((f"8.{number}.1.1", PORT)) for number in range(5)))
        await asyncio.sleep(1)
    if outage_s < 5:
        assert known() == {"8.5.1.1"}
    else:
        assert VICTIM in known()
    sky.off = set()
    await asyncio.sleep(2 * limits.PING_IDLE_S)
    assert known() == {"8.5.1.1"}
    await end([*nodes, clone])
