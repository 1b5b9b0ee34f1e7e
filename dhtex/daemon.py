"""The process around a node: lock, logs, signals, control server, and a stop that always ends.

`python -m dhtex.daemon` is the background node that `dhtex.spawn.start` begins; `run` also serves a start in the
foreground.
"""

import asyncio
import gc
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final

import msgspec

from dhtex import config, limits, nodefiles
from dhtex.clock import SystemClock, system_entropy
from dhtex.config import NodeConfig
from dhtex.control.answers import describe
from dhtex.control.doors import bind_tcp, bind_unix
from dhtex.control.face import NodeFace
from dhtex.control.server import ControlServer
from dhtex.errors import DhtexError
from dhtex.nodefiles import NodeFile, Started
from dhtex.version import __version__
from dhtex.views import StatusView

log = logging.getLogger("dhtex.daemon")  # also where this file is the program

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
TOKEN_BYTES: Final = 32
KILLED_STATUS: Final = 130

OnReady = Callable[[Started], None]
MakeNode = Callable[[NodeConfig, bool], NodeFace]


def real_node(settings: NodeConfig, fresh: bool) -> NodeFace:
    """The node of this package; importing it is the dear part of a start."""
    from dhtex.node import Node
    from dhtex.overlay import lossy

    return Node(settings, fresh=fresh, locked=True, open_endpoint=lossy.opener(os.environ.get(lossy.VARIABLE, "")))


def run(
    settings: NodeConfig,
    *,
    fresh: bool = False,
    on_ready: OnReady | None = None,
    make_node: MakeNode = real_node,
) -> int:
    """Run the node of a folder until a signal or a stop request; returns the exit status.

    Raises PortInUseError when the folder's node already runs or the port is taken, StateError for an unusable folder.
    """
    folder = settings.home
    assert folder is not None, "a process needs a folder for its lock"
    config.make_private_folder(folder)
    lock = nodefiles.Lock.take(folder)
    loop = asyncio.new_event_loop()
    try:
        nodefiles.sweep(folder)
        loop.run_until_complete(Daemon(settings, folder, make_node(settings, fresh)).serve(on_ready))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        nodefiles.sweep(folder)
        loop.close()  # not asyncio.run: that would wait for name look-ups that may take half a minute
        lock.release()
    return 0


