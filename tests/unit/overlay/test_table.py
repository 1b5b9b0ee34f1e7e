"""The routing table: exact, closed to who has not answered, slow to forget, and fair between networks."""

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from dhtex import limits
from dhtex.overlay.contact import Peer, PeerKind, contact_at
from dhtex.overlay.table import Offer, Table, random_id_at

OWN = bytes(20)


def peer(node_id: bytes, ip: str = "127.0.0.1", port: int = 4000, kind: PeerKind = PeerKind.DHTEX) -> Peer:
    contact = contact_at(node_id, ip, port)
    assert contact is not None
    made = Peer(contact.address, contact, 0.0)
    made.kind = kind
    return made


def far(number: int) -> bytes:
    """Ids of the farthest bucket."""
    return b"\x80" + number.to_bytes(19)


ids = st.binary(min_size=20, max_size=20)


@settings(max_examples=200, deadline=None)
@given(ids, st.lists(ids, max_size=120), ids, st.integers(1, 30), st.integers(0, 10_000))
def test_closest_is_exactly_what_brute_force_finds(
    own: bytes, others: list[bytes], target: bytes, count: int, seed: int
) -> None:
    chance = random.Random(seed)
    table = Table(own, bucket_size=chance.choice([2, 8, 20]))
    others += [random_id_at(own, bits, chance.randbytes(20)) for bits in range(0, 160, 7)]
    for number, node_id in enumerate(others):
        one = peer(node_id, port=1000 + number)
        one.failures = chance.choice([0, 0, 0, 1])
        one.kind = chance.choice([PeerKind.DHTEX, PeerKind.DHTEX, PeerKind.STOCK])
        table.offer(one)
    goal = int.from_bytes(target)
    members = sorted(table, key=lambda p: p.contact.long_id ^ goal if p.contact else 0)
    assert table.closest(target, count) == members[:count]
    sound = [p for p in members if p.kind is PeerKind.DHTEX and not p.failures]
    assert table.closest(target, count, dhtex_only=True, sound_only=True) == sound[:count]
    assert len(table) == len(members)


def test_a_sixteenth_of_all_ids_has_as_many_places_as_any_other_bucket() -> None:
    chance = random.Random(1)
    table = Table(chance.randbytes(20))
    others = [chance.randbytes(20) for _ in range(2000)]
    for number, node_id in enumerate(others[:200]):
        assert table.offer(peer(node_id, port=1000 + number)) is Offer.ADDED
    assert all(table.is_whole(node_id) for node_id in others)
    for number, node_id in enumerate(others[200:]):
        table.offer(peer(node_id, port=2000 + number))
    places = Counter(one.contact.id[0] >> 4 for one in table if one.contact is not None)
    assert places.pop(table.own_id[0] >> 4) > limits.BUCKET_SIZE  # what is near us has more buckets
    assert set(places.values()) == {limits.BUCKET_SIZE}
    assert not any(table.is_whole(node_id) for node_id in others if node_id[0] >> 4 in places)


@given(ids, st.integers(0, 159), ids)
def test_random_id_shares_exactly_the_asked_prefix(own: bytes, bits: int, noise: bytes) -> None:
    made = random_id_at(own, bits, noise)
    assert 160 - (int.from_bytes(own) ^ int.from_bytes(made)).bit_length() == bits


def test_who_has_shown_no_kind_and_ourselves_stay_out() -> None:
    table = Table(OWN)
    assert table.offer(peer(far(1), kind=PeerKind.UNKNOWN)) is Offer.REFUSED
    assert table.offer(peer(far(1), kind=PeerKind.FOREIGN)) is Offer.REFUSED
    assert table.offer(peer(OWN)) is Offer.REFUSED
    assert len(table) == 0


def test_it_may_know_everybody_as_long_as_there_is_room_for_more() -> None:
    table = Table(OWN, bucket_size=3)
    for number in range(3):
        assert table.is_whole(far(0))
        table.offer(peer(far(number), port=4000 + number))
    assert not table.is_whole(far(0))
    assert table.is_whole(b"\x40" + bytes(19))


def test_a_full_bucket_keeps_who_is_there_and_spares_follow() -> None:
    table = Table(OWN, bucket_size=2)
    old = [peer(far(n), port=4000 + n) for n in range(2)]
    for one in old:
        assert table.offer(one) is Offer.ADDED
    spare = peer(far(9), port=4009)
    assert table.offer(spare) is Offer.SPARE
    assert table.closest(far(9), 5) == table.closest(far(9), 5, dhtex_only=True)
    assert set(table) == set(old)
    assert table.remove(old[0]) == [spare]
    assert set(table) == {old[1], spare}


