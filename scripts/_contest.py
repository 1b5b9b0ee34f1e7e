"""Contested orders between real processes on a bad network: do maker, takers and a third node agree in the end?

Starts nodes that lose a share of all datagrams they send, lets several takers accept each order at once, kills the
order's maker with SIGKILL at a random moment of that, starts it again, and at last compares for each order

    the maker's journal      which accept it confirmed, which it refused
    each taker's journal     what became of its accept
    a third node             what the order's key says, by `order show`

Every accept must be confirmed, refused or void at its taker, the maker must say the same, and at most one accept of an
order may be confirmed; the third node must see the order filled by that one, or not filled if there is none. What is
drawn by chance follows from the seed; how long things take does not, so a seed repeats a plan and not a history.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from dhtex import config, limits, nodefiles, spawn
from dhtex.config import NodeConfig
from dhtex.control.client import Client
from dhtex.errors import DhtexError, RefusedError

NETWORK: Final = "contest"
LOSS_VARIABLE: Final = "DHTEX_TEST_LOSS"
PAIR: Final = "BTC/USD"
BOOTSTRAP_PEERS: Final = 3
PATIENCE_S: Final = 150.0  # for one thing that must happen in the end
OUTCOMES_S_MAX: Final = 400.0
PAUSE_S: Final = 0.2
SAID_EVERY: Final = 10
LONG_AWAY_S: Final = (80.0, 95.0)  # longer than an accept waits that a running node has to answer
RUNNING: Final = ("sent", "pending")
Result = TypeVar("Result")


class Place:
    """One node: a process that may be gone, and the settings with which it returns."""

    def __init__(self, settings: NodeConfig, home: Path) -> None:
        self.settings = settings
        self.home = home
        self.port = settings.port
        self.kills = 0
        self._mortal = threading.Lock()

    def start(self) -> None:
        spawn.start(self.settings, self.home)

    def kill(self, away_s: float) -> None:
        """End the process as a power cut of the program does, and start it again a little later."""
        with self._mortal:
            folder = config.node_folder(self.home, self.port)
            note = nodefiles.read_note(folder)
            assert note is not None, "a node that runs has left a note"
            os.kill(note.pid, signal.SIGKILL)
            eventually(lambda: not nodefiles.is_held(folder), f"node {self.port} ends")
            self.kills += 1
            time.sleep(away_s)
            self.start()

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """One request, which may fail because the node was killed."""
        socket = config.socket_path(config.node_folder(self.home, self.port))
        return Client(socket).call(method, f"/v1/{path}", body)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """One request, again and again until the node is there and can answer."""
        return persistently(lambda: self.call(method, path, body), f"node {self.port}: {method} {path}")

    def trades(self) -> list[dict[str, Any]]:
        """All trades of its node, page by page."""
        rows: list[dict[str, Any]] = []
        after: str | None = ""
        while after is not None:
            page = self.ask("GET", f"trades?limit={limits.TRADES_LISTED_MAX}&after={after}")
            rows, after = [*rows, *page["trades"]], page["next"]
        return rows


def eventually(condition: Callable[[], Result], what: str, limit_s: float = PATIENCE_S) -> Result:
    """Ask until the answer is truthy."""
    end = time.monotonic() + limit_s
    while not (found := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {limit_s:.0f} s")
        time.sleep(PAUSE_S)
    return found


def persistently(step: Callable[[], Result], what: str) -> Result:
    """Do a step again while it fails for want of a node, a peer or an order that is on its way. A refusal is final."""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            return step()
        except RefusedError:
            raise
        except DhtexError as error:
            if time.monotonic() > end:
                raise TimeoutError(f"{what}: {error}") from error
            time.sleep(PAUSE_S)


@dataclass
class Order:
    """One contested order: who made it, who wants it, who looks on."""

    number: int
    id: str
    maker: Place
    takers: list[Place]
    reader: Place
    too_late: list[str] = field(default_factory=list)  # refused before an accept was sent


class Contest:
    """The whole run."""

    def __init__(self, options: argparse.Namespace, home: Path) -> None:
        self.options = options
        self.orders: list[Order] = []
        self.counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        ports = [spawn.free_port() for _ in range(options.nodes)]
        assert len(set(ports)) == len(ports), "the system gave one port twice: try again"
        self.places = []
        for number, port in enumerate(ports):
            chance = random.Random(f"{options.seed}/peers/{number}")
            peers = chance.sample(ports[:number], min(number, BOOTSTRAP_PEERS)) or ports[1:2]
            settings = NodeConfig(
                port=port,
                host="127.0.0.1",
                network=NETWORK,
                pow_bits=0,
                bootstrap=tuple(f"127.0.0.1:{peer}" for peer in peers),
            )
            self.places.append(Place(settings, home))

    def start(self) -> None:
        """Start all nodes, and wait until each knows some others."""
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda place: place.start(), self.places))
        wanted = min(8, len(self.places) - 1)
        for place in self.places:
            eventually(partial(_has_peers, place, wanted), f"{place.port} has {wanted} peers")

    def stop(self) -> None:
        for place in self.places:
            note = nodefiles.read_note(config.node_folder(place.home, place.port))
            if note is not None and nodefiles.is_held(config.node_folder(place.home, place.port)):
                os.kill(note.pid, signal.SIGKILL)

    def play(self) -> None:
        """Contest orders until enough of them were accepted by two or more."""
        wanted, number, said = self.options.orders, 0, 0
        running: set[Future[None]] = set()
        with ThreadPoolExecutor(self.options.parallel) as pool:
            while True:
                while len(running) < min(self.options.parallel, wanted - self.contested()) and number < 3 * wanted:
                    running.add(pool.submit(self.one, number))
                    number += 1
                if not running:
                    return
                ended, running = wait(running, return_when=FIRST_COMPLETED)
                for job in ended:
                    job.result()
                if self.contested() >= said + SAID_EVERY:
                    said = self.contested()
                    self.say(f"{said} of {wanted} contested, {self.kills()} kills")

    def contested(self) -> int:
        """How many orders two or more accepts were sent for."""
        return sum(len(order.takers) - len(order.too_late) >= 2 for order in self.orders)

    def kills(self) -> int:
        return sum(place.kills for place in self.places)

    def one(self, number: int) -> None:
        """One order from its publication to the accepts; its maker is killed somewhere in between."""
        chance = random.Random(f"{self.options.seed}/order/{number}")
        maker, reader, *takers = chance.sample(self.places, 2 + chance.choice((2, 2, 3)))
        away = chance.random() < 0.4  # killed before the accepts, which then wait for it; else in their midst
        draft = {"side": "sell", "amount": "1", "pair": PAIR, "price": "50000"}
        draft["liveness"] = chance.choice(("beat", "mailbox"))
        view = maker.ask("POST", "orders", draft)
        order = Order(number, view["order"]["id"], maker, takers, reader)
        moment_s, away_s = chance.choice((0.0, 0.02, 0.05, 0.1, 0.3, 1.0)) * chance.random(), chance.uniform(0.1, 2.0)
        if chance.random() < self.options.long:
            away, away_s = True, chance.uniform(*LONG_AWAY_S)

        def kill() -> None:
            time.sleep(0.0 if away else moment_s)
            maker.kill(away_s)

        with ThreadPoolExecutor(1 + len(takers)) as pool:
            killing = pool.submit(kill)
            if away:
                time.sleep(0.3)
            accepting = [pool.submit(self._accept, order, taker) for taker in takers]
            for job in (killing, *accepting):
                job.result()
        with self._lock:
            self.orders.append(order)

    def _accept(self, order: Order, taker: Place) -> None:
        try:
            taker.ask("POST", f"orders/{order.id}/accept", {"wait_s": 0})
        except RefusedError as error:
            if not _trade_of(taker, order):  # an accept that was sent may have been refused within the call
                order.too_late.append(error.reason)

    # --- judging --------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Wait until no accept waits any more."""

        def waiting() -> int:
            rows = [row for place in self.places for row in place.trades()]
            return sum(row["role"] == "taker" and row["state"] in RUNNING for row in rows)

        eventually(lambda: waiting() == 0, "every accept has an outcome", OUTCOMES_S_MAX)

    def judge(self) -> list[str]:
        """What is wrong with each order, if anything."""
        with ThreadPoolExecutor(self.options.parallel) as pool:
            return [problem for found in pool.map(self._judge, self.orders) for problem in found]

    def _judge(self, order: Order) -> list[str]:
        """The last complaints about an order, if it never comes right: a third node may need a second look."""
        problems: list[str] = []

        def look() -> bool:
            try:
                problems[:] = self._problems(order)
            except TimeoutError as error:
                problems[:] = [str(error)]
            return not problems

        try:
            eventually(look, "agreement", 60.0)
        except TimeoutError:
            return [f"order {order.number} ({order.id[:10]}): {problem}" for problem in problems]
        with self._lock:
            won = sum(row["state"] == "confirmed" for row in _trades_of(order.maker, order, "maker"))
            self.counts["orders with a winner" if won else "orders without a winner"] += 1
        return []

    def _problems(self, order: Order) -> list[str]:
        at_maker = {row["accept"]: row for row in _trades_of(order.maker, order, "maker")}
        sent = [row for taker in order.takers for row in _trades_of(taker, order, "taker")]
        seen = order.reader.ask("GET", f"orders/{order.id}")
        problems = []
        winners = {name for name, row in at_maker.items() if row["state"] == "confirmed"}
        if len(winners) > 1:
            problems.append(f"the maker has confirmed {len(winners)} accepts")
        if winners != ({seen["accept"]} - {None}) or (seen["status"] == "filled") != bool(winners):
            problems.append(f"{order.reader.port} sees it {seen['status']} for {seen['accept']}, not for {winners}")
        for row in sent:
            said = at_maker.get(row["accept"])
            state = row["state"]
            if state in RUNNING:
                problems.append(f"an accept is still {state}")
            elif (state == "confirmed") != (row["accept"] in winners):
                problems.append(f"a taker has it {state}, its maker {said and said['state']}")
            elif state == "refused" and said is not None and (said["state"], said["code"]) != (state, row["code"]):
                problems.append(f"a taker was refused as {row['code']}, its maker says {said['state']} {said['code']}")
        if winners - {row["accept"] for row in sent}:
            problems.append("the winner is nobody's accept")
        return problems

    def tally(self) -> None:
        """Count what became of the accepts."""
        for order in self.orders:
            self.counts["accepts too late to be sent"] += len(order.too_late)
            for taker in order.takers:
                for row in _trades_of(taker, order, "taker"):
                    self.counts[f"accepts {row['state']} {row['code'] or ''}".strip()] += 1

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - STARTED:7.1f} s  {text}", flush=True)


