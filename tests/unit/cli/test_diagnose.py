"""`why` and `doctor`: what a person sees, and what a program gets."""

import json
from typing import Any

import pytest

from tests.unit.cli.conftest import Dhtex, FakeNode

HOP: dict[str, Any] = {
    "id": "a" * 40, "address": "10.0.0.1:1", "kind": "dhtex", "distance_bits": 155, "named_by": None, "asked_ms": 0.1,
    "rtt_ms": 2.25, "answer": "page", "contacts": 12, "records": 1, "digest": "0123456789abcdef", "holder": True,
    "agrees": True,
}  # fmt: skip
WHY: dict[str, Any] = {
    "key": "e" * 40, "took_ms": 12.0, "holders": 2, "agreed": 1, "local": None, "verdict": "1 of 2 holders",
    "hops": [HOP, {**HOP, "id": "b" * 40, "named_by": "a" * 40, "agrees": False, "digest": "ff" * 8},
             {**HOP, "id": "c" * 40, "answer": "silent", "rtt_ms": None, "holder": False, "records": 0}],
}  # fmt: skip
SICK: dict[str, Any] = {
    "healthy": False,
    "checks": [
        {"name": "port", "state": "ok", "finding": "listens on UDP port 3001", "hint": ""},
        {"name": "clock", "state": "fault", "finding": "90 s ahead", "hint": "set the clock"},
    ],
}


def test_why_shows_each_hop_and_marks_who_disagrees(dhtex: Dhtex, node: FakeNode) -> None:
    node.answer = WHY
    result = dhtex("why", "e" * 40)
    assert result.status == 0
    assert node.calls == [("GET", "/v1/why/" + "e" * 40, None)]
    head, first, second, third, *rest = result.out.splitlines()
    assert head.split() == ["ASKED", "ID", "ADDRESS", "KIND", "BITS", "RTT", "ANSWER", "NAMED", "RECORDS", "DIGEST",
                            "NAMED", "BY"]  # fmt: skip
    assert "page *" in first
    assert "page x" in second
    assert "silent" in third
    assert any("1 of 2 holders (12 ms)" in line for line in rest)
    assert json.loads(dhtex("why", "e" * 40, "--json").out) == WHY
    assert dhtex("why", "xyz").status == 2


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_doctor_exits_with_8_when_something_is_wrong(dhtex: Dhtex, node: FakeNode, form: str) -> None:
    node.answer = SICK
    result = dhtex("doctor", *(["--json"] if form == "json" else []))
    assert result.status == 8
    if form == "json":
        assert json.loads(result.out) == SICK
    else:
        assert result.out.splitlines()[1].split() == ["fault", "clock", "90", "s", "ahead"]
        assert result.out.splitlines()[2].strip() == "-> set the clock"
    node.answer = {**SICK, "healthy": True}
    assert dhtex("doctor").status == 0
