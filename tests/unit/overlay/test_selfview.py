"""What a node learns about itself from others: address, clock, and whether strangers reach it."""

import random

import pytest

from dhtex import limits
from dhtex.market.ids import DhtKey
from dhtex.overlay.addresses import Address
from dhtex.overlay.selfview import SelfView
from dhtex.overlay.trailer import REPLY_TRAILER_BYTES_MAX, View, cut_trailer, encode_view, reply_trailer, reply_view
from tests.unit.overlay.fakes import cluster, make_overlay, until

HERE = ("9.9.9.9", 3001)
THERE = ("8.8.8.8", 3001)


class HandClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.wall = 1_000_000.0

    def now(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.wall


def voter(number: int, ip: str = "10.0.0.1") -> Address:
    return (ip, number)


def mirror(votes: dict[int, tuple[Address, float]]) -> SelfView:
    """A mirror that has heard these voters, each with an address and how far its clock is ahead."""
    clock = HandClock()
    view = SelfView(clock)
    for number, (seen, ahead_s) in votes.items():
        view.heard(voter(number), View(False, int(clock.wall + ahead_s), seen), clock.wall)
    return view


def test_most_voters_say_who_we_are_and_a_liar_does_not() -> None:
    assert mirror({}).address is None
    assert mirror({1: (HERE, 0)}).address == HERE
    assert mirror({1: (HERE, 0), 2: (THERE, 0), 3: (HERE, 0), 4: (HERE, 0)}).address == HERE


def test_a_new_address_is_told_once_most_have_seen_it() -> None:
    view = mirror({number: (HERE, 0) for number in range(3)})
    moves: list[Address | None] = []
    view.on_moved = lambda: moves.append(view.address)
    for number in range(3):
        view.heard(voter(number), View(False, 1_000_000, THERE), 0.0)
    assert moves == [THERE]


def test_a_node_of_both_families_has_an_address_in_each_and_does_not_move_between_them() -> None:
    view = mirror({number: (HERE, 0) for number in range(3)})
    moves: list[Address | None] = []

    def moved() -> None:
        moves.append(view.address)
        view.forget()  # as a node does

    view.on_moved = moved
    chance = random.Random(1)
    for number in range(300):
        seen, ip = chance.choice([(HERE, "10.0.0.1"), (("2a00::1", 3001), "fd00::1")])
        view.heard(voter(number, ip), View(False, 1_000_000, seen), 0.0)
    assert (moves, view.address) == ([], HERE)
    for number in range(3):
        view.heard(voter(number, "fd00::1"), View(False, 1_000_000, ("2a00::2", 3001)), 0.0)
    assert moves == []  # they are outvoted
    view.forget()
    for number in range(3):
        view.heard(voter(number, "fd00::1"), View(False, 1_000_000, ("2a00::2", 3001)), 0.0)
    assert moves == [HERE]


def test_who_is_asked_by_one_family_says_nothing_of_the_other() -> None:
    view = SelfView(HandClock())
    moves = moves_of(view)
    crowd(view, range(40), HERE, 0.0)
    for second in range(0, 7200, 60):
        crowd(view, range(40, 42), (f"2a00::{second:x}", 3001), second)
        crowd(view, range(40), HERE, second)
        view.tick(second)
    assert (view.address, moves) == (HERE, [])


def test_one_who_changes_his_mind_makes_us_ask_all_and_only_what_they_say_then_counts() -> None:
    view = mirror({number: (HERE, 0) for number in range(60)})
    moves: list[Address | None] = []
    doubts: list[float] = []
    now = view._clock.now() + 100
    view.on_moved, view.on_doubt = lambda: moves.append(view.address), lambda: doubts.append(now)
    view.heard(voter(1), View(False, 1_000_000, (HERE[0], 9)), now - 1)
    assert not doubts  # a port is no place
    view.heard(voter(2), View(False, 1_000_000, THERE), now)
    view.heard(voter(3), View(False, 1_000_000, THERE), now + 1)
    assert len(doubts) == 1
    for number in (4, 5):
        view.heard(voter(number), View(False, 1_000_000, THERE), now + 2)
    view.tick(now + limits.DOUBT_S - 1)
    assert (moves, len(view._votes)) == ([], 60)
    view.tick(now + limits.DOUBT_S)
    assert (moves, len(view._votes)) == ([THERE], 4)  # the 56 others may be gone


def test_a_liar_who_changes_his_mind_moves_nobody_and_costs_little() -> None:
    view = mirror({number: (HERE, 0) for number in range(20)})
    moves: list[Address | None] = []
    doubts: list[float] = []
    view.on_moved = lambda: moves.append(view.address)
    start = view._clock.now()
    for second in range(600):
        now = start + second
        view.on_doubt = lambda now=now: doubts.append(now)  # type: ignore[misc]
        view.heard(voter(0), View(False, 1_000_000, THERE if second % 2 else HERE), now)
        if doubts and now - doubts[-1] < 3:  # the others say again what they said
            for number in range(1, 20):
                view.heard(voter(number), View(False, 1_000_000, HERE), now)
        view.tick(now)
    assert (moves, view.address) == ([], HERE)
    assert len(doubts) == 600 / limits.DOUBT_PAUSE_S


def test_the_clock_is_judged_by_the_median() -> None:
    assert mirror({1: (HERE, 0)}).skew_s() is None
    skew_s = mirror({1: (HERE, -100), 2: (HERE, -100), 3: (HERE, 100_000)}).skew_s()
    assert skew_s == pytest.approx(-100, abs=1)


def test_votes_are_bounded() -> None:
    view = mirror({number: (HERE, 0) for number in range(3 * limits.VOTERS_MAX)})
    assert len(view._votes) == limits.VOTERS_MAX


def test_a_node_that_is_not_reached_is_a_client_until_a_stranger_comes() -> None:
    view = mirror({number: (HERE, 0) for number in range(3)})
    assert (view.public, view.client, view.reachable) == (True, False, None)
    view.unreached()
    assert (view.client, view.reachable) == (True, False)
    view.unasked("8.8.8.8", 1.0)
    assert (view.client, view.reachable) == (False, True)
    assert not mirror({number: (("192.168.0.2", 1), 0) for number in range(3)}).public


def crowd(view: SelfView, networks: range, seen: Address, now: float, nodes: int = 1) -> None:
    """So many nodes of each of these /24 networks vote."""
    for network in networks:
        for number in range(nodes):
            view.heard((f"8.{network}.0.{number + 1}", 3001), View(False, int(now), seen), now)


def moves_of(view: SelfView) -> list[str]:
    """The IPs at which the network is met again from now on."""
    moves: list[str] = []
    view.on_moved = lambda: moves.append("" if view.address is None else view.address[0])
    return moves


def test_a_third_of_liars_moves_nobody_however_often_and_from_however_many_nodes_they_vote() -> None:
    view = SelfView(HandClock())
    moves = moves_of(view)
    crowd(view, range(20), HERE, 0.0)
    for second in range(0, 3600, 5):
        crowd(view, range(20, 30), THERE, second, nodes=10)
        if second % 180 == 0:
            crowd(view, range(20), HERE, second)  # quiet peers are asked no more often
        view.tick(second)
    assert (view.address, moves) == (HERE, [])


def test_liars_in_the_majority_cost_one_move_in_a_while_and_a_move_that_is_taken_back_costs_none() -> None:
    view = SelfView(HandClock())
    moves = moves_of(view)
    crowd(view, range(20), HERE, 0.0)
    for second in range(1, 1200):
        crowd(view, range(20), THERE if second % 2 else HERE, second)
        view.tick(second)
    assert moves == ["8.8.8.8", "9.9.9.9"]
    assert limits.MOVED_PAUSE_S == 600
    crowd(view, range(20), HERE, 1200.0)
    for second in range(1200, 3000):
        view.tick(second)
    assert moves == ["8.8.8.8", "9.9.9.9"]  # the last one was taken back before it was time


def test_a_real_move_is_noticed_once_half_of_the_networks_have_seen_it() -> None:
    view = SelfView(HandClock())
    moves = moves_of(view)
    crowd(view, range(20), HERE, 0.0)
    crowd(view, range(10), THERE, 60.0)
    assert (view.address, moves) == (HERE, [])
    crowd(view, range(10, 11), THERE, 61.0)
    assert (view.address, moves) == (THERE, ["8.8.8.8"])


def test_behind_a_router_that_gives_each_peer_another_port_a_move_is_noticed_too() -> None:
    view = SelfView(HandClock())
    moves = moves_of(view)
    for number in range(40):
        crowd(view, range(number % 20, number % 20 + 1), ("9.9.9.9" if number < 20 else "8.8.8.8", 5000 + number), 1.0)
    assert moves == ["8.8.8.8"]


def test_old_views_do_not_count() -> None:
    view = SelfView(HandClock())
    crowd(view, range(30), HERE, 0.0)
    crowd(view, range(30, 32), THERE, limits.VOTE_S + 1)
    assert view.address == THERE
    assert len(view._votes) == 2


@pytest.mark.parametrize("seen", [("1.2.3.4", 5), ("2001:db8::1", 65535)])
@pytest.mark.parametrize("client", [True, False])
def test_views_come_back(seen: Address, client: bool) -> None:
    view = View(client, 1_700_000_000, seen)
    trailer = reply_trailer(b"netw", b"i" * 20, b"t" * 8, encode_view(*view))
    assert len(trailer) <= REPLY_TRAILER_BYTES_MAX
    _, ext = cut_trailer(b"body" + trailer)
    assert reply_view(ext) == view
    chance = random.Random(1)
    for _ in range(300):
        reply_view(chance.randbytes(chance.randrange(60)))  # never raises


async def test_a_client_uses_the_network_and_nobody_routes_to_it() -> None:
    async with cluster(3) as nodes:
        client = make_overlay(70)
        client.selfview.always_client = client.selfview.client = True
        await client.listen(0, "127.0.0.1")
        try:
            assert await client.connect(("127.0.0.1", nodes[0].transport.port))  # type: ignore[union-attr]
            key = DhtKey(b"k" * 20)
            assert (await client.put(key, key + b"text", None)).holders == 3
            assert (await client.get(key)).answered >= 3
            await until(lambda: len(client.peers()) == 3)
            await nodes[1].get(key)
            assert all(node.protocol.table.get(client.protocol.own_id) is None for node in nodes)
        finally:
            await client.close()


async def test_a_node_that_turns_client_leaves_the_tables() -> None:
    async with cluster(3) as (one, other, third):
        other.selfview.always_client = other.selfview.client = True
        for node in (one, third):
            peer = node.protocol.table.get(other.protocol.own_id)
            assert peer is not None
            node.protocol.ping(peer)
        await until(lambda: len(one.peers()) == len(third.peers()) == 1)


async def test_peers_tell_the_address_and_the_time_and_that_strangers_come() -> None:
    async with cluster(4) as nodes:
        for node in nodes:
            view = node.selfview
            for peer in node.protocol.table:
                node.protocol.ping(peer)
            await until(lambda view=view: view.skew_s() is not None)  # type: ignore[misc]
            assert node.transport is not None
            assert view.address == ("127.0.0.1", node.transport.port)
            assert abs(view.skew_s() or 0) < 2
