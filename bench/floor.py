"""The least that a put and a get take in Python: sockets on an event loop, and the checks that nobody may leave out.

There is no network: every node knows all others, and which eight hold what. A put asks two nodes what a search would,
with answers as long as sixteen contacts, and two more after them where a search takes two hops, then hands the record
to eight, each of which checks its signature and says so. A get asks one holder, and checks the hash of what comes. What
the answers of a search say is not looked at. There are no time-outs, rates, tokens, and no rules.
"""

import asyncio
import hashlib
import random
import socket
from collections.abc import Awaitable, Callable
from typing import Final

from bench.place import HOST, SEEN
from dhtex import limits
from dhtex.market.identity import Identity, verify
from dhtex.market.records import Order, Record

ONE_HOP_NODES_MAX: Final = 64  # as measured in the same section
ASKED_AT_ONCE: Final = 2  # ours asks three to four
_ANSWER, _WHO, _HERE, _FIND, _PUT, _GET = range(6)
_HEAD_BYTES: Final = 21
_CONTACTS: Final = bytes(28 * limits.LOOKUP_CONTACTS_ALONE)
_HELD: Final = bytes(40)  # as long as ours when a record was taken
_SIGNATURE_BYTES: Final = 64
_SIGNED_AT: Final = _SIGNATURE_BYTES + 32

Answered = Callable[[bytes], None]


class Node:
    """One socket, what it holds, and the ports of all."""

    def __init__(self, chance: random.Random, port: int) -> None:
        self._chance = chance
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind((HOST, port))
        self.port: int = self._socket.getsockname()[1]
        self.ports = [self.port]
        self._held: dict[bytes, bytes] = {}
        self._open: dict[bytes, Answered] = {}
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._read)

    def ask(self, verb: int, port: int, body: bytes, answered: Answered) -> None:
        """Send a question."""
        request_id = self._chance.randbytes(_HEAD_BYTES - 1)
        self._open[request_id] = answered
        self._socket.sendto(bytes((verb,)) + request_id + body, (SEEN, port))

    async def asked(self, verb: int, port: int, body: bytes) -> bytes:
        """The answer to a question."""
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.ask(verb, port, body, answer.set_result)
        return await answer

    def _read(self) -> None:
        for _ in range(limits.DRAIN_DATAGRAMS_MAX):
            try:
                data, address = self._socket.recvfrom(limits.DATAGRAM_BYTES_RECEIVE_MAX)
            except BlockingIOError:
                return
            request_id, body = data[1:_HEAD_BYTES], data[_HEAD_BYTES:]
            if data[0] == _ANSWER:
                self._open.pop(request_id)(body)
            else:
                self._socket.sendto(bytes((_ANSWER,)) + request_id + self._answer(data[0], body, address), address)

    def _answer(self, verb: int, body: bytes, address: tuple[str, int]) -> bytes:
        if verb == _FIND:
            return _CONTACTS
        if verb == _GET:
            return self._held[body]
        if verb == _PUT:
            value_id = hashlib.sha256(body[_SIGNED_AT:]).digest()
            assert verify(body[_SIGNATURE_BYTES:_SIGNED_AT], value_id, body[:_SIGNATURE_BYTES])
            self._held[value_id] = body
            return _HELD
        if verb == _HERE:
            self.ports.append(address[1])
        return b"".join(port.to_bytes(2) for port in self.ports)


class FloorShare:
    """Nodes in this process, and what they can do with the values, which are as long as the orders."""

    def __init__(self, size: int, orders: list[Record[Order]], chance: random.Random) -> None:
        self._chance = chance
        self._nodes: list[Node] = []
        maker = Identity.from_seed(bytes(32))
        signed = [order.wire[_SIGNED_AT:] for order in orders]
        self._ids = [hashlib.sha256(each).digest() for each in signed]
        self._values = [
            maker.sign(value_id) + maker.public + each for value_id, each in zip(self._ids, signed, strict=True)
        ]
        self.verbs: dict[str, Callable[[int], Awaitable[object]]] = {"put": self._put, "get": self._get}

    async def join(self, known: list[int], port: int) -> int:
        """Let the next node meet all others through the one at the first of these ports; its own."""
        node = Node(self._chance, port)
        if known:
            answer = await node.asked(_WHO, known[0], b"")
            node.ports += [int.from_bytes(answer[at : at + 2]) for at in range(0, len(answer), 2)]
            for port in node.ports[1:]:
                await node.asked(_HERE, port, b"")
        self._nodes.append(node)
        return node.port

    def strangers(self, index: int) -> int:
        """How many nodes here do not hold a value."""
        holders = self._holders(index)
        return sum(node.port not in holders for node in self._nodes)

    def _holders(self, index: int) -> list[int]:
        return random.Random(index).sample(sorted(self._nodes[0].ports), limits.HOLDERS)

    def _put(self, index: int) -> Awaitable[None]:
        node = self._chance.choice(self._nodes)
        hops = 1 if len(node.ports) <= ONE_HOP_NODES_MAX else 2
        asked = [self._chance.sample(node.ports, ASKED_AT_ONCE) for _ in range(hops)]
        return self._hand_out(node, asked, self._holders(index), self._values[index])

    async def _hand_out(self, node: Node, asked: list[list[int]], holders: list[int], value: bytes) -> None:
        for ports in asked:
            await _all(node, _FIND, ports, self._ids[0])
        await _all(node, _PUT, holders, value)

    def _get(self, index: int) -> Awaitable[None]:
        holders = self._holders(index)
        strangers = [node for node in self._nodes if node.port not in holders]
        return self._fetch(self._chance.choice(strangers or self._nodes), holders[0], self._ids[index])

    async def _fetch(self, node: Node, port: int, value_id: bytes) -> None:
        answer = await node.asked(_GET, port, value_id)
        assert hashlib.sha256(answer[_SIGNED_AT:]).digest() == value_id


async def _all(node: Node, verb: int, ports: list[int], body: bytes) -> None:
    """Ask several at once, and wait for all of their answers."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    left = len(ports)

    def answered(_answer: bytes) -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set_result(None)

    for port in ports:
        node.ask(verb, port, body, answered)
    await done
