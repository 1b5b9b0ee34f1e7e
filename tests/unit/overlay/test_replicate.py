"""Holders hand on what is missing elsewhere, and nothing else."""

from collections import deque

import pytest

from dhtex import limits
from dhtex.market.holding import IDS, PutVerdict
from dhtex.market.ids import DhtKey
from dhtex.overlay import replicate, wire
from dhtex.overlay.addresses import Address
from dhtex.overlay.contact import Contact
from dhtex.overlay.server import Overlay
from tests.unit.overlay.fakes import address_of, asking, cluster, gets, held, record, until
from tests.unit.overlay.test_hints import kill
from tests.unit.overlay.test_overlay import key_of


def contact_of(asker: Overlay, other: Overlay) -> Contact:
    contact = asker.protocol.peer_at(address_of(other)).contact
    assert contact is not None
    return contact


def compare(giver: Overlay, taker: Overlay, key: DhtKey) -> None:
    replicator = giver._replicator
    replicator._prefixes = replicator._holdings.keys(0.0)
    replicator._budget = 1000.0
    replicator._compare(key, [contact_of(giver, taker)])


@pytest.mark.parametrize(("rows", "missing"), [(300, [7, 299]), (5, [0]), (3, [1]), (3, [0, 1]), (130, [])])
async def test_only_what_differs_is_sent(monkeypatch: pytest.MonkeyPatch, rows: int, missing: list[int]) -> None:
    async with cluster(2) as (giver, taker):
        key = key_of(1)
        wires = sorted(record(key, b"text %03d" % number) for number in range(rows))
        held(giver).rows[key] = [(None, one) for one in wires]
        held(taker).rows[key] = [(None, one) for number, one in enumerate(wires) if number not in missing]
        taken: list[bytes] = []
        put = held(taker).put

        def noted(one: bytes, prefix: str | None, now: float, source: str) -> PutVerdict:
            taken.append(one)
            return put(one, prefix, now, source)

        monkeypatch.setattr(held(taker), "put", noted)
        compare(giver, taker, key)
        await until(lambda: not giver.protocol.requests and not giver._replicator._send_queue)
        if rows > replicate.SENT_UNSEEN_MAX or len(missing) == 1:
            assert sorted(taken) == [wires[number] for number in missing]
        assert held(taker).rows == held(giver).rows


async def test_an_order_is_not_handed_to_who_has_its_end() -> None:
    order, status = (bytes((0x92, kind, 0xC4, 1)) + bytes(1) for kind in (1, 2))
    async with cluster(2) as (giver, taker):
        key, handed = key_of(1), []
        giver._replicator._hand_on = lambda contact, rows: handed.extend(rows)  # type: ignore[method-assign]
        held(giver).rows[key] = [(None, order), (None, status)]
        for there, expected in ([status], []), ([order], [(None, status)]), ([], [(None, order), (None, status)]):
            held(taker)._digests.clear()
            held(taker).rows[key] = [(None, one) for one in there]
            handed.clear()
            compare(giver, taker, key)
            await until(lambda: not giver.protocol.requests)
            assert handed == expected


async def test_what_came_since_the_keys_were_looked_through_is_compared_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async with cluster(2) as (giver, taker):
        replicator, key = giver._replicator, key_of(1)
        held(giver).rows[key] = [(None, record(key))]
        replicator._prefixes = replicator._holdings.keys(0.0)
        for node in (giver, taker):
            held(node).rows[key] = [(None, record(key)), (None, record(key, b"what came since"))]
        monkeypatch.setattr(replicator, "_hand_on", lambda contact, rows: pytest.fail("nothing is missing there"))
        with asking(giver) as asked:
            replicator._compare(key, [contact_of(giver, taker)])
        assert gets(asked, key)
        await until(lambda: not giver.protocol.requests)


async def test_of_two_that_hold_the_same_only_one_asks() -> None:
    async with cluster(2) as (giver, taker):
        key = key_of(1)
        for node in (giver, taker):
            held(node).rows[key] = [(None, record(key, b"text %d" % number)) for number in range(4)]

        async def asks(one: Overlay, other: Overlay) -> bool:
            with asking(one) as asked:
                compare(one, other, key)
            await until(lambda: not one.protocol.requests)
            return gets(asked, key) > 0

        assert await asks(giver, taker)
        assert not await asks(taker, giver)  # it has been told
        assert await asks(taker, giver)  # once: that was for this time
        assert not await asks(giver, taker)
        assert await asks(giver, taker)
        held(taker).put(record(key, b"new"), None, 0.0, "")
        assert await asks(taker, giver)  # what it was told is another digest than its own by now
        await until(lambda: held(giver).rows == held(taker).rows)
        stranger = taker.protocol.peer_at(("127.0.0.9", 9))
        args = wire.GetArgs(taker._net, giver.protocol.own_id, b"", key, 0, wire.PAST_THE_END, False)
        taker._replicator._told.clear()
        taker.protocol.serving.get(args, b"", stranger.address)
        assert not taker._replicator._told  # anybody can claim an id, but not from its address
        for number in range(limits.DIGESTS_REMEMBERED_MAX + 2):
            args.key = key_of(number)
            taker.protocol.serving.get(args, b"", address_of(giver))
        assert len(taker._replicator._told) == limits.DIGESTS_REMEMBERED_MAX


