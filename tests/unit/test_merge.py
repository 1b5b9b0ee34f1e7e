"""The rule when two records meet, and what statuses say about an order."""

from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from dhtex import limits
from dhtex.market.merge import Meeting, OrderState, meet, order_state, slot
from dhtex.market.records import AnyRecord, Closing, Code, Record, Status
from dhtex.market.stamp import mint
from dhtex.market.trade import MakerState
from tests.builders import NOW, identity, make_accept, make_beat, make_order, make_refusal, make_status
from tests.strategies import records

ORDER = make_order()


def test_what_competes_shares_a_slot() -> None:
    accept, other = make_accept(ORDER), make_accept(ORDER, number=1)
    assert slot(accept) == slot(other)
    assert slot(make_status(ORDER, Closing.CANCELED)) == slot(make_status(ORDER, Closing.FILLED, seq=5))
    assert slot(make_refusal(ORDER, accept, Code.TAKEN)) == slot(make_refusal(ORDER, accept, Code.LATE, at=NOW + 5))
    assert slot(make_beat()) == slot(make_beat(at=NOW + 30))


def test_what_does_not_compete_has_slots_of_its_own() -> None:
    accept = make_accept(ORDER)
    different: list[AnyRecord] = [
        ORDER,
        make_order(number=1),
        accept,
        make_accept(ORDER, by=identity(3)),
        make_accept(make_order(number=1)),
        make_status(ORDER, Closing.CANCELED),
        make_status(ORDER, Closing.CANCELED, by=identity(3), maker=identity(3).public),
        make_refusal(ORDER, accept, Code.TAKEN),
        make_refusal(ORDER, make_accept(ORDER, number=1), Code.TAKEN),
        make_beat(),
        make_beat(prefix="0"),
        make_beat(side="buy"),
        make_beat(pair="BTC/EUR"),
        make_beat(by=identity(3)),
    ]
    assert len({slot(record) for record in different}) == len(different)


def test_the_higher_seq_wins() -> None:
    first, second = make_status(ORDER, Closing.CANCELED), make_status(ORDER, Closing.CANCELED, seq=2)
    assert meet(second, first, NOW) is Meeting.NEW_WINS
    assert meet(first, second, NOW) is Meeting.OLD_STAYS


def test_equal_seq_with_other_bytes_is_equivocation() -> None:
    canceled, filled = make_status(ORDER, Closing.CANCELED), make_status(ORDER, Closing.FILLED)
    assert meet(canceled, filled, NOW) is meet(filled, canceled, NOW) is Meeting.BOTH_STAY


def test_a_higher_seq_does_not_wipe_out_the_certificate_of_another_trade() -> None:
    first = make_status(ORDER, Closing.FILLED)
    second = make_status(ORDER, Closing.FILLED, accept=make_accept(ORDER, by=identity(3)), seq=2)
    assert meet(first, second, NOW) is meet(second, first, NOW) is Meeting.BOTH_STAY
    assert order_state(ORDER, [first, second], NOW).state is MakerState.DISPUTED


def test_a_later_cancel_does_not_wipe_out_the_certificate_of_a_trade() -> None:
    fill, cancel = make_status(ORDER, Closing.FILLED), make_status(ORDER, Closing.CANCELED, seq=2)
    assert meet(cancel, fill, NOW) is meet(fill, cancel, NOW) is Meeting.BOTH_STAY
    assert order_state(ORDER, [fill, cancel], NOW) == OrderState(MakerState.FILLED, fill)


def test_the_same_trade_may_be_certified_anew() -> None:
    first, again = make_status(ORDER, Closing.FILLED), make_status(ORDER, Closing.FILLED, seq=2, sealed=bytes(60))
    assert meet(again, first, NOW) is Meeting.NEW_WINS
    assert order_state(ORDER, [again, first], NOW) == OrderState(MakerState.FILLED, again)


