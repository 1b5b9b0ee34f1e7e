"""Settings that cannot be wrong once built, paths on which all agree, and the notes of running nodes."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from dhtex import children, config, limits, nodefiles
from dhtex.config import NodeConfig, settle
from dhtex.errors import NotRunningError, PortInUseError, StateError, UsageError
from dhtex.nodefiles import Lock, NodeFile


def test_the_public_network_fixes_its_work() -> None:
    assert settle(NodeConfig()).pow_bits == limits.STAMP_BITS_PUBLIC
    assert settle(NodeConfig(pow_bits=limits.STAMP_BITS_PUBLIC)).pow_bits == limits.STAMP_BITS_PUBLIC
    for bits in (0, limits.STAMP_BITS_PUBLIC - 1, limits.STAMP_BITS_PUBLIC + 1):
        with pytest.raises(UsageError, match="cannot be changed"):
            NodeConfig(pow_bits=bits)
        with pytest.raises(UsageError, match="cannot be changed"):
            settle(NodeConfig(network=config.NETWORK_OF_STATE, pow_bits=bits))


def test_a_private_network_chooses_its_work() -> None:
    assert settle(NodeConfig(network="lab")).pow_bits == config.POW_BITS_PRIVATE
    assert [settle(NodeConfig(network="lab", pow_bits=bits)).pow_bits for bits in (0, 24)] == [0, 24]
    for bits in (-2, 25, 10**9):
        with pytest.raises(UsageError):
            NodeConfig(network="lab", pow_bits=bits)


def test_what_is_not_said_is_as_the_state_says() -> None:
    unsaid = NodeConfig(network=config.NETWORK_OF_STATE)
    assert settle(unsaid) == NodeConfig(pow_bits=limits.STAMP_BITS_PUBLIC)
    assert (
        settle(unsaid, "lab", 8) == settle(NodeConfig(network="lab"), "lab", 8) == NodeConfig(network="lab", pow_bits=8)
    )
    assert settle(NodeConfig(network="lab", pow_bits=9), "lab", 8).pow_bits == 9
    with pytest.raises(StateError, match=r"belongs to the network lab .*--network lab"):
        settle(NodeConfig(), "lab", 8)


WRONG: list[dict[str, Any]] = [
    {"port": -1},
    {"port": 65536},
    {"http_port": 70000},
    {"host": "example.org"},
    {"host": ""},
    {"host": "127.0.0.1:1"},
    {"network": "Lab"},
    {"network": "x" * (limits.NETWORK_CHARS_MAX + 1)},
    {"network": "lab\n"},
    {"bootstrap": ("127.0.0.1",)},
    {"contact": "x" * (limits.MESSAGE_BYTES_MAX + 1)},
    {"contact": "ü" * (limits.MESSAGE_BYTES_MAX // 2 + 1)},
    {"contact": "two\nlines"},
    {"contact": "\x1b[31m"},
    {"contact": "\udc80"},
]


@pytest.mark.parametrize("fields", WRONG, ids=repr)
def test_wrong_settings_cannot_be_built(fields: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        NodeConfig(**fields)
    assert caught.value.message.isprintable()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::", "fe80::1%eth0", None])
def test_literal_hosts_are_fine(host: str | None) -> None:
    assert NodeConfig(host=host).host == host


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("127.0.0.1:3001", ("127.0.0.1", 3001)),
        ("seed.example.org:1", ("seed.example.org", 1)),
        ("localhost:65535", ("localhost", 65535)),
        ("[::1]:3001", ("::1", 3001)),
        ("[fe80::1%eth0]:3001", ("fe80::1%eth0", 3001)),
        ("my_host:3001", ("my_host", 3001)),
        (f"{'a' * 63}.b.:1", (f"{'a' * 63}.b.", 1)),
    ],
)
def test_endpoints_are_split(text: str, parts: tuple[str, int]) -> None:
    assert config.split_endpoint(text) == parts


@pytest.mark.parametrize(
    "text",
    [
        *("", ":", "host", "host:", ":3001", "host:0", "host:65536", "host:-1", "host:1e3", "host:٣", "::1:3001"),
        *("[::1]", "[::1]3001", "[host]:3001", "[127.0.0.1]:3001", "a b:3001", "host:3001 ", "x\n:3001", "-a:1"),
        *("a" * 300 + ":1", "a" * 64 + ":1", "a." + "b" * 64 + ".c:1", "a..b:1", "a..:1"),
    ],
)
def test_what_is_no_endpoint_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        config.split_endpoint(text)
    assert caught.value.message.isprintable()


@given(some.text())
def test_splitting_any_text_ends_in_parts_or_a_usage_error(text: str) -> None:
    try:
        host, port = config.split_endpoint(text)
    except UsageError:
        pass
    else:
        assert host
        assert 0 < port < 65536


def test_settings_travel_to_another_process() -> None:
    settings = NodeConfig(
        port=3001,
        host="::1",
        network="lab",
        pow_bits=3,
        bootstrap=("a.example:1", "[::1]:2"),
        home=Path("/somewhere/ü"),
        http_port=8080,
        contact="call me — ü",
    )
    assert config.from_json(config.to_json(settings)) == settings
    assert config.from_json(config.to_json(NodeConfig())) == NodeConfig()
    assert "\n" not in config.to_json(settings)


def test_dhtex_home_moves_everything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DHTEX_HOME", str(tmp_path))
    assert config.home_folder() == tmp_path
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DHTEX_HOME", "inside")
    assert config.home_folder() == tmp_path / "inside"
    monkeypatch.delenv("DHTEX_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert config.home_folder().name == "dhtex"


def test_the_socket_path_always_fits(tmp_path: Path) -> None:
    assert config.socket_path(Path("/h/nodes/1")) == Path("/h/nodes/1/control.sock")
    for length in range(60, 140):
        path = config.socket_path(Path("/" + "x" * length))
        assert len(os.fsencode(path)) <= config.SOCKET_PATH_BYTES_MAX
        assert path.name == "control.sock"
    one, other = (config.socket_path(tmp_path / ("y" * 120) / name) for name in "ab")
    assert one != other


def test_a_private_folder_is_made_or_made_private(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    config.make_private_folder(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.chmod(0o755)
    config.make_private_folder(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_folder_that_cannot_be_had_is_a_state_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError):
        config.make_private_folder(tmp_path / "file" / "below")
    with pytest.raises(StateError):
        config.make_private_folder(tmp_path / "file")
    owner = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    with pytest.raises(StateError, match=r"somebody else \(set DHTEX_HOME to a folder of your own\)"):
        config.make_private_folder(tmp_path)  # which may hold their keys: nobody is told to remove it
    with pytest.raises(StateError, match=r"somebody else .*remove it"):
        config.make_private_folder(tmp_path, config.SOCKET_FOLDER_HINT)


# --- notes and locks -------------------------------------------------------------------------------------------------


@pytest.fixture
def locks() -> Iterator[list[Lock]]:
    held: list[Lock] = []
    yield held
    for lock in held:
        lock.release()


def run_node(home: Path, port: int, locks: list[Lock]) -> NodeFile:
    """Make it look as if a node ran on this port."""
    folder = config.node_folder(home, port)
    config.make_private_folder(folder)
    lock = Lock.take(folder)
    locks.append(lock)
    note = NodeFile(os.getpid(), port, None, "lab", 1, "0", str(config.socket_path(folder)))
    note.write(folder)
    return note


def test_only_one_process_has_a_lock(tmp_path: Path) -> None:
    lock = Lock.take(tmp_path)
    assert nodefiles.is_held(tmp_path)
    with pytest.raises(PortInUseError):
        Lock.take(tmp_path)
    lock.release()
    assert not nodefiles.is_held(tmp_path)
    Lock.take(tmp_path).release()


def test_a_node_is_chosen_or_the_choice_explained(
    tmp_path: Path, locks: list[Lock], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DHTEX_NODE", raising=False)
    with pytest.raises(NotRunningError, match="no node is running"):
        nodefiles.choose_node(tmp_path)
    first = run_node(tmp_path, 3001, locks)
    assert nodefiles.choose_node(tmp_path) == first
    assert nodefiles.choose_node(tmp_path, "3001") == first
    second = run_node(tmp_path, 999, locks)
    assert nodefiles.running_nodes(tmp_path) == [second, first]
    with pytest.raises(UsageError, match="999, 3001"):
        nodefiles.choose_node(tmp_path)
    monkeypatch.setenv("DHTEX_NODE", "3001")
    assert nodefiles.choose_node(tmp_path) == first
    assert nodefiles.choose_node(tmp_path, "999") == second
    with pytest.raises(NotRunningError, match="4000"):
        nodefiles.choose_node(tmp_path, "4000")
    for wrong in ("x", "0", "65536", "-1", "../3001", "9" * 30, "٣"):
        with pytest.raises(UsageError):
            nodefiles.choose_node(tmp_path, wrong)


def test_a_node_without_its_socket_is_not_taken_for_a_stopped_one(tmp_path: Path, locks: list[Lock]) -> None:
    note = run_node(tmp_path, 4009, locks)
    with pytest.raises(NotRunningError, match="port 4009 runs, but its socket is gone") as caught:
        nodefiles.choose_socket(tmp_path, "4009")
    assert "dhtex --node 4009 stop" in caught.value.hint
    Path(note.socket).touch()
    assert nodefiles.choose_socket(tmp_path, "4009") == note.socket


@pytest.mark.parametrize("note", [None, b"", b"{", b"[]", b"\xff", b'{"pid": 1}'])
def test_a_broken_note_does_not_hide_its_node(tmp_path: Path, locks: list[Lock], note: bytes | None) -> None:
    run_node(tmp_path, 3001, locks)
    path = config.node_folder(tmp_path, 3001) / nodefiles.NOTE
    path.unlink()
    if note is not None:
        path.write_bytes(note)
    (tmp_path / "nodes" / "backup").mkdir()
    found = nodefiles.running_nodes(tmp_path)
    assert [(node.pid, node.port) for node in found] == ([] if note is None else [(os.getpid(), 3001)])


def test_private_files_are_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "token"
    for text in ("one", "two"):
        nodefiles.write_private(path, text)
        assert path.read_text() == text
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_what_the_command_line_imports_stays_light() -> None:
    heavy = "asyncio msgspec nacl starlette uvicorn sqlite3 http email logging platformdirs".split()
    code = (
        "import sys, dhtex.nodefiles, dhtex.control.client as _\n"
        "dhtex.nodefiles.running_nodes(dhtex.config.home_folder())\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    environment = {**children.environment(), "DHTEX_HOME": "/nowhere"}
    found = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "[]"


def test_a_node_with_a_damaged_note_is_not_taken_for_a_stopped_one(tmp_path: Path) -> None:
    folder = config.node_folder(tmp_path, 3001)
    config.make_private_folder(folder)
    lock = Lock.take(folder)
    assert nodefiles.running_nodes(tmp_path) == []  # it starts
    (folder / nodefiles.NOTE).write_text("{")
    (found,) = nodefiles.running_nodes(tmp_path)
    assert (found.pid, found.port, found.socket) == (os.getpid(), 3001, str(config.socket_path(folder)))
    assert nodefiles.choose_node(tmp_path, "3001") == found
    lock.release()
    assert nodefiles.running_nodes(tmp_path) == []
