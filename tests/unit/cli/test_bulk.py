"""Many orders from a file: bad lines are named, the rest is published, and answers keep the order of the lines."""

import io
import json
import signal
import sys
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from dhtex.cli import bulk
from dhtex.cli.bulk import FAILURES_NAMED_MAX
from dhtex.errors import NotRunningError, OutcomeUnknownError, RefusedError, UsageError
from tests.unit.cli.conftest import ORDER, Dhtex, FakeNode


def line(amount: object = 1) -> str:
    return json.dumps({"buy": "BTC", "sell": "USD", "price": 50000, "amount": amount})


def publish(draft: dict[str, Any]) -> Any:
    return {"order": {**ORDER, "amount": draft["amount"]}, "holders": 1}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A hundred orders; line 37 is broken."""
    path = tmp_path / "orders.ndjson"
    lines = [line(number) for number in range(1, 101)]
    lines[36] = '{"buy":'
    path.write_text("\n".join(lines))
    return path


def test_a_bad_line_is_named_and_the_rest_is_published(dhtex: Dhtex, node: FakeNode, file: Path) -> None:
    node.answer = publish
    result = dhtex("order", "add", "--file", str(file))
    assert result.status == 2
    assert len(node.calls) == 99
    assert result.out.count("published") == 99
    first, second = result.err.splitlines()
    assert first.startswith("error: line 37: this is not JSON")
    assert second == "99 orders published, 1 line not"


def test_programs_get_one_object_a_line_in_the_order_of_the_lines(dhtex: Dhtex, node: FakeNode, file: Path) -> None:
    node.answer = publish
    result = dhtex("order", "add", "--file", str(file), "--json")
    answers = [json.loads(text) for text in result.out.splitlines()]
    assert [answer["line"] for answer in answers] == [number for number in range(1, 101) if number != 37]
    assert all(answer["order"]["amount"] == str(answer["line"]) for answer in answers)
    (told,) = result.err.splitlines()
    assert json.loads(told)["error"]["line"] == 37


def test_the_input_is_read_with_a_dash(dhtex: Dhtex, node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    node.answer = publish
    for words in (["--json", "-"], ["--file", "-"]):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(f"{line()}\n\n{line()}\n".encode())))
        result = dhtex("order", "add", *words)
        assert (result.status, result.err, len(result.out.splitlines())) == (0, "", 2)
        assert result.out.startswith("{") == ("--json" in words)


@pytest.mark.parametrize("words", ["order add --file -", "order add --json -", "import -"])
def test_a_closed_input_is_misuse(dhtex: Dhtex, monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    result = dhtex(words)
    assert (result.status, "the input is closed" in result.err) == (2, True)


def test_the_exit_code_is_that_of_the_first_failure(dhtex: Dhtex, node: FakeNode, tmp_path: Path) -> None:
    def refuse(draft: dict[str, Any]) -> Any:
        if draft["amount"] == "2":
            return RefusedError("no", reason="rate_limited")
        return UsageError("no") if draft["amount"] == "3" else publish(draft)

    node.answer = refuse
    path = tmp_path / "orders"
    path.write_text("\n".join(line(number) for number in (1, 2, 3, 4)))
    result = dhtex("order", "add", "--file", str(path))
    assert result.status == 4
    assert result.err == "error: line 2: no\nerror: line 3: no\n2 orders published, 2 lines not\n"


def test_without_a_node_the_rest_of_the_file_is_not_tried(dhtex: Dhtex, node: FakeNode, file: Path) -> None:
    node.answer = NotRunningError("gone")
    result = dhtex("order", "add", "--file", str(file))
    assert result.status == 6
    assert len(node.calls) < 10
    assert result.err == (
        "error: line 1: gone\nerror: nothing behind line 1 was published (start the node again, and send the rest)\n"
        "0 orders published, 1 line not\n"
    )


def test_a_node_that_goes_in_the_middle_leaves_no_line_unmentioned(dhtex: Dhtex, node: FakeNode, file: Path) -> None:
    def answer(draft: dict[str, Any]) -> Any:
        number = int(draft["amount"])
        if number in range(13, 17):
            return OutcomeUnknownError("the node went away before it had answered")
        return publish(draft) if number < 13 or number == 18 else NotRunningError("gone")

    node.answer = answer
    result = dhtex("order", "add", "--file", str(file))
    assert (result.status, result.out.count("published")) == (5, 13)
    assert result.err.splitlines() == [
        *(f"error: line {number}: the node went away before it had answered" for number in range(13, 17)),
        "error: line 17: gone",
        "error: nothing behind line 18 was published (start the node again, and send the rest)",
        "13 orders published, 1 line not, 4 lines perhaps (see: dhtex order list --mine)",
    ]
    told = [json.loads(text)["error"] for text in dhtex("order", "add", "--file", str(file), "--json").err.splitlines()]
    assert [error.get("line") for error in told] == [*range(13, 18), None]


@pytest.mark.parametrize(
    ("again", "out", "says"),
    [
        (False, 4, "nothing behind line 4 was published"),
        (True, 0, "lines 1 to 4 are under way, nothing behind them was published"),
    ],
)
def test_ctrl_c_tells_what_was_under_way(
    dhtex: Dhtex, node: FakeNode, file: Path, monkeypatch: pytest.MonkeyPatch, again: bool, out: int, says: str
) -> None:
    main, stopping = threading.get_ident(), threading.Event()

    class Sent(Future[Any]):
        def cancel(self) -> bool:
            canceled = super().cancel()
            stopping.set()
            return canceled

        def result(self, timeout: float | None = None) -> Any:
            if again and stopping.is_set():
                raise KeyboardInterrupt
            return super().result(timeout)

    def answer(draft: dict[str, Any]) -> Any:
        if draft["amount"] == "4":
            signal.pthread_kill(main, signal.SIGINT)
        assert stopping.wait(30)
        return publish(draft)

    monkeypatch.setattr(bulk, "Future", Sent)
    node.answer = answer
    result = dhtex("order", "add", "--file", str(file))
    assert (result.status, result.out.count("published"), len(node.calls)) == (130, out, 4)
    assert result.err == (f"{out} orders published, 0 lines not\nerror: {says} (see: dhtex order list --mine)\n")


def test_a_file_without_orders_is_misuse(dhtex: Dhtex, tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.write_text("\n \n")
    result = dhtex("order", "add", "--file", str(path))
    assert (result.status, "there is no order in" in result.err) == (2, True)
    assert dhtex("order", "add", "--file", str(tmp_path)).status == 2


def test_a_file_of_another_kind_does_not_fill_the_screen(dhtex: Dhtex, node: FakeNode, tmp_path: Path) -> None:
    path = tmp_path / "junk"
    path.write_bytes(b"\xff\x00\n" * 3000)
    result = dhtex("order", "add", "--file", str(path))
    assert (result.status, len(result.err.splitlines())) == (2, FAILURES_NAMED_MAX + 1)
    assert result.err.splitlines()[-1] == "0 orders published, 3000 lines not; only the first 20 are named"
    assert len(dhtex("order", "add", "--file", str(path), "--json").err.splitlines()) == 3000
