"""The network's size from the density of ids, and the suspicion that a key is crowded: measured on simulated ids."""

import random
from functools import partial
from statistics import median, quantiles
from types import SimpleNamespace
from typing import Any

import pytest

from dhtex import limits
from dhtex.overlay.estimate import SAMPLES_MIN, SizeEstimate, chance_of, nodes_for, span
from dhtex.overlay.table import Table, random_id_at
from dhtex.overlay.upkeep import BUCKETS_AFTER_JOIN
from dhtex.overlay.widening import Widening


def some_ids(count: int, chance: random.Random) -> list[bytes]:
    return [chance.randbytes(20) for _ in range(count)]


def closest(ids: list[bytes], target: bytes, count: int = limits.HOLDERS) -> list[bytes]:
    goal = int.from_bytes(target)
    return sorted(ids, key=lambda one: int.from_bytes(one) ^ goal)[:count]


def estimated(ids: list[bytes], chance: random.Random, samples: int = limits.SIZE_SAMPLES_MAX) -> SizeEstimate:
    estimate = SizeEstimate()
    for _ in range(samples):
        target = chance.randbytes(20)
        estimate.add(target, closest(ids, target))
    return estimate


def sybils(target: bytes, count: int, shared_bits: int, chance: random.Random) -> list[bytes]:
    """Ids that share so many first bits with a key."""
    head = int.from_bytes(target) >> (160 - shared_bits) << (160 - shared_bits)
    return [(head | chance.getrandbits(160 - shared_bits)).to_bytes(20) for _ in range(count)]


@pytest.mark.parametrize(("nodes", "error"), [(3, 1e-9), (8, 0.2), (16, 0.2), (64, 0.2), (1000, 0.2), (20_000, 0.2)])
def test_the_size_is_right_within_a_fifth(nodes: int, error: float) -> None:
    chance = random.Random(nodes)
    errors = []
    for _ in range(10 if nodes < 10_000 else 2):
        ids = some_ids(nodes, chance)
        errors.append(abs(estimated(ids, chance).others() / nodes - 1))
    assert median(errors) <= error / 2
    assert max(errors) <= max(error, 0.0) * 1.75


@pytest.mark.parametrize("nodes", [64, 256])
def test_a_node_that_searches_each_bucket_as_often_does_not_tell_of_its_own_neighbourhood(nodes: int) -> None:
    chance = random.Random(nodes)
    ids = some_ids(nodes, chance)
    estimated = []
    for own in ids:
        others = [one for one in ids if one != own]
        network: Any = SimpleNamespace(own_id=own, table=Table(own), monotonic=float)
        widening = Widening(network, lambda *_, **__: None, chance)
        for turn in range(limits.SIZE_SAMPLES_MAX):
            point = random_id_at(own, turn % BUCKETS_AFTER_JOIN, chance.randbytes(20))
            near = [SimpleNamespace(id=one) for one in closest(others, point)]
            search: Any = SimpleNamespace(target=point, closest=partial(list, near))
            widening.sample(search)
        estimated.append(widening.size.others())
    tenth, half, ninth = quantiles(estimated, n=10)[0::4]
    assert 0.8 * nodes < tenth < half < ninth < 1.25 * nodes


@pytest.mark.parametrize("bucket", range(8))
def test_one_search_in_trouble_or_among_a_crowd_does_not_decide(bucket: int) -> None:
    for seed in range(20):
        chance = random.Random(seed)
        own, *ids = some_ids(300, chance)
        clean, few, crowded = SizeEstimate(), SizeEstimate(), SizeEstimate()
        for prefix in range(8):
            point = random_id_at(own, prefix, chance.randbytes(20))
            near, weight = closest(ids, point), 0.5 ** (prefix + 1)
            clean.add(point, near, weight)
            few.add(point, near[:2] if prefix == bucket else near, weight)
            crowded.add(point, sybils(point, 8, 60, chance) if prefix == bucket else near, weight)
        assert 0.6 < few.others() / clean.others() < 1.6
        assert 0.8 < crowded.others() / clean.others() < 2


