"""The small pure parts: addresses, contacts, trailers, tokens, rates, parking, round trips, requests, pages."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dhtex import limits
from dhtex.overlay import wire
from dhtex.overlay.addresses import Address, canonical_ip, is_local, subnet
from dhtex.overlay.contact import Peer, contact_at, parse_compact, parse_triple
from dhtex.overlay.guard import Bucket, Parking, Tokens
from dhtex.overlay.pages import PagePlan, digest_of
from dhtex.overlay.requests import GRACES_MAX, LAG_S, Request, Requests
from dhtex.overlay.rtt import Rtt
from dhtex.overlay.serving import trim
from dhtex.overlay.trailer import cut_trailer, reply_marks, reply_trailer, request_net, request_trailer

ID = bytes(range(20))


# --- Addresses and contacts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "::1"),
        ("0:0:0:0:0:0:0:1", "::1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("0.0.0.0", None),
        ("::", None),
        ("224.0.0.1", None),
        ("255.255.255.255", None),
        ("fe80::1%eth0", None),
        ("localhost", None),
        ("", None),
        ("1.2.3", None),
    ],
)
def test_an_address_has_one_spelling(text: str, expected: str | None) -> None:
    assert canonical_ip(text) == expected


def test_local_addresses_belong_to_no_subnet() -> None:
    for ip in ("127.0.0.1", "192.168.1.2", "10.1.1.1", "::1", "fd00::1"):
        assert is_local(ip)
        assert subnet(ip) is None
    assert subnet("8.8.8.8") == subnet("8.8.8.9") != subnet("8.8.9.8")
    assert subnet("2a00::1") == subnet("2a00::ffff:1") != subnet("2a00:0:0:1::1")


@given(st.binary(max_size=60))
def test_any_bytes_are_a_contact_or_none(data: bytes) -> None:
    contact = parse_compact(data)
    assert contact is None or contact.wire == data


@given(st.binary(min_size=20, max_size=20), st.ip_addresses(), st.integers(-1, 70_000))
def test_contacts_survive_both_forms(node_id: bytes, ip: object, port: int) -> None:
    contact = contact_at(node_id, str(ip), port)
    if contact is not None:
        assert parse_compact(contact.wire) is contact
        assert parse_triple([*contact]) is contact


@pytest.mark.parametrize(
    "triple",
    [
        [ID, "127.0.0.1", 70_000],
        [ID, "127.0.0.1", "80"],
        [ID, "127.0.0.1", 0],
        [ID, "127.0.0.1", True],
        [ID, None, 80],
        [ID, 17, 80],
        [ID, "localhost", 80],
        [ID, "x" * 5000, 80],
        [b"\1", "127.0.0.1", 80],
        ["x" * 20, "127.0.0.1", 80],
        [ID, "127.0.0.1"],
        [ID, "127.0.0.1", 80, 1],
        {},
        None,
        5,
    ],
)
def test_a_bad_contact_is_none(triple: object) -> None:
    assert parse_triple(triple) is None


# --- Wire -------------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=100), st.integers(0, 300))
def test_a_trailer_comes_off_again(body: bytes, padding: int) -> None:
    head, ext = cut_trailer(body + request_trailer(b"netw", padding))
    assert (head, request_net(ext)) == (body, b"netw") or not body


@given(st.binary(max_size=100))
def test_any_trailer_is_read_or_refused(data: bytes) -> None:
    body, ext = cut_trailer(data)
    assert data.startswith(body)
    request_net(ext)
    reply_marks(ext)


def test_reply_marks_come_back() -> None:
    _, ext = cut_trailer(b"body" + reply_trailer(b"netw", ID, b"12345678"))
    assert reply_marks(ext) == (b"netw", ID, b"12345678", False)
    assert reply_marks(ext and ext[:-1]) is None


@given(st.binary(max_size=200))
def test_any_body_is_a_request_or_none(body: bytes) -> None:
    datagram = bytes(wire.FRAME_BYTES) + body
    found = wire.verb_of(datagram)
    if found is not None:
        try:
            found[0].args.decode(datagram[found[1] :])
        except wire.DECODE_ERRORS:
            return


# --- Guard ------------------------------------------------------------------------------------------------------------


def test_a_token_is_bound_to_its_ip_and_lives_for_two_secrets() -> None:
    tokens = Tokens(random.Random(1), 0.0)
    token = tokens.issue("10.0.0.1")
    assert tokens.valid("10.0.0.1", token)
    assert not tokens.valid("10.0.0.2", token)
    assert not tokens.valid("10.0.0.1", b"")
    assert not tokens.valid("10.0.0.1", token[:7])
    tokens.rotate(limits.TOKEN_LIFE_S - 1)
    assert tokens.issue("10.0.0.1") == token
    tokens.rotate(limits.TOKEN_LIFE_S)
    assert tokens.issue("10.0.0.1") != token
    assert tokens.valid("10.0.0.1", token)
    tokens.rotate(2 * limits.TOKEN_LIFE_S)
    assert not tokens.valid("10.0.0.1", token)


def test_a_bucket_lets_its_rate_through() -> None:
    bucket = Bucket(10, 0.0)
    assert sum(bucket.take(0.0) for _ in range(50)) == 10
    assert sum(bucket.take(0.55) for _ in range(50)) == 5
    assert sum(bucket.take(100.0) for _ in range(50)) == 10


def test_parking_is_bounded_and_short() -> None:
    parking = Parking()
    here: Address = ("10.0.0.1", 1)
    for number in range(limits.PARKED_REQUESTS_MAX + 5):
        parking.park(here, number.to_bytes(20), number.to_bytes(4), 0.0)
    assert len(parking.waiting) == limits.PARKED_REQUESTS_MAX
    assert parking.release(("10.0.0.2", 1), 0.0) == []
    assert len(parking.release(here, 0.5)) == limits.PARKED_REQUESTS_MAX
    parking.park(here, b"a", b"late", 0.0)
    assert parking.release(here, limits.PARKED_S + 0.1) == []
    assert len(parking.waiting) == 0


# --- Requests ---------------------------------------------------------------------------------------------------------


def test_the_timeout_follows_the_round_trips_within_bounds() -> None:
    rtt = Rtt()
    assert rtt.timeout_s == limits.REQUEST_TIMEOUT_S_FIRST
    for _ in range(20):
        rtt.sample(0.001)
    assert rtt.timeout_s == limits.REQUEST_TIMEOUT_S_MIN
    for _ in range(50):
        rtt.sample(0.4)
    assert 0.79 < rtt.timeout_s < 0.9  # twice the usual time, however even the answers were
    rtt.sample(100.0)
    assert rtt.timeout_s == limits.REQUEST_TIMEOUT_S_MAX


class _Line:
    """A request engine with a hand-turned clock."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.softs: list[Request] = []
        self.requests = Requests(lambda data, address: self.sent.append(data))

    def start(self, now: float = 0.0, number: int = 0) -> Request:
        peer = Peer(("10.0.0.1", 1), None, 0.0)
        request = Request(peer, wire.PING, None, lambda request, answer: None, self.softs.append)
        request.id = number.to_bytes(20)
        request.datagram = b"datagram"
        self.requests.start(request, now)
        return request