def _trades_of(place: Place, order: Order, role: str) -> list[dict[str, Any]]:
    return [row for row in place.trades() if row["order"] == order.id and row["role"] == role]


def _has_peers(place: Place, wanted: int) -> bool:
    return bool(place.ask("GET", "status")["peers"] >= wanted)


def _trade_of(place: Place, order: Order) -> bool:
    return bool(_trades_of(place, order, "taker"))


STARTED: Final = time.monotonic()


def main() -> int:
    """Run, and say what came of it; 0 when all agree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=20)
    parser.add_argument("--orders", type=int, default=200, help="contested ones: with two or more accepts")
    parser.add_argument("--loss", type=float, default=0.3, help="share of datagrams that each node loses")
    parser.add_argument("--parallel", type=int, default=6, help="orders that are contested at the same time")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument(
        "--long", type=float, default=0.03, help="share of makers that stay away until accepts are void"
    )
    parser.add_argument("--limit", type=int, default=0, help="seconds after which it is given up; 0: never")
    parser.add_argument("--keep", action="store_true", help="keep the nodes' files")
    options = parser.parse_args()
    if options.nodes < 5:
        parser.error("at least 5 nodes: a maker, three takers and one who looks on")
    os.environ[LOSS_VARIABLE] = f"{options.loss}:{options.seed}"
    home = Path(tempfile.mkdtemp(prefix="dhtex-"))
    contest = Contest(options, home)
    contest.say(f"seed {options.seed}: {options.nodes} nodes, {options.orders} orders, {options.loss:.0%} loss")

    def give_up(number: int, _: object) -> None:
        contest.say(f"ended by {signal.Signals(number).name}; seed {options.seed}")
        contest.stop()
        os._exit(1)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
        signal.signal(number, give_up)
    signal.alarm(options.limit)
    problems = ["the run did not come to its end"]
    try:
        contest.start()
        contest.say("all nodes have peers")
        contest.play()
        contest.settle()
        contest.say("every accept has an outcome")
        problems = contest.judge()
        contest.tally()
    finally:
        contest.stop()
        if options.keep or problems:
            contest.say(f"the nodes' files are in {home}")
        else:
            shutil.rmtree(home, ignore_errors=True)
    contest.say(f"{contest.contested()} contested orders of {len(contest.orders)}, {contest.kills()} makers killed")
    for what, count in sorted(contest.counts.items()):
        print(f"{count:6}  {what}")
    print("\n".join(problems) if problems else "maker, takers and a third node agree on every order", flush=True)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
