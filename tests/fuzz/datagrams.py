"""Datagrams and control requests at a whole node, in virtual time: it lives, peers answer it, its person uses it."""

import asyncio
import logging
import random
import zlib
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from dhtex.config import NodeConfig
from dhtex.control import api
from dhtex.control.server import ControlServer
from dhtex.market.ids import RecordId
from dhtex.node import Node
from dhtex.overlay import wire
from dhtex.overlay.addresses import Address
from dhtex.overlay.transport import Endpoint, Receiver
from dhtex.sim.clock import EPOCH_S, NodeClock
from dhtex.sim.loop import VirtualLoop
from dhtex.views import OrderDraft
from tests.builders import NETWORK
from tests.fuzz.corpus import PAIRS, Corpus
from tests.fuzz.mutate import any_value, below, pick, spoil_bytes

BATCH = 32
BATCH_S = 0.02  # 1,600 a second: most pass the limit of strangers
REQUESTS_EACH = 10  # batches between two control requests
RECORDS_EACH = 5_000  # batches after which the records are made anew, because the old ones have ended
_VERBS = tuple(wire.VERBS.values())


class Findings(logging.Handler):
    """What should not have happened: logged errors, lost tasks, answers with status 500."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.rows: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.rows.append(logging.Formatter().format(record))

    def lost(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """For the loop's exception handler."""
        self.rows.append(f"{context.get('message')}: {context.get('exception')!r}")


class Line:
    """An endpoint without a network: keeps the node's last requests, so that they can be answered."""

    port = 4000

    def __init__(self) -> None:
        self.receiver: Receiver
        self.asked: list[tuple[bytes, Address]] = []
        self.replies = 0

    def sendto(self, data: bytes, addr: Address) -> None:
        assert len(data) <= 1200
        if data[0] == wire.REQUEST:
            self.asked.append((data, addr))
            del self.asked[:-64]
        else:
            self.replies += 1

    def send_afresh(self, data: bytes, addr: Address) -> None:
        self.sendto(data, addr)

    def close(self) -> None:
        return

    async def open(self, receiver: Receiver, host: str | None, port: int) -> Endpoint:
        self.receiver = receiver
        return self


