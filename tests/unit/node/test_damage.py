"""A state that was changed behind a node's back, or is another network's, is refused at the start and left as it is."""

import sqlite3
from pathlib import Path

import pytest

from dhtex.config import NodeConfig
from dhtex.errors import StateError
from dhtex.node import Node
from dhtex.views import OrderDraft

DRAFT = OrderDraft(side="sell", amount="1", pair="BTC/USD", price="5")


def node_at(home: Path, network: str = "lab") -> Node:
    return Node(NodeConfig(port=0, host="127.0.0.1", network=network, pow_bits=0, home=home))


async def with_an_order(home: Path) -> None:
    async with node_at(home) as node:
        await node.add_order(DRAFT)


async def refusal(home: Path, network: str = "lab") -> str:
    before = (home / "node.db").read_bytes()
    node = node_at(home, network)
    with pytest.raises(StateError) as caught:
        await node.start()
    await node.stop()
    assert (home / "node.db").read_bytes() == before
    return f"{caught.value.message}; {caught.value.hint}"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE orders SET wire = replace(hex(wire), '00', '01')", "table orders"),
        ("UPDATE orders SET wire = zeroblob(300)", "table orders"),
        ("UPDATE orders SET order_id = zeroblob(32)", "table orders"),
        ("UPDATE orders SET state = 'opem'", "table orders"),
        ("UPDATE facts SET value = zeroblob(32) WHERE name = 'seed'", "not of its key"),
        ("UPDATE facts SET value = zeroblob(31) WHERE name = 'seed'", "table facts"),
        ("UPDATE facts SET name = 'sead' WHERE name = 'seed'", "table facts"),
        ("UPDATE facts SET value = 'seven' WHERE name = 'epoch'", "table facts"),
        ("UPDATE facts SET value = -1 WHERE name = 'epoch'", "table facts"),
        ("UPDATE facts SET value = x'ff' WHERE name = 'network'", "table facts"),
        ("UPDATE facts SET value = 99 WHERE name = 'pow_bits'", "table facts"),
        ("DELETE FROM facts WHERE name = 'node_id'", "table facts"),
    ],
)
async def test_a_changed_row_is_noticed(tmp_path: Path, change: str, said: str) -> None:
    await with_an_order(tmp_path)
    with sqlite3.connect(tmp_path / "node.db") as connection:
        assert connection.execute(change).rowcount == 1
    connection.close()
    assert said in await refusal(tmp_path)


async def test_a_state_whose_identity_is_gone_gets_no_new_one(tmp_path: Path) -> None:
    await with_an_order(tmp_path)
    with sqlite3.connect(tmp_path / "node.db") as connection:
        connection.execute("DELETE FROM facts")
    connection.close()
    assert "table facts" in await refusal(tmp_path)


async def test_a_state_of_another_network_is_named(tmp_path: Path) -> None:
    await with_an_order(tmp_path)
    assert "--network lab" in await refusal(tmp_path, "other")
    async with node_at(tmp_path) as node:
        assert node.status().orders_open == 1