def test_a_request_is_repeated_then_given_up() -> None:
    line = _Line()
    request = line.start()
    now = 0.0
    failed: list[Request] = []
    while not failed:
        deadline = line.requests.next_deadline()
        assert deadline is not None
        now = deadline
        failed = line.requests.expire(now, 0.0)
    assert failed == [request]
    assert len(line.sent) == limits.REQUEST_TRIES
    assert line.softs == [request]
    assert 1.5 < now < 2.0
    assert line.requests.next_deadline() is None
    assert line.requests.find(request.id) is None


def test_an_answer_to_a_repeated_request_teaches_no_round_trip() -> None:
    line = _Line()
    first, second = line.start(number=1), line.start(number=2)
    line.requests.settle(first, 0.01)
    assert first.peer.rtt.smooth_s == pytest.approx(0.01)
    line.requests.expire(0.5, 0.0)
    line.requests.settle(second, 0.51)
    assert second.peer.rtt.smooth_s is None


def test_after_a_silence_we_wait_twice_as_long_until_the_first_copy_is_answered() -> None:
    rtt = Rtt()
    rtt.back_off(0.0, 1.0)
    assert rtt.timeout_s == limits.REQUEST_TIMEOUT_S_FIRST  # nobody knows what a stranger's line is like
    for _ in range(50):
        rtt.sample(0.04)
    usual_s = rtt.timeout_s
    rtt.back_off(2.0, 3.0)
    rtt.back_off(2.9, 3.1)  # was under way together with the first
    assert (rtt.timeout_s, rtt.usual_s) == (2 * usual_s, usual_s)
    for turn in range(10):
        rtt.back_off(4.0 + turn, 4.0 + turn)
    assert rtt.timeout_s == limits.REQUEST_TIMEOUT_S_BACKED_OFF
    rtt.sample(0.04)
    assert rtt.timeout_s == rtt.usual_s < 1.1 * usual_s
    rtt.sample(100.0)
    rtt.back_off(50.0, 51.0)
    assert rtt.timeout_s == limits.REQUEST_TIMEOUT_S_MAX