@contextmanager
def _built_to_stay() -> Iterator[None]:
    """Do not collect garbage while a node is built, nor ever look for it in what was built: to walk the objects of a
    hundred thousand records holds up the loop for tens of milliseconds."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
    gc.freeze()


class Daemon:
    """One run of a node with its control server."""

    def __init__(self, settings: NodeConfig, folder: Path, node: NodeFace) -> None:
        self._settings = settings
        self._folder = folder
        self._node = node
        self._stopping = asyncio.Event()

    async def serve(self, on_ready: OnReady | None) -> None:
        """Start everything, say so, and stop everything when asked to."""
        self._watch_signals()
        path = config.socket_path(self._folder)
        config.make_private_folder(path.parent, config.SOCKET_FOLDER_HINT)
        unix = bind_unix(path)
        tcp = None
        try:
            if self._settings.http_port is not None:
                tcp = bind_tcp(self._settings.http_port)
            with _built_to_stay():
                await self._node.start()
        except BaseException:
            unix.close()
            if tcp is not None:
                tcp.close()
            raise
        control = ControlServer(self._node, self._stopping.set)
        try:
            await control.open(unix, tcp, self._token() if tcp is not None else "")
            self._announce(tcp, on_ready)
            await self._stopping.wait()
        finally:
            await self._stop(control)

    def _watch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._signalled, number)

    def _signalled(self, number: int) -> None:
        if self._stopping.is_set():
            log.warning("stopping at once, because of a second signal")
            leave(KILLED_STATUS)
        log.info("stopping, because of signal %s", signal.Signals(number).name)
        self._stopping.set()

    async def _stop(self, control: ControlServer) -> None:
        async def orderly() -> None:
            await control.close()
            await self._node.stop()

        task = asyncio.create_task(orderly())
        done, _ = await asyncio.wait({task}, timeout=limits.STOP_S_MAX)
        if not done:
            log.error("stopping took more than %s s, so it ends here; the journal is whole", limits.STOP_S_MAX)
            nodefiles.sweep(self._folder)
            leave(1)
        task.result()
        log.info("stopped")

    def _announce(self, tcp: socket.socket | None, on_ready: OnReady | None) -> None:
        status = self._node.status()
        http = None if tcp is None else f"http://127.0.0.1:{tcp.getsockname()[1]}"
        token_file = None if tcp is None else str(self._folder / nodefiles.TOKEN)
        note = NodeFile(
            pid=os.getpid(),
            port=self._settings.port,
            host=self._settings.host,
            network=status.network,
            started=round(SystemClock().now() * 1000),
            version=__version__,
            socket=str(config.socket_path(self._folder)),
            http=http,
            token_file=token_file,
        )
        note.write(self._folder)
        log.info("ready port=%s network=%s pid=%s", note.port, note.network, note.pid)
        if on_ready is None:
            return
        on_ready(
            Started(
                pid=note.pid,
                port=note.port,
                network=note.network,
                socket=note.socket,
                http=http,
                token_file=token_file,
                log=None,
                peers=status.peers,
                bootstrap=status.bootstrap,
                warnings=self._warnings(status),
                state=status.state,
            )
        )

    def _warnings(self, status: StatusView) -> list[str]:
        found = [
            f"{peer} does not answer yet ({state}); the node keeps trying"
            for peer, state in status.bootstrap.items()
            if state != "connected"
        ]
        if self._node.set_aside is not None:
            found.append(
                f"the corrupt state was moved to {self._node.set_aside}; this is a new node of the network"
                f" {status.network} (--network names another)"
            )
        return found

    def _token(self) -> str:
        """The secret of the TCP port; it stays the same over restarts, so that bookmarks stay good."""
        path = self._folder / nodefiles.TOKEN
        try:
            known = path.read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            known = ""
        if len(known) == 2 * TOKEN_BYTES and not path.stat().st_mode & 0o077:
            return known
        token = system_entropy().randbytes(TOKEN_BYTES).hex()
        nodefiles.write_private(path, token + "\n")
        return token


def leave(status: int) -> None:
    """End the process now, whatever threads still do; the kernel frees lock and sockets."""
    logging.shutdown()
    sys.stdout.flush()
    os._exit(status)


class _OneLine(logging.Formatter):
    """Timestamps with their zone, and no character that could forge a second line or steer a terminal."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s", "%Y-%m-%dT%H:%M:%S%z")

    def formatMessage(self, record: logging.LogRecord) -> str:
        text = super().formatMessage(record)
        if text.isprintable():
            return text
        return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


class _BoundedFile(RotatingFileHandler):
    """A log file that is put aside when it is full; what others print to stdout and stderr follows it."""

    def doRollover(self) -> None:
        super().doRollover()
        assert self.stream is not None
        for descriptor in (1, 2):
            os.dup2(self.stream.fileno(), descriptor)


def log_to_file(path: Path) -> None:
    """Write the log, bounded in size, to a file that is already this process's stdout and stderr."""
    _log_to(_BoundedFile(path, maxBytes=limits.LOG_BYTES_MAX, backupCount=1, encoding="utf-8"))


def log_to_stderr() -> None:
    """Write the log for somebody who looks on, or for systemd."""
    _log_to(logging.StreamHandler())


def _log_to(handler: logging.Handler) -> None:
    handler.setFormatter(_OneLine())
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def main(make_node: MakeNode = real_node) -> None:
    """The background process: settings on stdin, one line of answer through the pipe that they name."""
    os.umask(0o077)
    order = json.loads(sys.stdin.buffer.read())
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    settings = config.from_json(order["config"])
    assert settings.home is not None, "settled settings have a folder"
    log_to_file(settings.home / nodefiles.LOG)
    parent = _Parent(order["ready"])
    try:
        status = run(settings, fresh=order["fresh"], on_ready=parent.ready, make_node=make_node)
    except DhtexError as error:
        log.error("%s", error)
        parent.failed(error)
        status = error.exit_status
    leave(status)


class _Parent:
    """The process that waits for this one to be ready; told once, and no matter if it is gone."""

    def __init__(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)
        self._pipe = os.fdopen(descriptor, "wb")

    def ready(self, started: Started) -> None:
        self._tell(json.dumps({"ready": asdict(started)}).encode())

    def failed(self, error: DhtexError) -> None:
        self._tell(msgspec.json.encode(describe(error)[1]))

    def _tell(self, line: bytes) -> None:
        if self._pipe.closed:
            return
        with suppress(BrokenPipeError), self._pipe:
            self._pipe.write(line + b"\n")


if __name__ == "__main__":
    main()
