"""A node that answers from a script, and the command line run in this process against it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from dhtex.cli.app import run
from dhtex.cli.session import Session

ORDER: dict[str, Any] = {
    "id": "3f2a9c1b04" + "d" * 54,
    "clientOrderId": "",
    "symbol": "BTC/USD",
    "side": "sell",
    "price": "50000",
    "amount": "1",
    "minimum": "1",
    "filled": "0",
    "remaining": "1",
    "status": "open",
    "timestamp": 1_700_000_000_000,
    "datetime": "2023-11-14T22:13:20.000Z",
    "expires": 1_700_086_400_000,
    "expiresDatetime": "2023-11-15T22:13:20.000Z",
    "maker": "ab" * 32,
    "payment": ["SEPA"],
    "note": "",
    "liveness": "beat",
    "confirm": "auto",
    "live": True,
    "mine": False,
    "holders": None,
    "replaces": None,
    "replacedBy": None,
    "parent": None,
    "group": None,
    "proof": [],
    "receipts": [],
}
COVERAGE: dict[str, Any] = {"nodes": 1, "asked": 8, "answered": 8, "agreed": 8, "complete": True}
EMPTY_LISTING: dict[str, Any] = {"orders": [], "coverage": COVERAGE, "hidden": {}}
TRADE: dict[str, Any] = {
    "id": "77" * 32,
    "accept": "77" * 32,
    "order": ORDER["id"],
    "role": "taker",
    "state": "confirmed",
    "code": None,
    "retryable": False,
    "symbol": "BTC/USD",
    "side": "buy",
    "price": "50000",
    "amount": "1",
    "cost": "50000",
    "timestamp": 1_700_000_000_000,
    "datetime": "2023-11-14T22:13:20.000Z",
    "deadline": 1_700_000_060_000,
    "deadlineDatetime": "2023-11-14T22:14:20.000Z",
    "counterparty": "ab" * 32,
    "message": "",
    "reply": "",
    "receipts": [],
}


def accept_view(state: str, code: str | None = None) -> dict[str, Any]:
    """The outcome of an accept."""
    trade = {**TRADE, "state": state, "code": code}
    ids = {"accept": TRADE["accept"], "order": TRADE["order"]}
    return {**ids, "state": state, "code": code, "retryable": False, "trade": trade}


@dataclass
class FakeNode:
    """Answers every call with `answer`, or raises it; a function is asked with the body."""

    answer: Any = None
    events: Iterable[tuple[str, Any]] = field(default_factory=list)
    calls: list[tuple[str, str, Any]] = field(default_factory=list)

    def call(self, method: str, path: str, body: Any = None, progress: Callable[[float], None] | None = None) -> Any:
        self.calls.append((method, path, body))
        answer = self.answer(body) if callable(self.answer) else self.answer
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def stream(self, method: str, path: str, body: Any = None) -> Iterator[tuple[str, Any]]:
        if not self.events and self.answer is not None:
            yield "result", self.call(method, path, body)
            return
        self.calls.append((method, path, body))
        for event, value in self.events:
            if isinstance(value, BaseException):
                raise value
            yield event, value


@dataclass
class Result:
    """What a command line left: exit code and both outputs."""

    status: int
    out: str
    err: str


Dhtex = Callable[..., Result]


@pytest.fixture
def node() -> FakeNode:
    """The node behind `dhtex`."""
    return FakeNode()


@pytest.fixture
def dhtex(node: FakeNode, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Dhtex:
    """Runs a command line in this process; its words are given one by one, or as one text to be split."""
    monkeypatch.delenv("DHTEX_NODE", raising=False)

    def command(*words: str) -> Result:
        arguments = words[0].split() if len(words) == 1 else list(words)
        status = run(arguments, Session(connect=lambda wanted: node))
        captured = capsys.readouterr()
        return Result(status, captured.out, captured.err)

    return command
