"""`order export` and `import`: lines in, lines out, and which of them are bad."""

import json
from pathlib import Path
from typing import Any

from dhtex.cli.copies import LINE_BYTES_MAX, LINES_AT_ONCE
from tests.unit.cli.conftest import COVERAGE, Dhtex, FakeNode

RECORD = {"kind": "order", "id": "ab" * 32, "symbol": "BTC/USD", "record": "eA=="}


def stored(body: Any) -> Any:
    return {"results": [{"state": "stored", "id": "ab" * 32, "code": None, "holders": 3} for _ in body["records"]]}


def test_an_export_is_one_object_a_line_and_nothing_else(dhtex: Dhtex, node: FakeNode) -> None:
    node.answer = {"records": [RECORD, RECORD], "coverage": COVERAGE, "hidden": {"expired": 1}}
    result = dhtex("order export BTC/USD")
    assert node.calls == [("GET", "/v1/export?pair=BTC%2FUSD", None)]
    assert [json.loads(line) for line in result.out.splitlines()] == [RECORD, RECORD]
    assert result.err == "2 orders; 8 of 8 holders answered and agree; hidden: 1 expired\n"
    assert dhtex("order export BTC/USD --json").out == result.out


def test_an_import_sends_records_in_batches(dhtex: Dhtex, node: FakeNode, tmp_path: Path) -> None:
    node.answer = stored
    book = tmp_path / "book"
    book.write_text((json.dumps(RECORD) + "\n") * (LINES_AT_ONCE + 1))
    result = dhtex("import", str(book))
    assert (result.status, result.out) == (0, f"{LINES_AT_ONCE + 1} records stored\n")
    assert [len(body["records"]) for _, _, body in node.calls] == [LINES_AT_ONCE, 1]


def test_an_import_names_every_bad_line(dhtex: Dhtex, node: FakeNode, tmp_path: Path) -> None:
    def answer(body: Any) -> Any:
        results = [*stored(body)["results"][:2], {"state": "invalid", "id": None, "code": "expired", "holders": 0}]
        return {"results": [*results, {"state": "refused", "id": "ab" * 32, "code": None, "holders": 0}]}

    node.answer = answer
    lines = [RECORD, "[1]", {**RECORD, "id": "cd" * 32}, {"id": 5}, RECORD, RECORD]
    long = "x" * (3 * LINE_BYTES_MAX + 5)
    book = tmp_path / "book"
    lines += [long, "", "[2]", long]
    book.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    result = dhtex("import", str(book))
    assert (result.status, result.out) == (8, "1 record stored, 1 not taken, 7 invalid\n")
    assert result.err.splitlines() == [
        "line 2: it is no signed record",
        "line 3: its id is not that of its record",
        "line 4: it is no signed record",
        "line 5: it has expired",
        "line 6: no other node took it: it is closed, or there is no peer",
        "line 7: it is no signed record",
        "line 9: it is no signed record",
        "line 10: it is no signed record",
        "error: 7 lines could not be verified (see above)",
    ]
    rows = [json.loads(line) for line in dhtex("import", str(book), "--json").out.splitlines()]
    assert [row["line"] for row in rows[:-1]] == [1, 2, 3, 4, 5, 6, 7, 9, 10]
    assert rows[-1] == {"stored": 1, "refused": 1, "invalid": 7}


def test_an_import_of_a_file_of_another_kind_does_not_fill_the_screen(dhtex: Dhtex, tmp_path: Path) -> None:
    path = tmp_path / "junk"
    path.write_bytes(b"\xff\x00\n" * 300)
    result = dhtex("import", str(path))
    assert (result.status, "300 invalid" in result.out, result.err.count("\n")) == (8, True, 21)
    assert len(dhtex("import", str(path), "--json").out.splitlines()) == 301
