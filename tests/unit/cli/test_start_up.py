"""A listing must not cost much more than the interpreter: what it imports is counted, against a real socket."""

import fcntl
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dhtex import config, nodefiles
from dhtex.nodefiles import NodeFile
from tests.unit.cli.conftest import COVERAGE, ORDER

HEAVY = {
    *("rich", "httpx", "asyncio", "pydantic", "msgspec", "nacl", "starlette", "uvicorn", "kademlia", "sqlite3"),
    *("concurrent", "http", "email", "ssl", "logging", "textual", "click"),
}
OURS = {
    *("dhtex", "dhtex.clock", "dhtex.config", "dhtex.control", "dhtex.control.client", "dhtex.errors", "dhtex.limits"),
    *("dhtex.nodefiles", "dhtex.version", "dhtex.cli", "dhtex.cli.app", "dhtex.cli.lazy", "dhtex.cli.order"),
    *(
        "dhtex.cli.coverage",
        "dhtex.cli.receipts",
        "dhtex.cli.render",
        "dhtex.cli.root",
        "dhtex.cli.session",
        "dhtex.cli.text",
        "dhtex.cli.words",
    ),
}
PROGRAM = """
import sys
from dhtex.cli.app import run
status = run(sys.argv[1:])
print("\\n".join(sys.modules), file=sys.stderr)
sys.exit(status)
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home in which a node seems to run: its lock is held, and its socket answers every request with one order."""
    folder = config.node_folder(tmp_path, 3001)
    folder.mkdir(parents=True)
    path = config.socket_path(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    NodeFile(pid=1, port=3001, host=None, network="lab", started=0, version="0", socket=str(path)).write(folder)
    body = json.dumps({"orders": [ORDER], "coverage": COVERAGE, "hidden": {}}).encode()
    answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    with (folder / nodefiles.LOCK).open("w") as lock, socket.socket(socket.AF_UNIX) as door:
        fcntl.flock(lock, fcntl.LOCK_EX)
        door.bind(str(path))
        door.listen()

        def serve() -> None:
            while True:
                link, _ = door.accept()
                with link:
                    if not link.recv(65536).startswith(b"GET /v1/orders"):
                        return
                    link.sendall(answer)

        server = threading.Thread(target=serve)
        server.start()
        yield tmp_path
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(str(path))
        server.join()


def test_a_listing_imports_only_what_it_needs(home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "order", "list", "BTC/USD"],
        env={**os.environ, "DHTEX_HOME": str(home), "DHTEX_NODE": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ORDER["id"][:10] in done.stdout
    loaded = set(done.stderr.split())
    assert {name.partition(".")[0] for name in loaded} & HEAVY == set()
    assert {name for name in loaded if name.partition(".")[0] == "dhtex"} <= OURS
