"""`quote`, `take`, `pairs` and `stats`: what they ask the node for, what they print, and how they exit."""

import json
from typing import Any

import pytest

from tests.unit.cli.conftest import COVERAGE, ORDER, TRADE, Dhtex, FakeNode, accept_view

STEP: dict[str, Any] = {"order": ORDER, "amount": "1", "cost": "50000"}
QUOTE: dict[str, Any] = {
    **{"symbol": "BTC/USD", "side": "buy", "amount": "1", "filled": "1", "remaining": "0", "depth": "1"},
    **{"average": "50000", "worst": "50000", "cost": "50000", "makers": [ORDER["maker"]], "plan": [STEP]},
    **{"left_out": {"ask": 2}, "timestamp": 1, "datetime": "x", "coverage": COVERAGE, "hidden": {}},
}
CONFIRMED: dict[str, Any] = {"order": ORDER, "amount": "1", "state": "confirmed", "code": None, "trade": TRADE}
REFUSED: dict[str, Any] = {"order": ORDER, "amount": "1", "state": "refused", "code": "taken", "trade": None}
SENT: dict[str, Any] = {**CONFIRMED, "state": "sent"}
TAKE: dict[str, Any] = {
    **{"symbol": "BTC/USD", "side": "buy", "amount": "1", "filled": "1", "outstanding": "0", "remaining": "0"},
    **{"average": "50000", "cost": "50000", "tries": [CONFIRMED], "coverage": COVERAGE},
}
SIDE = {"orders": 2, "amount": "3", "cost": "150"}
PRICES = {"bid": "49", "ask": "51", "spread": "2", "mid": "50", "open": "50", "high": "50", "low": "50"}
STATS: dict[str, Any] = {
    **{"symbol": "BTC/USD", "bids": SIDE, "asks": SIDE, **PRICES, "close": "50", "vwap": "50"},
    **{"baseVolume": "1", "quoteVolume": "50", "timeframe": "1h", "fills": [{}], "unverified": 2},
    **{"ohlcv": [[1_700_000_000_000, "50", "50", "50", "50", "1"]], "coverage": COVERAGE, "hidden": {}},
}


def take(**changes: Any) -> list[tuple[str, Any]]:
    view = {**TAKE, **changes}
    steps = [step for attempt in view["tries"] for step in (("trying", STEP), ("sent", STEP), ("tried", attempt))]
    return [("plan", QUOTE), *steps, ("result", view)]


def test_a_quote_asks_for_what_is_wanted_and_adds_up(dhtex: Dhtex, node: FakeNode) -> None:
    node.answer = QUOTE
    result = dhtex("quote BTC/USD --buy 1 --max-price 51000")
    assert node.calls == [("GET", "/v1/quote?pair=BTC%2FUSD&side=buy&amount=1&max_price=51000", None)]
    assert result.status == 0
    assert "buy 1 BTC for 50000 USD: 50000 on average, 50000 at worst; 1 order, 1 maker" in result.out
    assert "passed over: 2 confirmed by hand" in result.out
    assert json.loads(dhtex("quote BTC/USD --buy 1 --json").out) == QUOTE


def test_a_quote_says_when_the_book_has_less(dhtex: Dhtex, node: FakeNode) -> None:
    node.answer = {**QUOTE, "amount": "2", "remaining": "1"}
    result = dhtex("quote BTC/USD --buy 2")
    assert (result.status, result.err) == (
        3,
        "error: 1 of 2 BTC can be had (see the book: dhtex book BTC/USD)\n",
    )
    node.answer = {**QUOTE, "amount": "2", "remaining": "1", "depth": "9"}
    assert "the orders of 9 BTC cannot be taken in parts that make up more" in dhtex("quote BTC/USD --buy 2").err


def test_what_is_wanted_has_one_side(dhtex: Dhtex, node: FakeNode) -> None:
    for words in ("quote BTC/USD", "quote BTC/USD --buy 1 --sell 1", "take BTC/USD"):
        result = dhtex(words)
        assert (result.status, "say what you want to do" in result.err) == (2, True)
    assert node.calls == []