async def test_a_round_searches_for_the_holders_only_of_what_we_do_not_hold_by_right() -> None:
    async with cluster(12) as nodes:
        await until(lambda: all(len(node.peers()) == 11 for node in nodes), within_s=10)
        node, searched = nodes[0], []
        replicator = node._replicator
        replicator._locate = lambda key, done: searched.append(key)
        keys = [key_of(number) for number in range(40)]
        held(node).rows = {key: [(None, record(key))] for key in keys}
        replicator._next_pass, replicator._changes = 0.0, []
        now = node.protocol.monotonic()
        deque(replicator.tick(now))
        while replicator._due:
            now += limits.REPLICATE_INTERVAL_S
            replicator._next_pass = now + 1.0
            deque(replicator.tick(now))
        nearest = {
            key: sorted(int.from_bytes(one.protocol.own_id) ^ int.from_bytes(key) for one in nodes) for key in keys
        }
        foreign = [key for key in keys if node.node.long_id ^ int.from_bytes(key) > nearest[key][limits.HOLDERS - 1]]
        assert 5 < len(foreign) < 35
        assert sorted(searched) == sorted(foreign)
        await until(lambda: not node.protocol.requests)


class Alone:
    """A replicator of a node that holds so many keys, with one neighbour; notes which keys are compared."""

    def __init__(self, giver: Overlay, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
        contact = giver.protocol.table.closest(key_of(1), 1)[0].contact
        assert contact is not None
        self.neighbour = contact
        self.replicator = giver._replicator
        self.compared: list[DhtKey] = []
        held(giver).rows = {key: [(None, record(key))] for key in map(key_of, range(count))}
        monkeypatch.setattr(self.replicator, "_compare", lambda key, contacts: self.compared.append(key))
        monkeypatch.setattr(self.replicator, "_fellows", lambda key: [contact])
        monkeypatch.setattr(replicate, "KEYS_WALKED_PER_TICK", count)
        self.replicator._changes = []
        self.now = self.replicator._next_pass = giver.protocol.monotonic()

    def tick(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += 1.0
            deque(self.replicator.tick(self.now))


@pytest.mark.parametrize(("count", "at_once"), [(100, replicate.KEYS_PER_TICK), (36_000, 27), (72_000, 32)])
async def test_a_round_ends_before_the_next_may_begin(
    monkeypatch: pytest.MonkeyPatch, count: int, at_once: int
) -> None:
    async with cluster(2) as (giver, _):
        alone = Alone(giver, count, monkeypatch)
        most = 0
        for _ in range(int(limits.REPLICATE_INTERVAL_S * replicate.ROUND_PART) + 1):
            before = len(alone.compared)
            alone.tick(1)
            most = max(most, len(alone.compared) - before)
        assert most <= at_once
        assert len(alone.compared) == len(set(alone.compared))
        assert len(alone.compared) == count or (most == at_once == replicate.KEYS_PER_TICK_MAX)


async def test_keys_that_lost_a_holder_go_before_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    async with cluster(2) as (giver, _):
        alone = Alone(giver, 20_000, monkeypatch)
        alone.tick(900)  # more have come up than could be compared
        urgent = [key_of(number) for number in range(100)]
        for key in urgent:
            alone.replicator._plan(key, alone.now, [alone.neighbour])
        alone.compared.clear()
        alone.replicator._next_pass = alone.now  # and a round begins besides
        alone.tick(10)
        assert set(alone.compared[:100]) == set(urgent)


async def test_changes_without_end_are_noted_in_bounded_room(monkeypatch: pytest.MonkeyPatch) -> None:
    async with cluster(2) as (giver, _):
        alone = Alone(giver, 2000, monkeypatch)
        for _ in range(60):
            alone.replicator.peer_found(alone.neighbour)
            alone.tick(6)
            assert sum(map(len, alone.replicator._queues)) <= 3 * 2000
        assert max(sum(1 for _ in alone.replicator.tick(alone.now + second)) for second in range(5)) >= 8


async def test_who_invents_ids_without_end_costs_a_bounded_number_of_questions() -> None:
    async with cluster(2) as (giver, liar):
        key = key_of(1)
        held(giver).rows[key] = [(None, record(key, b"text %d" % number)) for number in range(10)]
        held(liar).rows[key] = [(None, record(key, b"other"))]
        asked = []

        honest = liar.protocol.serving.get

        def get(args: wire.GetArgs, token: bytes, address: Address, room_bytes: int = 0) -> wire.GetReply:
            if not args.kind & IDS:
                return honest(args, token, address)
            asked.append(args.rank)
            return wire.GetReply(liar.protocol.own_id, token, wire.OK, [], (1 << 32) - 1, bytes(8), [b"8 bytes."])

        liar.protocol.serving.get = get  # type: ignore[method-assign]
        compare(giver, liar, key)
        await until(lambda: len(asked) > 1 and not giver.protocol.requests)
        assert len(asked) <= limits.ID_PAGES_MAX


async def test_the_next_holder_gets_a_record_when_one_has_died(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicate, "SETTLE_S", (0.1, 0.2))
    monkeypatch.setattr(replicate, "TURN_S", 0.1)
    async with cluster(11) as nodes:
        await until(lambda: all(len(node.peers()) == 10 for node in nodes), within_s=10)
        key = key_of(1)
        goal = int.from_bytes(key)
        nearest = sorted(nodes, key=lambda node: int.from_bytes(node.protocol.own_id) ^ goal)
        await nearest[0].put(key, record(key), None)
        await until(lambda: all(key in held(node).rows for node in nearest[:8]))
        assert key not in held(nearest[8]).rows
        lost = nearest[3]
        for node in nearest[:3]:
            peer = node.protocol.table.get(lost.protocol.own_id)
            assert peer is not None
            node.protocol.meetings.evict(peer)
        kill(lost)
        await until(lambda: key in held(nearest[8]).rows, within_s=10)
