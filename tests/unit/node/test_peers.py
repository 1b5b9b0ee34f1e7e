"""Whom a node meets, what it says of them, and that it finds them again."""

import random
from pathlib import Path

import pytest

from dhtex.config import NodeConfig
from dhtex.errors import NoPeerError, UsageError
from dhtex.node import Node, core
from tests.unit.overlay.fakes import until

HOST = "127.0.0.1"


def node(number: int, *peers: Node, home: Path | None = None) -> Node:
    bootstrap = tuple(f"{HOST}:{peer.port}" for peer in peers)
    settings = NodeConfig(host=HOST, network="lab", pow_bits=0, bootstrap=bootstrap, home=home)
    return Node(settings, entropy=random.Random(number))


async def test_peers_are_on_disk_long_before_the_first_minute_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core, "TICK_S", 0.01)
    monkeypatch.setattr(core, "PEERS_SAVED_FIRST_S", 0.02)
    assert core.PEERS_SAVED_S == 60
    async with node(1) as first, node(2, home=tmp_path) as second:
        assert await second.connect(HOST, first.port)
        journal = second._running.journal
        await until(lambda: [port for _, _, port in journal.peers()] == [first.port])


async def test_a_bootstrap_peer_that_has_gone_is_not_called_connected() -> None:
    async with node(1) as first, node(2, first) as second:
        name = f"{HOST}:{first.port}"
        await until(lambda: second.status().bootstrap == {name: "connected"})
        table = second._running.overlay.protocol.table
        for info in second._running.overlay.peers():
            peer = table.get(info.id)
            assert peer is not None
            table.remove(peer)
        assert second.status().bootstrap == {name: "not a peer now"}


async def test_a_bootstrap_peer_for_which_there_is_no_room_is_called_well_when_it_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with node(1) as first, node(2, first) as second:
        parts, name = second._running, f"{HOST}:{first.port}"
        await until(lambda: second.status().bootstrap == {name: "connected"})
        table = parts.overlay.protocol.table
        (peer,) = table
        with monkeypatch.context() as full:
            full.setattr(table, "_room", lambda bucket, peer: False)
            table.remove(peer)
            await parts.bootstrap.ask_missing()
            assert second.status().bootstrap == {name: "answers"}
        await parts.bootstrap.ask_missing()
        assert second.status().bootstrap == {name: "connected"}


async def test_the_doctor_names_a_bootstrap_peer_that_is_silent_although_there_are_others() -> None:
    async with node(1) as first, node(2) as other:
        config = NodeConfig(
            host=HOST, network="lab", pow_bits=0, bootstrap=(f"{HOST}:{first.port}", f"{HOST}:{other.port}")
        )
        async with Node(config, entropy=random.Random(3)) as third:
            await until(lambda: set(third.status().bootstrap.values()) == {"connected"})
            await first.stop()
            table = third._running.overlay.protocol.table
            for peer in table:
                if peer.address[1] == first.port:
                    table.remove(peer)
            checks = {check.name: check for check in (await third.doctor()).checks}
            assert checks["peers"].state == "ok"
            assert checks["bootstrap"].state == "warning"
            assert f"1 of 2 do not answer: {HOST}:{first.port} (silent)" in checks["bootstrap"].finding
            assert "dhtex connect" in checks["bootstrap"].hint


async def test_whom_one_cannot_meet_is_said() -> None:
    async with node(1) as one:
        with pytest.raises(UsageError, match="is this node itself"):
            await one.connect(HOST, one.port)
        with pytest.raises(NoPeerError, match="no address is known"):
            await one.connect("no-such-host.invalid", 3001)
        assert one.status().bootstrap == {}
