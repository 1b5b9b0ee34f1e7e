"""Wrong input of every kind: one clear line, the promised exit code, and nothing half-done."""

import json
import socket
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.integration.conftest import Network, Result, free_ports

pytestmark = pytest.mark.processes

ADD = ("order", "add")
USAGE = {
    "a pair without a slash": (*ADD, "sell", "1", "BTCUSD", "--price", "5"),
    "a pair of one currency": (*ADD, "sell", "1", "BTC/BTC", "--price", "5"),
    "an unknown side": (*ADD, "hodl", "1", "BTC/USD", "--price", "5"),
    "no amount": (*ADD, "sell", "0", "BTC/USD", "--price", "5"),
    "a negative amount": (*ADD, "--price", "5", "--", "sell", "-1", "BTC/USD"),
    "an amount of nine decimals": (*ADD, "sell", "0.000000001", "BTC/USD", "--price", "5"),
    "an absurd amount": (*ADD, "sell", "9" * 40, "BTC/USD", "--price", "5"),
    "no price": (*ADD, "sell", "1", "BTC/USD", "--price", "0"),
    "a negative price": (*ADD, "sell", "1", "BTC/USD", "--price=-5"),
    "a price in tenths of cents": (*ADD, "sell", "1", "BTC/USD", "--price", "50000.001"),
    "a price with an exponent": (*ADD, "sell", "1", "BTC/USD", "--price", "5e4"),
    "a price that is no number": (*ADD, "sell", "1", "BTC/USD", "--price", "NaN"),
    "a long note": (*ADD, "sell", "1", "BTC/USD", "--price", "5", "--note", "x" * 10_000),
    "a note that moves the cursor": (*ADD, "sell", "1", "BTC/USD", "--price", "5", "--note", "a\x1b[31mb"),
    "a minimum above the amount": (*ADD, "sell", "1", "BTC/USD", "--price", "5", "--min", "2"),
    "an expiry in the past": (*ADD, "sell", "1", "BTC/USD", "--price", "5", "--expires", "0s"),
    "an expiry after a week": (*ADD, "sell", "1", "BTC/USD", "--price", "5", "--expires", "8d"),
    "JSON that is none": (*ADD, "--json", '{"buy":"BTC",'),
    "too short an id": ("order", "show", "abc"),
    "an id that is none": ("order", "show", "zzzzzzzz"),
    "a peer without a port": ("connect", "localhost"),
}


def check(result: Result, code: int, says: str = "") -> None:
    """The promised exit code, and one line that says what is wrong, without a traceback."""
    assert result.code == code, f"exit {result.code}\n{result.out}{result.err}"
    assert len(result.err.strip().splitlines()) == 1, result.err
    assert "Traceback" not in result.err
    assert says.lower() in result.err.lower()


def test_a_wrong_word_is_told_in_one_line_and_nothing_is_published(lab: Network) -> None:
    node = lab.ports[0]
    mine = ("order", "list", "BTC/USD", "--all", "--mine")
    before = lab.json(*mine, node=node)["orders"]
    with ThreadPoolExecutor(4) as pool:
        results = dict(zip(USAGE, pool.map(lambda words: lab.run(*words, node=node), USAGE.values()), strict=True))
    wrong = {what: result for what, result in results.items() if result.code != 2}
    assert not wrong
    for result in results.values():
        check(result, 2)
    assert [row["id"] for row in lab.json(*mine, node=node)["orders"]] == [row["id"] for row in before]


def test_an_id_of_nothing_is_not_found(lab: Network) -> None:
    for words in (("order", "show"), ("order", "cancel"), ("order", "accept"), ("trade", "show")):
        check(lab.run(*words, "abcdef123456", node=lab.ports[0]), 3, "abcdef123456")


def test_one_bad_line_of_a_file_is_named_and_the_others_are_published(lab: Network, tmp_path: Path) -> None:
    good = {"buy": "BCH", "sell": "USD", "price": 500, "amount": 1}
    lines = [json.dumps({**good, "price": 500 + number}) for number in range(1, 41)]
    lines[36] = '{"buy": "BCH", "sell"'
    (tmp_path / "orders").write_text("\n".join(lines))
    node = lab.ports[0]
    result = lab.run(*ADD, "--file", str(tmp_path / "orders"), node=node)
    assert result.code == 2, result
    assert "37" in result.err
    assert "Traceback" not in result.err
    assert len(lab.orders("BCH/USD", node, "--mine")) == 39


def test_which_node_is_meant_has_to_be_clear(lab: Network) -> None:
    result = lab.run("order", "list", "BTC/USD")
    check(result, 2)
    assert all(str(port) in result.err for port in lab.ports)
    check(lab.run("order", "list", "BTC/USD", node=free_ports(1)[0]), 6)


def test_a_port_can_be_used_once(lab: Network) -> None:
    check(lab.start(lab.ports[0]), 2, str(lab.ports[0]))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        check(lab.start(port), 2, str(port))
    lab.ports = lab.ports[:3]


def test_a_home_that_cannot_be_written_is_named(lab: Network, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    home = str(tmp_path / "file" / "home")
    check(lab.run("start", "--port", str(free_ports(1)[0]), DHTEX_HOME=home), 2, home)


def test_a_corrupt_state_file_is_kept_aside_only_when_asked(network: Network) -> None:
    port = network.started(free_ports(1)[0])
    maker = network.json("status", node=port)["maker"]
    assert network.run("stop", node=port).code == 0
    state = network.home / "nodes" / str(port) / "node.db"
    state.write_bytes(b"this is no database" * 500)
    check(network.start(port), 2, "--force")
    assert state.read_bytes().startswith(b"this is no database")
    forced = network.start(port, options=("--force",))
    assert forced.code == 0, forced
    assert network.json("status", node=port)["maker"] != maker
    kept = [path for path in state.parent.iterdir() if path.is_file() and path != state]
    assert any(path.read_bytes().startswith(b"this is no database") for path in kept)


def test_the_web_face_wants_its_token(network: Network) -> None:
    port = free_ports(1)[0]
    assert network.start(port, options=("--http", "0")).code == 0
    note = json.loads((network.home / "nodes" / str(port) / "node.json").read_text())
    token = Path(note["token_file"]).read_text().strip()

    def status(presented: str) -> tuple[int, object]:
        request = urllib.request.Request(note["http"].rstrip("/") + "/v1/status")
        request.add_header("Authorization", f"Bearer {presented}")
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return int(answer.status), 0
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)["error"]["exit_status"]

    assert status(token) == (200, 0)
    assert status("x" * len(token)) == (403, 8)
