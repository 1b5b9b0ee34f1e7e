"""Hostile datagrams: whatever arrives, nothing raises, nothing closes, nobody is paid more than he sent."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dhtex import limits
from dhtex.clock import Clock, SystemClock
from dhtex.market.ids import DhtKey, NodeId
from dhtex.overlay import wire
from dhtex.overlay.addresses import Address
from dhtex.overlay.contact import PeerKind
from dhtex.overlay.server import Overlay
from dhtex.overlay.trailer import network_tag, reply_trailer, request_trailer
from dhtex.overlay.transport import Endpoint, Receiver
from dhtex.sim.clock import NodeClock
from tests.unit.overlay.fakes import FakeHoldings, address_of, cluster, held, make_overlay, record, until
from tests.unit.overlay.test_overlay import key_of

HERE: Address = ("127.0.0.1", 4001)
ID = bytes(range(20))
pack = msgspec.msgpack.encode


def request(verb: str, *args: object, trailer: bytes = b"", request_id: bytes = bytes(20)) -> bytes:
    return b"\0" + request_id + pack([verb, list(args)]) + trailer


class Line:
    """An endpoint that keeps what is sent, and hands in what it is told to."""

    def __init__(self) -> None:
        self.port = 1
        self.sent: list[tuple[bytes, Address]] = []

    def sendto(self, data: bytes, addr: Address) -> None:
        self.sent.append((data, addr))

    def send_afresh(self, data: bytes, addr: Address) -> None:
        self.sendto(data, addr)

    def close(self) -> None:
        return


@asynccontextmanager
async def wired(clock: Clock | None = None) -> AsyncIterator[tuple[Overlay, Line]]:
    line = Line()

    async def opened(receiver: Receiver, host: str | None, port: int) -> Endpoint:
        return line

    entropy = random.Random(1)
    node_id = NodeId(entropy.randbytes(20))
    node = Overlay(node_id, "test", FakeHoldings(), clock or SystemClock(), entropy, open_endpoint=opened)
    await node.listen(0)
    try:
        yield node, line
    finally:
        await node.close()


def pong(node: Overlay, line: Line, sender: bytes = ID, address: Address = HERE, *, marked: bool = True) -> None:
    """Answer the last ping that went to an address."""
    ping = next(data for data, to in reversed(line.sent) if to == address and data[21:27] == wire.PING.head)
    trailer = reply_trailer(node.protocol.net, sender, b"t" * 8) if marked else b""
    node.protocol.datagram_received(b"\1" + ping[1:21] + pack(sender) + trailer, address)


SEEDS = [
    b"",
    b"\0",
    bytes(21),
    bytes(22),
    request("ping", b"\1"),
    request("ping", b"\0\1"),
    request("ping", ID, ID),
    request("ping"),
    request("stun"),
    request("find_node", ID, "text"),
    request("find_node", ID, bytes(19)),
    request("find_value", ID, {}),
    request("store", ID, ID, {"a": [1, 2]}),
    request("store", b"", b"", None),
    request("__init__", ID),
    request("rpc_ping", ID),
    request("no_such_verb"),
    b"\0" + bytes(20) + b"\xc1",
    b"\0" + bytes(20) + b"\x92\xa4ping\x91" + b"\x91" * 4000,
    b"\0" + bytes(20) + b"\x92\xa4ping\xdd\xff\xff\xff\xff",
    b"\0" + bytes(20) + b"\x92\xa4\xff\xfe\xfd\xfc\x90",
    b"\1" + bytes(20) + pack([[ID, "127.0.0.1", 70_000]]),
    b"\2" + bytes(40),
    b"\0" + bytes(20) + b"\xff" * 8380,
    b"\0" + bytes(20) + b"\xff" * 9000,
]


@pytest.mark.parametrize("datagram", SEEDS)
async def test_known_poison_is_counted_and_dropped(datagram: bytes) -> None:
    async with wired() as (node, line):
        node.protocol.datagram_received(datagram, HERE)
        assert node.counters.get("unexpected", 0) == 0
        assert sum(len(data) for data, _ in line.sent) <= len(datagram)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats() | st.text(max_size=30)
    | st.binary(max_size=40) | st.just(ID) | st.just(b"t" * 8),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=6,
)  # fmt: skip
verbs = st.sampled_from([verb.name.decode() for verb in wire.VERBS.values()])
trailers = st.sampled_from([b"", request_trailer(b"netw"), b"\0\xff\xc1dx"]) | st.binary(max_size=60)


@st.composite
def datagrams(draw: st.DrawFn) -> bytes:
    """Raw bytes, well-formed frames with any arguments, and frames with one field spoilt."""
    shape = draw(st.integers(0, 3))
    if shape == 0:
        return draw(st.binary(max_size=200))
    head = bytes([draw(st.integers(0, 2))]) + draw(st.binary(min_size=20, max_size=20))
    if shape == 1:
        body = pack([draw(verbs), draw(values)])
    elif shape == 2:
        body = pack([draw(verbs), draw(st.lists(values, max_size=8))])
    else:
        body = pack([draw(verbs), [ID, ID, draw(values)]])
        spoilt = draw(st.integers(0, len(body) - 1))
        body = body[:spoilt] + bytes([draw(st.integers(0, 255))]) + body[spoilt + 1 :]
    return head + body + draw(trailers)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(datagrams(), min_size=1, max_size=5))
def test_no_datagram_raises(batch: list[bytes]) -> None:
    async def feed() -> None:
        async with wired() as (node, _):
            for number, datagram in enumerate(batch):
                node.protocol.datagram_received(datagram, ("127.0.0.1", 4001 + number % 3))
            assert node.counters.get("unexpected", 0) == 0

    asyncio.run(feed())


replies = st.one_of(
    st.binary(max_size=300),
    values.map(pack),
    st.tuples(
        st.just(ID), st.binary(max_size=9), st.integers(-1, 3), st.lists(st.binary(max_size=40), max_size=30),
        st.integers(-1, 1 << 33), st.binary(max_size=9), st.lists(st.binary(max_size=60), max_size=30),
    ).map(pack),
    st.tuples(
        st.just(ID), st.binary(max_size=9), st.integers(-1, 2), st.text(max_size=40), st.text(max_size=40),
        st.integers(-1, 1 << 40), st.binary(max_size=1100),
    ).map(pack),
    st.lists(st.tuples(st.just(ID), st.sampled_from(["127.0.0.1", "x", ""]), st.integers(0, 70_000))).map(pack),
)  # fmt: skip


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(replies, min_size=1, max_size=10), st.booleans(), st.integers(0, 100))
def test_no_answer_of_a_peer_raises_or_hangs(answers: list[bytes], marked: bool, seed: int) -> None:
    async def talk() -> None:
        async with wired() as (node, line):
            joined = asyncio.ensure_future(node.connect(HERE))
            await asyncio.sleep(0)
            pong(node, line, marked=marked)
            work: list[asyncio.Future[Any]] = [
                joined,
                asyncio.ensure_future(node.get(key_of(1))),
                asyncio.ensure_future(node.put(key_of(2), record(key_of(2)), None)),
            ]
            node.watch(key_of(3))
            tail = reply_trailer(node.protocol.net, ID, b"t" * 8) if marked else b""
            chance, turn = random.Random(seed), 0
            async with asyncio.timeout(20):
                while not all(one.done() for one in work):
                    await asyncio.sleep(0)
                    waiting, line.sent = line.sent, []
                    for data, address in waiting:
                        if data[0] == 0 and turn < 200:
                            turn += 1
                            body = chance.choice(answers)
                            stock = wire.verb_of(data)
                            end = tail if stock is not None and stock[0].stock else b""
                            node.protocol.datagram_received(b"\1" + data[1:21] + body + end, address)
                    if not waiting:
                        await asyncio.sleep(0.01)
            assert node.counters.get("unexpected", 0) == 0

    asyncio.run(talk())


async def test_a_stranger_enters_no_table_and_is_pinged_once() -> None:
    async with wired() as (node, line):
        for _ in range(20):
            node.protocol.datagram_received(request("ping", ID), HERE)
        assert node.peers() == []
        assert [data[21:27] for data, _ in line.sent].count(wire.PING.head) == 1
        pong(node, line, marked=False)
        assert [peer.kind for peer in node.peers()] == ["stock"]


@pytest.mark.parametrize("trailer", [b"", request_trailer(network_tag("test"))])
async def test_a_stranger_never_gets_more_bytes_than_he_sent(trailer: bytes) -> None:
    async with cluster(6) as nodes:
        target = nodes[0].protocol
        sent: list[int] = []
        inner = target.transport

        class Counting:
            port = inner.port

            def sendto(self, data: bytes, addr: Address) -> None:
                if addr == HERE:
                    sent.append(len(data))
                inner.sendto(data, addr)

            def send_afresh(self, data: bytes, addr: Address) -> None:
                self.sendto(data, addr)

            def close(self) -> None:
                inner.close()

        target.transport = Counting()
        received = 0
        for number in range(200):
            key = key_of(number)
            for datagram in (
                request("ping", ID, trailer=trailer, request_id=key),
                request("stun", trailer=trailer, request_id=key),
                request("find_node", ID, key, trailer=trailer, request_id=key),
                request("find_value", ID, key, trailer=trailer, request_id=key),
                request("store", ID, key, b"x", trailer=trailer, request_id=key),
                request("dx_get", target.net, ID, b"", key, 0, 0, True, request_id=key),
                request("dx_put", target.net, ID, b"", None, b"", request_id=key),
                request("dx_watch", target.net, ID, b"12345678", 120, [], [], bytes(8), request_id=key),
                request("dx_push", target.net, ID, 1, key, b"", request_id=key),
            ):
                received += len(datagram)
                target.datagram_received(datagram, HERE)
                assert sum(sent) <= received
        await asyncio.sleep(0.7)  # repetitions of our own pings count as well
        assert sent
        assert sum(sent) <= received
        target.transport = inner


async def test_an_answer_counts_only_from_the_asked_address() -> None:
    async with wired() as (node, line):
        joined = asyncio.ensure_future(node.connect(HERE))
        await asyncio.sleep(0)
        answer = b"\1" + line.sent[0][0][1:21] + pack(ID) + reply_trailer(node.protocol.net, ID, b"t" * 8)
        node.protocol.datagram_received(answer, ("127.0.0.3", HERE[1]))
        assert not joined.done()
        assert node.counters["dropped_misdirected"] == 1
        assert node.peers() == []
        joined.cancel()


async def test_a_bad_contact_in_an_answer_harms_nobody() -> None:
    async with cluster(4) as nodes:
        liar = nodes[3].protocol
        bad: list[object] = [[ID, "127.0.0.1", 70_000], [b"\1", "127.0.0.1", 5], [ID, None, 5], "junk", None, {}]
        liar.stock.rpc_find_node = lambda *args: bad  # type: ignore[method-assign, assignment]
        liar.table.closest = lambda *args, **more: []  # type: ignore[method-assign]
        nodes[0].protocol.peers[address_of(nodes[3])].kind = PeerKind.UNKNOWN  # so that it is asked the stock way
        key = key_of(1)
        assert (await nodes[0].put(key, record(key), None)).holders >= 2
        assert (await nodes[0].get(key)).answered >= 3
        assert all(node.counters.get("unexpected", 0) == 0 for node in nodes)


async def test_a_flood_of_strangers_neither_stops_pings_nor_peers() -> None:
    async with cluster(2) as (node, peer):
        for number in range(limits.STRANGER_DATAGRAMS_PER_S * 2):
            node.protocol.datagram_received(request("stun"), ("127.0.0.9", 1024 + number % 60_000))
        assert node.counters["dropped_rate_strangers"] > 0
        assert (await peer.get(key_of(1))).answered == 2
        third = make_overlay(55)
        await third.listen(0, "127.0.0.1")
        try:
            assert await third.connect(address_of(node))
        finally:
            await third.close()


def numbered(number: int) -> bytes:
    return request("stun", request_id=number.to_bytes(20))


@pytest.mark.parametrize("kind", ["one address", "one network"])
async def test_who_floods_from_few_addresses_shuts_out_no_other_stranger(kind: str) -> None:
    async with wired(NodeClock(lambda: 0.0, 1000.0)) as (node, _):  # all of it at once, however slow the machine is
        for number in range(3 * limits.STRANGER_DATAGRAMS_PER_S):
            source = ("8.8.4.4", 4001) if kind == "one address" else (f"8.8.4.{number % 256}", 1024 + number)
            node.protocol.datagram_received(numbered(number), source)
        dropped = node.counters["dropped_rate_strangers"]
        assert dropped > 2 * limits.STRANGER_DATAGRAMS_PER_S
        for number in range(64):
            node.protocol.datagram_received(numbered(number), (f"9.9.{number}.9", 4001))
        # A place is shared with a flooding address by one in 1,024; from one network all places are in use a little.
        assert node.counters["dropped_rate_strangers"] - dropped <= 1


async def test_sixty_four_nodes_at_one_address_are_no_flood() -> None:
    async with wired() as (node, _):
        for number in range(64 * 12):
            node.protocol.datagram_received(numbered(number), ("8.8.4.4", 4001 + number % 64))
        assert "dropped_rate_strangers" not in node.counters


async def test_who_has_shown_a_token_is_no_stranger_even_if_the_table_has_no_place_for_it() -> None:
    async with wired() as (node, line):
        node.protocol.table.wants = lambda contact, since: False  # type: ignore[method-assign, assignment, misc]
        net, token = node.protocol.net, node.protocol.tokens.issue(HERE[0])
        for number in range(10 * limits.STRANGER_ADDRESS_DATAGRAMS_PER_S):
            asked = request("dx_get", net, ID, token, bytes(20), 0, 0, False, request_id=number.to_bytes(20))
            node.protocol.datagram_received(asked, HERE)
        assert len(line.sent) == 10 * limits.STRANGER_ADDRESS_DATAGRAMS_PER_S


async def test_no_reply_is_larger_than_a_datagram_may_be() -> None:
    async with cluster(30) as nodes:
        largest = 0
        for node in nodes:
            inner = node.protocol.transport

            class Measuring:
                port = inner.port
                _inner = inner

                def sendto(self, data: bytes, addr: Address) -> None:
                    nonlocal largest
                    largest = max(largest, len(data))
                    self._inner.sendto(data, addr)

                def send_afresh(self, data: bytes, addr: Address) -> None:
                    self.sendto(data, addr)

                def close(self) -> None:
                    self._inner.close()

            node.protocol.transport = Measuring()
        key = DhtKey(key_of(1))
        for number in range(20):
            await nodes[0].put(key, record(key, b"%03d" % number + b"." * (30 * number)), None)
        await nodes[1].get(key)
        assert 900 < largest <= limits.DATAGRAM_BYTES_MAX
        assert all(node.counters.get("dropped_too_large_to_send", 0) == 0 for node in nodes)
        for node in nodes:
            if node.transport is not None:
                node.protocol.transport = node.transport


async def test_without_a_token_nothing_is_told_kept_or_leased() -> None:
    async with wired() as (node, line):
        key, net = key_of(1), node.protocol.net
        await node.put(key, record(key, b"." * 900), None)
        for token in (b"", b"12345678"):
            for datagram, verb in (
                (request("dx_get", net, ID, token, key, 0, 0, True), wire.GET),
                (request("dx_put", net, ID, token, None, record(key_of(2))), wire.PUT),
                (request("dx_watch", net, ID, token, 120, [key], [], bytes(8)), wire.WATCH),
            ):
                line.sent.clear()
                node.protocol.datagram_received(datagram, HERE)
                ((answer, _),) = line.sent
                assert len(answer) <= len(datagram)
                assert verb.reply.decode(answer[21:]).ok == wire.TOKEN_NEEDED
        assert list(held(node).rows) == [key]
        assert node.counters["leases"] == 0
        fresh = verb.reply.decode(answer[21:]).token
        line.sent.clear()
        node.protocol.datagram_received(request("dx_get", net, ID, fresh, key, 0, 0, True), HERE)
        answers = [data for data, _ in line.sent if data[0] == wire.REPLY]
        assert wire.GET.reply.decode(answers[0][21:]).wires == [record(key, b"." * 900)]


async def test_a_stranger_is_pinged_once_and_not_again() -> None:
    async with wired() as (node, line):
        asked = request("find_node", ID, key_of(1))
        node.protocol.datagram_received(asked, HERE)
        await until(lambda: not node.protocol.peers[HERE].pinging)
        assert 0 < sum(len(data) for data, _ in line.sent) <= len(asked)
        pong_less = request("find_node", ID, key_of(2))
        line.sent.clear()
        node.protocol.datagram_received(pong_less, HERE)
        pong(node, line, marked=False)
        answers = [data for data, _ in line.sent if data[0] == wire.REPLY]
        assert len(answers) == 1  # the parked request, once its sender is proven; the older one has been forgotten
