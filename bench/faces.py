"""The command line and the background node: start-up times beside a bare interpreter, and what an idle node costs."""

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.measure import table

NODES = 5
IDLE_S = 20.0
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
INTRO = """## Command line and background node

Medians. A bare interpreter (`python -c pass`, same caching of bytecode) takes turns with `dhtex order list`, which
shows a book of 20 orders. The idle node is one of {nodes} that have open orders; child processes count as its own.

{rows}
"""


class Machine:
    """Background nodes of one private network under a temporary home; bytecode is cached for everyone alike."""

    def __init__(self, home: Path) -> None:
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        self.environment |= {"DHTEX_HOME": str(home / "home"), "PYTHONPYCACHEPREFIX": str(home / "bytecode")}
        self.ports = [_free_port() for _ in range(NODES)]

    def run(self, *words: str) -> str:
        """Run `dhtex` to its end."""
        return self._python("-m", "dhtex", *words)

    def bare(self) -> None:
        """Start an interpreter that does nothing."""
        self._python("-c", "pass")

    def _python(self, *words: str) -> str:
        run = subprocess.run(
            [sys.executable, *words], env=self.environment, capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, f"{words}: {run.stderr}"
        return run.stdout

    def start(self, port: int) -> None:
        peers = [] if port == self.ports[0] else ["--bootstrap", f"127.0.0.1:{self.ports[0]}"]
        self.run("start", "--port", str(port), "--host", "127.0.0.1", "--network", "bench", "--pow-bits", "0", *peers)

    def status(self, port: int) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run("status", "--json", "--node", str(port)))
        return found


def run(quick: bool) -> str:
    """Measure; the report's section."""
    with tempfile.TemporaryDirectory(prefix="dhtex-bench-") as home:
        machine = Machine(Path(home))
        try:
            starts = _starts(machine)
            lists, bare = _lists(machine, 7 if quick else 25)
            rss_mib, cpu_share = _idle(machine, 5.0 if quick else IDLE_S)
        finally:
            machine.run("stop", "--all")
    rows = [
        ("`dhtex order list`, ms", lists, ""),
        ("bare interpreter, ms", bare, ""),
        ("`dhtex order list` over the bare interpreter, ms", lists - bare, "≤ 150"),
        ("`dhtex start` until it is ready, ms", starts, "≤ 1,500"),
        ("memory of an idle node (RSS), MiB", rss_mib, "≤ 60"),
        ("CPU of an idle node, % of one core", cpu_share * 100, "< 1"),
    ]
    return INTRO.format(nodes=NODES, rows=table(["what", "value", "aim"], rows))


def _starts(machine: Machine) -> float:
    machine.run("--version")  # compiles what a start imports
    times = []
    for port in machine.ports:
        started = time.perf_counter()
        machine.start(port)
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:]) * 1000


def _lists(machine: Machine, rounds: int) -> tuple[float, float]:
    for number in range(20):
        words = ("order", "add", "sell", "1", "BTC/USD", "--price", str(50_000 + number))
        machine.run(*words, "--node", str(machine.ports[number % NODES]))
    lists, bare = [], []
    for _ in range(rounds):
        started = time.perf_counter()
        machine.run("order", "list", "BTC/USD", "--node", str(machine.ports[0]))
        listed = time.perf_counter()
        machine.bare()
        bare.append(time.perf_counter() - listed)
        lists.append(listed - started)
    return statistics.median(lists[1:]) * 1000, statistics.median(bare[1:]) * 1000


def _idle(machine: Machine, seconds: float) -> tuple[float, float]:
    pid = int(machine.status(machine.ports[1])["pid"])
    time.sleep(2.0)
    before = cpu_s(pid)
    time.sleep(seconds)
    return _rss_mib(pid), (cpu_s(pid) - before) / seconds


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(member for child in children for member in _family(int(child)))]


def _rss_mib(pid: int) -> float:
    pages = sum(int(Path(f"/proc/{member}/statm").read_text().split()[1]) for member in _family(pid))
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def cpu_s(pid: int) -> float:
    total = 0
    for member in _family(pid):
        fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS_PER_S


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port
