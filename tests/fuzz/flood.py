"""A real node under a flood of datagrams, over UDP on loopback: how many honest pings go unanswered.

Three processes: the node, the flooder, and this one, which pings as a peer (whose address the node has proven) and as a
stranger, each once, without repetition. `scripts/fuzz --flood 20000` runs it for each kind of flood.
"""

import argparse
import asyncio
import contextlib
import multiprocessing
import random
import select
import socket
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from statistics import median

from dhtex.config import NodeConfig
from dhtex.market.ids import DhtKey, NodeId
from dhtex.node import Node
from dhtex.overlay import wire
from dhtex.overlay.trailer import network_tag, reply_trailer, request_trailer
from tests.builders import NETWORK

KINDS = ("noise", "answers", "pings", "pings/24", "pings/0", "gets", "gets/0", "openings", "openings/0")
_NET = network_tag(NETWORK)
_BURST_S = 0.005
_PING_EACH_S = 0.05
_WAIT_S = 1.0


def _serve(pipe: Connection) -> None:
    async def live() -> None:
        node = Node(NodeConfig(host="127.0.0.1", network=NETWORK, pow_bits=0))
        async with node:
            pipe.send(node.port)
            await asyncio.to_thread(pipe.recv)
            pipe.send(dict(node.status().counters))

    asyncio.run(live())


def _sources(kind: str, chance: random.Random) -> list[socket.socket]:
    """How far a kind is spread: one address, 200 of one /24, or 400 of as many /24: all of 127/8 is this machine."""
    spread = kind.partition("/")[2]
    ips = {
        "": ["127.0.0.1"],
        "24": [f"127.7.7.{number + 1}" for number in range(200)],
        "0": [f"127.{number % 200 + 20}.{chance.randrange(256)}.{chance.randrange(1, 255)}" for number in range(400)],
    }[spread]
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in ips]
    for sock, ip in zip(sockets, ips, strict=True):
        sock.bind((ip, 0))
    return sockets


def _garbage(kind: str, chance: random.Random) -> bytes:
    sender, key = chance.randbytes(20), chance.randbytes(20)
    if kind == "noise":
        return chance.randbytes(chance.randrange(1, 1200))
    if kind == "answers":
        return b"\1" + chance.randbytes(20) + wire.encode(sender) + reply_trailer(_NET, sender, bytes(8))
    if kind.startswith("pings"):
        return b"\0" + chance.randbytes(20) + wire.PING.head + wire.encode((sender,)) + request_trailer(_NET, 150)
    if kind.startswith("openings"):
        first = wire.GetArgs(_NET, NodeId(sender), b"", DhtKey(key), 0, 0, True).opening()
        return b"\0" + chance.randbytes(20) + wire.GET.head + wire.encode(first)
    arguments = (_NET, sender, b"12345678", key, 0, 0, True)
    return b"\0" + chance.randbytes(20) + wire.GET.head + wire.encode(arguments)


def _flood(port: int, per_s: int, kind: str, pipe: Connection) -> None:
    chance, sent = random.Random(1), 0
    pool = [_garbage(kind, chance) for _ in range(2000)]
    sockets = _sources(kind, chance)
    for sock in sockets:
        sock.connect(("127.0.0.1", port))
    began = time.monotonic()
    pipe.send("begun")
    while not pipe.poll():
        due = int((time.monotonic() - began) * per_s)
        while sent < due:
            with contextlib.suppress(OSError):  # what the system refuses is a loss
                sockets[sent % len(sockets)].send(pool[sent % len(pool)])
            sent += 1
        time.sleep(_BURST_S)
    pipe.send((sent, time.monotonic() - began))
    for sock in sockets:
        sock.close()