def test_without_samples_there_is_nobody() -> None:
    assert SizeEstimate().others() == 0.0
    assert not SizeEstimate().crowded(bytes(20), some_ids(8, random.Random(1)))


def test_crowds_at_a_few_points_do_not_shift_the_estimate() -> None:
    chance = random.Random(5)
    ids = some_ids(300, chance)
    honest = estimated(ids, chance).others()
    for _ in range(6):
        ids += sybils(chance.randbytes(20), 50, 16, chance)
    assert abs(estimated(ids, chance).others() / honest - 1) < 0.35  # twice as many ids, in 6 heaps


def test_honest_neighbourhoods_are_hardly_ever_suspected() -> None:
    chance = random.Random(11)
    suspected = tried = 0
    for nodes in (40, 64, 300, 2000):
        for _ in range(4):
            ids = some_ids(nodes, chance)
            estimate = estimated(ids, chance, 12)
            for _ in range(100):
                key = chance.randbytes(20)
                suspected += estimate.crowded(key, closest(ids, key))
                tried += 1
    assert suspected <= tried // 100


@pytest.mark.parametrize("nodes", [64, 300, 2000])
@pytest.mark.parametrize(("count", "rate"), [(8, 0.8), (50, 1.0)])
def test_a_crowd_that_hides_a_key_is_suspected(nodes: int, count: int, rate: float) -> None:
    """The worst case for us: all of the crowd is closer than any honest node, but only just."""
    chance = random.Random(nodes + count)
    ids = some_ids(nodes, chance)
    estimate = estimated(ids, chance)
    suspected = 0
    for _ in range(100):
        key = chance.randbytes(20)
        goal, nearest = int.from_bytes(key), closest(ids, key, 1)[0]
        reach = int.from_bytes(nearest) ^ goal
        near = closest(ids + [(goal ^ chance.randrange(reach)).to_bytes(20) for _ in range(count)], key)
        assert not set(near) & set(ids)
        suspected += estimate.crowded(key, near)
    assert suspected >= rate * 100


def test_detours_lead_to_about_twice_as_many_honest_nodes_as_holders() -> None:
    chance = random.Random(3)
    ids = some_ids(1000, chance)
    estimate = estimated(ids, chance)
    met = []
    for _ in range(40):
        key = int.from_bytes(chance.randbytes(20))
        shared = [160 - (key ^ int.from_bytes(one)).bit_length() for one in ids]
        met.append(sum(bits in estimate.detours() for bits in shared))
    assert limits.HOLDERS <= median(met) <= 4 * limits.HOLDERS


def test_a_changed_neighbourhood_calls_for_new_samples() -> None:
    chance = random.Random(4)
    own, ids = chance.randbytes(20), some_ids(100, chance)
    estimate = estimated(ids, chance, SAMPLES_MIN - 1)
    near = closest(ids, own, limits.BUCKET_SIZE)
    grown = closest(ids + some_ids(150, chance), own, limits.BUCKET_SIZE)
    estimate.begin(own, near)
    assert len(estimate) == 0
    assert not estimate.outdated(own, grown)
    for _ in range(SAMPLES_MIN):
        estimate.add(own, closest(ids, own))
    assert not estimate.outdated(own, near)
    assert estimate.outdated(own, grown)
    assert estimate.outdated(own, closest(ids[:9], own, limits.BUCKET_SIZE))
    estimate.begin(own, grown)
    assert len(estimate) == 0


def test_the_formulas() -> None:
    assert chance_of(1, 0.0) == 0.0
    assert chance_of(8, 2.6) == pytest.approx(0.0055, abs=0.0005)
    assert span(bytes(20), [b"\x7f" + b"\xff" * 19]) == 0.5
    assert nodes_for(8, 0.5) == pytest.approx(15.0)
