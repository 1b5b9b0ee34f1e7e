"""The life of a background process: readiness, locks, leavings, signals, logs. The node in it is a fake."""

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dhtex import children, config, daemon, errors, limits, nodefiles, spawn
from dhtex.clock import SystemClock
from dhtex.config import NodeConfig
from dhtex.control.client import Client
from dhtex.nodefiles import Started
from tests.unit.control.fake_daemon import HANGING_STOP_S
from tests.unit.control.fakes import until

MODULE = "tests.unit.control.fake_daemon"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    for node in nodefiles.running_nodes(tmp_path):
        os.kill(node.pid, signal.SIGKILL)
    for child in spawn._children:
        child.wait(10)
    spawn._children.clear()


def start(home: Path, fresh: bool = False, **settings: Any) -> Started:
    chosen = NodeConfig(network="lab", **settings)
    return spawn.start(chosen, home, fresh=fresh, module=MODULE)


def stop(home: Path) -> None:
    for node in nodefiles.running_nodes(home):
        spawn.stop(node, home)


def folder_of(home: Path, started: Started) -> Path:
    return config.node_folder(home, started.port)


def log_of(home: Path, started: Started) -> str:
    return (folder_of(home, started) / nodefiles.LOG).read_text()


def wait_for(condition: object) -> None:
    assert callable(condition)
    asyncio.run(until(condition))


