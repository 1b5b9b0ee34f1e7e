"""Real background nodes for tests: started and used only through the command line, and always stopped.

`lab` is one network that all tests of a session share; each test trades in a pair of its own, so that they do not
disturb one another. `network` is an empty one, for tests that start and kill nodes.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PATIENCE_S = 20.0  # what may take this long on a slow machine still has to happen
COMMAND_S_MAX = 45.0
LAB_NODES = 3
LAB_POW_BITS = 11

# A shell that starts the tests in the background has Ctrl-C ignored, and so would be all commands that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)


def free_ports(count: int) -> list[int]:
    """UDP ports that nobody has at the moment."""
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


@dataclass(frozen=True, slots=True)
class Result:
    """What a run of the command line left behind."""

    code: int
    out: str
    err: str

    @property
    def refusal(self) -> str:
        """Why the market refused, by the code in the JSON of the error."""
        assert self.code == 4, self
        return str(json.loads(self.err)["error"]["reason"])


def eventually(condition: Callable[[], Any], what: str) -> Any:
    """Ask again and again until the answer is truthy, and return it."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"{what}: not within {PATIENCE_S:.0f} s"
        time.sleep(0.05)


class Network:
    """Nodes under one DHTEX_HOME, on free ports of this machine, in a network whose stamps cost next to nothing."""

    def __init__(self, home: Path, cache: Path, pow_bits: int = 0) -> None:
        self.home = home
        self.pow_bits = pow_bits
        self.ports: list[int] = []
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("DHTEX_", "PYTHON"))},
            "DHTEX_HOME": str(home),
            "PYTHONPYCACHEPREFIX": str(cache),
            "COLUMNS": "160",
        }

    def popen(self, *arguments: str, node: int | None = None, **environment: str) -> "subprocess.Popen[str]":
        """Run a command without waiting for it."""
        named = [] if node is None else ["--node", str(node)]
        return subprocess.Popen(
            [sys.executable, "-m", "dhtex", *named, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment | environment,
        )

    def run(self, *arguments: str, node: int | None = None, given: str = "", **environment: str) -> Result:
        """Run a command to its end, however that looks."""
        with self.popen(*arguments, node=node, **environment) as process:
            try:
                out, err = process.communicate(given, COMMAND_S_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
            return Result(process.returncode, out, err)

    def json(self, *arguments: str, node: int | None = None) -> Any:
        """Run a command that has to succeed; its answer."""
        result = self.run(*arguments, "--json", node=node)
        assert result.code == 0, f"{arguments}: exit {result.code}\n{result.out}{result.err}"
        return json.loads(result.out)

    def refused(self, order_id: str, node: int) -> str:
        """Try to take an order that cannot be taken; why not."""
        return self.run("order", "accept", order_id, "--json", node=node).refusal

    def start(self, port: int, *peers: int, options: tuple[str, ...] = ()) -> Result:
        """Start a background node that is told of `peers`."""
        self.ports.append(port)
        named = [part for peer in peers for part in ("--bootstrap", f"127.0.0.1:{peer}")]
        common = ["--port", str(port), "--host", "127.0.0.1", "--network", "lab", "--pow-bits", str(self.pow_bits)]
        return self.run("start", *common, *named, *options)

    def started(self, port: int, *peers: int) -> int:
        """Start a node that has to start; its port."""
        result = self.start(port, *peers)
        assert result.code == 0, f"exit {result.code}\n{result.out}{result.err}"
        return port

    def pid(self, port: int) -> int:
        """The process of a running node."""
        return int(self.json("status", node=port)["pid"])

    def kill(self, port: int) -> None:
        """End a node as a power cut does."""
        pid = self.pid(port)
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: not alive(pid), f"process {pid} ends")

    def orders(self, pair: str, node: int, *options: str) -> list[dict[str, Any]]:
        """What a node lists of a pair."""
        listing: dict[str, list[dict[str, Any]]] = self.json("order", "list", pair, *options, node=node)
        return listing["orders"]

    def sees(self, order_id: str, pair: str, node: int) -> dict[str, Any]:
        """Wait until a node lists an order; the order."""

        def find() -> dict[str, Any] | None:
            return next((order for order in self.orders(pair, node) if order["id"] == order_id), None)

        found: dict[str, Any] = eventually(find, f"node {node} lists {order_id[:8]}")
        return found

    def offer(self, pair: str, node: int, *options: str) -> str:
        """Publish an order to sell 1 at 50,000, or as the options say; its id."""
        price = () if "--price" in options else ("--price", "50000")
        view = self.json("order", "add", "sell", "1", pair, *price, *options, node=node)
        return str(view["order"]["id"])

    def trade(self, order_id: str, node: int, *states: str) -> dict[str, Any]:
        """Wait until a node's trade about an order has reached one of these states; the trade."""

        def find() -> dict[str, Any] | None:
            rows = self.json("trade", "list", node=node)["trades"]
            return next((row for row in rows if row["order"] == order_id and row["state"] in states), None)

        found: dict[str, Any] = eventually(find, f"the trade of {order_id[:8]} at node {node} is {' or '.join(states)}")
        return found

    def wait_for_peers(self, port: int, count: int) -> None:
        """Wait until a node knows so many others."""
        eventually(lambda: self.json("status", node=port)["peers"] >= count, f"node {port} has {count} peers")

    def stop(self) -> None:
        """Stop every node, the hard way where the soft one does not work."""
        records = list(self.home.glob("nodes/*/node.json"))
        pids = [int(json.loads(record.read_text())["pid"]) for record in records]
        self.run("stop", "--all")
        for pid in pids:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie, whose parent has not looked yet, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        pass
    if Path("/proc/self").exists():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture(scope="session")
def bytecode(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place for compiled modules, shared by all processes, so that not every command compiles anew."""
    return tmp_path_factory.mktemp("bytecode")


@pytest.fixture
def network(bytecode: Path) -> Iterator[Network]:
    """A network without nodes. Its home has a short name, because a Unix socket's must fit into some 100 bytes."""
    with tempfile.TemporaryDirectory(prefix="dhtex-") as home:
        made = Network(Path(home), bytecode)
        try:
            yield made
        finally:
            made.stop()


@pytest.fixture(scope="session")
def lab(bytecode: Path) -> Iterator[Network]:
    """Three nodes that know one another; `lab.ports` are theirs. Their stamps are just dear enough for the workers."""
    with tempfile.TemporaryDirectory(prefix="dhtex-") as home:
        made = Network(Path(home), bytecode, LAB_POW_BITS)
        try:
            ports = free_ports(LAB_NODES)
            made.started(ports[0])
            with ThreadPoolExecutor() as pool:
                list(pool.map(lambda port: made.started(port, ports[0]), ports[1:]))
                list(pool.map(lambda port: made.wait_for_peers(port, LAB_NODES - 1), ports))
            made.ports = ports
            yield made
        finally:
            made.stop()
