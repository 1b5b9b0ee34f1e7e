"""Overlay nodes for tests: a shelf in memory, and small networks on loopback."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from unittest.mock import patch

from dhtex import limits
from dhtex.clock import SystemClock
from dhtex.market.holding import IDS, NO_DIGEST, NO_KIND, SHORT_ID_BYTES, WHOLE, Page, PutVerdict, Span, Taken
from dhtex.market.ids import DhtKey, NodeId
from dhtex.overlay.contact import Peer
from dhtex.overlay.pages import digest_of, wire_id
from dhtex.overlay.server import Overlay
from dhtex.overlay.transport import OpenEndpoint, open_endpoint
from dhtex.overlay.wire import GET, Verb


class FakeHoldings:
    """Takes any bytes whose first 20 are their key; b"!" behind the key is refused, b"@" is superseded."""

    def __init__(self) -> None:
        self.rows: dict[DhtKey, list[tuple[str | None, bytes]]] = {}
        self._digests: dict[tuple[DhtKey, int], bytes] = {}

    def put(self, wire: bytes, prefix: str | None, now: float, source: str) -> PutVerdict:
        key = DhtKey(wire[:20])
        if len(wire) <= 20 or wire[20:21] == b"!":
            return PutVerdict(Taken.REFUSED, key, "stamp_too_low", 12)
        if wire[20:21] == b"@":
            return PutVerdict(Taken.SUPERSEDED, key, newer=wire[:20] + b"newer")
        rows = self.rows.setdefault(key, [])
        if (prefix, wire) in rows:
            return PutVerdict(Taken.KNOWN, key)
        rows.append((prefix, wire))
        rows.sort(key=lambda row: row[1])
        return PutVerdict(Taken.STORED, key)

    def page(self, key: DhtKey, kind: int, rank: int, room_bytes: int, now: float, span: Span = WHOLE) -> Page:
        wires = [] if kind == NO_KIND else [wire for _, wire in self.rows.get(key, [])]
        if kind != NO_KIND and kind & IDS and wires:
            count = room_bytes // SHORT_ID_BYTES
            ids = b"".join(wire_id(wire)[:SHORT_ID_BYTES] for wire in wires[rank : rank + count])
            return Page(len(wires), digest_of(wires), [ids] if ids else [])
        page, room = [], room_bytes
        for wire in wires[rank:]:
            room -= len(wire) + 3
            if room < 0:
                break
            page.append(wire)
        if not wires:
            return Page(0, NO_DIGEST, [])
        if (key, len(wires)) not in self._digests:  # enough for tests, which only ever add
            self._digests[(key, len(wires))] = digest_of(wires)
        return Page(len(wires), self._digests[(key, len(wires))], page)

    def stock_value(self, key: DhtKey, now: float) -> bytes | None:
        rows = self.rows.get(key)
        return rows[0][1] if rows else None

    def stock_put(self, key: DhtKey, value: object, now: float, source: str) -> bool:
        return isinstance(value, bytes) and value[:20] == key and self.put(value, None, now, source).key == key

    def keys(self, now: float) -> dict[DhtKey, str | None]:
        return {key: rows[0][0] for key, rows in self.rows.items() if rows}


def make_overlay(seed: int, network: str = "test", open_with: OpenEndpoint = open_endpoint) -> Overlay:
    """A node whose id and chance follow from `seed`."""
    entropy = random.Random(seed)
    node_id = NodeId(entropy.randbytes(20))
    return Overlay(node_id, network, FakeHoldings(), SystemClock(), entropy, open_endpoint=open_with)


def held(overlay: Overlay) -> FakeHoldings:
    """What a node holds."""
    holdings = overlay._holdings
    assert isinstance(holdings, FakeHoldings)
    return holdings


def address_of(overlay: Overlay, ip: str = "127.0.0.1") -> tuple[str, int]:
    """Where a listening node can be reached from this machine."""
    assert overlay.transport is not None
    return ip, overlay.transport.port


@asynccontextmanager
async def cluster(count: int, host: str | None = "127.0.0.1") -> AsyncIterator[list[Overlay]]:
    """So many nodes of one network; few of them all know each other, of many each learns of some only later."""
    nodes = [make_overlay(number) for number in range(count)]
    try:
        for number, node in enumerate(nodes):
            await node.listen(0, host)
            if number:
                assert await node.connect(address_of(nodes[number // 2], host or "127.0.0.1"))
        if count <= limits.HOLDERS:
            await until(lambda: all(len(node.peers()) == count - 1 for node in nodes))
        yield nodes
    finally:
        await asyncio.gather(*(node.close() for node in nodes))


async def until(condition: Callable[[], bool], within_s: float = 5.0) -> None:
    """Wait for a condition, and fail if it does not come true in time."""
    deadline = asyncio.get_running_loop().time() + within_s
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it did not happen in time"
        await asyncio.sleep(0.005)


@contextmanager
def asking(node: Overlay) -> Iterator[list[tuple[Verb, Any]]]:
    """What a node asks others meanwhile, each question once, however often it is sent: verbs and their arguments."""
    asked: list[tuple[Verb, Any]] = []
    ask = node.protocol.ask

    def noting(peer: Peer, verb: Verb, args: Any, *rest: Any, **named: Any) -> None:
        asked.append((verb, args))
        ask(peer, verb, args, *rest, **named)

    with patch.object(node.protocol, "ask", noting):
        yield asked


def gets(asked: list[tuple[Verb, Any]], key: DhtKey) -> int:
    """How many of these questions are about a key."""
    return sum(verb is GET and args.key == key for verb, args in asked)


async def timed(work: Awaitable[object]) -> float:
    """How long something took, seconds."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    await work
    return loop.time() - started


def record(key: bytes, text: bytes = b"text") -> bytes:
    """A record for FakeHoldings."""
    return key + text
