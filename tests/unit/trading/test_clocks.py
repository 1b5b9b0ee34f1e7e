"""How far two clocks may differ: a minute either way, and what happens beyond. The figures stand in PROTOCOL.md."""

import pytest

from dhtex import limits
from dhtex.market.admission import admit, signature_holds
from dhtex.market.present import is_live
from dhtex.market.records import Closing, Code
from dhtex.market.trade import TakerEvent
from dhtex.trading.maker import Decision, Fill, Ignore, Reason, Refuse, Rules, Standing, closing_status, decide
from dhtex.trading.taker import outcome
from tests.builders import NOW, make_accept, make_order, maker_of, sealed_by

RULES = Rules(own_keys=frozenset(), epoch=1, pow_bits=0, good=signature_holds)


@pytest.mark.parametrize(
    ("ahead_s", "decision"),
    [
        (-120, Fill()),
        (0, Fill()),
        (59, Fill()),
        (60, Fill()),
        (61, Refuse(Code.LATE)),
        (75, Refuse(Code.LATE)),
        (76, Ignore(Reason.VOID)),
    ],
)
def test_a_maker_whose_clock_is_ahead_of_the_taker_s(ahead_s: int, decision: Decision) -> None:
    order = make_order(created=NOW - 3600)
    accept = make_accept(order, created=NOW)
    assert decide(accept, Standing(order=order, state="open"), RULES, NOW + ahead_s) == decision


def test_what_a_maker_within_a_minute_confirms_its_taker_believes() -> None:
    order = make_order(created=NOW - 3600)
    accept = make_accept(order, created=NOW)
    for ahead_s, believed in ((-120, True), (60, True), (61, False)):
        body = closing_status(order, 1, Closing.FILLED, b"", NOW + ahead_s, accept=accept)
        found = outcome(order, accept, [sealed_by(body, maker_of(order))], NOW)
        assert found is not None
        assert (found.event is TakerEvent.CONFIRM) == believed


def test_a_maker_whose_clock_is_behind_is_listed_as_live() -> None:
    body = make_order(created=NOW - 3600).body
    oldest_beat_s = limits.BEAT_INTERVAL_S  # just before the next
    assert is_live(body, NOW - 60 - oldest_beat_s, NOW)
    assert not is_live(body, NOW - 61 - oldest_beat_s, NOW)


def test_a_record_from_a_clock_that_is_two_minutes_ahead_is_not_held_yet() -> None:
    order = make_order()
    assert admit(order, NOW - 120, 0) is None
    assert admit(order, NOW - 121, 0) is Code.NOT_LIVE
