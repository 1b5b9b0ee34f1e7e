"""A fetch asks one holder where answers come at once, and never waits for it alone where they do not."""

import asyncio
from typing import Any
from unittest.mock import Mock

import pytest
from msgspec.structs import replace

from dhtex import limits
from dhtex.market.holding import EITHER
from dhtex.market.records import Kind
from dhtex.overlay.addresses import Address
from dhtex.overlay.crawl import Crawl
from dhtex.overlay.server import Overlay
from dhtex.overlay.serving import Serving
from dhtex.overlay.wire import GetArgs, GetReply
from tests.unit.overlay import sky
from tests.unit.overlay.fakes import asking, gets, held, record, timed
from tests.unit.overlay.sky import PORT, Sky, end, virtual
from tests.unit.overlay.test_overlay import key_of

KEY = key_of(1)
NEAR_S = 0.0005


async def network(
    monkeypatch: pytest.MonkeyPatch, delay_s: float = NEAR_S
) -> tuple[Sky, list[Overlay], list[Overlay], Overlay]:
    """Nodes that know each other, and are so far apart from then on; those that hold the record, closest first, and one
    that does not."""
    air = Sky()
    nodes = await air.network(16)
    monkeypatch.setattr(sky, "DELAY_S", delay_s)
    ranked = sorted(nodes, key=lambda node: int.from_bytes(node.protocol.own_id) ^ int.from_bytes(KEY))
    holders, reader = ranked[: limits.HOLDERS], ranked[-1]
    for node in holders:
        held(node).rows[KEY] = [(None, record(KEY))]
    return air, nodes, holders, reader


async def fetched(reader: Overlay) -> tuple[float, int]:
    """How long a fetch took, and how many nodes were asked."""
    with asking(reader) as asked:
        took_s = await timed(reader.fetch(KEY, 0, record(KEY).__eq__))
    return took_s, gets(asked, KEY)


@pytest.mark.parametrize(("delay_s", "asked"), [(NEAR_S, 1), (0.02, limits.FETCH_PARALLEL)])
@virtual
async def test_one_is_asked_if_it_is_near_and_two_if_it_is_not(
    delay_s: float, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, nodes, _, reader = await network(monkeypatch, delay_s)
    took_s, count = await fetched(reader)
    assert took_s == pytest.approx(2 * delay_s, abs=1e-4)
    assert count == asked
    await end(nodes)


@pytest.mark.parametrize("quick", [2, 5, 10])
@virtual
async def test_of_those_that_should_have_it_the_quickest_is_asked(quick: int, monkeypatch: pytest.MonkeyPatch) -> None:
    _, nodes, holders, reader = await network(monkeypatch)
    ranked = sorted(nodes, key=lambda node: int.from_bytes(node.protocol.own_id) ^ int.from_bytes(KEY))
    one = ranked[quick]  # the last of these is too far from the key to have it
    for peer in reader.protocol.table:
        peer.rtt.smooth_s = 0.02 if peer.contact is not None and peer.contact.id == one.protocol.own_id else 0.05
    served, real = list[Serving](), Serving.get

    def note(self: Serving, args: GetArgs, *rest: Any) -> GetReply:
        served.append(self)
        return real(self, args, *rest)

    monkeypatch.setattr(Serving, "get", note)
    await fetched(reader)
    assert served == [(one if one in holders else holders[0]).protocol.serving]
    await end(nodes)


@pytest.mark.parametrize("kind", [0, Kind.ORDER])
@virtual
async def test_a_holder_names_others_only_when_it_has_nothing(kind: int, monkeypatch: pytest.MonkeyPatch) -> None:
    _, nodes, holders, reader = await network(monkeypatch)
    args = GetArgs(reader._net, reader.protocol.own_id, b"", KEY, kind | EITHER, 0, True)
    has, lacks = (node.protocol.serving.get(args, b"", ("192.0.2.1", 1)) for node in (holders[0], nodes[-1]))
    assert (len(has.wires), has.contacts) == (1, [])
    assert lacks.wires == []
    assert len(lacks.contacts) == limits.LOOKUP_CONTACTS
    await end(nodes)


@virtual
async def test_who_is_silent_costs_no_more_than_who_is_near_would_need(monkeypatch: pytest.MonkeyPatch) -> None:
    air, nodes, holders, reader = await network(monkeypatch)
    address = next(address for address, plug in air.plugs.items() if plug.receiver is holders[0].protocol)
    del air.plugs[address]
    took_s, count = await fetched(reader)
    assert took_s == pytest.approx(limits.FETCH_ALONE_S + 2 * NEAR_S, abs=1e-4)
    assert count == 2
    await end(nodes)


@virtual
async def test_once_one_has_nothing_the_others_are_asked_as_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    _, nodes, holders, reader = await network(monkeypatch)
    held(holders[0]).rows.clear()
    took_s, count = await fetched(reader)
    assert took_s == pytest.approx(4 * NEAR_S, abs=1e-4)
    assert count == 1 + limits.FETCH_PARALLEL
    for node in holders:
        held(node).rows.clear()
    _, count = await fetched(reader)
    assert count == limits.HOLDERS
    await end(nodes)


@virtual
async def test_a_liar_that_is_near_and_closest_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has nothing, and names nodes that are closer still and that nobody hears from."""
    nobody = [
        (int.from_bytes(KEY) ^ number).to_bytes(20) + bytes((9, number, 1, 1)) + PORT.to_bytes(2)
        for number in range(1, 9)
    ]
    real = Serving.get
    _, nodes, holders, reader = await network(monkeypatch)

    def lie(self: Serving, args: GetArgs, token: bytes, address: Address, *room: int) -> GetReply:
        honest = real(self, args, token, address, *room)
        return replace(honest, wires=[], contacts=nobody) if self is holders[0].protocol.serving else honest

    monkeypatch.setattr(Serving, "get", lie)
    took_s, count = await fetched(reader)
    assert took_s == pytest.approx(4 * NEAR_S, abs=1e-4)
    assert count == 1 + limits.FETCH_PARALLEL
    await end(nodes)


@pytest.mark.parametrize("delay_s", [NEAR_S, 0.02])
@virtual
async def test_nothing_goes_on_when_a_fetch_has_ended(delay_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Crawl.expire
    _, nodes, _, reader = await network(monkeypatch, delay_s)
    expire = Mock()
    monkeypatch.setattr(Crawl, "expire", lambda crawl: expire() if crawl.target == KEY else real(crawl))
    await fetched(reader)
    monkeypatch.setattr(Crawl, "hurry", expire)
    await asyncio.sleep(limits.LOOKUP_S_MAX + 1)
    assert not expire.called
    await end(nodes)
