"""What is replayed, forged, meant for another network or put at another key: refused, with a real shelf behind."""

import ast
import inspect
import random
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dhtex import limits
from dhtex.control import doors
from dhtex.market.ids import DhtKey, NodeId, index_key, order_key
from dhtex.market.records import AnyRecord, Closing
from dhtex.overlay import guard, wire
from dhtex.overlay.addresses import Address
from dhtex.overlay.server import Overlay
from dhtex.overlay.trailer import network_tag, reply_trailer, request_trailer
from dhtex.overlay.transport import Endpoint, Receiver
from dhtex.sim.clock import NodeClock
from dhtex.store.database import Database
from dhtex.store.holdings import Holdings
from tests.builders import NETWORK, identity, make_beat, make_order, make_status, stamped_by
from tests.unit.overlay.test_hostile import HERE, ID, Line, pong, request

THERE: Address = ("127.0.0.2", 4001)
NET = network_tag(NETWORK)
START = 1_900_000_000


class Holder:
    """A node with a real shelf, a clock in our hands, and no network."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.line = Line()
        self.holdings = Holdings(Database.open(None), NETWORK, 0)
        clock, entropy = NodeClock(lambda: self.seconds, 5000.0), random.Random(1)
        node_id = NodeId(entropy.randbytes(20))
        self.node = Overlay(node_id, NETWORK, self.holdings, clock, entropy, open_endpoint=self._open)

    async def _open(self, receiver: Receiver, host: str | None, port: int) -> Endpoint:
        return self.line

    def receive(self, datagram: bytes, address: Address = HERE) -> list[bytes]:
        """What it answers at once."""
        self.line.sent.clear()
        self.node.protocol.datagram_received(datagram, address)
        return [data for data, to in self.line.sent if to == address and data[0] == wire.REPLY]

    def token(self, address: Address = HERE) -> bytes:
        return self.node.protocol.tokens.issue(address[0])

    def later(self, seconds: float) -> None:
        self.seconds += seconds
        self.node.protocol.tokens.rotate(self.node.protocol.monotonic())

    def put(self, record: AnyRecord | bytes, prefix: str | None = None, net: bytes = NET) -> wire.PutReply | None:
        sent = record if isinstance(record, bytes) else record.wire
        answers = self.receive(request("dx_put", net, ID, self.token(), prefix, sent))
        return wire.PUT.reply.decode(answers[0][21:]) if answers else None


@asynccontextmanager
async def holder() -> AsyncIterator[Holder]:
    made = Holder()
    await made.node.listen(0)
    try:
        yield made
    finally:
        await made.node.close()


def put_of(record: AnyRecord, token: bytes) -> bytes:
    return request("dx_put", NET, ID, token, None, record.wire)


async def test_a_put_that_is_replayed_changes_nothing() -> None:
    async with holder() as it:
        order = make_order(created=START)
        datagram = put_of(order, it.token())
        for taken in ("stored", "known", "known"):
            (answer,) = it.receive(datagram)
            assert wire.PUT.reply.decode(answer[21:]).taken == taken
        assert it.holdings.count == 1


async def test_a_put_that_is_replayed_from_another_address_is_not_read() -> None:
    async with holder() as it:
        datagram = put_of(make_order(created=START), it.token())
        (answer,) = it.receive(datagram, THERE)
        assert wire.PUT.reply.decode(answer[21:]).ok == wire.TOKEN_NEEDED
        assert it.holdings.count == 0


async def test_write_tokens_expire() -> None:
    async with holder() as it:
        datagram = put_of(make_order(created=START), it.token())
        it.later(limits.TOKEN_LIFE_S + 1)
        (answer,) = it.receive(datagram)
        assert wire.PUT.reply.decode(answer[21:]).ok == wire.OK  # one rotation: the previous secret still counts
        it.later(limits.TOKEN_LIFE_S + 1)
        (answer,) = it.receive(datagram)
        assert wire.PUT.reply.decode(answer[21:]).ok == wire.TOKEN_NEEDED


async def test_an_order_that_is_replayed_after_its_end_stays_ended() -> None:
    async with holder() as it:
        order = make_order(created=START)
        status = make_status(order, Closing.CANCELED)
        it.put(order, "")
        it.put(status, "")
        replayed = it.put(order, "")
        assert replayed is not None
        assert (replayed.taken, replayed.newer) == ("superseded", status.wire)
        it.later(order.body.expires - START + 10)
        after = it.put(order, "")
        assert after is not None
        assert after.taken in ("superseded", "refused")


async def test_an_old_status_does_not_take_back_a_newer_one() -> None:
    async with holder() as it:
        order = make_order(created=START)
        old, new = (make_status(order, Closing.CANCELED, seq=seq) for seq in (1, 2))
        for record in (order, old, new):
            it.put(record)
        replayed = it.put(old)
        assert replayed is not None
        assert (replayed.taken, replayed.newer) == ("superseded", new.wire)


async def test_a_forged_source_gets_no_answer_worth_having_and_no_place() -> None:
    async with holder() as it:
        order = make_order(created=START)
        it.put(order)
        key = order_key(order.id)
        answers = it.receive(request("dx_get", NET, ID, b"", key, 0, 0, True), THERE)
        assert wire.GET.reply.decode(answers[0][21:]).wires == []
        assert it.receive(request("find_value", ID, key, trailer=request_trailer(NET, 60)), THERE) == []
        assert it.node.peers() == []


async def test_an_answer_of_somebody_else_is_not_believed() -> None:
    async with holder() as it:
        it.receive(request("find_node", ID, bytes(20), trailer=request_trailer(NET, 60)))
        sent = list(it.line.sent)
        pong(it.node, it.line)  # the one who was asked
        assert len(it.node.peers()) == 1
        ping = sent[0][0]
        forged = b"\1" + ping[1:21] + wire.encode(bytes(20)) + reply_trailer(NET, bytes(20), b"t" * 8)
        it.node.protocol.datagram_received(forged, THERE)
        it.node.protocol.datagram_received(forged, HERE)  # and the same answer does not come twice
        assert [peer.id for peer in it.node.peers()] == [ID]
        assert it.node.counters["dropped_unasked"] == 2


async def test_another_networks_requests_records_and_peers_are_refused() -> None:
    async with holder() as it:
        order = make_order(created=START)
        assert it.put(order, net=network_tag("other")) is None
        assert it.node.counters["dropped_foreign"] == 1
        foreign = it.put(make_order(created=START, network="other"))
        assert foreign is not None
        assert (foreign.taken, foreign.code) == ("refused", "wrong_network")
        assert it.receive(request("find_node", ID, bytes(20), trailer=request_trailer(b"othr", 60))) == []
        assert it.holdings.count == 0


async def test_a_record_is_refused_at_every_key_but_its_own() -> None:
    async with holder() as it:
        order = make_order(created=START)
        for prefix in ("0", "11", "01", "x", "0" * 128):
            answer = it.put(order, prefix)
            assert answer is None or answer.code == "wrong_key"
        beat = it.put(make_beat(at=START), None)
        assert beat is not None
        assert beat.code == "wrong_key"
        # A stock peer names the key itself.
        address_of_other = order_key(make_order(created=START, number=9).id)
        it.node.protocol.peer_at(HERE).verified_until = it.node.protocol.monotonic() + 60
        for key in (address_of_other, index_key(NETWORK, "BTC/USD", "sell", ""), DhtKey(bytes(20))):
            (answer_bytes,) = it.receive(request("store", ID, key, order.wire))
            assert answer_bytes[21:] == wire.encode(False)
        assert it.holdings.count == 0
        (answer_bytes,) = it.receive(request("store", ID, order_key(order.id), order.wire))
        assert answer_bytes[21:] == wire.encode(True)


async def test_a_record_in_anothers_name_is_refused() -> None:
    async with holder() as it:
        order = make_order(created=START)
        thief = identity(7)
        forged = it.put(stamped_by(order.body, thief, START, 0))
        assert forged is not None
        assert (forged.taken, forged.code) == ("refused", "bad_signature")
        it.put(order)
        ended = it.put(make_status(order, Closing.CANCELED, by=thief))
        assert ended is not None
        assert (ended.taken, ended.code) == ("refused", "bad_signature")


def test_secrets_are_compared_in_constant_time() -> None:
    """By reading the source: time cannot tell this in a test."""
    for function in (guard.Tokens.valid, doors.Guard):
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
        calls = [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]
        assert "hmac.compare_digest" in calls
        for node in ast.walk(tree):
            if isinstance(node, ast.Compare):
                names = {ast.unparse(side) for side in (node.left, *node.comparators)}
                assert not names & {"token", "self._token"}
