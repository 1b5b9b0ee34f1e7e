"""Nobody can aim a node at a third party: each verb, asked from an address that never answers, sends it fewer bytes."""

import asyncio

import pytest

from dhtex import limits
from dhtex.market.holding import EITHER, IDS, NO_KIND
from dhtex.market.ids import DhtKey, NodeId
from dhtex.overlay import wire
from dhtex.overlay.addresses import Address
from dhtex.overlay.contact import Peer, PeerKind, contact_at
from dhtex.overlay.server import Overlay
from dhtex.overlay.trailer import network_tag, request_trailer
from dhtex.sim.clock import NodeClock
from tests.unit.overlay.fakes import held, record
from tests.unit.overlay.test_hostile import HERE, ID, request, wired
from tests.unit.overlay.test_overlay import key_of

NET = network_tag("test")
KEY = key_of(1)
WAIT_S = 2.5  # longer than all repetitions of a request of ours
SHORT = request_trailer(NET)
LONG = request_trailer(NET, 200)
TOKEN = b"12345678"  # a guess

# Every verb in its shortest form and, where the length buys something, in longer ones.
ASKED: dict[str, tuple[str, tuple[object, ...], bytes]] = {
    "ping": ("ping", (ID,), b""),
    "ping, ours": ("ping", (ID,), SHORT),
    "ping, ours, padded": ("ping", (ID,), LONG),
    "ping, another network's": ("ping", (ID,), request_trailer(b"else", 60)),
    "stun": ("stun", (), b""),
    "stun, ours": ("stun", (), SHORT),
    "stun, ours, padded": ("stun", (), LONG),
    "find_node": ("find_node", (ID, KEY), b""),
    "find_node, ours": ("find_node", (ID, KEY), SHORT),
    "find_node, ours, padded": ("find_node", (ID, KEY), LONG),
    "find_value": ("find_value", (ID, KEY), b""),
    "find_value, ours": ("find_value", (ID, KEY), SHORT),
    "store": ("store", (ID, KEY, b""), b""),
    "store, ours": ("store", (ID, KEY, record(KEY, b"x")), SHORT),
    "dx_get": ("dx_get", (NET, ID, b"", KEY, 0, 0, True), b""),
    "dx_get, guessed token": ("dx_get", (NET, ID, TOKEN, KEY, 0, 0, True), b""),
    "dx_get, padded": ("dx_get", (NET, ID, b"", KEY, NO_KIND, 0, True, b"", b"", bytes(600)), b""),
    "dx_get, padded, of records": ("dx_get", (NET, ID, b"", KEY, 0, 0, True, b"", b"", bytes(600)), b""),
    "dx_get, padded, of either": ("dx_get", (NET, ID, b"", KEY, EITHER, 0, True, b"", b"", bytes(600)), b""),
    "dx_get, long, of either": ("dx_get", (NET, ID, TOKEN, KEY, EITHER, 0, True, b"", b"", bytes(800)), b""),
    "dx_get, padded, of ids": ("dx_get", (NET, ID, b"", KEY, IDS, 0, True, b"", b"", bytes(600)), b""),
    "dx_get, padded, of a page": ("dx_get", (NET, ID, b"", KEY, 0, 1, False, b"", b"", bytes(600)), b""),
    "dx_get, longer than any answer": ("dx_get", (NET, ID, b"", KEY, 0, 0, True, b"", b"", bytes(3000)), b""),
    "dx_put": ("dx_put", (NET, ID, b"", None, b""), b""),
    "dx_put, guessed token": ("dx_put", (NET, ID, TOKEN, "", record(KEY, b"x")), b""),
    "dx_watch": ("dx_watch", (NET, ID, b"", 0, [], [], bytes(8)), b""),
    "dx_watch, guessed token": ("dx_watch", (NET, ID, TOKEN, 120, [KEY], [], bytes(8)), b""),
    "dx_get of ids, guessed token": ("dx_get", (NET, ID, TOKEN, KEY, IDS, 0, False), b""),
    "dx_down": ("dx_down", (NET, ID, b"", b""), b""),
    "dx_down, of a peer": ("dx_down", (NET, ID, TOKEN, key_of(100) + bytes((127, 0, 0, 1, 23, 112))), b""),
    "dx_probe": ("dx_probe", (NET, ID, b"", ID, b""), b""),
    "dx_probe, guessed token": ("dx_probe", (NET, ID, TOKEN, ID, b""), b""),
    "dx_probe of another, guessed token": ("dx_probe", (NET, ID, TOKEN, ID, bytes((127, 0, 0, 9, 19, 136))), b""),
    "dx_push": ("dx_push", (NET, ID, 0, KEY, b""), b""),
}


