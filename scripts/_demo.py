"""The demo behind `scripts/demo`: a market of five nodes on this machine, and a race for one of its orders.

Everything is done by the command line, as a person would, and every command is shown. The nodes are real background
processes that talk UDP; only the network is private, with stamps that take a few hundredths of a second (on the public
network one takes about a second of one core).
"""

import argparse
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

NODES = 5
NETWORK = "demo"
POW_BITS = 12
PATIENCE_S = 30.0
DHTEX = Path(sys.executable).with_name("dhtex")

# Who offers what: the maker's place among the five nodes, then the words of `order add`.
CONTESTED = "sell 0.25 BTC/USD --price 64190 --pay cash --note 'Berlin or Prague' --reply 'call +49 30 5550123'"
OFFERS = (
    (0, "sell 0.5 BTC/USD --price 64250 --min 0.05 --pay SEPA --pay Wise --note 'weekdays 9-17 UTC'"),
    (0, "sell 1.2 BTC/USD --price 64400 --pay Wise"),
    (1, CONTESTED),
    (1, "buy 0.4 BTC/USD --price 64050 --pay Revolut"),
    (2, "buy 1 BTC/USD --price 63900 --min 0.1 --pay SEPA"),
    (2, "sell 0.3 BTC/EUR --price 59100 --pay SEPA-instant"),
    (1, "buy 0.15 BTC/EUR --price 58850 --pay SEPA"),
    (2, "sell 40 XMR/BTC --price 0.00512 --min 5 --note 'atomic swap'"),
    (0, "buy 25 XMR/BTC --price 0.00498 --mailbox"),
)
TAKERS = (3, 4)
READER = 4


class Market:
    """The five nodes, reached only through the command line."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="dhtex-demo-"))
        self.ports = free_ports(NODES)

    def run(self, words: str, node: int | None = None) -> "subprocess.CompletedProcess[str]":
        """Run one command to its end."""
        named = [] if node is None else ["--node", str(self.ports[node])]
        environment = os.environ | {"DHTEX_HOME": str(self.home)}
        command = [str(DHTEX), *named, *shlex.split(words)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    def shown(self, words: str, node: int | None = None) -> str:
        """A command as a person would type it."""
        return f"$ dhtex {'' if node is None else f'--node {self.ports[node]} '}{words}"

    def show(self, words: str, node: int | None = None) -> None:
        """Run a command that has to succeed, and print both it and its answer."""
        result = self.run(words, node)
        print(self.shown(words, node))
        print(indented(result.stdout + result.stderr), flush=True)
        if result.returncode != 0:
            raise SystemExit(f"the demo ends here: exit code {result.returncode}")

    def json(self, words: str, node: int | None = None) -> Any:
        """Run a command that has to succeed; its answer."""
        result = self.run(f"{words} --json", node)
        if result.returncode != 0:
            raise SystemExit(f"{self.shown(words, node)}\n{result.stderr}the demo ends here")
        return json.loads(result.stdout)

    def start(self, place: int) -> None:
        words = f"start --port {self.ports[place]} --host 127.0.0.1 --network {NETWORK} --pow-bits {POW_BITS}"
        self.show(words + (f" --bootstrap 127.0.0.1:{self.ports[0]}" if place else ""))

    def order_id(self, words: str, node: int) -> str:
        """Wait until a node lists the order that was published with these words; its id."""
        price = shlex.split(words)[4]
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            for order in self.json(f"order list {shlex.split(words)[2]}", node)["orders"]:
                if order["price"] == price:
                    return str(order["id"])
        raise SystemExit(f"node {self.ports[node]} has not seen the order at {price} in {PATIENCE_S:.0f} s")

    def stop(self) -> None:
        """Stop all nodes, the hard way where the soft one fails, and remove what they wrote."""
        running = self.run("nodes --json")
        self.run("stop --all")
        left = self.run("nodes --json")
        if left.returncode == 0 and left.stdout.strip() not in ("", "[]"):
            for node in json.loads(running.stdout):
                os.kill(int(node["pid"]), signal.SIGKILL)
        shutil.rmtree(self.home, ignore_errors=True)


def free_ports(count: int) -> list[int]:
    """UDP ports that nobody has at the moment."""
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = sorted(one.getsockname()[1] for one in sockets)
    for one in sockets:
        one.close()
    return ports


def indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())


def title(text: str) -> None:
    print(f"\n=== {text} ===\n", flush=True)


def publish(market: Market) -> None:
    """Three makers publish their orders; then all of them are in the book of a node that published none."""
    for node, words in OFFERS:
        market.show(f"order add {words}", node)
    for _, words in OFFERS:
        market.order_id(words, READER)


def race(market: Market) -> None:
    """Two takers accept one order at the same moment."""
    maker = next(node for node, words in OFFERS if words == CONTESTED)
    order = market.order_id(CONTESTED, TAKERS[0])
    accept = f"order accept {order[:10]} --message 'cash, Saturday?'"
    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(lambda taker: market.run(accept, taker), TAKERS))
    for taker, answer in zip(TAKERS, answers, strict=True):
        print(market.shown(accept, taker))
        print(indented(answer.stdout + answer.stderr + f"(exit code {answer.returncode})"))
    codes = [answer.returncode for answer in answers]
    if sorted(codes) != [0, 4]:
        raise SystemExit(f"exactly one of the two should have won, but the exit codes are {codes}")
    winner, loser = (TAKERS[codes.index(code)] for code in (0, 4))
    print(f"Node {market.ports[winner]} has the order. Node {market.ports[loser]} was refused because it is taken: the")
    print("maker's node decides alone and once, and has the decision on disk before it tells anyone.\n")
    market.show("trade list", maker)


def keep(market: Market) -> None:
    """Say how to go on with the running network."""
    first, last = market.ports[0], market.ports[-1]
    print("The five nodes keep running. To use them:\n")
    print(f"    export DHTEX_HOME={market.home} PATH={shlex.quote(str(DHTEX.parent))}:$PATH")
    print("    dhtex nodes")
    print(f"    dhtex --node {first} order add sell 0.1 BTC/USD --price 64300")
    print(f"    dhtex --node {last} order list BTC/USD")
    print(f"    dhtex --node {last} order watch BTC/USD")
    print(f"\nTo stop them:  dhtex stop --all && rm -r {market.home}")


def play(market: Market) -> None:
    title("five nodes, each a background process of its own")
    for place in range(NODES):
        market.start(place)
    title("three makers publish signed orders")
    publish(market)
    title(f"the book, read from node {market.ports[READER]}, which has published nothing")
    market.show("book BTC/USD", READER)
    market.show("order list BTC/EUR", READER)
    market.show("order list XMR/BTC", READER)
    title("two nodes accept the same order at the same moment")
    race(market)


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/demo", description="Five nodes, a market, and a race for one order.")
    parser.add_argument("--keep", action="store_true", help="leave the network running, and say how to use it")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    market, running = Market(), False
    print(f"A private network: its stamps are of {POW_BITS} bits, where those of the public one have 16.")
    try:
        play(market)
        running = bool(options.keep)
        if running:
            keep(market)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        sys.exit(130)
    finally:
        if not running:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            market.stop()
            print("all nodes are stopped")


if __name__ == "__main__":
    main()