class Pinger:
    """Honest pings from one socket: all `sent` and `answered` are counted, and how long answers took."""

    def __init__(self, port: int, node_id: bytes) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.connect(("127.0.0.1", port))
        self.sock.setblocking(False)
        self.sent = 0
        self.took_s: list[float] = []
        self._id = node_id
        self._waiting: dict[bytes, float] = {}

    def ping(self) -> None:
        request_id = random.SystemRandom().randbytes(20)
        self._waiting[request_id] = time.monotonic()
        self.sent += 1
        self.sock.send(b"\0" + request_id + wire.PING.head + wire.encode((self._id,)) + request_trailer(_NET, 150))

    def drain(self, *, answer: bool) -> None:
        """Take what has come; `answer` proves our address to the node by answering its pings."""
        while select.select([self.sock], [], [], 0)[0]:
            data = self.sock.recv(9000)
            if data[0] == wire.REPLY and (began := self._waiting.pop(data[1:21], None)) is not None:
                self.took_s.append(time.monotonic() - began)
            elif data[0] == wire.REQUEST and answer:
                tail = reply_trailer(_NET, self._id, bytes(8))
                self.sock.send(b"\1" + data[1:21] + wire.encode(self._id) + tail)


def _listen(peer: Pinger, stranger: Pinger, seconds: float) -> None:
    """Take answers as they come, for so long."""
    ends = time.monotonic() + seconds
    while (left_s := ends - time.monotonic()) > 0:
        select.select([peer.sock, stranger.sock], [], [], left_s)
        peer.drain(answer=True)
        stranger.drain(answer=False)


@dataclass(frozen=True, slots=True)
class Figures:
    """What one flood did: its rate, the part of it that the node read, and what became of honest pings."""

    sent_per_s: float
    read: float
    peer_lost: float
    stranger_lost: float
    peer_median_ms: float


def measure(kind: str, per_s: int, seconds: float) -> Figures:
    """Run one flood."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    node = context.Process(target=_serve, args=(theirs,))
    node.start()
    port = ours.recv()
    peer, stranger = Pinger(port, b"\x01" * 20), Pinger(port, b"\x02" * 20)
    peer.ping()
    for _ in range(20):  # until the node has proven the peer's address
        time.sleep(0.02)
        peer.drain(answer=True)
    peer.sent, peer.took_s = 0, []
    mine, flooders = context.Pipe()
    flooder = context.Process(target=_flood, args=(port, per_s, kind, flooders))
    flooder.start()
    mine.recv()
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        peer.ping()
        stranger.ping()
        _listen(peer, stranger, _PING_EACH_S)
    _listen(peer, stranger, _WAIT_S)
    mine.send("stop")
    sent, took_s = mine.recv()
    ours.send("stop")
    counters = ours.recv()
    for process in (flooder, node):
        process.join(10)
    for one in (peer, stranger):
        one.sock.close()
    assert not counters.get("unexpected"), counters
    peer_lost, stranger_lost = (1 - len(one.took_s) / one.sent for one in (peer, stranger))
    median_ms = 1000 * median(peer.took_s or [_WAIT_S])
    return Figures(sent / took_s, min(1.0, counters["datagrams_in"] / sent), peer_lost, stranger_lost, median_ms)


def main(per_s: int, seconds: float) -> int:
    """Each kind of flood in turn; 1 if a peer lost more than one ping in a hundred."""
    print(f"{'flood of':12}{'sent/s':>10}{'read':>8}{'peer lost':>12}{'stranger lost':>15}{'median, ms':>12}")
    worst = 0.0
    for kind in KINDS:
        it = measure(kind, per_s, seconds)
        worst = max(worst, it.peer_lost)
        print(
            f"{kind:12}{it.sent_per_s:>10.0f}{it.read:>8.1%}{it.peer_lost:>12.1%}{it.stranger_lost:>15.1%}"
            f"{it.peer_median_ms:>12.1f}",
            flush=True,
        )
    return 1 if worst > 0.01 else 0


def options(parser: argparse.ArgumentParser) -> None:
    """What `scripts/fuzz` takes for floods."""
    parser.add_argument("--flood", type=int, default=0, metavar="N", help="instead: so many datagrams a second, by UDP")
    parser.add_argument("--seconds", type=float, default=10.0, metavar="S", help="how long each flood lasts (10)")
