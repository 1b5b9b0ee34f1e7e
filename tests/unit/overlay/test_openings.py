"""A first question is answered at once, at an address that is not proven yet: it is as long as its answer."""

import asyncio
from typing import Any
from unittest.mock import patch

import pytest

from dhtex import limits
from dhtex.market.holding import EITHER, NO_KIND
from dhtex.market.ids import DhtKey, NodeId
from dhtex.overlay import wire
from dhtex.overlay.addresses import Address
from dhtex.overlay.contact import Peer, PeerKind, Peers, contact_at
from dhtex.overlay.trailer import View, request_trailer
from dhtex.sim.clock import NodeClock
from tests.unit.overlay.fakes import held, record, timed
from tests.unit.overlay.sky import DELAY_S, Sky, end, virtual
from tests.unit.overlay.test_amplification import NET, fill
from tests.unit.overlay.test_hostile import ID, Line, pack, pong, request, wired
from tests.unit.overlay.test_overlay import key_of

KEY = key_of(1)
HERE: Address = ("9.8.7.6", 4001)


def opening(kind: int, padding: int = limits.OPENING_BYTES, request_id: bytes = bytes(20), sender: bytes = ID) -> bytes:
    asked = (NET, sender, b"", KEY, kind, 0, True, b"", b"")
    short = padding - len(request("dx_get", *asked)) - 3
    return request("dx_get", *asked, bytes(max(0, short)), request_id=request_id)


def answer(line: Line) -> wire.GetReply:
    """The one answer that was sent."""
    (sent,) = [data for data, _ in line.sent if data[0] == wire.REPLY]
    reply: Any = wire.GET.reply.decode(sent[wire.FRAME_BYTES :])
    assert isinstance(reply, wire.GetReply)
    return reply


async def test_a_first_question_is_as_long_as_a_long_answer_and_its_repetitions_are_short() -> None:
    async with wired() as (node, line):
        peer = node.protocol.peer_at(HERE, contact_at(NodeId(ID), *HERE))
        args = wire.GetArgs(NET, node.protocol.own_id, b"", KEY, NO_KIND, 0, True)
        node.protocol.ask(peer, wire.GET, args, lambda request, answer: None)
        await asyncio.sleep(2.5)
        first, *others = [data for data, to in line.sent if data[21:29] == wire.GET.head]
        assert len(first) == limits.OPENING_BYTES
        assert len(others) == limits.REQUEST_TRIES - 1
        assert all(len(data) < 100 and data[1:21] == first[1:21] for data in others)
        line.sent.clear()
        peer.token = b"t" * 8
        node.protocol.ask(peer, wire.GET, args, lambda request, answer: None)
        assert [len(data) < 110 for data, _ in line.sent] == [True]


async def test_a_stranger_is_told_contacts_and_asked_who_he_is_and_his_answer_shows_that_we_are_reached() -> None:
    async with wired() as (node, line):
        fill(node)
        node.protocol.datagram_received(opening(NO_KIND), HERE)
        assert len(answer(line).contacts) == limits.LOOKUP_CONTACTS_ALONE
        assert answer(line).ok == wire.OK
        assert node.selfview.reachable is None
        pong(node, line, address=HERE)
        assert node.selfview.reachable
        assert node.protocol.table.get(NodeId(ID)) is not None


async def test_what_merely_says_to_come_from_somewhere_proves_nothing() -> None:
    async with wired() as (node, line):
        for number in range(50):
            node.protocol.datagram_received(opening(NO_KIND, request_id=number.to_bytes(20)), HERE)
        assert node.selfview.reachable is None
        assert not node.peers()
        assert node.protocol.peer_at(HERE).verified_until == 0.0
        assert sum(data[21:27] == wire.PING.head for data, _ in line.sent) == 1