def fill(node: Overlay) -> None:
    """Give a node much to tell: twenty contacts and large records at the key."""
    for number in range(20):
        contact = contact_at(NodeId(key_of(100 + number)), "127.0.0.1", 6000 + number)
        assert contact is not None
        peer = Peer(contact.address, contact, node.protocol.monotonic())
        peer.kind, peer.last_seen = PeerKind.DHTEX, node.protocol.monotonic()
        node.protocol.table.offer(peer)
    for number in range(5):
        held(node).put(record(DhtKey(KEY), b"%d" % number + b"." * 500), None, 0.0, "self")


def test_every_verb_is_measured() -> None:
    assert {verb for verb, _, _ in ASKED.values()} == {verb.name.decode() for verb in wire.VERBS.values()}


async def ratio(name: str, addresses: list[Address]) -> float:
    """Bytes sent to these silent addresses for each byte that came from them."""
    verb, arguments, trailer = ASKED[name]
    async with wired() as (node, line):
        fill(node)
        came = 0
        for number, address in enumerate(addresses):
            datagram = request(verb, *arguments, trailer=trailer, request_id=number.to_bytes(20))
            came += len(datagram)
            node.protocol.datagram_received(datagram, address)
        await asyncio.sleep(WAIT_S)
        return sum(len(data) for data, to in line.sent if to in addresses) / came


async def test_each_verb_sends_an_unproven_address_no_more_than_came_from_it() -> None:
    once = await asyncio.gather(*(ratio(name, [HERE]) for name in ASKED))
    often = await asyncio.gather(*(ratio(name, [HERE] * 40) for name in ASKED))
    many = await asyncio.gather(*(ratio(name, [("127.0.0.9", 5000 + n) for n in range(40)]) for name in ASKED))
    table = {name: (one, more, most) for name, one, more, most in zip(ASKED, once, often, many, strict=True)}
    for name, ratios in table.items():
        print(f"{name:28}" + "".join(f"{value:8.2f}" for value in ratios))
    assert {name: ratios for name, ratios in table.items() if max(ratios) > 1.0} == {}
    assert max(max(ratios) for ratios in table.values()) > 0.5  # something was sent, so something was measured


@pytest.mark.parametrize("name", ["dx_get", "find_node, ours, padded"])
async def test_once_the_address_is_proven_the_answer_is_long(name: str) -> None:
    verb, arguments, trailer = ASKED[name]
    async with wired() as (node, line):
        fill(node)
        node.protocol.peer_at(HERE).verified_until = node.protocol.monotonic() + 60
        token = node.protocol.tokens.issue(HERE[0])
        asked = request(verb, *(token if part == b"" else part for part in arguments), trailer=trailer)
        node.protocol.datagram_received(asked, HERE)
        assert max(len(data) for data, _ in line.sent) > 2 * len(asked)


@pytest.mark.parametrize("name", ["find_node", "find_value, ours"])
async def test_a_proven_address_gets_few_answers_that_somebody_else_may_have_asked_for(name: str) -> None:
    verb, arguments, trailer = ASKED[name]
    async with wired(NodeClock(lambda: 0.0, 1000.0)) as (node, line):
        fill(node)
        node.protocol.peer_at(HERE).verified_until = node.protocol.monotonic() + 60
        for number in range(20 * limits.STOCK_FINDS_PER_S):
            node.protocol.datagram_received(
                request(verb, *arguments, trailer=trailer, request_id=number.to_bytes(20)), HERE
            )
        assert 0 < sum(len(data) > 100 for data, _ in line.sent) < 2 * limits.STOCK_FINDS_PER_S


async def test_a_record_is_not_sent_to_an_address_that_somebody_merely_named() -> None:
    async with wired() as (node, line):
        peer_id = NodeId(key_of(7))
        named = contact_at(peer_id, *HERE)
        peer, big = node.protocol.peer_at(HERE, named), record(DhtKey(KEY), b"." * 900)
        args = wire.PutArgs(NET, node.protocol.own_id, b"", None, big)
        answers: list[object] = []
        node.protocol.ask(peer, wire.PUT, args, lambda request, answer: answers.append(answer))
        ((first, _),) = line.sent
        assert len(first) < 100
        token_only = wire.PutReply(peer_id, b"t" * 8, wire.TOKEN_NEEDED, "", "", 0, b"")
        node.protocol.datagram_received(b"\1" + first[1:21] + wire.encode(token_only), HERE)
        asked = line.sent[-1][0]
        assert big in asked
        assert not answers
