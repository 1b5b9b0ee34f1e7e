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


def test_a_node_remembers_its_network_and_a_copy_of_it_too(network: Network) -> None:
    first, second = free_ports(2)
    network.started(first)
    order = network.offer("BTC/GBP", first)
    assert network.run("stop", node=first).code == 0
    other = network.run("start", "--port", str(first), "--network", "main")
    assert (other.code, "--network lab" in other.err, other.err.count("\n")) == (2, True, 1), other
    assert network.run("start", "--port", str(first), "--host", "127.0.0.1").code == 0
    status = network.json("status", node=first)
    assert (status["network"], status["pow_bits"], status["orders_open"]) == ("lab", network.pow_bits, 1)
    copy = network.home / "copy"
    assert network.run("backup", str(copy), node=first).code == 0
    assert network.run("stop", node=first).code == 0
    restored = network.run("restore", str(copy), "--port", str(second))
    hint = restored.out.splitlines()[-1].removeprefix("start it: dhtex ")
    assert network.run(*hint.split(), "--host", "127.0.0.1").code == 0
    assert [row["id"] for row in network.orders("BTC/GBP", second, "--mine")] == [order]
    assert network.run("stop", node=second).code == 0


def test_a_node_that_has_signed_nothing_may_change_its_network(network: Network) -> None:
    (port,) = free_ports(1)
    for name in ("one", "two"):
        assert network.run("start", "--port", str(port), "--host", "127.0.0.1", "--network", name).code == 0
        assert network.json("status", node=port)["network"] == name
        assert network.run("stop", node=port).code == 0
