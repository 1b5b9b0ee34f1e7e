"""Down hints: a silent node is forgotten soon by those who name it, and nobody is forgotten by hearsay."""

import asyncio

from dhtex import limits
from dhtex.market.ids import DhtKey
from dhtex.overlay import wire
from dhtex.overlay.server import Overlay
from tests.unit.overlay.fakes import address_of, cluster, until
from tests.unit.overlay.sky import PORT, Sky, end, virtual


def kill(node: Overlay) -> None:
    """End a node without a word."""
    assert node.transport is not None
    node.transport.close()
    node.protocol.close()


def knows(node: Overlay, other: Overlay) -> bool:
    return node.protocol.table.get(other.protocol.own_id) is not None


@virtual
async def test_who_named_a_silent_node_is_told_and_forgets_it_after_own_pings() -> None:
    sky = Sky()
    dead, *living = nodes = await sky.network(12)
    stranger = await sky.node(50)
    await asyncio.sleep(60)  # nobody looks around any more
    assert all(knows(node, dead) for node in living)
    kill(dead)
    await asyncio.sleep(limits.HINT_PAUSE_S)  # some have asked it a moment ago
    assert await stranger.connect(("8.1.1.1", PORT))  # meets the dead one by name
    await stranger.get(DhtKey(dead.protocol.own_id))
    await until(lambda: sum(node.counters.get("hints_followed", 0) for node in living) > 0)
    told = [node for node in living if node.counters.get("hints_followed", 0)]
    await until(lambda: not any(knows(node, dead) for node in told), within_s=10)
    await end([*nodes, stranger])


async def test_hearsay_about_a_living_node_costs_one_ping_and_evicts_nobody() -> None:
    async with cluster(3) as (liar, victim, listener):
        peer = listener.protocol.table.get(victim.protocol.own_id)
        assert peer is not None
        assert peer.contact is not None
        peer.last_asked -= limits.HINT_PAUSE_S
        answers: list[object] = []
        for _ in range(5):
            args = wire.DownArgs(liar.protocol.net, liar.protocol.own_id, b"", peer.contact.wire)
            target = liar.protocol.peer_at(address_of(listener))
            liar.protocol.ask(target, wire.DOWN, args, lambda request, answer: answers.append(answer))
        await until(lambda: len(answers) == 5 and not peer.pinging)
        assert all(answers)
        assert listener.counters["hints_followed"] == 1
        assert knows(listener, victim)
        assert peer.failures == 0


async def test_hints_are_told_once_and_within_a_budget() -> None:
    async with cluster(2) as (teller, namer):
        contact = teller.protocol.peer_at(address_of(namer)).contact
        assert contact is not None
        before = teller.protocol.datagrams_out
        for _ in range(100):
            teller.protocol.hint(contact, contact)
        assert teller.protocol.datagrams_out == before + 1