def test_a_started_node_answers_at_once_and_is_found(home: Path) -> None:
    started = start(home, contact="secret words")
    node = nodefiles.choose_node(home)
    assert (node.port, node.pid, node.network) == (started.port, started.pid, "lab")
    assert Client(node.socket).call("GET", "/v1/status")["port"] == started.port
    folder = folder_of(home, started)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for name in (nodefiles.NOTE, nodefiles.LOG, nodefiles.LOCK, "control.sock"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    words = Path(f"/proc/{started.pid}/cmdline").read_bytes()
    assert str(started.port).encode() in words
    assert b"secret" not in words
    assert os.getsid(started.pid) == started.pid
    assert f"ready port={started.port}" in log_of(home, started)
    stop(home)


def test_stop_removes_what_says_that_it_runs(home: Path) -> None:
    started = start(home)
    stop(home)
    folder = folder_of(home, started)
    assert not nodefiles.is_held(folder)
    assert sorted(path.name for path in folder.iterdir()) == [nodefiles.LOCK, nodefiles.LOG]
    assert nodefiles.running_nodes(home) == []
    assert "stopped" in log_of(home, started)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_it_in_time_even_with_an_open_stream(
    home: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    monkeypatch.setenv("FAKE_NODE", "greets")
    started = start(home)
    node = nodefiles.choose_node(home)
    command = [*children.command("tests.unit.control.follow"), started.socket]
    with subprocess.Popen(command, env=children.environment(), stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "following\n"
        clock = SystemClock()
        before = clock.monotonic()
        os.kill(started.pid, number)
        spawn.wait_until_stopped(node, home)
        assert clock.monotonic() - before < limits.STOP_S_MAX
        assert reader.communicate(timeout=10)[0] == "not_running\n"
    assert spawn._children[0].wait(10) == 0


def test_a_stop_that_hangs_is_cut_short(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_NODE", "hangs")
    started = start(home)
    clock = SystemClock()
    before = clock.monotonic()
    stop(home)
    assert clock.monotonic() - before < HANGING_STOP_S + 1
    assert spawn._children[0].wait(10) == 1
    assert "so it ends here" in log_of(home, started)
    assert not Path(started.socket).exists()


def test_a_second_signal_ends_it_at_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_NODE", "hangs long")
    started = start(home)
    os.kill(started.pid, signal.SIGTERM)
    wait_for(lambda: "because of signal SIGTERM" in log_of(home, started))
    os.kill(started.pid, signal.SIGTERM)
    assert spawn._children[0].wait(10) == daemon.KILLED_STATUS


def test_a_stopped_process_that_does_not_answer_gets_a_signal(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spawn, "STOP_ANSWER_S_MAX", 0.1)
    monkeypatch.setattr(limits, "STOP_S_MAX", 0.1)
    monkeypatch.setattr(spawn, "STOP_MARGIN_S", 0.1)
    started = start(home)
    os.kill(started.pid, signal.SIGSTOP)
    with pytest.raises(errors.OutcomeUnknownError, match="does not stop") as caught:
        stop(home)
    assert str(started.pid) in caught.value.hint
    os.kill(started.pid, signal.SIGCONT)
    assert spawn._children[0].wait(10) == 0


def test_a_second_start_on_a_port_says_so(home: Path) -> None:
    started = start(home)
    with pytest.raises(errors.PortInUseError, match=f"already running on port {started.port}") as caught:
        start(home, port=started.port)
    assert str(started.pid) in caught.value.message
    assert Client(started.socket).call("GET", "/v1/status")["port"] == started.port


def test_two_starts_at_the_same_moment_give_one_node(home: Path) -> None:
    port = spawn.free_port()
    code = (
        "import sys; from pathlib import Path; from dhtex import spawn; from dhtex.config import NodeConfig\n"
        f"try: spawn.start(NodeConfig(port={port}, network='lab'), Path(sys.argv[1]), module={MODULE!r}); print('ok')\n"
        "except Exception as error: print(error.code)"
    )
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(home)], env=children.environment(), stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    said = sorted(process.communicate(timeout=30)[0].strip() for process in both)
    assert said == ["ok", "port_in_use"]
    pid = nodefiles.choose_node(home).pid
    stop(home)
    wait_for(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text())


def test_what_a_killed_node_left_is_swept(home: Path) -> None:
    started = start(home)
    os.kill(started.pid, signal.SIGKILL)
    spawn._children[0].wait(10)
    folder = folder_of(home, started)
    assert (folder / nodefiles.NOTE).exists()
    assert Path(started.socket).exists()
    assert nodefiles.running_nodes(home) == []
    with pytest.raises(errors.NotRunningError):
        nodefiles.choose_node(home, str(started.port))
    again = start(home, port=started.port)
    assert nodefiles.choose_node(home).pid == again.pid
    assert Client(again.socket).call("GET", "/v1/status")["port"] == started.port


@pytest.mark.parametrize(
    ("mood", "kind", "words"),
    [("port", errors.PortInUseError, "another program"), ("corrupt", errors.StateError, "corrupt")],
)
def test_why_a_start_failed_reaches_the_caller(
    home: Path, monkeypatch: pytest.MonkeyPatch, mood: str, kind: type[errors.DhtexError], words: str
) -> None:
    monkeypatch.setenv("FAKE_NODE", mood)
    port = spawn.free_port()
    with pytest.raises(kind, match=words) as caught:
        start(home, port=port)
    assert caught.value.hint
    folder = config.node_folder(home, port)
    assert not nodefiles.is_held(folder)
    assert sorted(path.name for path in folder.iterdir()) == [nodefiles.LOCK, nodefiles.LOG]


def test_a_corrupt_state_can_be_put_aside(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_NODE", "corrupt")
    started = start(home, fresh=True)
    (warning,) = started.warnings
    assert "node.db.corrupt" in warning
    assert warning.endswith("a new node of the network lab (--network names another)")


def test_a_defect_at_the_start_points_to_the_log(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_NODE", "defect")
    port = spawn.free_port()
    with pytest.raises(errors.DhtexError, match="ended before it was ready") as caught:
        start(home, port=port)
    log = config.node_folder(home, port) / nodefiles.LOG
    assert str(log) in caught.value.hint
    assert "a defect while the node was built" in log.read_text()


def test_a_bootstrap_peer_that_is_down_is_a_warning(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_NODE", "silent")
    started = start(home, bootstrap=("127.0.0.1:9",))
    assert started.bootstrap == {"127.0.0.1:9": "silent"}
    assert len(started.warnings) == 1
    assert "keeps trying" in started.warnings[0]


def test_an_unusable_home_is_a_state_error(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(errors.StateError) as caught:
        start(blocked)
    assert "DHTEX_HOME" in caught.value.hint


def test_a_long_home_puts_the_socket_elsewhere(tmp_path: Path) -> None:
    home = tmp_path / ("long" * 30)
    started = start(home)
    try:
        assert len(started.socket) <= config.SOCKET_PATH_BYTES_MAX
        assert nodefiles.choose_node(home).socket == started.socket
        assert stat.S_IMODE(Path(started.socket).parent.stat().st_mode) == 0o700
        assert Client(started.socket).call("GET", "/v1/status")["port"] == started.port
    finally:
        stop(home)
        Path(started.socket).parent.rmdir()


def test_the_http_face_has_a_token_that_lasts(home: Path) -> None:
    started = start(home, http_port=0)
    assert started.http is not None
    assert started.token_file is not None
    token = Path(started.token_file).read_text().strip()
    assert stat.S_IMODE(Path(started.token_file).stat().st_mode) == 0o600
    http_port = int(started.http.rpartition(":")[2])
    assert Client(("127.0.0.1", http_port, token)).call("GET", "/v1/status")["port"] == started.port
    with pytest.raises(errors.VerificationError):
        Client(("127.0.0.1", http_port, "0" * 64)).call("GET", "/v1/status")
    with pytest.raises(errors.PortInUseError, match=str(http_port)):
        start(home, http_port=http_port)
    stop(home)
    again = start(home, port=started.port, http_port=http_port)
    assert again.http == started.http
    assert Path(started.token_file).read_text().strip() == token


def test_what_a_library_prints_is_in_the_log(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_NODE", "chatty")
    assert "what a library prints" in log_of(home, start(home))


def test_the_foreground_logs_to_stderr_and_reports(home: Path) -> None:
    code = (
        "import json, sys; from dataclasses import asdict; from pathlib import Path; from dhtex import daemon, spawn\n"
        "from dhtex.config import NodeConfig; from tests.unit.control.fake_daemon import make_node\n"
        "daemon.log_to_stderr()\n"
        "settings = spawn.settled(NodeConfig(network='lab'), Path(sys.argv[1]))\n"
        "tell = lambda started: print(json.dumps(asdict(started)), flush=True)\n"
        "sys.exit(daemon.run(settings, on_ready=tell, make_node=make_node))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(home)],
        env=children.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    started = json.loads(process.stdout.readline())
    assert nodefiles.choose_node(home).pid == process.pid == started["pid"]
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=10)
    assert process.returncode == 0
    assert "ready port=" in said
    assert "stopped" in said
    assert started["log"] is None


def test_the_log_is_bounded_and_one_line_each(tmp_path: Path) -> None:
    path = tmp_path / "node.log"
    code = (
        "import logging, sys; from pathlib import Path; from dhtex import daemon, limits\n"
        "limits.LOG_BYTES_MAX = 2000\n"
        "daemon.log_to_file(Path(sys.argv[1]))\n"
        "for number in range(100): logging.info('line %s\\n\\x1b[31mforged', number)\n"
        "print('printed', flush=True)"
    )
    with path.open("ab") as file:
        subprocess.run([sys.executable, "-c", code, str(path)], check=True, stdout=file, stderr=file)
    old = path.with_name("node.log.1")
    assert path.stat().st_size <= 2100
    assert old.stat().st_size <= 2100
    lines = path.read_text().splitlines()
    assert lines[-1] == "printed"
    assert "line 99\\n\\x1b[31mforged" in lines[-2]
    assert all("INFO" in line for line in lines[:-1])
