"""`backup` and `restore` from the command line, on nodes that do not run."""

import json
import random
from pathlib import Path

import pytest

from dhtex.nodefiles import Lock
from dhtex.store.database import Database
from dhtex.store.journal import Journal
from tests.unit.cli.conftest import Dhtex


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One node on port 3001 that does not run."""
    monkeypatch.setenv("DHTEX_HOME", str(tmp_path / "home"))
    database = Database.open(tmp_path / "home" / "nodes" / "3001" / "node.db")
    Journal(database).identity(random.Random(1))
    database.close()
    return tmp_path / "home"


def test_a_copy_becomes_another_node(dhtex: Dhtex, home: Path, tmp_path: Path) -> None:
    copy = str(tmp_path / "copy")
    assert dhtex("backup", copy).out == f"copied the node on port 3001 to {copy} (0 orders, 0 trades, epoch 1)\n"
    assert dhtex("backup", copy).status == 2
    result = dhtex("restore", copy, "--port", "3002")
    assert result.out.splitlines() == [
        "restored the node on port 3002 (0 orders, 0 trades, epoch 2)",
        "start it: dhtex start --port 3002",
    ]
    again = dhtex("restore", copy, "--port", "3002")
    assert (again.status, "--force" in again.err) == (2, True)
    view = json.loads(dhtex("restore", copy, "--port", "3002", "--force", "--json").out)
    assert (view["epoch"], view["set_aside"]) == (3, str(home / "nodes" / "3002" / "node.db.aside-1"))


def test_which_node_is_copied_must_be_clear(dhtex: Dhtex, home: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    assert dhtex("backup", str(copy), "--node", "3009").status == 6
    assert dhtex("backup", str(copy), "--node", "x").status == 2
    assert dhtex("backup", str(copy), "--node", "3001").status == 0
    assert dhtex("restore", str(copy), "--port", "3002").status == 0
    assert dhtex("backup", str(tmp_path / "other")).status == 6


def test_a_running_node_is_not_replaced(dhtex: Dhtex, home: Path, tmp_path: Path) -> None:
    copy = str(tmp_path / "copy")
    assert dhtex("backup", copy).status == 0
    lock = Lock.take(home / "nodes" / "3001")
    result = dhtex("restore", copy, "--port", "3001", "--force")
    assert (result.status, "already running" in result.err) == (2, True)
    lock.release()
    for port in ("70000", "0"):
        result = dhtex("restore", copy, "--port", port)
        assert (result.status, f"{port} is not a port" in result.err) == (2, True)
    assert [path.name for path in (home / "nodes").iterdir()] == ["3001"]


def test_what_is_no_copy_leaves_nothing_behind(dhtex: Dhtex, home: Path, tmp_path: Path) -> None:
    for name, content in (("junk", b"junk" * 500), ("empty", b"")):
        (tmp_path / name).write_bytes(content)
        result = dhtex("restore", str(tmp_path / name), "--port", "3010")
        assert (result.status, "cannot be used" in result.err) == (2, True)
    assert dhtex("restore", str(tmp_path / "nothing"), "--port", "3010").status == 3
    assert [path.name for path in (home / "nodes").iterdir()] == ["3001"]
