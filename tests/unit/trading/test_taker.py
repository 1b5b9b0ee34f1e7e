"""What became of an accept, read from the records of its order's key, and when to ask for them."""

import itertools
import random

import pytest

from dhtex import limits
from dhtex.market.records import AnyRecord, Closing, Code
from dhtex.market.trade import TakerEvent
from dhtex.trading.taker import DISPUTED, Outcome, Plan, Step, outcome
from tests.builders import NOW, identity, make_accept, make_order, make_refusal, make_status

ORDER = make_order()
OURS = make_accept(ORDER)
THEIRS = make_accept(ORDER, by=identity(3))
YES = make_status(ORDER, Closing.FILLED, accept=OURS)
NO = make_refusal(ORDER, OURS, Code.DECLINED)
STRANGER = identity(66)


def read(*records: AnyRecord) -> tuple[str, str] | None:
    heard: list[AnyRecord] = [ORDER, OURS, *records]
    verdicts: list[Outcome | None] = [outcome(ORDER, OURS, order, NOW + 5) for order in itertools.permutations(heard)]
    assert all(verdict == verdicts[0] for verdict in verdicts), "the order in which records are read plays no part"
    return None if verdicts[0] is None else (verdicts[0].event, verdicts[0].code)


def test_nothing_said_means_nothing_known() -> None:
    assert read() is None
    assert read(THEIRS) is None
    assert read(make_refusal(ORDER, THEIRS, Code.TAKEN)) is None


def test_a_certificate_confirms() -> None:
    assert read(YES) == (TakerEvent.CONFIRM, "")
    later = make_status(ORDER, Closing.CANCELED, seq=2)
    assert read(YES, later, NO) == (TakerEvent.CONFIRM, "")


def test_a_certificate_for_other_terms_or_given_too_late_does_not() -> None:
    for wrong in (
        make_status(ORDER, Closing.FILLED, accept=OURS, amount="0.5"),
        make_status(ORDER, Closing.FILLED, accept=OURS, taker=identity(3).public),
        make_status(ORDER, Closing.FILLED, accept=OURS, at=OURS.body.deadline + 1),
    ):
        assert read(wrong) == (TakerEvent.REFUSE, Code.TAKEN)
    assert read(make_status(ORDER, Closing.FILLED, accept=OURS, at=OURS.body.deadline)) == (TakerEvent.CONFIRM, "")


def test_an_order_that_ended_otherwise_refuses() -> None:
    assert read(make_status(ORDER, Closing.FILLED, accept=THEIRS)) == (TakerEvent.REFUSE, Code.TAKEN)
    assert read(make_status(ORDER, Closing.CANCELED)) == (TakerEvent.REFUSE, Code.CANCELED)
    assert read(make_status(ORDER, Closing.REPLACED)) == (TakerEvent.REFUSE, Code.REPLACED)


def test_a_refusal_refuses_and_says_why() -> None:
    assert read(NO) == (TakerEvent.REFUSE, Code.DECLINED)
    assert read(NO, make_status(ORDER, Closing.FILLED, accept=THEIRS)) == (TakerEvent.REFUSE, Code.DECLINED)


def test_strangers_say_nothing() -> None:
    assert read(make_status(ORDER, Closing.FILLED, accept=OURS, by=STRANGER, maker=STRANGER.public)) is None
    assert read(make_status(ORDER, Closing.CANCELED, by=STRANGER, maker=STRANGER.public)) is None
    assert read(make_refusal(ORDER, OURS, Code.TAKEN, by=STRANGER, maker=STRANGER.public)) is None
    assert read(make_status(make_order(number=1), Closing.CANCELED)) is None


@pytest.mark.parametrize(
    "other",
    [
        make_status(ORDER, Closing.FILLED, accept=THEIRS),
        make_status(ORDER, Closing.FILLED, accept=THEIRS, seq=2),
        make_status(ORDER, Closing.CANCELED),
    ],
)
def test_a_maker_that_contradicts_itself_is_trusted_in_nothing(other: AnyRecord) -> None:
    assert read(YES, other) == (TakerEvent.REFUSE, DISPUTED)


def walk(plan: Plan, end: float, holders: int = 8, answered: bool = True) -> list[tuple[float, Step]]:
    """Follow a plan in which everything happens in no time."""
    now, steps = float(NOW), list[tuple[float, Step]]()
    for _ in range(10_000):
        step, rest_s = plan.next(now)
        if step is Step.END or now > end:
            return steps
        if step is Step.REST:
            now += rest_s
            continue
        steps.append((now - NOW, step))
        if step is Step.PUT:
            plan.put_done(holders, now)
        else:
            plan.read_done(answered, now, now)
    raise AssertionError("a plan makes progress")


def times(steps: list[tuple[float, Step]], kind: Step) -> list[float]:
    return [at for at, step in steps if step is kind]