@pytest.mark.parametrize(
    ("size", "kind", "ok"),
    [(300, EITHER, wire.OK), (900, EITHER, wire.TOKEN_NEEDED), (900, 0, wire.OK)],
)
async def test_a_record_comes_at_once_if_it_fits_and_for_a_token_if_not(size: int, kind: int, ok: int) -> None:
    async with wired() as (node, line):
        held(node).put(record(DhtKey(KEY), b"." * size), None, 0.0, "self")
        node.protocol.datagram_received(opening(kind), HERE)
        reply = answer(line)
        assert reply.ok == ok
        assert len(reply.wires) == (size == 300)
        assert reply.total == (ok == wire.OK)


async def test_a_short_first_question_is_answered_with_a_token() -> None:
    async with wired() as (node, line):
        fill(node)
        node.protocol.datagram_received(opening(NO_KIND, limits.OPENING_BYTES - 1), HERE)
        assert answer(line).ok == wire.TOKEN_NEEDED


@pytest.mark.parametrize(("size", "trips"), [(300, 1), (900, 2)])
@virtual
async def test_a_fetch_from_a_stranger_takes_one_round_trip_if_its_record_fits(size: int, trips: int) -> None:
    sky = Sky()
    holder, reader = await sky.node(1), await sky.node(2)
    wanted = record(DhtKey(KEY), b"." * size)
    held(holder).put(wanted, None, 0.0, "self")
    contact = contact_at(holder.protocol.own_id, "8.1.1.1", 3001)
    assert contact is not None
    stranger = Peer(contact.address, contact, reader.protocol.monotonic())
    stranger.kind = PeerKind.DHTEX
    reader.protocol.peers[contact.address] = stranger
    reader.protocol.table.offer(stranger)
    took_s = await timed(reader.fetch(KEY, 0, wanted.__eq__))
    assert took_s == pytest.approx(2 * trips * DELAY_S, abs=1e-3)
    await end([holder, reader])


async def test_a_token_that_an_opening_brought_is_used() -> None:
    clock = NodeClock(lambda: 0.0, 1000.0)
    async with wired(clock) as (node, line):
        peer = node.protocol.peer_at(HERE, contact_at(NodeId(ID), *HERE))
        args = wire.GetArgs(NET, node.protocol.own_id, b"", KEY, NO_KIND, 0, True)
        answers: list[object] = []
        node.protocol.ask(peer, wire.GET, args, lambda request, answer: answers.append(answer))
        reply = wire.GetReply(NodeId(ID), b"12345678", wire.OK, [], 0, bytes(8), [])
        node.protocol.datagram_received(b"\1" + line.sent[0][0][1:21] + pack(reply), HERE)
        assert len(answers) == 1
        node.protocol.ask(peer, wire.GET, args, lambda request, answer: None)
        second = line.sent[-1][0]
        assert b"12345678" in second
        assert len(second) < 110


async def test_a_stranger_that_pings_first_shows_that_we_are_reached_once_it_has_answered() -> None:
    async with wired() as (node, line):
        ping = request("ping", ID, trailer=request_trailer(NET, 200))
        node.protocol.datagram_received(ping, HERE)
        assert node.selfview.reachable is None
        pong(node, line, address=HERE)
        assert node.selfview.reachable


@pytest.mark.parametrize("before", [HERE, (HERE[0], 5001)])
async def test_from_an_ip_that_we_asked_before_nobody_shows_anything(before: Address) -> None:
    now = [0.0]
    async with wired(NodeClock(lambda: now[0], 1000.0)) as (node, line):
        node.protocol.ping(node.protocol.peer_at(before))
        pong(node, line, key_of(9), before)
        now[0] += 2 * limits.TOKEN_LIFE_S
        line.sent.clear()
        node.protocol.datagram_received(opening(NO_KIND), HERE)
        pong(node, line, address=HERE)
        assert answer(line).ok == wire.OK
        assert node.selfview.reachable is None


@pytest.mark.parametrize("ip", ["127.0.0.1", "192.168.0.7", "::1"])
async def test_a_neighbour_shows_nothing_unless_we_are_local_ourselves(ip: str) -> None:
    async with wired() as (node, line):
        node.protocol.datagram_received(opening(NO_KIND), (ip, 4001))
        pong(node, line, address=(ip, 4001))
        assert node.peers()
        assert node.selfview.reachable is None
        node.selfview.heard((ip, 4001), View(False, 0, (ip, 3001)), node.protocol.monotonic())
        node.selfview.unasked(ip, 1.0)
        assert node.selfview.reachable


