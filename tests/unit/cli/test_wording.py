"""What is said about what was typed, and in which words."""

import socket
from pathlib import Path

import pytest

from dhtex.cli import render
from dhtex.cli.text import Page
from dhtex.control.client import Client
from dhtex.errors import UsageError
from tests.unit.cli.conftest import EMPTY_LISTING, ORDER, Dhtex, FakeNode

ID = ORDER["id"][:10]


def test_what_is_no_text_is_said_of_the_option_that_has_it(dhtex: Dhtex, tmp_path: Path) -> None:
    client = Client(tmp_path / "no.sock")
    with socket.socket() as link, pytest.raises(UsageError, match="the note is not valid text"):
        client._send(link, "POST", "/v1/orders", {"side": "sell", "note": "\udcff"})
    result = dhtex("order", "list", "\udcff")
    assert (result.status, result.err) == (2, "error: what was typed is not valid text (write it in UTF-8)\n")


def test_a_side_may_be_typed_in_either_case(dhtex: Dhtex, node: FakeNode) -> None:
    node.answer = EMPTY_LISTING
    assert dhtex("order list BTC/USD --side SELL").status == 0
    assert "side=sell" in node.calls[0][1]


@pytest.mark.parametrize("words", [f"order cancel {ID} --all", f"order accept {ID} --best BTC/USD"])
def test_too_much_is_not_called_too_little(dhtex: Dhtex, words: str) -> None:
    result = dhtex(words)
    assert (result.status, "named in more than one way" in result.err) == (2, True)


def test_every_summary_fits_on_a_line(dhtex: Dhtex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for words in ("--help", "order --help", "trade --help"):
        assert "..." not in dhtex(words).out.partition("Commands:")[2]


def test_one_node_is_not_one_nodes() -> None:
    view = {
        "network_nodes": 1,
        "network": "lab",
        "pow_bits": 8,
        "bootstrap": {},
        "port": 1,
        "state": "alone",
        "peers": 0,
    }
    view |= {"address": "", "client": False, "orders_open": 0, "records_held": 0, "watches": 0, "maker": "", "node": ""}
    view |= {"epoch": 1, "host": "", "pid": 1, "uptime_s": 1.0, "version": "0", "home": "", "counters": {}}
    assert "about 1 node)" in "\n".join(render.status(view, Page(now=0.0)))
