"""Merging keeps what is true, counts what is not, and points at orders that somebody may be hiding or reviving."""

from functools import partial

from dhtex.directory.pricetree import Step
from dhtex.directory.reading import (
    EVERYTHING,
    IndexReading,
    add_coverage,
    coverage_of,
    merge_beats,
    merge_index,
    merge_order,
    placed_beats,
    placed_orders,
)
from dhtex.market.admission import admit, tree_path
from dhtex.market.branches import pack
from dhtex.market.ids import NodeId
from dhtex.market.records import AnyRecord, Closing, Code
from dhtex.overlay.results import GetResult, Holder, Version
from tests.builders import NETWORK, NOW, identity, make_accept, make_beat, make_order, make_refusal, make_status

ONE, TWO = make_order(number=1), make_order(number=2, by=identity(3))
PLACE = ("BTC/USD", "sell")
FORGED = ONE.wire.replace(ONE.signature, bytes(64))
check = partial(admit, now=NOW + 10, network_bits=0)


def version(*wires: bytes, holders: int = 1, complete: bool = True) -> Version:
    return Version(b"digest", len(wires), holders, wires, complete)


def result(*versions: Version, asked: int = 8) -> GetResult:
    return GetResult(asked, sum(v.holders for v in versions), versions)


def merged(answers: GetResult, step: Step = EVERYTHING) -> IndexReading:
    return merge_index(placed_orders(NETWORK, PLACE, answers, step), answers, check, step)


def test_versions_are_united_and_differences_are_contested() -> None:
    answers = result(version(ONE.wire, TWO.wire, holders=6), version(ONE.wire, holders=2))
    reading = merged(answers)
    assert set(reading.orders) == {ONE.id, TWO.id}
    assert reading.contested == [TWO.id]
    assert (reading.coverage.asked, reading.coverage.answered, reading.coverage.agreed) == (8, 8, 6)


def test_what_few_holders_have_is_asked_about_first_and_left_out_when_it_is_too_much() -> None:
    many = [make_order(number=number) for number in range(10, 20)]
    answers = result(version(ONE.wire, holders=5), version(holders=2), version(*(order.wire for order in many)))
    reading = merged(answers)
    asked = reading.doubtful(4)
    assert set(asked) <= {order.id for order in many}
    assert set(reading.orders) == {ONE.id, *asked}
    assert reading.rejected == {"unconfirmed": 6}


def test_an_order_is_replaced_by_one_of_its_own_maker_and_by_nobody_elses() -> None:
    successor = make_order(number=5, replaces=ONE.id)
    stranger = make_order(number=6, by=identity(4), replaces=TWO.id)
    listed = [ONE, TWO, successor, stranger]
    reading = merged(result(version(*(order.wire for order in listed), holders=8)))
    assert set(reading.orders) == {order.id for order in listed}
    assert reading.replaced() == {ONE.id}
    del reading.orders[successor.id]
    assert reading.replaced() == set()


def test_who_delegates_an_order_hides_nothing_and_vouches_for_nothing() -> None:
    def named(wires: tuple[bytes, ...], *numbers: int) -> Version:
        below = pack([tree_path(ONE)[:2]])
        by = tuple(Holder(NodeId(bytes([number]) * 20), ("10.0.0.1", number), below) for number in numbers)
        return Version(b"digest", len(wires), len(by), wires, True, by)

    few = merged(result(named((ONE.wire,), 1), named((), 2, 3)))
    assert (few.contested, few.backed, few.lacks) == ([ONE.id], set(), {ONE.id: []})
    most = merged(result(named((ONE.wire,), 1, 2), named((), 3)))
    assert (most.contested, most.settled) == ([], {ONE.id})
    branch = merged(result(version(ONE.wire, holders=3)), Step(tree_path(ONE)[:2], None))
    few.absorb(branch)
    assert few.doubtful(4) == []


def test_forged_misplaced_and_garbled_records_are_counted_and_left_out() -> None:
    elsewhere = make_order(pair="BTC/EUR")
    answers = result(version(ONE.wire, FORGED, elsewhere.wire, b"garbage", make_beat().wire))
    reading = merged(answers)
    assert set(reading.orders) == {ONE.id}
    assert reading.rejected == {Code.BAD_SIGNATURE: 1, "misplaced": 3}


def test_beats_count_only_when_signed_and_for_this_side() -> None:
    beat, newer = make_beat(at=NOW), make_beat(at=NOW + 5)
    other_side = make_beat(at=NOW + 9, side="buy")
    forged = make_beat(at=NOW + 8)
    beats = [beat.wire, newer.wire, other_side.wire, forged.wire.replace(forged.signature, bytes(64))]
    reading = merged(result(version(ONE.wire)))
    merge_beats(placed_beats(NETWORK, PLACE, beats), check, reading)
    assert reading.beats == {identity(1).public: NOW + 5}


def test_an_answer_with_a_part_missing_is_not_complete() -> None:
    assert not coverage_of(result(version(ONE.wire, complete=False))).complete
    assert not coverage_of(GetResult(8, 0, ())).complete
    whole = coverage_of(result(version(ONE.wire)))
    assert add_coverage([whole, whole]).nodes == 2
    assert not add_coverage([]).complete


def test_an_orders_key_gives_what_its_maker_signed_and_nothing_of_others() -> None:
    mallory = identity(9)
    accept = make_accept(ONE)
    ours: list[AnyRecord] = [ONE, make_status(ONE, Closing.CANCELED), accept, make_refusal(ONE, accept, Code.TAKEN)]
    foreign: list[AnyRecord] = [
        make_status(ONE, Closing.CANCELED, by=mallory, maker=mallory.public),
        make_refusal(ONE, accept, Code.DECLINED, by=mallory, maker=mallory.public),
        make_accept(TWO),
        TWO,
    ]
    answers = result(version(*(record.wire for record in ours + foreign)))
    reading = merge_order(NETWORK, ONE.id, answers, check)
    assert {record.id for record in reading.records} == {record.id for record in ours}


def test_an_expired_order_is_still_told_of_at_its_own_key() -> None:
    late = partial(admit, now=ONE.body.expires + 1, network_bits=0)
    assert merge_order(NETWORK, ONE.id, result(version(ONE.wire)), late).order == ONE
