"""Who is met without being needed, and how often those are asked who are silent."""

import asyncio
from collections.abc import Sequence
from unittest.mock import Mock

import pytest

from dhtex import limits
from tests.unit.overlay.sky import Sky, end, virtual


@virtual
async def test_where_there_is_room_everybody_soon_knows_everybody() -> None:
    nodes = await Sky().network(70)
    await asyncio.sleep(15)
    assert all(node.selfview.reachable and node._upkeep.settled for node in nodes)
    assert {len(node.peers()) for node in nodes} == {69}
    await end(nodes)


@pytest.mark.parametrize(("each_s", "pings"), [(1.0, 4), (20.0, 2)])
@virtual
async def test_of_many_silent_peers_each_is_asked_more_seldom(
    each_s: float, pings: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PING_EACH_S", each_s)
    nodes = await Sky().network(13)
    await asyncio.sleep(60)
    asked = Mock(wraps=nodes[0].protocol.ping)
    monkeypatch.setattr(nodes[0].protocol, "ping", asked)
    await asyncio.sleep(4 * limits.PING_IDLE_S + 10)
    assert asked.call_count == pytest.approx(12 * pings, abs=12)
    await end(nodes)


@virtual
async def test_who_doubts_or_has_slept_asks_all_peers_at_once_however_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PING_EACH_S", 20.0)
    nodes = await Sky().network(13)
    await asyncio.sleep(60)
    asked = Mock(wraps=nodes[0].protocol.ping)
    monkeypatch.setattr(nodes[0].protocol, "ping", asked)
    nodes[0]._upkeep.ask_all()
    await asyncio.sleep(3)
    assert asked.call_count == 12
    await end(nodes)


@pytest.mark.parametrize(("nodes", "bucket", "looks"), [(16, 20, [0]), (40, 20, [16]), (40, 1, range(8))])
@virtual
async def test_a_node_looks_only_where_it_has_room_and_may_not_know_all(
    nodes: int, bucket: int, looks: Sequence[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    members = await Sky().network(nodes)
    await asyncio.sleep(60)
    looked = Mock()
    monkeypatch.setattr(members[0]._upkeep, "_look", looked)
    monkeypatch.setattr(members[0].protocol.table, "bucket_size", bucket)
    members[0]._upkeep.look_around()
    await asyncio.sleep(30)
    assert looked.call_count in looks
    assert len({call.args[0][0] >> 4 for call in looked.call_args_list}) == looked.call_count
    await end(members)
