"""The lookup: it ends, it is bounded, and it finds the closest whatever order things happen in."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from dhtex import limits
from dhtex.overlay.contact import Contact, contact_at
from dhtex.overlay.lookup import PATIENCE_S, Lookup

OWN = bytes(20)


def contact(number: int, ip: str = "127.0.0.1", seed: int = 0) -> Contact:
    made = contact_at(random.Random(seed * 100_003 + number).randbytes(20), ip, 1 + number % 60_000)
    assert made is not None
    return made


def closest(target: bytes, contacts: list[Contact], count: int) -> list[Contact]:
    goal = int.from_bytes(target)
    return sorted(contacts, key=lambda c: c.long_id ^ goal)[:count]


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(1, 6), st.floats(0, 0.5), st.floats(0, 0.4))
def test_it_ends_bounded_and_finds_the_closest_live(
    seed: int, size: int, parallel: int, dead_share: float, slow_share: float
) -> None:
    chance = random.Random(seed)
    target = chance.randbytes(20)
    world = [contact(number, seed=seed) for number in range(size)]
    dead = set(chance.sample(world, int(size * dead_share)))
    known = {c: chance.sample(world, min(size, 12)) for c in world}
    lookup = Lookup(target, OWN, 0.0, parallel=parallel)
    lookup.add(chance.sample(world, min(size, 5)))
    in_slots: list[Contact] = []
    late: list[Contact] = []
    now, steps = 0.0, 0
    while True:
        now += 0.001
        steps += 1
        assert steps < 2000
        asked = lookup.next(now)
        assert len(set(asked)) == len(asked)
        in_slots += asked
        assert len(in_slots) <= 2 * parallel  # slots, and as many suspects beside them
        if lookup.finished(now):
            break
        if in_slots and (not late or chance.random() < 0.7):
            one = in_slots.pop(chance.randrange(len(in_slots)))
            if one in dead or chance.random() < slow_share:
                lookup.on_slow(one)
                late.append(one)
            else:
                lookup.on_reply(one, closest(target, known[one], 8))
        elif late:
            one = late.pop(chance.randrange(len(late)))
            if one in dead:
                lookup.on_failure(one)
            else:
                lookup.on_reply(one, closest(target, known[one], 8))
    found = lookup.result()
    assert lookup.requests <= limits.LOOKUP_REQUESTS_MAX
    assert found == closest(target, found, len(found))
    assert not dead.intersection(found)
    assert len(set(found)) == len(found)


@given(st.integers(0, 10_000), st.integers(1, 40))
def test_it_is_exact_when_everybody_answers_with_the_closest(seed: int, size: int) -> None:
    chance = random.Random(seed)
    target = chance.randbytes(20)
    world = [contact(number, seed=seed) for number in range(size)]
    lookup = Lookup(target, OWN, 0.0)
    lookup.add(world[:1])
    while asked := lookup.next(0.0):
        for one in asked:
            lookup.on_reply(one, closest(target, world, 8))
    assert lookup.finished(0.0)
    assert lookup.result()[: limits.HOLDERS] == closest(target, world, limits.HOLDERS)


def test_few_answers_show_who_else_is_near() -> None:
    target, asked = bytes(20), 0
    world = closest(target, [contact(number) for number in range(30)], 30)
    lookup = Lookup(target, OWN, 0.0, wanted=limits.LOOKUP_SURE)
    lookup.add(world[-1:])
    while now_asked := lookup.next(0.0):
        for one in now_asked:
            asked += 1
            lookup.on_reply(one, closest(target, world, 8))
    assert lookup.finished(0.0)
    assert not lookup.doubtful
    assert asked <= 1 + limits.LOOKUP_SURE
    assert lookup.near()[: limits.HOLDERS] == world[: limits.HOLDERS]


def test_the_silent_are_not_near_and_leave_doubt() -> None:
    near, far, unasked = closest(bytes(20), [contact(number) for number in range(3)], 3)
    lookup = Lookup(bytes(20), OWN, 0.0, wanted=1, parallel=2)
    lookup.add([near, far, unasked])
    assert lookup.next(0.0) == [near]
    lookup.on_failure(near)
    assert lookup.next(0.0) == [far]
    lookup.on_reply(far, [])
    assert lookup.finished(0.0)
    assert lookup.doubtful
    assert lookup.near() == [far, unasked]


def test_once_somebody_near_knows_of_nobody_nearer_all_of_the_neighbourhood_is_asked() -> None:
    world = closest(bytes(20), [contact(number) for number in range(10)], 10)
    lookup = Lookup(bytes(20), OWN, 0.0, wanted=5, parallel=1, parallel_last=5)
    lookup.add(world[1:])
    assert lookup.next(0.0) == [world[1]]
    lookup.on_reply(world[1], [world[0]])  # somebody nearer: go on one by one
    assert lookup.next(0.0) == [world[0]]
    lookup.on_reply(world[0], world[6:])  # nobody nearer
    assert lookup.next(0.0) == world[2:5]


def test_who_is_far_away_says_nothing_of_the_neighbourhood() -> None:
    world = closest(bytes(20), [contact(number) for number in range(10)], 10)
    lookup = Lookup(bytes(20), OWN, 0.0, wanted=5, parallel=1, parallel_last=5)
    lookup.add(world[9:])
    assert lookup.next(0.0) == world[9:]
    lookup.add(world[:9])
    lookup.on_reply(world[9], [])
    assert lookup.next(0.0) == world[:1]


def test_a_late_answer_counts() -> None:
    lookup = Lookup(bytes(20), OWN, 0.0, wanted=2)
    near, far = closest(bytes(20), [contact(1), contact(2)], 2)
    lookup.add([near, far])
    assert set(lookup.next(0.0)) == {near, far}
    lookup.on_slow(near)
    lookup.on_reply(near, [])
    lookup.on_reply(far, [])
    assert lookup.finished(0.0)
    assert lookup.result() == [near, far]


def test_a_slow_peer_frees_its_slot_and_does_not_delay_the_end() -> None:
    world = closest(bytes(20), [contact(number) for number in range(6)], 6)
    lookup = Lookup(bytes(20), OWN, 0.0, wanted=4, parallel=1)
    lookup.add(world)
    assert lookup.next(0.0) == [world[0]]
    assert lookup.next(0.0) == []
    lookup.on_slow(world[0])
    for one in world[1:5]:
        assert not lookup.finished(0.0)
        assert lookup.next(0.0) == [one]
        lookup.on_reply(one, [])
    assert lookup.next(0.0) == []
    assert lookup.finished(0.0)
    assert lookup.result() == world[1:5]
    assert lookup.slow() == [world[0]]


def test_it_does_not_conclude_from_few_answers_while_many_are_slow() -> None:
    world = [contact(number) for number in range(4)]
    lookup = Lookup(bytes(20), OWN, 0.0, parallel=4)
    lookup.add(world)
    lookup.next(0.0)
    for one in world:
        lookup.on_slow(one)
    assert not lookup.finished(PATIENCE_S * 10)  # nobody answered: there is nothing to conclude
    lookup.on_reply(world[0], [])
    assert not lookup.finished(PATIENCE_S / 2)
    assert lookup.finished(PATIENCE_S)
    lookup.on_reply(world[1], [])
    assert lookup.finished(0.0)


def test_a_suspect_is_asked_without_a_slot_and_not_waited_for() -> None:
    bad, *good = closest(bytes(20), [contact(number) for number in range(4)], 4)
    lookup = Lookup(bytes(20), OWN, 0.0, parallel=2)
    lookup.add([bad], suspect=True)
    lookup.add(good)
    assert lookup.next(0.0) == [bad, good[0], good[1]]
    lookup.on_reply(good[0], [])
    lookup.on_reply(good[1], [])
    assert lookup.next(0.0) == [good[2]]
    lookup.on_reply(good[2], [])
    assert lookup.finished(0.0)


def test_a_suspect_that_answers_is_near_and_nobody_else_whom_its_namer_named() -> None:
    namer, *named = closest(bytes(20), [contact(number) for number in range(8)], 8)
    lookup = Lookup(bytes(20), OWN, 0.0, parallel=3)
    lookup.add([namer])
    assert lookup.next(0.0) == [namer]
    lookup.on_reply(namer, named)
    assert lookup.next(0.0) == named[:3]
    for silent in named[:3]:
        lookup.on_slow(silent)
    assert lookup.next(0.0) == named[3:6]
    assert lookup.near() == [namer]
    lookup.on_reply(named[3], [])
    assert lookup.near() == [namer, named[3]]


def test_one_liar_neither_takes_all_slots_nor_holds_up_the_end() -> None:
    target = bytes(20)
    liar, *honest = closest(target, [contact(number) for number in range(6)], 6)
    fakes = [contact_at(bytes(19) + bytes([n]), "127.0.0.2", n) for n in range(1, 21)]
    lookup = Lookup(target, OWN, 0.0, wanted=4, parallel=4)
    lookup.add([liar, *honest])
    asked = lookup.next(0.0)
    assert liar in asked
    lookup.on_reply(liar, [fake for fake in fakes if fake is not None])
    waiting = lookup.next(0.0)
    for _ in range(60):
        if lookup.finished(1.0):
            break
        for one in [c for c in [*asked, *waiting] if c != liar]:
            if one in honest:
                lookup.on_reply(one, [])
            else:
                lookup.on_slow(one)
        asked, waiting = [], lookup.next(0.0)
    assert lookup.finished(1.0)
    assert set(honest[:3]) <= set(lookup.result())
    assert lookup.requests <= limits.LOOKUP_REQUESTS_MAX


def test_candidates_are_bounded_and_the_closest_stay() -> None:
    target = bytes(20)
    world = [contact(number) for number in range(300)]
    lookup = Lookup(target, OWN, 0.0)
    lookup.add(world)
    assert sum(lookup.knows(c.wire) for c in world) == limits.LOOKUP_CANDIDATES_MAX
    assert all(lookup.knows(c.wire) for c in closest(target, world, limits.LOOKUP_CANDIDATES_MAX))


def test_time_is_bounded() -> None:
    lookup = Lookup(bytes(20), OWN, 0.0)
    lookup.add([contact(number) for number in range(30)])
    assert lookup.next(limits.LOOKUP_S_MAX + 1) == []
    assert lookup.finished(limits.LOOKUP_S_MAX + 1)


def test_one_network_gets_few_places_unless_it_is_local() -> None:
    public = [contact(number, ip=f"8.8.8.{number + 1}") for number in range(8)]
    lookup = Lookup(bytes(20), OWN, 0.0)
    lookup.add(public)
    asked = lookup.next(0.0)
    assert asked == closest(bytes(20), public, limits.PEERS_PER_SUBNET_IN_BUCKET)
    for one in asked:
        lookup.on_reply(one, [])
    assert lookup.next(0.0) == []
    assert lookup.finished(0.0)
    assert lookup.result() == asked


def test_a_router_is_used_but_is_no_result() -> None:
    router, holder = closest(bytes(20), [contact(1), contact(2)], 2)
    lookup = Lookup(bytes(20), OWN, 0.0, wanted=1)
    lookup.add([router])
    assert lookup.next(0.0) == [router]
    lookup.on_reply(router, [holder], router=True)
    assert lookup.next(0.0) == [holder]
    lookup.on_reply(holder, [])
    assert lookup.finished(0.0)
    assert lookup.result() == [holder]


def test_it_never_asks_ourselves() -> None:
    me = contact_at(OWN, "127.0.0.1", 5)
    assert me is not None
    lookup = Lookup(bytes(20), OWN, 0.0)
    lookup.add([me])
    assert lookup.next(0.0) == []
    assert lookup.finished(0.0)


def test_addresses_that_were_asked_often_enough_hide_nobody_farther_off() -> None:
    target = bytes(20)
    lookup = Lookup(target, OWN + b"", 0.0)
    gone = [at(number, f"9.{site}.1.1", 4000 + number) for site in range(4) for number in range(site * 8, site * 8 + 8)]
    sound = [at(100 + number, f"8.{number}.1.1", 4000) for number in range(10)]
    lookup.add([*gone, *sound])
    while asked := lookup.next(0.0):
        for contact in asked:
            if contact in sound:
                lookup.on_reply(contact, [])
            else:
                lookup.on_failure(contact)
    assert len(lookup.result()) >= limits.HOLDERS
    assert lookup.finished(0.0)
    assert lookup.requests <= len(sound) + 4 * limits.LOOKUP_REQUESTS_PER_IP_MAX


def at(nearness: int, ip: str, port: int) -> Contact:
    made = contact_at(bytes(18) + (nearness + 1).to_bytes(2), ip, port)
    assert made is not None
    return made


def test_of_one_network_the_closest_are_asked_however_quick_the_others_are() -> None:
    found = [contact_at(number.to_bytes(20), f"8.8.8.{number}", 4000) for number in range(1, 6)]
    one_network = [contact for contact in found if contact is not None]
    pace = {contact: 9 - number for number, contact in enumerate(one_network)}
    lookup = Lookup(bytes(20), b"\xff" * 20, 0.0, parallel=5, reach=1 << 160, pace=pace.__getitem__)
    lookup.add(one_network)
    asked = lookup.next(0.0)
    assert asked == one_network[1::-1]  # two of a /24, the quicker one first
    for one in asked:
        lookup.on_reply(one, [])
    assert lookup.next(0.1) == []
    assert lookup.finished(0.1)
