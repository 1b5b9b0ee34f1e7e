"""Nodes that come late, stop, are killed, and return."""

import pytest

from tests.integration.conftest import Network, eventually, free_ports

pytestmark = pytest.mark.processes


def test_two_strangers_connect_list_accept_and_agree(network: Network) -> None:
    first, second = map(network.started, free_ports(2))
    alone = network.json("order", "add", "sell", "1", "BTC/USD", "--price", "50000", node=first)
    assert alone["holders"] == 0
    order = alone["order"]["id"]
    assert network.orders("BTC/USD", second) == []

    assert network.json("connect", f"127.0.0.1:{first}", node=second)["connected"] is True
    assert network.sees(order, "BTC/USD", second)["mine"] is False
    assert network.json("order", "accept", order, node=second)["state"] == "confirmed"
    for node in (first, second):
        assert network.trade(order, node, "confirmed")["amount"] == "1"
        assert network.json("order", "show", order, node=node)["status"] == "filled"
        assert network.orders("BTC/USD", node) == []


def test_a_killed_node_returns_with_identity_peers_orders_and_trades(network: Network) -> None:
    first, second = free_ports(2)
    network.started(first)
    network.started(second, first)
    network.wait_for_peers(first, 1)
    traded, open_order = network.offer("BTC/EUR", first), network.offer("BTC/EUR", first)
    network.sees(traded, "BTC/EUR", second)
    assert network.json("order", "accept", traded, node=second)["state"] == "confirmed"
    before = network.json("status", node=first)

    network.kill(first)
    assert network.run("status", node=first).code == 6
    network.started(first)
    after = network.json("status", node=first)
    assert (after["node"], after["maker"]) == (before["node"], before["maker"])
    assert after["pid"] != before["pid"]
    network.wait_for_peers(first, 1)
    assert network.trade(traded, first, "confirmed")["role"] == "maker"
    network.sees(open_order, "BTC/EUR", second)
    ends = {traded: "filled", open_order: "open"}  # open again once another node has said that it holds it

    def statuses() -> dict[str, str]:
        return {row["id"]: row["status"] for row in network.orders("BTC/EUR", first, "--mine", "--all")}

    assert eventually(lambda: statuses() == ends, "the orders are as they were")
    assert network.refused(traded, second) == "taken"


def test_a_mailbox_order_is_decided_when_its_maker_returns(network: Network) -> None:
    first, second = free_ports(2)
    network.started(first)
    network.started(second, first)
    network.wait_for_peers(first, 1)
    order = network.offer("XMR/BTC", first, "--mailbox", "--price", "0.005")
    network.sees(order, "XMR/BTC", second)
    assert network.run("stop", node=first).code == 0
    assert network.run("order", "accept", order, "--wait", "0.5", node=second).code == 5
    network.started(first, second)
    assert network.trade(order, second, "confirmed")["role"] == "taker"
    assert network.trade(order, first, "confirmed")["role"] == "maker"


def test_two_nodes_that_name_each_other_meet_in_whichever_order_they_start(network: Network) -> None:
    first, second = free_ports(2)
    early = network.start(first, second)
    assert early.code == 0
    assert str(second) in early.out + early.err, "it says that the peer does not answer"
    network.started(second, first)
    for node in (first, second):
        network.wait_for_peers(node, 1)
    assert eventually(lambda: network.json("status", node=first)["state"] == "ready", "the first is ready")
