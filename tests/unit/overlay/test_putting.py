"""Putting: few are asked who the holders are, and whoever turns out to be dead is made up for."""

import asyncio
import random
from collections.abc import Iterable
from functools import partial
from typing import Any
from unittest.mock import Mock

import pytest

from dhtex import limits
from dhtex.market.holding import Taken
from dhtex.market.ids import DhtKey, NodeId
from dhtex.overlay.contact import Contact, Peer, contact_at
from dhtex.overlay.crawl import Crawl
from dhtex.overlay.putting import Putting
from dhtex.overlay.server import Overlay
from dhtex.overlay.wire import PutReply
from tests.unit.overlay import sky
from tests.unit.overlay.fakes import address_of, asking, cluster, gets, held, make_overlay, record, timed, until
from tests.unit.overlay.sky import Sky, end, virtual

HOST = "127.0.0.1"


def key_of(number: int) -> DhtKey:
    return DhtKey(random.Random(f"key {number}").randbytes(20))


def near(key: DhtKey, nodes: list[Overlay]) -> list[Overlay]:
    goal = int.from_bytes(key)
    return sorted(nodes, key=lambda node: int.from_bytes(node.protocol.own_id) ^ goal)[: limits.HOLDERS]


def _most_hold(key: DhtKey, nodes: list[Overlay]) -> bool:
    return sum(key in held(node).rows for node in nodes) >= len(nodes) - 1


@virtual
async def test_a_put_among_the_dead_reaches_all_living_holders_in_the_end() -> None:
    nodes = await Sky().network(32)
    dead = nodes[2::4]
    await end(dead)
    living = [node for node in nodes if node not in dead]
    for number in range(6):
        key = key_of(number)
        assert await timed(living[number].put(key, record(key), None)) < 1.0
        await until(partial(_most_hold, key, near(key, living)))
    await end(living)


@virtual
async def test_where_all_are_known_a_put_takes_one_round_trip() -> None:
    nodes = await Sky().network(16)
    await asyncio.sleep(60)
    for number in range(8):
        key = key_of(number)
        assert await timed(nodes[number].put(key, record(key), None)) == pytest.approx(2 * sky.DELAY_S, abs=1e-4)
        assert [node for node in near(key, nodes) if key not in held(node).rows] == []
        assert sum(key in held(node).rows for node in nodes) == limits.HOLDERS
    await end(nodes)


@virtual
async def test_a_put_asks_few_before_it_hands_over() -> None:
    nodes = await Sky().network(32)
    await asyncio.sleep(60)
    for node in nodes:  # learn tokens, so that none must be asked for
        await node.get(key_of(0))
    counts = []
    for number in range(10):
        before = sum(node.counters["datagrams_out"] for node in nodes)
        key = key_of(number)
        assert (await nodes[number].put(key, record(key), None)).holders >= limits.HOLDERS - 1
        counts.append(sum(node.counters["datagrams_out"] for node in nodes) - before)
    assert sorted(counts)[5] < 2 * (limits.HOLDERS + limits.HOLDERS)  # one more search node would be all of them
    await end(nodes)


async def test_who_watches_a_key_and_puts_there_searches_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async with cluster(12) as nodes:
        await until(lambda: all(len(node.peers()) == 11 for node in nodes), within_s=20.0)
        node, begun, start = nodes[0], list[DhtKey](), Crawl.start

        def noting(crawl: Crawl, seeds: Iterable[Peer] = ()) -> None:
            begun.append(crawl.target)
            start(crawl, seeds)

        monkeypatch.setattr(Crawl, "start", noting)
        key = key_of(5)
        node.watch(key)
        first, second = await asyncio.gather(node.put(key, record(key), None), node.put(key, record(key, b"2"), None))
        assert first.holders == second.holders >= limits.HOLDERS - 1
        await until(lambda: sum(bool(other.counters["leased_keys"]) for other in nodes) == limits.WATCH_HOLDERS)
        assert begun.count(key) == 1


async def test_a_search_that_knew_nobody_is_not_shared_with_who_comes_later() -> None:
    node, dead, other, key = make_overlay(1), make_overlay(2), make_overlay(3), key_of(6)
    for one in (node, dead, other):
        await one.listen(0, HOST)
    try:
        assert await node.connect(address_of(dead))
        await dead.close()
        node.watch(key)
        assert await node.connect(address_of(other))
        assert (await node.put(key, record(key), None)).holders == 1
    finally:
        await asyncio.gather(node.close(), other.close())


