"""The two doors of the control interface, and who is let in.

The Unix socket can be opened by its owner only, so whoever comes through it is trusted. The TCP port is open to every
user and every web page of this machine: there a bearer token is asked for, and Host and Origin are checked against
DNS rebinding and cross-site requests. Each door is a server of its own, with its own guard, so trust never depends on
what a connection says about itself: the peer address of a connection that was reset early cannot be told from that of
a Unix socket.
"""

import asyncio
import contextlib
import hmac
import logging
import os
import socket
from collections.abc import Generator
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from dhtex import limits
from dhtex.control.answers import failure
from dhtex.errors import PortInUseError, StateError, VerificationError


class Guard:
    """Lets a request from the TCP port in if it names this server, comes from no foreign page, and has the token."""

    def __init__(self, app: ASGIApp, port: int, token: str) -> None:
        assert token, "a TCP port without a token"
        self._app = app
        self._hosts = {f"127.0.0.1:{port}".encode(), f"localhost:{port}".encode()}
        self._origins = {b"http://" + host for host in self._hosts}
        self._authorization = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = self._objection(scope["headers"])
        if error is None:
            await self._app(scope, receive, send)
        else:
            await failure(error)(scope, receive, send)

    def _objection(self, headers: list[tuple[bytes, bytes]]) -> VerificationError | None:
        hosts = [value.lower() for name, value in headers if name == b"host"]
        origins = [value.lower() for name, value in headers if name == b"origin"]
        tokens = [value for name, value in headers if name == b"authorization"]
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            return VerificationError("this request is for another host", hint="use the address in node.json")
        if any(origin not in self._origins for origin in origins):
            return VerificationError("this request comes from another site")
        if len(tokens) != 1 or not hmac.compare_digest(tokens[0], self._authorization):
            return VerificationError("the token is wrong or missing", hint="it is in the node's folder")
        return None


class Door(uvicorn.Server):
    """uvicorn without its signal handlers, its log lines and its ten wake-ups a second."""

    def __init__(self, app: ASGIApp, listener: socket.socket) -> None:
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        super().__init__(
            uvicorn.Config(
                app,
                http="h11",
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                date_header=False,
                limit_concurrency=limits.CONTROL_CONNECTIONS_MAX,
                timeout_graceful_shutdown=limits.CONTROL_CLOSE_S_MAX,
            )
        )
        self._listener = listener
        self._listening = asyncio.Event()
        self._leave = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Return when the socket is answered."""
        self._task = asyncio.create_task(self.serve([self._listener]))
        ready = asyncio.create_task(self._listening.wait())
        await asyncio.wait({self._task, ready}, return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            ready.cancel()
            self._task.result()

    async def close(self) -> None:
        """Return when the socket is closed and no answer is under way any more."""
        self._leave.set()
        if self._task is not None:
            await self._task

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._listening.set()

    async def main_loop(self) -> None:
        await self._leave.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self.server_state.connections or self.server_state.tasks:
            await super().shutdown(sockets)
            return
        for server in self.servers:  # nobody is there: no need to look for them every tenth of a second
            server.close()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def bind_unix(path: Path) -> socket.socket:
    """A listening socket that only this user can connect to; replaces a stale one. Raises StateError."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        raise StateError(f"cannot make the control socket {path}: {error.strerror}") from error
    finally:
        os.umask(mask)
    return listener


def bind_tcp(port: int) -> socket.socket:
    """A socket on 127.0.0.1. Raises PortInUseError."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError as error:
        listener.close()
        raise PortInUseError(
            f"cannot listen on 127.0.0.1 port {port}: {error.strerror}", hint="choose another with --http"
        ) from error
    return listener
