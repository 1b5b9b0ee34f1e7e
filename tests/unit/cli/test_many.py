"""Commands that do more than one thing: each is told, and one that failed decides the exit code."""

import json

import pytest

from tests.unit.cli.conftest import ORDER, Dhtex, FakeNode

FAILURE = {"id": "77" * 32, "message": "the order is filled already", "code": "filled"}


def test_each_of_many_cancellations_is_told(dhtex: Dhtex, node: FakeNode) -> None:
    node.answer = {"canceled": [ORDER, ORDER], "failed": []}
    result = dhtex("order cancel --all")
    assert (result.status, result.out.count("canceled 3f2a9c1b04: sell 1 BTC at 50000 USD")) == (0, 2)
    node.answer = {"canceled": [], "failed": []}
    assert dhtex("order cancel --all").out == "no open orders\n"


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