def test_a_plan_puts_until_the_deadline_and_reads_once_after_the_grace() -> None:
    steps = walk(Plan(NOW + 60, NOW + 60, NOW), NOW + 1000)
    assert times(steps, Step.PUT) == [0, 4, 12, 28, 60]
    assert times(steps, Step.READ) == [1, 2, 4, 8, 16, 32, 64, 75]


def test_few_holders_are_asked_again_sooner() -> None:
    steps = walk(Plan(NOW + 60, NOW + 60, NOW), NOW + 1000, holders=limits.HOLDERS // 2 - 1)
    assert times(steps, Step.PUT) == [0, 1, 3, 7, 15, 31]


def test_while_nobody_answers_it_asks_often_and_nothing_lapses() -> None:
    steps = walk(Plan(NOW + 60, NOW + 120, NOW), NOW + 1000, answered=False)
    reads = times(steps, Step.READ)
    assert max(later - sooner for sooner, later in itertools.pairwise(reads)) <= 5
    assert reads[-1] >= 75


def test_after_the_deadline_reading_goes_on_slowly_until_the_order_is_over() -> None:
    steps = walk(Plan(NOW + 60, NOW + 86_400, NOW), NOW + 10**6)
    late = [at for at in times(steps, Step.READ) if at > 75]
    assert 24 <= len(late) <= 40
    assert times(steps, Step.PUT)[-1] <= 60


@pytest.mark.parametrize("life", [100, 307, 1000, 86_400])
def test_the_last_read_of_a_void_accept_comes_when_nothing_can_come_any_more(life: int) -> None:
    steps = walk(Plan(NOW + 60, NOW + life, NOW), NOW + 10**6)
    assert times(steps, Step.READ)[-1] == life


def test_a_plan_taken_up_after_its_time_only_reads() -> None:
    plan = Plan(NOW - 100, NOW - 50, NOW)
    assert plan.next(NOW) == (Step.REST, 1.0)
    assert plan.next(NOW + 1) == (Step.READ, 0.0)
    assert plan.lapsed(NOW + 1)
    plan.read_done(True, NOW + 1, NOW + 1)
    assert plan.next(NOW + 1)[0] is Step.END


def test_a_hint_hastens_the_next_read() -> None:
    plan = Plan(NOW + 60, NOW + 60, NOW)
    plan.put_done(8, NOW)
    assert plan.next(NOW)[0] is Step.REST
    plan.hurry(NOW)
    assert plan.next(NOW)[0] is Step.READ
    plan.hurry(NOW + 1)  # while it reads: what was missed may not have been there yet
    plan.read_done(True, NOW, NOW + 2)
    assert plan.next(NOW + 2)[0] is Step.READ
    plan.read_done(True, NOW + 2, NOW + 3)
    assert plan.next(NOW + 3)[0] is Step.REST


def test_a_clock_set_back_after_a_hint_makes_no_reader_without_pause() -> None:
    plan = Plan(NOW + 60, NOW + 60, NOW)
    plan.put_done(8, NOW)
    plan.hurry(NOW)
    assert plan.next(NOW)[0] is Step.READ
    plan.hurry(NOW + 1)
    plan.read_done(True, NOW, NOW - 5)  # the clock was set back meanwhile
    assert plan.next(NOW - 5)[0] is Step.READ
    plan.read_done(True, NOW - 5, NOW - 4)
    assert plan.next(NOW - 4)[0] is Step.REST


@pytest.mark.parametrize("seed", range(20))
def test_a_plan_always_ends(seed: int) -> None:
    chance = random.Random(seed)
    life = chance.choice([1, 60, 3600, 86_400])
    steps = walk(Plan(NOW + life, NOW + life + chance.randrange(7 * 86_400), NOW), NOW + 10**7, chance.randrange(9))
    assert times(steps, Step.READ)[-1] >= life + limits.ACCEPT_GRACE_S


def test_a_put_that_the_deadline_has_overtaken_is_not_waited_for() -> None:
    """A reading that ended after the deadline left the put before it undone: the node span until the next reading."""
    plan = Plan(NOW + 60, NOW + 600, NOW)
    plan.put_done(0, NOW + 58.5)
    plan.read_done(True, NOW + 58.5, NOW + 61)
    step, rest_s = plan.next(NOW + 61.5)
    assert step is Step.REST
    assert rest_s > 0


@pytest.mark.parametrize(("end", "then"), [(75, Step.REST), (600, Step.END)])
def test_a_read_that_an_end_overtakes_is_followed_by_another(end: int, then: Step) -> None:
    """The end of the grace, and of the time in which something may come."""
    plan, now = Plan(NOW + 60, NOW + 600, NOW), NOW + end - 0.2
    plan.put_done(8, now)
    for _ in range(2):
        assert plan.next(now)[0] is Step.READ
        plan.read_done(True, now, now + 0.5)
        now += 0.5
    assert plan.next(now)[0] is then
