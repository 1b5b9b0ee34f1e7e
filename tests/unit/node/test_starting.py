"""A start that fails or is given up leaves nothing open, and a home has one node."""

import asyncio
from pathlib import Path

import pytest

from dhtex.config import NodeConfig
from dhtex.errors import PortInUseError
from dhtex.node import Node
from dhtex.node.outside import Outside


def node(home: Path, port: int = 0) -> Node:
    return Node(NodeConfig(port=port, host="127.0.0.1", network="lab", pow_bits=0, home=home))


async def test_a_home_has_one_node(tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with node(home) as first:
        with pytest.raises(PortInUseError, match="another node uses"):
            await node(home).start()
        assert first.status().peers == 0
    async with node(home):
        pass


async def test_a_home_is_let_go_when_its_node_has_ended_whoever_waits_for_that(tmp_path: Path) -> None:
    first = node(tmp_path)
    await first.start()
    ending = asyncio.create_task(first.stop())
    await asyncio.sleep(0)
    ending.cancel()
    with pytest.raises(PortInUseError):
        await node(tmp_path).start()
    await asyncio.gather(first.stop(), first.stop())
    async with node(tmp_path, first.port):
        pass


async def test_a_start_that_is_refused_lets_go_of_the_home(tmp_path: Path) -> None:
    async with node(tmp_path / "one") as first:
        with pytest.raises(PortInUseError, match="UDP port"):
            await node(tmp_path / "two", first.port).start()
    async with node(tmp_path / "two", first.port):
        pass


@pytest.mark.parametrize("given_up", [False, True])
async def test_a_start_that_ends_late_leaves_nothing_open(
    given_up: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports = asyncio.Queue[int]()

    async def start(self: Outside, port: int) -> None:
        ports.put_nowait(port)
        if given_up:
            await asyncio.Event().wait()
        raise RuntimeError("the surroundings are not as anybody thought")

    with monkeypatch.context() as patched:
        patched.setattr(Outside, "start", start)
        starting = asyncio.create_task(node(tmp_path).start())
        port = await ports.get()
        if given_up:
            starting.cancel()
        with pytest.raises(asyncio.CancelledError if given_up else RuntimeError):
            await starting
    assert asyncio.all_tasks() == {asyncio.current_task()}
    async with node(tmp_path, port):
        pass
