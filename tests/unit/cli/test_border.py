"""Whatever happens inside, the caller gets an exit code and at most one clear line."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dhtex import __version__
from tests.unit.cli.conftest import EMPTY_LISTING, Dhtex, FakeNode


def test_a_defect_is_one_line_and_its_traceback_is_kept(
    dhtex: Dhtex, node: FakeNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DHTEX_HOME", str(tmp_path))
    node.answer = ZeroDivisionError("oh\nno")
    result = dhtex("order list")
    assert (result.status, result.out) == (1, "")
    assert (
        result.err == f"error: a defect of dhtex: ZeroDivisionError: oh no (please report it with {tmp_path}/cli.log)\n"
    )
    assert "Traceback" in (tmp_path / "cli.log").read_text()


def test_an_answer_of_an_unknown_shape_is_a_defect_not_a_traceback(
    dhtex: Dhtex, node: FakeNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DHTEX_HOME", str(tmp_path / "file" / "below"))
    (tmp_path / "file").write_text("in the way")
    node.answer = {"orders": [{}]}
    result = dhtex("order list")
    assert (result.status, result.err) == (1, "error: a defect of dhtex: KeyError: 'id' (please report it)\n")


def test_ctrl_c_is_quiet(dhtex: Dhtex, node: FakeNode) -> None:
    node.answer = KeyboardInterrupt()
    result = dhtex("order list")
    assert (result.status, result.out, result.err) == (130, "", "")


def test_help_is_no_error(dhtex: Dhtex) -> None:
    for command in ("--help", "order", "order --help", "order add --help"):
        result = dhtex(command)
        assert (result.status, result.err) == (0, "")
        assert result.out.startswith("Usage: dhtex")
    assert dhtex().status == 0


def test_version(dhtex: Dhtex) -> None:
    assert dhtex("--version").out == f"dhtex {__version__}\n"


def test_the_environment_names_a_node(dhtex: Dhtex, node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    from dhtex.cli import app
    from dhtex.cli.session import Session

    node.answer = EMPTY_LISTING
    wanted: list[str | None] = []

    def connect(name: str | None) -> FakeNode:
        wanted.append(name)
        return node

    monkeypatch.setenv("DHTEX_NODE", "3001")
    for command in ("order list", "--node 3002 order list", "order list --node 3003", "--node 1 order list --node 2"):
        assert app.run(command.split(), Session(connect=connect)) == 0
    assert wanted == ["3001", "3002", "3003", "2"]


def test_a_terminal_that_knows_only_ascii_is_served(
    monkeypatch: pytest.MonkeyPatch, dhtex: Dhtex, node: FakeNode
) -> None:
    screen = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", screen)
    node.answer = [
        {"id": "a" * 40, "address": "hé", "kind": "", "rtt_ms": None, "age_s": 1, "silent_s": 1, "failures": 0}
    ]
    assert dhtex("peers").status == 0
    screen.seek(0)
    assert "h\\xe9" in screen.read()


@pytest.fixture
def lonely(tmp_path: Path) -> dict[str, str]:
    """The environment of a program without any node."""
    return {**os.environ, "DHTEX_HOME": str(tmp_path)}


def program(*words: str) -> list[str]:
    return [sys.executable, "-m", "dhtex", *words]


def test_without_a_node_the_exit_code_is_6(lonely: dict[str, str]) -> None:
    done = subprocess.run(program("order", "list"), env=lonely, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (6, "")
    assert done.stderr == "error: no node is running (start one: dhtex start --port 3001)\n"


def test_a_reader_that_goes_away_is_no_error(lonely: dict[str, str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            program("order", "add", "--help"), env=lonely, stdout=writer, stderr=subprocess.PIPE, text=True, check=False
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def with_streams(redirections: str, lonely: dict[str, str], *words: str) -> "subprocess.CompletedProcess[str]":
    """Run the program with streams as a shell makes them."""
    shell = ["sh", "-c", f'exec "$@" {redirections}', "sh", *program(*words)]
    return subprocess.run(shell, env=lonely, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("redirections", "reason"),
    [
        (">&-", "it is closed"),
        ("> /dev/full", "No space left on device (what was asked for may be done all the same)"),
        ("1< /dev/null", "Bad file descriptor (what was asked for may be done all the same)"),
    ],
)
@pytest.mark.parametrize("words", ["nodes", "nodes --json", "--help"])
def test_an_output_that_takes_nothing_is_said_in_one_line(
    lonely: dict[str, str], redirections: str, reason: str, words: str
) -> None:
    done = with_streams(redirections, lonely, *words.split())
    assert (done.returncode, done.stdout) == (141, "")
    if "--json" in words:
        problem = json.loads(done.stderr)["error"]
        assert (problem["code"], problem["exit_status"]) == ("output", 141)
    else:
        assert done.stderr == f"error: the output cannot be written: {reason}\n"


@pytest.mark.parametrize("redirections", ["2>&-", "2> /dev/full", "2< /dev/null"])
def test_where_nobody_can_be_told_what_is_wrong_the_exit_code_says_it(
    lonely: dict[str, str], redirections: str
) -> None:
    done = with_streams(redirections, lonely, "order", "list")
    assert (done.returncode, done.stdout, done.stderr) == (6, "", "")


def test_without_an_input_there_is_none_to_read(lonely: dict[str, str]) -> None:
    done = with_streams("<&-", lonely, "import", "-")
    assert (done.returncode, done.stderr[:6], "input" in done.stderr) == (2, "error:", True)
