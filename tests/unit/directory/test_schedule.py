"""Records are put again when it is their time, sooner when nobody holds them or a closer peer came, and never after."""

import random
from types import SimpleNamespace
from typing import Any, cast

from dhtex import limits
from dhtex.clock import SystemClock
from dhtex.directory.proving import Gate
from dhtex.directory.schedule import FEW_HOLDERS, RETRY_S_MAX, RETRY_S_MIN, SETTLE_S, Placement, Schedule
from dhtex.directory.service import Directory
from dhtex.market.admission import Verifier
from dhtex.market.ids import DhtKey, RecordId, index_key, order_key
from tests.builders import NETWORK, make_order

ID = RecordId(b"i" * 32)


def schedule() -> Schedule:
    return Schedule(random.Random(1))


def placement(due: float = 0.0, until: float = 1e9, prefix: str | None = None) -> Placement:
    return Placement(ID, DhtKey(b"k" * 20), prefix, b"wire", until, due)


def test_a_new_record_is_due_at_once_and_then_after_the_republish_interval() -> None:
    kept, one = schedule(), placement()
    kept.add(one)
    assert kept.due(0, 0) == [one]
    kept.done(one, 5, frozenset(), 0)
    assert kept.due(limits.REPUBLISH_INTERVAL_S * 0.74, 0) == []
    assert kept.due(limits.REPUBLISH_INTERVAL_S * 1.26, 0) == [one]


def test_without_holders_it_is_tried_again_soon_and_then_less_and_less_often() -> None:
    kept, one = schedule(), placement()
    kept.add(one)
    kept.done(one, 0, frozenset(), 0)
    assert one.due <= RETRY_S_MIN * 1.25
    for _ in range(40):
        kept.done(one, 0, frozenset(), 0)
    assert RETRY_S_MAX * 0.75 <= one.due <= RETRY_S_MAX * 1.25
    kept.done(one, 1, frozenset(), 0)
    assert one.tries == 0


def test_a_closer_peer_hastens_and_a_lost_one_does_not() -> None:
    kept, one = schedule(), placement()
    kept.add(one)
    kept.done(one, 3, frozenset({b"a", b"b"}), 0)
    kept.peers_changed(one, frozenset({b"a"}), 10)
    assert one.due > 100
    kept.peers_changed(one, frozenset({b"a", b"c"}), 10)
    assert 10 < one.due <= 10 + SETTLE_S


def test_with_enough_holders_a_newcomer_is_left_to_them() -> None:
    kept, one = schedule(), placement()
    kept.add(one)
    kept.done(one, FEW_HOLDERS, frozenset({b"a"}), 0)
    kept.peers_changed(one, frozenset({b"b"}), 10)
    assert one.due > 100


def test_a_record_that_has_ended_is_dropped() -> None:
    kept, one = schedule(), placement(until=100)
    kept.add(one)
    assert kept.due(0, 100) == []
    assert kept.placements() == []
    assert kept.next_due() is None


def test_holders_are_those_of_the_worse_key_and_dropping_ends_both() -> None:
    kept = schedule()
    places = [kept.add(placement(prefix=prefix)) for prefix in (None, "")]
    kept.done(places[0], 8, frozenset(), 0)
    assert kept.holders(ID) is None, "nothing is known of the other key before its first put"
    kept.done(places[1], 2, frozenset(), 0)
    assert kept.holders(ID) == 2
    kept.drop(ID)
    assert kept.holders(ID) is None
    assert kept.placements() == []


def test_keeping_a_record_twice_keeps_its_time() -> None:
    kept = schedule()
    first = kept.add(placement())
    kept.done(first, 8, frozenset(), 0)
    assert kept.add(placement()) is first
    assert kept.due(1, 0) == []


def test_a_new_peer_is_compared_with_the_keys_of_what_has_few_holders_only() -> None:
    asked: list[DhtKey] = []

    def holders_near(key: DhtKey) -> list[bytes]:
        asked.append(key)
        return [b"new"]

    overlay = cast(Any, SimpleNamespace(holders_near=holders_near))
    clock = SystemClock()
    prove = Gate(Verifier(), 0, clock).prove
    directory = Directory(overlay, NETWORK, lambda record: None, clock, random.Random(1), prove)
    orders = [make_order(number=number) for number in range(20)]
    for number, order in enumerate(orders):
        directory.keep(order, 0.0)
        for placement in directory._schedule.placements()[-2:]:
            directory._schedule.done(placement, 1 if number == 7 else limits.HOLDERS, frozenset(), 0.0)
    directory._hasten()
    assert sorted(asked) == sorted([order_key(orders[7].id), index_key(NETWORK, "BTC/USD", "sell", "")])