def test_an_accept_stays_while_it_may_still_be_answered() -> None:
    old = make_accept(ORDER)
    new = make_accept(ORDER, number=1, created=old.body.deadline)
    assert meet(new, old, old.body.deadline) is Meeting.OLD_STAYS
    assert meet(new, old, old.body.deadline + 1) is Meeting.NEW_WINS
    assert meet(old, new, new.body.deadline + 1) is Meeting.OLD_STAYS


def test_the_newest_beat_wins_and_a_tie_is_decided_alike_everywhere() -> None:
    old, new, twin = make_beat(), make_beat(at=NOW + 1), make_beat(at=NOW + 1, version=1)
    assert meet(new, old, NOW) is Meeting.NEW_WINS
    assert meet(old, new, NOW) is Meeting.OLD_STAYS
    assert meet(new, twin, NOW) is Meeting.SAME


def test_a_refusal_stays() -> None:
    accept = make_accept(ORDER)
    first, second = make_refusal(ORDER, accept, Code.TAKEN), make_refusal(ORDER, accept, Code.DECLINED)
    assert meet(second, first, NOW) is Meeting.OLD_STAYS


def test_another_stamp_does_not_make_another_order() -> None:
    restamped = make_order(bits=1)
    assert restamped.wire != ORDER.wire
    assert mint(ORDER.id, 1, NOW // 3600) == restamped.stamp
    assert meet(restamped, ORDER, NOW) is Meeting.SAME


@given(record=records())
def test_a_record_is_the_same_as_itself(record: AnyRecord) -> None:
    assert meet(record, record, NOW) is Meeting.SAME


def _settle(arriving: tuple[Record[Status], ...]) -> set[bytes]:
    held: list[Record[Status]] = []
    for new in arriving:
        meetings = [meet(new, old, NOW) for old in held]
        if Meeting.SAME in meetings or Meeting.OLD_STAYS in meetings:
            continue
        held = [old for old, met in zip(held, meetings, strict=True) if met is not Meeting.NEW_WINS] + [new]
    return {record.id for record in held}


@given(
    st.lists(
        st.builds(
            lambda closing, seq, at: make_status(ORDER, closing, seq=seq, at=NOW + at),
            st.sampled_from(Closing),
            st.integers(1, 3),
            st.integers(0, 1),
        ),
        max_size=4,
    )
)
def test_statuses_settle_alike_in_whatever_order_they_arrive(arriving: list[Record[Status]]) -> None:
    assert len({frozenset(_settle(order)) for order in permutations(arriving)}) == 1


def test_an_order_is_open_until_it_expires() -> None:
    expires = ORDER.body.expires
    assert order_state(ORDER, [], expires - 1) == OrderState(MakerState.OPEN)
    assert order_state(ORDER, [], expires) == OrderState(MakerState.EXPIRED)


def test_each_closing_closes_and_outlives_expiry() -> None:
    for closing in Closing:
        status = make_status(ORDER, closing)
        for now in (NOW, ORDER.body.expires + limits.TOMBSTONE_S):
            assert order_state(ORDER, [status, status], now) == OrderState(MakerState(closing.value), status)


def test_equivocation_disputes_whatever_the_sequence() -> None:
    pair = [make_status(ORDER, Closing.CANCELED), make_status(ORDER, Closing.FILLED)]
    forward, backward = order_state(ORDER, pair, NOW), order_state(ORDER, pair[::-1], NOW)
    assert forward == backward
    assert forward.state is MakerState.DISPUTED


def test_a_later_seq_settles_what_an_earlier_one_left_open() -> None:
    earlier = [make_status(ORDER, Closing.CANCELED), make_status(ORDER, Closing.REPLACED)]
    final = make_status(ORDER, Closing.CANCELED, seq=2)
    assert order_state(ORDER, [*earlier, final], NOW) == OrderState(MakerState.CANCELED, final)


def test_strangers_and_other_orders_statuses_say_nothing() -> None:
    stranger = make_status(ORDER, Closing.CANCELED, by=identity(3), maker=identity(3).public, seq=99)
    elsewhere = make_status(make_order(number=1), Closing.CANCELED)
    assert order_state(ORDER, [stranger, elsewhere], NOW) == OrderState(MakerState.OPEN)