def test_a_take_tells_each_step_and_the_sum(dhtex: Dhtex, node: FakeNode) -> None:
    node.events = take()
    result = dhtex("take BTC/USD --sell 1 --min-price 9 --wait 3 --message hello")
    wish = {"pair": "BTC/USD", "side": "sell", "amount": "1", "max_price": "", "min_price": "9"}
    assert node.calls == [("POST", "/v1/take", {**wish, "message": "hello", "wait_s": 3.0})]
    assert result.status == 0
    assert result.out.splitlines() == [
        "buy 1 BTC for 50000 USD: 50000 on average, 50000 at worst; 1 order, 1 maker",
        "asking   3f2a9c1b04: 1 BTC at 50000 USD",
        "confirmed 3f2a9c1b04: 1 BTC at 50000 USD",
        "bought 1 of 1 BTC for 50000 USD, 50000 on average",
    ]
    assert json.loads(dhtex("take BTC/USD --buy 1 --json").out) == TAKE


def test_a_take_that_falls_short_says_how(dhtex: Dhtex, node: FakeNode) -> None:
    less = {"filled": "0", "average": None, "cost": None}
    node.events = take(**less, remaining="1", tries=[REFUSED])
    result = dhtex("take BTC/USD --buy 1")
    assert (result.status, "bought 0 of 1 BTC; 1 BTC not taken" in result.out) == (4, True)
    assert "refused  3f2a9c1b04: 1 BTC at 50000 USD (another accept was quicker: the order is taken)" in result.out
    node.events = take(**less, outstanding="1", tries=[SENT])
    result = dhtex("take BTC/USD --buy 1")
    assert (result.status, "no answer yet from the makers of 3f2a9c1b04" in result.err) == (5, True)
    assert "bought 0 of 1 BTC; 1 BTC on the way without an answer" in result.out


def test_a_take_does_not_call_a_void_accept_one_on_its_way(dhtex: Dhtex, node: FakeNode) -> None:
    node.events = take(filled="0", average=None, cost=None, outstanding="1", tries=[{**SENT, "state": "void"}])
    result = dhtex("take BTC/USD --buy 1")
    assert (result.status, "the accepts are void" in result.err, "way" in result.out + result.err) == (5, True, False)
    assert "bought 0 of 1 BTC; 1 BTC void: the deadline is over" in result.out


def test_a_take_that_is_broken_off_says_what_is_done_and_what_is_outstanding(dhtex: Dhtex, node: FakeNode) -> None:
    node.events = [*take()[:4], ("sent", STEP), ("x", KeyboardInterrupt())]
    result = dhtex("take BTC/USD --buy 2.5")
    assert result.status == 130
    assert "broken off: 1 of 2.5 confirmed; 1 on the way without an answer (3f2a9c1b04)" in result.out
    broken = json.loads(dhtex("take BTC/USD --buy 2.5 --json").out)
    assert (broken["filled"], broken["outstanding"], broken["unanswered"]) == ("1", "1", [ORDER["id"]])


def test_what_is_confirmed_and_outstanding_is_added_up_without_rounding(dhtex: Dhtex, node: FakeNode) -> None:
    amount, twice = "100000000000.000000000000000001", "200000000000.000000000000000002"
    tries = [{**attempt, "amount": amount} for attempt in (CONFIRMED, CONFIRMED, SENT, SENT)]
    node.events = [*take(tries=tries)[:-1], ("x", KeyboardInterrupt())]
    broken = json.loads(dhtex("take ETH/USD --buy 999999999999 --json").out)
    assert (broken["filled"], broken["outstanding"]) == (twice, twice)
    assert f"; {twice} on the way without an answer" in dhtex("take ETH/USD --buy 999999999999").out


def test_pairs_are_listed_with_the_reason_for_which_they_are_known(dhtex: Dhtex, node: FakeNode) -> None:
    row = {"symbol": "BTC/USD", "known": ["held", "own"], "bids": 0, "asks": 2, "bid": None, "ask": "5", "spread": None}
    node.answer = {"pairs": [row], "coverage": COVERAGE, "hidden": {}}
    assert dhtex("pairs").out.splitlines()[:2] == [
        "PAIR     BUY  SELL  BEST SELL  KNOWN AS",
        "BTC/USD    0     2          5  held, own",
    ]
    node.answer = {**node.answer, "pairs": []}
    assert dhtex("pairs").out.startswith("no pairs are known")


