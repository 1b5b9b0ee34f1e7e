"""A holder's book of leases: who is told what, until when, how far behind, and who goes when there is no room."""

import random
import sys
from collections import Counter
from collections.abc import Callable

import pytest

from dhtex import limits
from dhtex.market.ids import DhtKey
from dhtex.overlay.contact import Peer
from dhtex.overlay.leases import Leases, key_digest

ID = bytes(range(20))


def _peer(port: int = 1) -> Peer:
    return Peer(("10.0.0.1", port), None, 0.0)


def _key(number: int) -> DhtKey:
    return DhtKey(number.to_bytes(20, "little"))


def test_a_lease_starts_changes_expires_and_ends() -> None:
    leases, peer = Leases(), _peer()
    lease, granted_s = leases.change(peer, ID, 120, [_key(1), _key(2)], [], 0.0)
    assert lease is not None
    assert granted_s == 120
    assert lease.digest == key_digest([_key(1), _key(2)])
    assert leases.watching(_key(1), 1.0) == [lease]
    leases.change(peer, ID, 120, [_key(3)], [_key(1)], 10.0)
    assert leases.watching(_key(1), 11.0) == []
    assert leases.keys == 2
    leases.expire(131.0)
    assert (len(leases), leases.keys) == (0, 0)
    leases.change(peer, ID, 120, [_key(1)], [], 0.0)
    leases.change(peer, ID, 0, [], [], 0.0)
    assert (len(leases), leases.keys) == (0, 0)


def test_another_node_at_the_same_address_starts_anew() -> None:
    leases, peer = Leases(), _peer()
    leases.change(peer, ID, 120, [_key(1)], [], 0.0)
    lease, _ = leases.change(peer, bytes(20), 120, [_key(2)], [], 0.0)
    assert lease is not None
    assert lease.keys == {_key(2)}
    assert leases.watching(_key(1), 0.0) == []


def test_settled_is_below_the_first_push_under_way() -> None:
    leases = Leases()
    lease, _ = leases.change(_peer(), ID, 120, [_key(1)], [], 0.0)
    assert lease is not None
    assert [leases.next_push(lease) for _ in range(3)] == [(1, True), (2, True), (3, True)]
    assert lease.settled == 0
    leases.settle(lease, 2, arrived=True)
    assert lease.settled == 0
    leases.settle(lease, 1, arrived=True)
    assert lease.settled == 2
    leases.settle(lease, 3, arrived=False)
    assert lease.settled == 3


def test_a_watcher_that_does_not_acknowledge_is_dropped() -> None:
    leases = Leases()
    lease, _ = leases.change(_peer(), ID, 120, [_key(1)], [], 0.0)
    assert lease is not None
    for _ in range(2):
        sequence, _ = leases.next_push(lease)
        leases.settle(lease, sequence, arrived=False)
    assert len(leases) == 0


def test_a_watcher_that_falls_behind_gets_numbers_but_no_pushes() -> None:
    leases = Leases()
    lease, _ = leases.change(_peer(), ID, 120, [_key(1)], [], 0.0)
    assert lease is not None
    sent = [leases.next_push(lease)[1] for _ in range(limits.PUSHES_IN_FLIGHT_PER_LEASE_MAX + 3)]
    assert sent.count(False) == 3


def test_leases_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LEASES_MAX", 3)
    monkeypatch.setattr(limits, "WATCHERS_PER_KEY_MAX", 2)
    monkeypatch.setattr(limits, "WATCH_KEYS_PER_LEASE_MAX", 4)
    leases = Leases()
    granted = [leases.change(_peer(port), ID, 120, [_key(1)], [], 0.0)[1] for port in range(1, 6)]
    assert granted == [120, 120, 0, 0, 0]
    _, granted_s = leases.change(_peer(1), ID, 120, [_key(n) for n in range(10)], [], 0.0)
    assert granted_s == 0
    assert leases.keys == 4 + 1


def test_a_crowd_from_one_address_gives_way_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LEASES_MAX", 4)
    monkeypatch.setattr(limits, "WATCHERS_PER_KEY_MAX", 3)
    monkeypatch.setattr(limits, "WATCHED_KEYS_OF_OTHERS_MAX", 12)
    leases = Leases()
    for port in range(1, 5):
        leases.change(_peer(port), ID, 120, [_key(n) for n in range(1, 5)], [], 0.0)
    others = [Peer((f"10.0.1.{number}", 1), None, 0.0) for number in range(1, 4)]
    for other in others:
        _, granted_s = leases.change(other, ID, 120, [_key(1)], [], 0.0)
        assert granted_s == 120
    assert len(leases) == 4
    assert leases.keys <= 12
    assert {lease.peer for lease in leases.watching(_key(1), 0.0)} >= set(others)
    assert leases.change(_peer(9), ID, 120, [_key(1)], [], 0.0)[1] == 0


def steps(call: Callable[[], object]) -> int:
    """How much Python does during a call, in calls and returns: a measure of work that no busy machine changes."""
    events: Counter[str] = Counter()
    sys.setprofile(lambda frame, event, arg: events.update((event,)))
    try:
        call()
    finally:
        sys.setprofile(None)
    return events.total()


def test_a_change_at_full_keys_costs_little_whether_there_is_room_or_not() -> None:
    leases, full = Leases(), [_key(n) for n in range(limits.WATCH_KEYS_PER_DATAGRAM_MAX)]
    for port in range(1, limits.WATCHERS_PER_KEY_MAX + 1):
        assert leases.change(_peer(port), ID, 120, full, [], 0.0)[1]
    few = len(full) * limits.WATCHERS_PER_KEY_MAX // 10
    late, behind = _peer(5000), _key(1000)
    assert steps(lambda: leases.change(late, ID, 120, [*full[1:], behind], [], 0.0)) < few
    assert leases.watching(behind, 0.0) == [], "what is refused anyway is not looked at to the end"
    other = Peer(("10.0.1.1", 1), None, 0.0)
    assert leases.change(other, ID, 120, full, [], 0.0)[1]
    leases.change(other, ID, 120, [], full, 0.0)
    assert leases.change(late, ID, 120, full, [], 0.0)[1], "it has the place of who left"
    assert steps(lambda: leases.change(other, ID, 120, full, [], 0.0)) < few
    assert all(other in {lease.peer for lease in leases.watching(key, 0.0)} for key in full)


def test_the_largest_crowd_gives_way_whoever_came_and_went_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WATCHERS_PER_KEY_MAX", 8)
    chance, leases, key = random.Random(5), Leases(), _key(1)

    def crowds() -> Counter[bytes]:
        return Counter(lease.crowd for lease in leases.watching(key, 0.0))

    pushed_out = 0
    for _ in range(2000):
        peer = Peer((f"10.0.{chance.randrange(4)}.1", chance.randrange(1, 9)), None, 0.0)
        before = crowds()
        stays = any(lease.peer.address == peer.address for lease in leases.watching(key, 0.0))
        if chance.random() < 0.3:
            leases.change(peer, ID, 120, [], [key], 0.0)
        elif leases.change(peer, ID, 120, [key], [], 0.0)[1] and before.total() == 8 and not stays:
            (gone,) = before - crowds()
            assert before[gone] == max(before.values())
            pushed_out += 1
    assert pushed_out > 50
