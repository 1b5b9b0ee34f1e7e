"""Which nodes run on this machine: the lock and the note that each running node keeps in its folder.

The lock (`flock`) is the truth: the kernel drops it with its process, however that ends, so whatever else a killed
node left behind is known to be stale and is swept by the next start. Imported by the command line: stays light.
"""

import fcntl
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from dhtex import config
from dhtex.errors import NotRunningError, PortInUseError, StateError, UsageError

LOCK: Final = "node.lock"
NOTE: Final = "node.json"
TOKEN: Final = "token"
DATABASE: Final = "node.db"
LOG: Final = "node.log"
LOCK_TRIES: Final = 5
LOCK_PAUSE_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class NodeFile:
    """What a running node says about itself in node.json. `started` is in Unix ms; `http` null without that face."""

    pid: int
    port: int
    host: str | None
    network: str
    started: int
    version: str
    socket: str
    http: str | None = None
    token_file: str | None = None

    def write(self, folder: Path) -> None:
        """Put the note into the folder, whole or not at all."""
        write_private(folder / NOTE, json.dumps(asdict(self), indent=1) + "\n")


@dataclass(frozen=True, slots=True)
class Started:
    """A node that is ready. `peers` is how many it knows by now, `bootstrap` the state of each peer it was told of;
    `log` is null for a node in the foreground, which logs to stderr."""

    pid: int
    port: int
    network: str
    socket: str
    http: str | None
    token_file: str | None
    log: str | None
    peers: int
    bootstrap: dict[str, str]
    warnings: list[str]
    state: str = ""  # alone, joining, degraded or ready; seldom more than joining so soon


def write_private(path: Path, text: str) -> None:
    """Replace a file that only its owner may read."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    fresh.replace(path)


def read_note(folder: Path) -> NodeFile | None:
    """The note in a folder, or None if there is none that can be read."""
    try:
        fields = json.loads((folder / NOTE).read_text(encoding="utf-8"))
        note = NodeFile(**{name: fields[name] for name in NodeFile.__dataclass_fields__ if name in fields})
    except (OSError, ValueError, TypeError):
        return None
    return note if isinstance(note.pid, int) and isinstance(note.port, int) and isinstance(note.socket, str) else None


def known_note(folder: Path) -> NodeFile | None:
    """The note of the node that holds a folder's lock; one that is damaged is made up for from the lock, which names
    the process. None while the node starts."""
    note = read_note(folder)
    if note is not None or not (folder / NOTE).exists():
        return note
    try:
        pid, started = int((folder / LOCK).read_text(encoding="ascii")), (folder / LOCK).stat().st_mtime
    except (OSError, ValueError):
        return None
    socket = str(config.socket_path(folder))
    return NodeFile(pid, int(folder.name), None, "unknown", round(started * 1000), "unknown", socket)


class Lock:
    """Held by the one node that has a folder, for as long as it or its process lives."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def take(cls, folder: Path) -> "Lock":
        """The lock of a folder, which is made if there is none. Raises PortInUseError while a node has it, StateError
        if it cannot be made."""
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StateError(
                f"cannot write to {folder}: {error.strerror}", hint="set DHTEX_HOME to a folder you can write to"
            ) from error
        for _ in range(LOCK_TRIES):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                time.sleep(LOCK_PAUSE_S)  # perhaps somebody only asks, see `is_held`
            else:
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
                return cls(descriptor)
        os.close(descriptor)
        raise already_running(folder)

    def release(self) -> None:
        """Let go. The file stays: removing it would let two processes hold different files of one name."""
        os.close(self._descriptor)


def is_held(folder: Path) -> bool:
    """Whether a process runs the node of this folder now."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared, so that askers do not disturb each other
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def sweep(folder: Path) -> None:
    """Remove what says that a node runs here, and what a restore that was killed has left. Only for the holder of the
    lock."""
    for path in (folder / NOTE, config.socket_path(folder), *folder.glob(f"{DATABASE}.*.part*")):
        path.unlink(missing_ok=True)


def already_running(folder: Path) -> PortInUseError:
    """The error of a second start in a folder whose lock is held."""
    if not folder.name.isdigit():
        return PortInUseError(f"another node uses {folder}", hint="stop it, or give this one a home of its own")
    note = known_note(folder)
    who = f" (pid {note.pid})" if note else ""
    return PortInUseError(
        f"a dhtex node is already running on port {folder.name}{who}",
        hint=f"use it with --node {folder.name}, or stop it first: dhtex --node {folder.name} stop",
    )


def running_nodes(home: Path) -> list[NodeFile]:
    """All running nodes of this home, by port. Notes that killed nodes left behind are passed over."""
    try:
        names = os.listdir(home / "nodes")
    except OSError:
        return []
    ports = sorted(int(name) for name in names if name.isascii() and name.isdigit())
    folders = [config.node_folder(home, port) for port in ports]
    notes = [known_note(folder) for folder in folders if is_held(folder)]
    return [note for note in notes if note is not None]


def choose_node(home: Path, wanted: str | None = None) -> NodeFile:
    """The node to talk to: the one on port `wanted` (else `DHTEX_NODE`), or the only one that runs.

    Raises NotRunningError when it does not run, UsageError when several do and none was named.
    """
    wanted = wanted or os.environ.get("DHTEX_NODE")
    if wanted:
        return _named_node(home, wanted)
    nodes = running_nodes(home)
    if not nodes:
        raise NotRunningError("no node is running", hint="start one: dhtex start --port 3001")
    if len(nodes) > 1:
        ports = ", ".join(str(node.port) for node in nodes)
        raise UsageError(
            f"several nodes are running: {ports}", hint=f"name one: dhtex --node {nodes[0].port} ... or set DHTEX_NODE"
        )
    return nodes[0]


def choose_socket(home: Path, wanted: str | None = None) -> str:
    """The control socket of the node to talk to. Raises as `choose_node` does, and NotRunningError when it is gone."""
    node = choose_node(home, wanted)
    if not os.path.exists(node.socket):
        raise NotRunningError(
            f"the node on port {node.port} runs, but its socket is gone",
            hint=f"stop it, and start it again: dhtex --node {node.port} stop",
        )
    return node.socket


def _named_node(home: Path, wanted: str) -> NodeFile:
    if not (wanted.isascii() and wanted.isdigit() and 0 < int(wanted[:6]) < 65536):
        raise UsageError(f"'{wanted[:30]}' does not name a node", hint="a node is named by its port: --node 3001")
    folder = config.node_folder(home, int(wanted))
    note = known_note(folder) if is_held(folder) else None
    if note is None:
        raise NotRunningError(f"no node is running on port {wanted}", hint=f"start it: dhtex start --port {wanted}")
    return note