def test_figures_show_what_there_is(dhtex: Dhtex, node: FakeNode) -> None:
    node.answer = STATS
    result = dhtex("stats BTC/USD --limit 5 --timeframe 15m")
    assert node.calls == [("GET", "/v1/stats?pair=BTC%2FUSD&limit=5&timeframe=15m", None)]
    for text in (
        "spread     2 USD, middle 50",
        "wanted     3 BTC for 150 USD, 2 orders",
        "traded     1 fill, 2 more whose order is not to be had",
        "prices     last 50, high 50, low 50, on average 50",
        "2023-11-14T22:13Z    50    50   50     50       1",
    ):
        assert text in result.out
    assert json.loads(dhtex("stats BTC/USD --json").out) == STATS


GAP = {"symbol": "BTC/USD", "side": "sell", "low": "50000", "high": "60000"}
UNREAD = {**COVERAGE, "complete": False, "missing": [GAP]}
NOT_READ = "not read: sell orders of BTC/USD from 50000 to 60000"
BEST = "order accept --best BTC/USD --side buy --amount 1"


@pytest.mark.parametrize(
    ("words", "view"),
    [
        ("order list BTC/USD", {"orders": [ORDER], "hidden": {}}),
        ("book BTC/USD", {"symbol": "BTC/USD", "timestamp": 1, "asks": [], "bids": [], "hidden": {}}),
        ("order export BTC/USD", {"records": [{"record": "AAAA"}], "hidden": {}}),
        ("quote BTC/USD --buy 1", QUOTE),
        ("stats BTC/USD", STATS),
        ("pairs", {"pairs": [], "hidden": {}}),
    ],
)
def test_prices_that_nobody_could_be_asked_about_are_named_after_the_rest(
    words: str, view: dict[str, Any], dhtex: Dhtex, node: FakeNode
) -> None:
    node.answer = {**view, "coverage": UNREAD}
    result = dhtex(words)
    assert result.status == 9
    assert NOT_READ in result.err
    assert result.out
    as_json = dhtex(f"{words} --json")
    assert (as_json.status, json.loads(as_json.err)["error"]["code"]) == (9, "incomplete")
    node.answer = {**view, "coverage": COVERAGE}
    assert dhtex(words).status == 0


def test_a_quote_from_a_part_of_a_book_does_not_say_that_the_book_has_less(dhtex: Dhtex, node: FakeNode) -> None:
    node.answer = {**QUOTE, "amount": "2", "remaining": "1", "coverage": UNREAD}
    assert dhtex("quote BTC/USD --buy 2").status == 9


@pytest.mark.parametrize(
    ("changes", "whole", "part"),
    [
        ({}, 0, 0),  # all is taken: whoever tries again would buy twice
        ({"filled": "0", "outstanding": "1", "tries": [SENT]}, 5, 5),
        ({"filled": "0", "remaining": "1", "tries": [REFUSED]}, 4, 9),
    ],
)
def test_an_amount_that_a_part_of_a_book_had_not_is_no_refusal(
    changes: dict[str, Any], whole: int, part: int, dhtex: Dhtex, node: FakeNode
) -> None:
    node.events = take(**changes)
    assert dhtex("take BTC/USD --buy 1").status == whole
    node.events = take(**changes, coverage=UNREAD)
    result = dhtex("take BTC/USD --buy 1")
    assert (result.status, NOT_READ in result.err) == (part, part != 5)


@pytest.mark.parametrize(
    ("outcome", "whole", "part"), [(accept_view("confirmed"), 0, 0), (accept_view("sent"), 5, 5), (None, 4, 9)]
)
def test_the_best_of_a_part_of_a_book_is_taken_all_the_same(
    outcome: Any, whole: int, part: int, dhtex: Dhtex, node: FakeNode
) -> None:
    view = {"tries": [REFUSED], "outcome": outcome, "coverage": COVERAGE}
    node.events = [("result", view)]
    assert dhtex(BEST).status == whole
    node.events = [("result", {**view, "coverage": UNREAD})]
    result = dhtex(BEST)
    assert (result.status, NOT_READ in result.err) == (part, part != 5)