def test_a_newcomer_takes_the_place_of_one_that_failed() -> None:
    table = Table(OWN, bucket_size=2)
    good, bad = peer(far(1), port=4001), peer(far(2), port=4002)
    table.offer(good)
    table.offer(bad)
    bad.failures = 1
    assert table.offer(peer(far(3), port=4003)) is Offer.ADDED
    assert not bad.in_table
    assert good.in_table


def test_three_failures_evict_and_one_does_not() -> None:
    table = Table(OWN)
    one = peer(far(1))
    table.offer(one)
    for failures in range(1, limits.FAILURES_BEFORE_EVICTION):
        one.failures = failures
        assert not table.failed(one)
    one.failures = limits.FAILURES_BEFORE_EVICTION
    assert table.failed(one)


def test_an_id_at_two_addresses_belongs_to_the_first_and_only_while_that_is_silent_to_the_other() -> None:
    table = Table(OWN)
    old, new = peer(far(1), port=4001), peer(far(1), port=4002)
    new.first_seen = old.first_seen + 60
    assert old.contact is not None
    table.offer(old)
    assert not table.is_contested(old)
    assert table.offer(new) is Offer.RIVAL
    assert table.is_contested(old)
    old.failures = limits.FAILURES_BEFORE_EVICTION - 1
    assert not table.failed(old)
    assert table.offer(new) is Offer.RIVAL
    assert table.remove(old) == [new]
    assert not table.wants(old.contact, new.first_seen)
    assert table.wants(old.contact, old.first_seen)
    assert table.offer(old) is Offer.ADDED
    assert set(table) == {old}


def test_an_older_claim_for_which_there_is_no_room_takes_no_place() -> None:
    table = Table(OWN)
    for number in range(2, 2 + limits.PEERS_PER_SUBNET_IN_BUCKET):
        table.offer(peer(far(number), "9.1.1.1", 4000 + number))
    crowded, known = peer(far(1), "9.1.1.1", 4001), peer(far(1), "9.1.2.1", 4001)
    known.first_seen = crowded.first_seen + 60
    assert crowded.contact is not None
    assert table.offer(known) is Offer.ADDED
    assert table.offer(crowded) is Offer.REFUSED
    assert known in set(table)


def test_a_spare_that_has_changed_its_id_meanwhile_takes_no_place() -> None:
    table = Table(OWN, bucket_size=1)
    first, spare = peer(far(1), port=4001), peer(far(2), port=4002)
    table.offer(first)
    assert table.offer(spare) is Offer.SPARE
    spare.contact = contact_at(b"\x01" * 20, *spare.address)
    assert table.remove(first) == []
    assert table.offer(spare) is Offer.ADDED
    assert table.remove(spare) == []
    assert len(table) == 0


def test_one_network_gets_few_places_and_local_ones_do_not_count() -> None:
    table = Table(OWN)
    outcomes = [table.offer(peer(far(n), ip=f"8.8.8.{n + 1}")) for n in range(4)]
    assert outcomes == [Offer.ADDED] * limits.PEERS_PER_SUBNET_IN_BUCKET + [Offer.SPARE] * 2
    for n in range(10):
        assert table.offer(peer(far(100 + n), ip="127.0.0.1", port=5000 + n)) is Offer.ADDED
    # over all buckets
    for bits in range(1, 12):
        for n in range(2):
            table.offer(peer(random_id_at(OWN, bits, bytes([n] * 20)), ip=f"8.8.8.{100 + 2 * bits + n}"))
    assert sum(p.address[0].startswith("8.8.8.") for p in table) == limits.PEERS_PER_SUBNET_IN_TABLE


def test_stock_peers_get_few_places() -> None:
    table = Table(OWN)
    for n in range(10):
        table.offer(peer(far(n), port=4000 + n, kind=PeerKind.STOCK))
    assert len(table) == limits.STOCK_PEERS_PER_BUCKET
    assert table.closest(far(0), 20, dhtex_only=True) == []


def test_wants_says_what_offer_would_do() -> None:
    table = Table(OWN, bucket_size=1)
    first, second = peer(far(1), port=4001), peer(far(2), port=4002)
    assert first.contact is not None
    assert second.contact is not None
    assert table.wants(first.contact)
    table.offer(first)
    assert not table.wants(first.contact)
    assert not table.wants(second.contact)
    first.failures = 1
    assert table.wants(second.contact)


def test_buckets_that_nobody_searched_are_stale() -> None:
    table = Table(OWN)
    table.offer(peer(far(1)))
    table.looked_up(far(5), 1000.0)
    assert table.stale_prefixes(1000.0 + limits.REFRESH_INTERVAL_S - 1) == []
    assert table.stale_prefixes(1000.0 + limits.REFRESH_INTERVAL_S) == [0]
    assert table.depth() == 0
