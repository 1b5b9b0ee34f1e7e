"""Commands that do more than one thing: each is told, and one that failed decides the exit code."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit.cli.conftest import COVERAGE, ORDER, Dhtex, FakeNode, accept_view

FAILURE = {"id": "77" * 32, "message": "the order is filled already", "code": "filled"}


def test_each_of_many_cancellations_is_told(dhtex: Dhtex, node: FakeNode) -> None:
    node.answer = {"canceled": [ORDER, ORDER], "failed": []}
    result = dhtex("order cancel --all")
    assert (result.status, result.out.count("canceled 3f2a9c1b04: sell 1 BTC at 50000 USD")) == (0, 2)
    node.answer = {"canceled": [], "failed": []}
    assert dhtex("order cancel --all").out == "no open orders\n"


def test_an_end_that_nobody_was_told_of_is_told_as_such(dhtex: Dhtex, node: FakeNode) -> None:
    untold = {**ORDER, "status": "canceled", "holders": 0}
    later = "yet, but will as soon as a peer answers"
    node.answer = untold
    assert dhtex("order cancel 3f2a9c1b04").out.splitlines()[1:] == [f"nobody else knows of this {later}"]
    node.answer = {"canceled": [ORDER, untold, untold], "failed": []}
    assert dhtex("order cancel --all").out.splitlines()[3:] == [f"nobody else knows of 2 of these {later}"]
    node.answer = {"canceled": [{**untold, "holders": 1}], "failed": []}
    assert len(dhtex("order cancel --all").out.splitlines()) == 1
    node.answer = {"order": {**ORDER, "replaces": "ee" * 32}, "holders": 0}
    assert (
        f"(0 other holders: nobody else knows of the change {later}; expires"
        in dhtex("order amend 3f2a9c1b04 --price 1").out
    )


def test_one_that_cannot_be_cancelled_is_named_and_decides_the_exit_code(dhtex: Dhtex, node: FakeNode) -> None:
    node.answer = {"canceled": [ORDER], "failed": [FAILURE]}
    result = dhtex("order cancel --pair BTC/USD")
    assert result.status == 4
    assert "canceled 3f2a9c1b04" in result.out
    assert "not canceled 7777777777: the order is filled already" in result.out
    assert "1 order could not be canceled" in result.err
    result = dhtex("order cancel --all --json")
    assert (result.status, json.loads(result.out), json.loads(result.err)["error"]["reason"]) == (
        4,
        node.answer,
        "filled",
    )


@pytest.mark.parametrize("words", ["", "abcdef --all", "--all --pair BTC/USD"])
def test_what_to_cancel_is_said_in_one_way(dhtex: Dhtex, node: FakeNode, words: str) -> None:
    assert dhtex(f"order cancel {words}").status == 2
    assert node.calls == []


BEST = "order accept --best BTC/USD --side buy --amount 1 --max-price 51000"
REFUSED = {"order": ORDER, "state": "refused", "code": "taken"}


def test_each_step_on_the_way_to_the_best_order_is_told(dhtex: Dhtex, node: FakeNode) -> None:
    won = accept_view("confirmed")
    last = {"order": ORDER, "state": "confirmed", "code": None}
    answer = {"tries": [REFUSED, last], "outcome": won, "coverage": COVERAGE}
    told: list[str] = []

    def happens() -> Iterator[tuple[str, Any]]:
        yield "progress", {"fraction": 0.5}
        yield "tried", REFUSED
        told.append("before the answer is there")
        yield "tried", last
        yield "result", answer

    node.events = happens()
    result = dhtex(BEST)
    assert result.status == 0
    assert result.err == "refused 3f2a9c1b04: sell 1 BTC at 50000 USD (taken)\n"
    assert told
    assert result.out.startswith("confirmed 7777777777: you buy 1 BTC")
    wish = {"pair": "BTC/USD", "side": "buy", "amount": "1", "min_price": "", "max_price": "51000"}
    assert node.calls == [("POST", "/v1/orders/accept", {**wish, "message": "", "wait_s": 30})]


@pytest.mark.parametrize(
    ("outcome", "status"), [(None, 4), (accept_view("sent"), 5), (accept_view("void"), 5), (accept_view("pending"), 5)]
)
def test_without_a_trade_the_exit_code_says_why(dhtex: Dhtex, node: FakeNode, outcome: object, status: int) -> None:
    node.events = [("tried", REFUSED), ("result", {"tries": [REFUSED], "outcome": outcome, "coverage": COVERAGE})]
    result = dhtex(BEST)
    assert result.status == status
    assert "refused 3f2a9c1b04" in result.err
    as_json = dhtex(f"{BEST} --json")
    assert as_json.status == status
    assert json.loads(as_json.out)["tries"][0]["code"] == "taken"


def test_a_node_that_goes_in_the_middle_of_it_leaves_the_outcome_open(dhtex: Dhtex, node: FakeNode) -> None:
    assert dhtex(BEST).status == 5


@pytest.mark.parametrize(
    "words",
    ["", "abcdef --best BTC/USD", "--best BTC/USD --amount 1", "--best BTC/USD --side buy", "abcdef --max-price 1"],
)
def test_a_wish_for_the_best_is_said_in_full(dhtex: Dhtex, node: FakeNode, words: str) -> None:
    assert dhtex(f"order accept {words}").status == 2
    assert node.calls == []


def test_renewing_tells_each_order_that_has_a_switch(dhtex: Dhtex, node: FakeNode) -> None:
    node.answer = [{**ORDER, "cancelAt": 4_000_000_000_000}]
    assert dhtex("order renew").out.startswith("renewed 3f2a9c1b04: sell 1 BTC at 50000 USD (for ")
    node.answer = []
    assert dhtex("order renew").out == "no open orders with --cancel-after\n"
    node.answer = {"order": ORDER, "holders": 1}
    assert dhtex("order add sell 1 BTC/USD --price 5 --cancel-after 10m").status == 0
    assert node.calls[-1][2]["cancel_after_s"] == 600


def test_a_switch_that_was_asked_for_is_never_left_out(dhtex: Dhtex, node: FakeNode) -> None:
    node.answer = {"order": ORDER, "holders": 1}
    words = ("order", "add", "sell", "1", "BTC/USD", "--price", "5", "--cancel-after")
    assert dhtex(*words, "0s").status == 0
    assert node.calls[-1][2]["cancel_after_s"] == 0, "which the node refuses"
    assert dhtex(*words, "").status == 2, "an unset variable of the shell"
    assert dhtex(*words[:-1]).status == 0
    assert node.calls[-1][2]["cancel_after_s"] is None
