"""Holders hand on what is missing elsewhere, and nothing else."""

import pytest

from dhtex import limits
from dhtex.market.holding import IDS, PutVerdict
from dhtex.market.ids import DhtKey
from dhtex.overlay import replicate, wire
from dhtex.overlay.contact import Contact
from dhtex.overlay.server import Overlay
from tests.unit.overlay.fakes import address_of, cluster, held, record, until
from tests.unit.overlay.test_hints import kill
from tests.unit.overlay.test_overlay import key_of


def contact_of(asker: Overlay, other: Overlay) -> Contact:
    contact = asker.protocol.peer_at(address_of(other)).contact
    assert contact is not None
    return contact


def compare(giver: Overlay, taker: Overlay, key: DhtKey) -> None:
    replicator = giver._replicator
    replicator._rows = replicator._held()
    replicator._budget = 1000.0
    replicator._compare(key, [contact_of(giver, taker)])


@pytest.mark.parametrize(("rows", "missing"), [(300, [7, 299]), (5, [0]), (3, [1]), (130, [])])
async def test_only_what_differs_is_sent(monkeypatch: pytest.MonkeyPatch, rows: int, missing: list[int]) -> None:
    async with cluster(2) as (giver, taker):
        await until(lambda: len(giver.peers()) == 1)
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
        if rows > replicate.SENT_UNSEEN_MAX:
            assert sorted(taken) == [wires[number] for number in missing]
        assert held(taker).rows == held(giver).rows


async def test_who_invents_ids_without_end_costs_a_bounded_number_of_questions() -> None:
    async with cluster(2) as (giver, liar):
        await until(lambda: len(giver.peers()) == 1)
        key = key_of(1)
        held(giver).rows[key] = [(None, record(key, b"text %d" % number)) for number in range(10)]
        held(liar).rows[key] = [(None, record(key, b"other"))]
        asked = []

        honest = liar.protocol.serving.get

        def get(args: wire.GetArgs, token: bytes) -> wire.GetReply:
            if not args.kind & IDS:
                return honest(args, token)
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
            node.protocol._evict(peer)
        kill(lost)
        await until(lambda: key in held(nearest[8]).rows, within_s=10)
