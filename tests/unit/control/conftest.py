"""A fake node behind a real control server, on a Unix socket and on a TCP port."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dhtex.control.client import Client
from dhtex.control.doors import bind_tcp, bind_unix
from dhtex.control.server import ControlServer
from tests.unit.control.fakes import FakeNode

TOKEN = "t" * 64


@dataclass
class Served:
    """What a test talks to."""

    node: FakeNode
    server: ControlServer
    socket: Path
    tcp: tuple[str, int, str]
    stops: list[bool]

    @property
    def unix_client(self) -> Client:
        return Client(self.socket)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    node, stops = FakeNode(), list[bool]()
    server = ControlServer(node, lambda: stops.append(True))
    path, tcp = tmp_path / "control.sock", bind_tcp(0)
    port = tcp.getsockname()[1]
    await server.open(bind_unix(path), tcp, TOKEN)
    yield Served(node, server, path, ("127.0.0.1", port, TOKEN), stops)
    await server.close()