def test_who_was_silent_is_slow_after_its_usual_time_and_asked_again_later() -> None:
    line = _Line()
    first = line.start(number=1)
    line.requests.settle(first, 0.04)
    first.peer.rtt.back_off(1.0, 1.5)
    first.peer.rtt.back_off(1.5, 2.0)
    again = Request(first.peer, wire.PING, None, lambda request, answer: None, line.softs.append)
    again.id = b"again"
    line.requests.start(again, 3.0)
    usual_s = first.peer.rtt.usual_s
    line.requests.expire(3.0 + usual_s, 0.0)
    assert (line.softs, again.tries) == ([again], 1)
    line.requests.expire(3.0 + 4 * usual_s, 0.0)
    assert (line.softs, again.tries) == ([again], 2)


def test_when_we_were_late_ourselves_the_peer_gets_more_time() -> None:
    line = _Line()
    line.start()
    now = limits.REQUEST_TIMEOUT_S_FIRST + 1.0
    for grace in range(GRACES_MAX):
        assert line.requests.expire(now + grace * LAG_S, 1.0) == []
        assert len(line.sent) == 1
    line.requests.expire(now + (GRACES_MAX + 1) * LAG_S, 1.0)
    assert len(line.sent) == 2


def test_too_many_requests_fail_at_once_and_unsent() -> None:
    line = _Line()
    for number in range(limits.REQUESTS_OUTSTANDING_MAX):
        line.start(number=number)
    extra = line.start(number=10**9)
    assert len(line.sent) == len(line.requests) == limits.REQUESTS_OUTSTANDING_MAX
    assert line.requests.expire(0.0, 0.0) == [extra]
    assert line.requests.expire(0.0, 0.0) == []
    assert line.start(number=10**9) in line.requests.abandon()


# --- Pages ------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 200), st.integers(1, 7), st.integers(0, 10_000), st.one_of(st.none(), st.integers(1, 100)))
def test_pages_of_any_length_in_any_order_make_the_listing(
    total: int, longest: int, seed: int, limit: int | None
) -> None:
    chance = random.Random(seed)
    listing = [b"%d" % number for number in range(total)]
    plan = PagePlan(total, limit)
    awaited: list[int] = []
    for _ in range(5000):
        while len(awaited) < 8 and (rank := plan.next()) is not None:
            assert 0 <= rank < total
            assert rank not in awaited
            awaited.append(rank)
        if not awaited:
            break
        rank = awaited.pop(chance.randrange(len(awaited)))
        plan.on_page(rank, listing[rank : rank + chance.randint(1, longest)])
    assert plan.full
    assert plan.wires() == tuple(listing[:limit])


def test_a_listing_whose_pages_stay_away_is_given_up() -> None:
    plan = PagePlan(10)
    for _ in range(20):
        if (rank := plan.next()) is None:
            break
        plan.on_lost(rank)
    assert plan.finished
    assert not plan.full


def test_an_impossible_total_costs_no_memory() -> None:
    plan = PagePlan((1 << 32) - 1)
    assert plan.wanted == limits.RECORDS_PER_INDEX_KEY_MAX
    assert plan.cut_short


def test_the_digest_does_not_depend_on_order_or_repetition() -> None:
    assert digest_of([b"a", b"b", b"a"]) == digest_of([b"b", b"a"]) != digest_of([b"a"])
    assert digest_of([]) == bytes(8)


def test_what_does_not_fit_is_left_for_the_next_page() -> None:
    wires = [b"." * 97, b"." * 97, b"." * 97]
    trim(wires, 299)
    assert len(wires) == 2
    trim(wires, 200)
    assert len(wires) == 2
    trim(wires, 99)
    assert wires == []
