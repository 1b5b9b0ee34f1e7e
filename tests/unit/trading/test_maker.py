"""The maker's answer to one accept: in the right order, from the table, and the same when asked again."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from dhtex import limits
from dhtex.market.admission import signature_holds
from dhtex.market.records import Accept, AnyRecord, Code, Confirm, Record
from dhtex.market.trade import MAKER, MakerEvent, MakerState, advance
from dhtex.trading.maker import Ask, Fill, Ignore, Reason, Refuse, Repeat, Rules, Standing, decide
from tests.builders import NOW, identity, make_accept, make_order

ORDER = make_order(amount="1", minimum="0.25")
STANDING = Standing(order=ORDER, state="open")
RULES = Rules(own_keys=frozenset({identity(1).public}), epoch=1, pow_bits=0, good=signature_holds)


def forged(accept: Record[Accept]) -> Record[Accept]:
    return msgspec.structs.replace(accept, signature=bytes(64))


def answer(accept: Record[Accept], now: float = NOW + 5, standing: Standing = STANDING, **rules: Any) -> object:
    return decide(accept, standing, replace(RULES, **rules), now)


def test_a_good_accept_fills() -> None:
    assert answer(make_accept(ORDER)) == Fill()
    assert answer(make_accept(ORDER, amount="0.25")) == Fill()


def test_an_ask_order_asks_once_and_only_so_many() -> None:
    order = make_order(confirm=Confirm.ASK)
    asking = Standing(order=order, state="open")
    accept = make_accept(order)
    assert answer(accept, standing=asking) == Ask()
    assert answer(accept, standing=replace(asking, waiting=True)) == Ignore(Reason.WAITING)
    asked_enough = replace(asking, waiting_count=limits.PENDING_PER_ORDER_MAX)
    for full in (asked_enough, replace(asking, accepts=limits.ACCEPTS_PER_ORDER_MAX)):
        assert answer(accept, standing=full) == Ignore(Reason.QUOTA)


@pytest.mark.parametrize("amount", ["0.24999999", "1.00000001", "0.300000001", "1000000000000000000"])
def test_an_amount_outside_or_too_fine_is_refused(amount: str) -> None:
    assert answer(make_accept(ORDER, amount=amount)) == Refuse(Code.AMOUNT_OUT_OF_RANGE)


def test_own_keys_are_refused() -> None:
    assert answer(make_accept(ORDER, by=identity(1))) == Refuse(Code.SELF_TRADE)


@pytest.mark.parametrize("state", [state for state in MakerState if advance(MAKER, state, MakerEvent.FILL) is None])
def test_an_order_that_has_ended_is_refused_with_the_reason(state: MakerState) -> None:
    codes = {"filled": "taken", "canceled": "canceled", "replaced": "replaced", "expired": "expired"}
    expected = Refuse(Code(codes.get(state, "wrong_epoch")))
    assert answer(make_accept(ORDER), standing=replace(STANDING, state=state)) == expected


def test_time_decides_to_the_second() -> None:
    accept = make_accept(ORDER)
    deadline = accept.body.deadline
    assert answer(accept, now=deadline) == Fill()
    assert answer(accept, now=deadline + 0.1) == Refuse(Code.LATE)
    assert answer(accept, now=deadline + limits.ACCEPT_GRACE_S) == Refuse(Code.LATE)
    assert answer(accept, now=deadline + limits.ACCEPT_GRACE_S + 0.1) == Ignore(Reason.VOID)
    last = make_accept(ORDER, created=ORDER.body.expires - 1)
    assert answer(last, now=ORDER.body.expires - 0.1) == Fill()
    assert answer(last, now=ORDER.body.expires) == Refuse(Code.EXPIRED)


def test_on_an_order_of_an_older_epoch_nothing_is_decided_before_it_was_read_back() -> None:
    fenced, large = replace(STANDING, fenced=True), make_accept(ORDER, amount="9")
    assert answer(make_accept(ORDER), standing=fenced, epoch=2) == Ignore(Reason.FENCED)
    assert answer(make_accept(ORDER), epoch=2) == Fill()
    assert answer(large, standing=fenced, epoch=2) == Ignore(Reason.FENCED)  # it may have been refused already
    assert answer(large, epoch=2) == Refuse(Code.AMOUNT_OUT_OF_RANGE)
    asked = make_order(confirm=Confirm.ASK)
    assert answer(make_accept(asked), standing=replace(fenced, order=asked), epoch=2) == Ask()
    assert answer(make_accept(ORDER), epoch=0) == Refuse(Code.WRONG_EPOCH)  # ours is the copy that is out of date


def test_unpaid_unsigned_and_foreign_accepts_get_no_answer() -> None:
    assert answer(make_accept(ORDER), pow_bits=10) == Ignore(Reason.STAMP)
    assert answer(make_accept(ORDER, bits=6), pow_bits=10) == Fill()
    assert answer(forged(make_accept(ORDER))) == Ignore(Reason.SIGNATURE)
    assert answer(make_accept(make_order(number=1))) == Ignore(Reason.OTHER_ORDER)


def test_an_answered_accept_gets_the_same_bytes_whatever_has_changed() -> None:
    answered = replace(STANDING, answered=b"what was said")
    accept = make_accept(ORDER)
    for standing in (answered, replace(answered, state="canceled"), replace(answered, accepts=10**9)):
        for now in (NOW + 5, accept.body.deadline + 5):
            assert answer(accept, now, standing) == Repeat(b"what was said")
    assert answer(forged(accept), standing=answered) == Ignore(Reason.SIGNATURE)


def test_checks_run_cheapest_first() -> None:
    calls: list[str] = []

    def good(record: AnyRecord) -> bool:
        calls.append("signature")
        return False

    late = make_accept(ORDER).body.deadline + limits.ACCEPT_GRACE_S + 1
    assert answer(make_accept(ORDER), late, good=good) == Ignore(Reason.VOID)
    assert answer(make_accept(ORDER), late, good=good, pow_bits=10) == Ignore(Reason.STAMP)
    assert calls == []
    assert answer(make_accept(ORDER, amount="9"), good=good) == Ignore(Reason.SIGNATURE)
    assert calls == ["signature"]


def test_a_used_up_quota_stops_refusals_and_never_a_fill() -> None:
    full = replace(STANDING, accepts=limits.ACCEPTS_PER_ORDER_MAX)
    assert answer(make_accept(ORDER, amount="9"), standing=full) == Ignore(Reason.QUOTA)
    assert answer(make_accept(ORDER), standing=full) == Fill()