class Siege:
    """One node and its fuzzer."""

    def __init__(self, seed: int) -> None:
        self.findings = Findings()
        self.counts: Counter[str] = Counter()
        self._seed = seed
        self._chance = random.Random(seed)
        self._ids = [self._chance.randbytes(20) for _ in range(40)]

    def run(self, datagrams: int, progress: Callable[["Siege", int], None] = lambda siege, done: None) -> None:
        """Send so many datagrams, from second 0 of a new virtual time."""
        loop = VirtualLoop()
        loop.set_exception_handler(self.findings.lost)
        logging.getLogger("dhtex").addHandler(self.findings)
        try:
            loop.run_until_complete(self._live(datagrams, progress))
        finally:
            logging.getLogger("dhtex").removeHandler(self.findings)
            loop.close()

    @property
    def held(self) -> int:
        """Records that the node holds."""
        return self._node._running.holdings.count

    async def _live(self, datagrams: int, progress: Callable[["Siege", int], None]) -> None:
        loop, line = asyncio.get_running_loop(), Line()
        self._corpus = Corpus(self._chance, int(EPOCH_S))
        node = Node(
            NodeConfig(port=4000, host="127.0.0.1", network=NETWORK, pow_bits=0, contact="call me"),
            clock=NodeClock(loop.time, 1000.0),
            entropy=random.Random(self._seed + 1),
            open_endpoint=line.open,
        )
        work: set[asyncio.Task[None]] = set()
        async with node:
            self._node, self._app = node, ControlServer(node, lambda: None)._app
            for pair in PAIRS:
                draft = OrderDraft(side="sell", amount="1", pair=pair, price="5", confirm="ask", minimum="0.1")
                await self._publish(draft)
            for batch in range(-(-datagrams // BATCH)):
                for _ in range(BATCH):
                    self._send(line)
                self.counts["datagrams"] += BATCH
                if batch % REQUESTS_EACH == 0:
                    node._running.overlay.selfview.reached_at = (
                        None  # strangers come all the time; it shall ask all the same
                    )
                    self.counts["peers"] = max(self.counts["peers"], len(node.peers()))
                    task = asyncio.ensure_future(self._request())
                    work.add(task)
                    task.add_done_callback(work.discard)
                if batch % RECORDS_EACH == RECORDS_EACH - 1:
                    self._corpus = Corpus(self._chance, int(EPOCH_S + loop.time()))
                    progress(self, self.counts["datagrams"])
                await asyncio.sleep(BATCH_S)
            await asyncio.gather(*work)
            self._measure(line)

    async def _publish(self, draft: OrderDraft) -> None:
        published = await self._node.add_order(draft)
        own = self._node._running.journal.order(RecordId(bytes.fromhex(published.order.id)))
        assert own is not None
        self._corpus.records.append(own.wire)

    def _send(self, line: Line) -> None:
        chance, corpus = self._chance, self._corpus
        if line.asked and chance.random() < 0.3:
            asked, address = line.asked.pop(below(chance, len(line.asked)))
            sender = self._ids[(zlib.crc32(address[0].encode()) + address[1]) % len(self._ids)]  # always the same
            datagram = corpus.reply(asked, sender)
            address = address if chance.random() < 0.95 else corpus.address()
        elif chance.random() < 0.02:
            datagram, address = chance.randbytes(chance.choice((0, 1, 21, 22, 60, 1200, 8400, 9000))), corpus.address()
        else:
            address = corpus.address()
            token = self._node._running.overlay.protocol.tokens.issue(address[0])
            datagram = corpus.request(pick(chance, _VERBS), token)
        line.receiver.datagram_received(datagram, address)

    async def _request(self) -> None:
        """One request at the control interface, sound or spoilt."""
        chance = self._chance
        route = chance.choice([route for route in api.ROUTES if route.stream is None and route.path != "/v1/stop"])
        own = [order.id.hex() for order in self._node._running.offers.open_orders()] or [""]
        key = chance.choice(self._corpus.keys).hex()
        name = chance.choice((chance.choice(own), chance.choice(self._corpus.orders), key, "abcdef"))
        path = route.path.replace("{id}", name)
        body = msgspec.json.encode(_fields(route.body, chance)) if route.method == "POST" else b""
        query = "&".join(f"{name}={value}" for name, value in _fields(route.query, chance).items()).encode()
        if chance.random() < 0.3:
            body, query = spoil_bytes(body, chance), spoil_bytes(query, chance)
        scope: dict[str, Any] = {
            "type": "http", "http_version": "1.1", "method": route.method, "path": path, "raw_path": path.encode(),
            "query_string": query, "headers": [], "root_path": "", "scheme": "http", "client": None, "server": None,
        }  # fmt: skip
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Any:
            return messages.pop() if messages else await asyncio.get_running_loop().create_future()

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.counts[f"requests {message['status']}"] += 1
                if message["status"] == 200 and route.method == "POST":
                    self.counts[f"done {route.path}"] += 1
                if message["status"] == 500:
                    self.findings.rows.append(f"500 for {route.method} {path} {query!r} {body!r}")

        await self._app(scope, receive, send)

    def _measure(self, line: Line) -> None:
        parts = self._node._running
        counters = parts.overlay.counters
        self.counts["unexpected"] = counters.get("unexpected", 0)
        self.counts["replies"] = line.replies
        self.counts["records held"] = self.held
        self.counts["addresses"] = len(parts.overlay.protocol.peers)
        self.counts["leases"] = counters["leases"]
        self.counts["knocks"] = counters.get("knocks", 0)
        self.counts["knocks sent"] = counters.get("knocks_sent", 0)
        if self.counts["unexpected"]:
            self.findings.rows.append(f"{self.counts['unexpected']} datagrams raised")


def _fields(kind: type[msgspec.Struct], chance: random.Random) -> dict[str, Any]:
    """Values for some fields of a request, of which many make sense."""
    sense = {
        "side": ("buy", "sell", "both"), "amount": ("1", "0.5", "1e3", "0", ""), "pair": (*PAIRS, "BTC", "/"),
        "price": ("1", "50000", "0.00001"), "wait_s": (0.0, 5.0, -1.0), "limit": (9, 1, 100, -1, 10**9),
        "expires_s": (600, 0, 86_400, 10**12), "confirm": ("ask", "auto"), "payment": (["sepa"], [""], ["x"] * 20),
        "address": ("127.0.0.1:5001", "[::1]:1", "host", "1.2.3.4:99999"),
    }  # fmt: skip
    names = [field.name for field in msgspec.structs.fields(kind)]
    if chance.random() < 0.5:  # all that is known, in sense
        return {name: sense[name][0] for name in names if name in sense}
    chosen = [name for name in names if chance.random() < 0.6]
    made = {name: chance.choice(sense.get(name, ("", "x"))) for name in chosen}
    if chosen and chance.random() < 0.2:
        value = any_value(chance)
        made[chance.choice(chosen)] = value.hex() if isinstance(value, bytes) else str(value)
    return made