async def test_only_the_answer_to_the_ping_back_shows_it_and_only_once() -> None:
    now = [0.0]
    async with wired(NodeClock(lambda: now[0], 1000.0)) as (node, line):
        node.protocol.datagram_received(opening(NO_KIND), HERE)
        now[0] += 5.0
        node.protocol._on_deadline(node.protocol.monotonic())
        peer = node.protocol.peers[HERE]
        assert not peer.pinging
        node.protocol.ping(peer)
        pong(node, line, address=HERE)
        assert node.selfview.reachable is None  # it may be long ago that it came
        other = ("9.9.9.9", 4001)
        node.protocol.datagram_received(opening(NO_KIND, sender=key_of(9)), other)
        pong(node, line, key_of(9), other)
        shown_at = node.selfview.reached_at
        assert shown_at is not None
        now[0] += 60.0
        node.protocol.ping(node.protocol.peers[other])
        pong(node, line, key_of(9), other)
        assert node.selfview.reached_at == shown_at


async def test_only_a_first_page_needs_no_token() -> None:
    async with wired() as (node, line):
        told: list[object] = []
        node.protocol.serving.on_digest_asked = lambda args, address: told.append(args)  # type: ignore[attr-defined]
        asked = (NET, ID, b"", KEY, 0, wire.PAST_THE_END | 7, False, b"", b"", bytes(600))
        node.protocol.datagram_received(request("dx_get", *asked), HERE)
        assert answer(line).ok == wire.TOKEN_NEEDED
        assert not told
        args = wire.GetArgs(NET, node.protocol.own_id, b"", KEY, 0, 5, False)
        line.sent.clear()
        node.protocol.ask(node.protocol.peer_at(HERE), wire.GET, args, lambda request, answer: None)
        assert len(line.sent[0][0]) < 100


async def test_an_answer_that_is_longer_all_the_same_is_not_sent() -> None:
    async with wired() as (node, line):
        big = wire.GetReply(node.protocol.own_id, b"", wire.OK, [], 1, bytes(8), [b"." * 700])
        node.protocol.serving.get = lambda *_: big  # type: ignore[method-assign]
        node.protocol.datagram_received(opening(0), HERE)
        assert answer(line).ok == wire.TOKEN_NEEDED


async def test_contacts_that_are_longer_are_fewer_and_leave_room_for_the_ping() -> None:
    async with wired() as (node, line):
        for number in range(20):
            contact = contact_at(NodeId(key_of(100 + number)), f"2001:db8::{number + 1}", 6000)
            assert contact is not None
            peer = Peer(contact.address, contact, node.protocol.monotonic())
            peer.kind = PeerKind.DHTEX
            node.protocol.table.offer(peer)
        node.protocol.datagram_received(opening(NO_KIND), HERE)
        assert 8 <= len(answer(line).contacts) < limits.LOOKUP_CONTACTS_ALONE
        assert sum(len(data) for data, _ in line.sent) <= limits.OPENING_BYTES
        assert any(data[21:27] == wire.PING.head for data, _ in line.sent)


async def test_a_question_that_is_longer_than_any_answer_gets_one_that_can_be_sent() -> None:
    async with wired() as (node, line):
        fill(node)
        node.protocol.datagram_received(opening(0, 3000), HERE)
        assert answer(line).wires
        assert "dropped_too_large_to_send" not in node.counters


async def test_who_came_unasked_is_looked_at_once_a_second() -> None:
    now = [0.0]
    async with wired(NodeClock(lambda: now[0], 1000.0)) as (node, line):
        with patch.object(Peers, "asked_at", return_value=True) as looked:
            for number in range(20):
                address = (f"9.{number}.7.6", 5000)
                node.protocol.datagram_received(opening(NO_KIND, sender=key_of(number)), address)
                pong(node, line, key_of(number), address)
                now[0] += limits.UNASKED_S / 8
        assert 2 <= looked.call_count <= 3