async def test_a_fetch_asks_two_where_any_holder_will_do() -> None:
    async with cluster(12) as nodes:
        await until(lambda: all(len(node.peers()) == 11 for node in nodes), within_s=20.0)
        key = key_of(3)
        await nodes[0].put(key, record(key), None)
        reader = next(node for node in nodes if key not in held(node).rows)
        await reader.get(key)  # learns tokens
        with asking(reader) as asked:
            assert await reader.fetch(key, 0, lambda wire: wire == record(key)) is not None
        assert gets(asked, key) <= 2


@pytest.mark.parametrize("number", [10, 11, 17])
@virtual
async def test_nobody_waits_for_the_last_slow_ones_when_most_have_answered(number: int) -> None:
    nodes = await Sky().network(limits.HOLDERS + 1)
    await asyncio.sleep(60)
    await end(nodes[-2:])
    key = key_of(number)
    assert await timed(nodes[0].put(key, record(key), None)) < 0.25  # to be sure of a death takes 0.3 s
    assert _most_hold(key, nodes[:-2])
    await end(nodes[:-2])


@pytest.mark.parametrize("count", [2, 9])
@virtual
async def test_a_put_ends_when_the_slow_want_another_token(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = await Sky().network(count)
    await asyncio.sleep(60)
    node, key = nodes[0], key_of(3)
    await node.get(key)  # its holders are remembered now
    for peer in node.protocol.table:
        peer.token = bytes(8)
    monkeypatch.setattr(sky, "DELAY_S", 0.05)
    result = await asyncio.wait_for(node.put(key, record(key), None), 5.0)
    assert 0 < result.holders <= result.asked <= count
    await end(nodes)


@virtual
async def test_a_put_that_nobody_answers_in_time_counts_those_who_answer_late(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = await Sky().network(6)
    await asyncio.sleep(60)
    monkeypatch.setattr(sky, "DELAY_S", 0.2)  # an answer to the last copy of a request comes too late
    key = key_of(4)
    result = await nodes[0].put(key, record(key), None)
    assert (result.holders, result.asked, result.unfinished) == (5, 5, False)
    await end(nodes)


HELD = PutReply(NodeId(bytes(20)), b"", 0, Taken.STORED, "", 0, b"")


def two_contacts() -> list[Contact]:
    found = (contact_at(bytes(19) + bytes([n]), "192.0.2.1", n) for n in (1, 2))
    return [contact for contact in found if contact is not None]


def test_who_was_asked_early_and_answers_late_is_no_spare_any_more() -> None:
    network, done, first, second = Mock(peer_at=lambda address, contact: contact), Mock(), *two_contacts()
    putting = Putting(network, b"record", None)
    putting.start_early([first])
    *_, answered, slow, turn = network.ask.call_args.args
    slow(Mock(context=turn))
    putting.start([second, first], 1, [], done, patient=False)
    answered(Mock(context=turn), HELD)
    *_, slow, turn = network.ask.call_args.args
    slow(Mock(context=turn))
    assert [call.args[0] for call in network.ask.call_args_list] == [first, second]
    assert putting.tally.holders == 1
    done.assert_called_once()


def test_who_is_slow_and_asked_again_counts_once() -> None:
    network, done, first, second = Mock(peer_at=lambda address, contact: contact), Mock(), *two_contacts()
    putting = Putting(network, b"record", None)
    putting.start_early([first, second])

    def requests() -> list[tuple[Any, ...]]:
        """Of each the peer, the verb, the arguments, whom to tell of the answer and of slowness, and the turn."""
        return [call.args for call in network.ask.call_args_list]

    *_, answered, slow, turn = requests()[0]
    slow(Mock(context=turn))
    putting.start([first, second], 2, [], done, patient=False)
    assert [each[0] for each in requests()] == [first, second, first]
    for asked in (0, 2):
        requests()[asked][3](Mock(context=requests()[asked][5]), HELD)
    assert putting.tally.holders == 1
    assert not done.called
    answered(Mock(context=requests()[1][5]), HELD)
    assert putting.tally.holders == 2
    done.assert_called_once()


@virtual
async def test_a_search_begins_with_those_that_have_not_failed_however_many_nearer_ones_have() -> None:
    nodes = await Sky().network(24)
    await asyncio.sleep(60)
    node, key = nodes[0], key_of(9)
    *failed, sound = node.protocol.table.closest(key, 16)
    for peer in failed:
        peer.failures = 1
    node._searches.start(key, lambda crawl: None, narrow=True)
    assert sound.last_asked == node.protocol.monotonic()
    await end(nodes)
