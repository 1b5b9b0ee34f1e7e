"""Starting, stopping and reading logs: what is handed to the part that does it, and what is said about it."""

import errno
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dhtex import config, nodefiles, spawn
from dhtex.config import NodeConfig
from dhtex.errors import NotRunningError
from dhtex.nodefiles import NodeFile, Started
from tests.unit.cli.conftest import Dhtex

STARTED = Started(
    pid=7,
    port=3001,
    network="main",
    socket="s",
    http=None,
    token_file=None,
    log="l",
    peers=1,
    bootstrap={},
    warnings=[],
)
NOTE = NodeFile(pid=7, port=3001, host=None, network="main", started=0, version="1", socket="s")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own for the test."""
    monkeypatch.setenv("DHTEX_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def starts(home: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[NodeConfig, bool]]:
    """What was started; every start succeeds."""
    seen: list[tuple[NodeConfig, bool]] = []

    def start(settings: NodeConfig, folder: Path, *, fresh: bool = False) -> Started:
        assert folder == home
        seen.append((settings, fresh))
        warnings = [f"{peer} does not answer yet" for peer in settings.bootstrap]
        return replace(STARTED, port=settings.port, network=settings.network or "main", warnings=warnings)

    monkeypatch.setattr(spawn, "start", start)
    return seen


def test_start_says_one_line(dhtex: Dhtex, starts: list[tuple[NodeConfig, bool]]) -> None:
    result = dhtex("start --port 3001")
    assert (result.status, result.err) == (0, "")
    assert result.out == "dhtex node on port 3001 is running (network main, 1 peer)\n"
    assert starts == [(NodeConfig(port=3001, network=config.NETWORK_OF_STATE), False)]


def test_work_that_cannot_be_is_refused(dhtex: Dhtex, starts: list[tuple[NodeConfig, bool]]) -> None:
    for bits in ("-1", "25"):
        result = dhtex("start", "--network", "lab", f"--pow-bits={bits}")
        assert (result.status, result.err) == (2, f"error: {bits} bits of work are out of range (0 to 24)\n")
    assert starts == []


def test_start_hands_over_all_settings(dhtex: Dhtex, starts: list[tuple[NodeConfig, bool]]) -> None:
    result = dhtex(
        "start --port 0 --bootstrap 127.0.0.1:3002,[::1]:3003 --bootstrap example.org:4 --bootstrap 127.0.0.1:3002"
        " --host 127.0.0.1 --network lab --pow-bits 0 --http 8080 --contact me --force"
    )
    peers = ("127.0.0.1:3002", "[::1]:3003", "example.org:4")
    wanted = NodeConfig(
        port=0, host="127.0.0.1", network="lab", pow_bits=0, bootstrap=peers, http_port=8080, contact="me"
    )
    assert starts == [(wanted, True)]
    assert result.err.splitlines() == [f"warning: {peer} does not answer yet" for peer in peers]


def test_start_in_json_has_the_warnings_inside(dhtex: Dhtex, starts: list[tuple[NodeConfig, bool]]) -> None:
    result = dhtex("start --bootstrap a:1 --json")
    assert json.loads(result.out)["warnings"] == ["a:1 does not answer yet"]
    assert result.err == ""


def test_stop_waits_for_the_end_of_every_node(dhtex: Dhtex, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[str, int]] = []
    running = [NOTE, replace(NOTE, port=3002)]
    monkeypatch.setattr(nodefiles, "running_nodes", lambda folder: running)
    monkeypatch.setattr(spawn, "ask_to_stop", lambda node, folder: done.append(("ask", node.port)))
    monkeypatch.setattr(spawn, "wait_until_stopped", lambda node, folder: done.append(("wait", node.port)))
    assert dhtex("stop --all").out == "dhtex node on port 3001 has stopped\ndhtex node on port 3002 has stopped\n"
    assert done == [("ask", 3001), ("ask", 3002), ("wait", 3001), ("wait", 3002)]
    assert dhtex("stop").status == 2
    running.pop()
    assert json.loads(dhtex("stop --json").out) == {"stopped": [3001]}
    running.pop()
    assert dhtex("stop --all").out == "no nodes were running\n"
    assert dhtex("stop").status == 6


def test_nodes_say_when_they_began_in_both_forms(dhtex: Dhtex, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note = nodefiles.NodeFile(1, 3001, None, "lab", 1_000_007, "1", "s")
    monkeypatch.setattr(nodefiles, "running_nodes", lambda folder: [note])
    (node,) = json.loads(dhtex("nodes --json").out)
    assert (node["started"], node["startedDatetime"]) == (1_000_007, "1970-01-01T00:16:40.007Z")


def test_nodes_of_an_empty_home(dhtex: Dhtex, home: Path) -> None:
    assert dhtex("nodes").out == "no nodes are running\n"
    assert dhtex("nodes --json").out == "[]\n"


@pytest.fixture
def log(home: Path) -> Path:
    """The log of a stopped node."""
    path = home / "nodes" / "3001" / nodefiles.LOG
    path.parent.mkdir(parents=True)
    path.write_bytes(b"one\ntwo\x1b[2J\nthree\n")
    return path


def test_logs_of_a_stopped_node(dhtex: Dhtex, log: Path) -> None:
    assert dhtex("logs").out == "one\ntwo\\x1b[2J\nthree\n"
    assert dhtex("logs -n 1 --node 3001").out == "three\n"
    assert dhtex("logs -n 0").out == ""
    assert json.loads(dhtex("logs -n 1 --json").out) == {"line": "three"}
    assert dhtex("logs --node 3002").status == 3
    (log.parent.parent / "3002").mkdir()
    (log.parent.parent / "3002" / nodefiles.LOG).touch()
    assert dhtex("logs").status == NotRunningError.exit_status


def test_following_a_log_without_its_past_shows_only_what_is_new(
    dhtex: Dhtex, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pause(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", pause)
    assert dhtex("logs -f -n 0").out == ""


def test_the_log_of_somebody_else_is_denied(dhtex: Dhtex, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(*_: Any, **__: Any) -> Any:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", deny)
    result = dhtex("logs")
    assert (result.status, result.err) == (
        8,
        "error: the log of this node cannot be read (it belongs to another user)\n",
    )


def test_following_a_log_loses_no_line_at_a_rotation(dhtex: Dhtex, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = iter(("write", "half", "rotate", "end"))

    def pause(_: float) -> None:
        match next(steps):
            case "write":
                with log.open("a") as file:
                    file.write("four\nfi")
            case "half":
                with log.open("a") as file:
                    file.write("ve\n")
            case "rotate":
                with log.open("a") as file:
                    file.write("six\n")
                log.rename(log.with_suffix(".1"))
                log.write_text("seven\n")
            case _:
                raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", pause)
    result = dhtex("logs -f -n 1")
    assert (result.status, result.out.splitlines()) == (0, ["three", "four", "five", "six", "seven"])


def test_foreground_runs_here_and_hands_on_the_status(
    dhtex: Dhtex, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_here(settings: NodeConfig, folder: Path, *, fresh: bool, on_ready: Any) -> int:
        on_ready(replace(STARTED, http="http://127.0.0.1:8080"))
        return 3

    monkeypatch.setattr(spawn, "run_here", run_here)
    result = dhtex("start --foreground")
    assert result.status == 3
    assert result.out == "dhtex node on port 3001 is running (network main, 1 peer); http://127.0.0.1:8080\n"
