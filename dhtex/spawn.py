"""Starting and stopping background nodes from another process. Light: the node itself is `dhtex.daemon`.

A start is a conversation of two lines: the settings go to the child's stdin, and once it listens and its control socket
answers, one line comes back through a pipe: it is ready, or why not. Nobody sleeps, and nothing private stands in the
child's arguments.
"""

import json
import os
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from dhtex import children, config, limits, nodefiles
from dhtex.config import NodeConfig
from dhtex.control.client import Client, error_from
from dhtex.errors import DhtexError, NotRunningError, OutcomeUnknownError, StateError
from dhtex.nodefiles import NodeFile, Started

READY_S_MAX: Final = 30.0
STOP_ANSWER_S_MAX: Final = 2.0
STOP_MARGIN_S: Final = 2.0
POLL_S: Final = 0.02

_children: list["subprocess.Popen[bytes]"] = []  # those that were left running; kept so that they can be reaped


def settled(settings: NodeConfig, home: Path) -> NodeConfig:
    """The settings with a port (0: a free one is chosen) and the folder below `home` that belongs to it."""
    port = settings.port or free_port()
    return replace(settings, port=port, home=config.node_folder(home, port))


def free_port() -> int:
    """A UDP port that nobody uses now, on IPv4 and IPv6."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as four:
            four.bind(("", 0))
            port = int(four.getsockname()[1])
            if not _is_used_on_ipv6(port):
                return port


def _is_used_on_ipv6(port: int) -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as six:
            six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            six.bind(("::", port))
    except OSError as error:
        import errno

        return error.errno == errno.EADDRINUSE
    return False


def start(settings: NodeConfig, home: Path, *, fresh: bool = False, module: str = "dhtex.daemon") -> Started:
    """Start a node in the background and return when it is ready. `fresh`: put a corrupt state aside.

    Raises PortInUseError, StateError or UsageError as the node itself does, and then no process is left.
    """
    settings = settled(settings, home)
    folder = settings.home
    assert folder is not None, "settled settings have a folder"
    config.make_private_folder(folder)
    if nodefiles.is_held(folder):
        raise nodefiles.already_running(folder)
    reader, writer = os.pipe()
    try:
        process = _launch(folder, settings.port, writer, module)
    except BaseException:
        os.close(reader)
        raise
    finally:
        os.close(writer)
    try:
        order = {"config": config.to_json(settings), "fresh": fresh, "ready": writer}
        answer = _converse(process, json.dumps(order), reader)
    except BaseException:
        process.terminate()
        process.wait()
        raise
    finally:
        os.close(reader)
    return _read_answer(process, answer, folder)


def _launch(folder: Path, port: int, writer: int, module: str) -> "subprocess.Popen[bytes]":
    try:
        log = os.open(folder / nodefiles.LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError as error:
        raise StateError(f"cannot write the log in {folder}: {error.strerror}") from error
    try:
        return subprocess.Popen(
            [*children.command(module), "--port", str(port)],  # read by people who look for the process
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            pass_fds=(writer,),
            env=children.environment(),
            start_new_session=True,
        )
    finally:
        os.close(log)


def _converse(process: "subprocess.Popen[bytes]", order: str, reader: int) -> bytes:
    """Hand over the settings and read the answer; empty when the child ended without one."""
    assert process.stdin is not None
    try:
        with process.stdin:
            process.stdin.write(order.encode())
    except BrokenPipeError:
        return b""
    answer = b""
    while not answer.endswith(b"\n"):
        if not select.select([reader], [], [], READY_S_MAX)[0]:
            raise DhtexError(f"the node was not ready within {READY_S_MAX:.0f} seconds", hint="see its log")
        piece = os.read(reader, 65536)
        if not piece:
            return b""
        answer += piece
    return answer


def _read_answer(process: "subprocess.Popen[bytes]", answer: bytes, folder: Path) -> Started:
    value: dict[str, Any] = json.loads(answer or b"{}")
    if "ready" in value:
        _children[:] = [child for child in _children if child.poll() is None]
        _children.append(process)
        return Started(**{**value["ready"], "log": str(folder / nodefiles.LOG)})
    process.wait()
    if "error" in value:
        raise error_from(value)
    raise DhtexError("the node ended before it was ready", hint=f"see {folder / nodefiles.LOG}")


def run_here(
    settings: NodeConfig, home: Path, *, fresh: bool = False, on_ready: Callable[[Started], None] | None = None
) -> int:
    """Run a node in this process until it is told to stop, with its log on stderr; returns the exit status.

    Raises as `start` does.
    """
    from dhtex import daemon

    daemon.log_to_stderr()
    status = daemon.run(settled(settings, home), fresh=fresh, on_ready=on_ready)
    if threading.active_count() > 1:  # the interpreter would wait for a name look-up that nobody needs any more
        daemon.leave(status)
    return status


def stop(node: NodeFile, home: Path) -> None:
    """Stop a running node and return when it has let go of its folder. Raises OutcomeUnknownError if it does not."""
    ask_to_stop(node, home)
    wait_until_stopped(node, home)


def ask_to_stop(node: NodeFile, home: Path) -> None:
    """Tell a node to stop: through its socket, or by a signal if that does not answer."""
    try:
        Client(node.socket, silence_s=STOP_ANSWER_S_MAX).call("POST", "/v1/stop")
    except (NotRunningError, OutcomeUnknownError):
        if nodefiles.is_held(config.node_folder(home, node.port)):
            os.kill(node.pid, signal.SIGTERM)


def wait_until_stopped(node: NodeFile, home: Path) -> None:
    """Return when no process holds the node's folder. Raises OutcomeUnknownError after a few seconds."""
    folder = config.node_folder(home, node.port)
    for _ in range(round((limits.STOP_S_MAX + STOP_MARGIN_S) / POLL_S)):
        if not nodefiles.is_held(folder):
            return
        time.sleep(POLL_S)
    raise OutcomeUnknownError(
        f"the node on port {node.port} does not stop", hint=f"end its process by force: kill -9 {node.pid}"
    )
