"""Round trips per second of one core: dhtex, the stock protocol, and what an event loop in Python can do at all.

Run as a program it prints the CPU microseconds of one round trip, by contestant and by how many are in flight, as JSON:
so the allocator can be told from outside how to go about.
"""

import asyncio
import itertools
import json
import random
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from bench import compiled
from bench.ours import OverlayNetwork
from bench.place import HOST
from bench.stock import StockNetwork
from dhtex import limits
from dhtex.overlay import wire
from dhtex.overlay.contact import Peer
from dhtex.overlay.protocol import Protocol

IN_FLIGHT: Final = (1, 64)
ASKED: Final = 3  # nodes in turn, or what one lets an address send in a second would be the result
_RECEIVED_INTO: Final = 256 << 10  # by asyncio's transports
# Where the heap has no hole of that size, glibc takes it from the system and gives it back for each datagram.
HEAPS: Final = {
    "no room": {"MALLOC_MMAP_THRESHOLD_": str(128 << 10), "MALLOC_TOP_PAD_": "0"},
    "room": {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TOP_PAD_": str(8 << 20)},
}

Trip = Callable[[], Awaitable[object]]


class _Echo(asyncio.DatagramProtocol):
    """Sends back what comes."""

    transport: asyncio.DatagramTransport

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self.transport.sendto(data, addr)


class _Caller(_Echo):
    """Awaits what it has sent."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._open: dict[bytes, asyncio.Future[None]] = {}

    def call(self, address: tuple[str, int]) -> Awaitable[None]:
        request_id = self._chance.randbytes(20)
        answered = self._open[request_id] = asyncio.get_running_loop().create_future()
        self.transport.sendto(request_id, address)
        return answered

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self._open.pop(data).set_result(None)


class _Bare:
    """The least that a round trip of this wire format takes: a socket on the loop, the frame, ids matched by address,
    MessagePack decoded and encoded. No time-outs, rates, tokens, peers, trailers; nothing is checked."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind((HOST, 0))
        self.address: tuple[str, int] = self._socket.getsockname()
        self._open: dict[bytes, tuple[tuple[str, int], asyncio.Future[bytes]]] = {}
        self._id = chance.randbytes(20)
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._read)

    def call(self, address: tuple[str, int]) -> Awaitable[bytes]:
        request_id = self._chance.randbytes(20)
        answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._open[request_id] = (address, answered)
        self._socket.sendto(b"\0" + request_id + wire.PING.head + wire.encode((self._id,)), address)
        return answered

    def _read(self) -> None:
        for _ in range(limits.DRAIN_DATAGRAMS_MAX):
            try:
                data, address = self._socket.recvfrom(limits.DATAGRAM_BYTES_RECEIVE_MAX)
            except BlockingIOError:
                return
            if data[0] == wire.REQUEST:
                wire.PING.args.decode(data[wire.FRAME_BYTES + len(wire.PING.head) :])
                self._socket.sendto(b"\1" + data[1:21] + wire.encode(self._id), address)
            else:
                asked, answered = self._open.pop(data[1:21])
                if asked == address:
                    answered.set_result(wire.PING.reply.decode(data[wire.FRAME_BYTES :]))
            if len(self._open) <= 1:  # to find the socket empty costs as much as to read
                return

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()


class _Calls:
    """The four calls of the system that a round trip takes, of datagrams as long as a ping and its answer: no loop, no
    frame, nobody who waits."""

    def __init__(self) -> None:
        self._ends = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
        for end in self._ends:
            end.bind((HOST, 0))
        self._addresses = [end.getsockname() for end in self._ends]
        self._ping = bytes(wire.PONG_BYTES)
        self._pong = bytes(wire.FRAME_BYTES + 22)

    def cpu_us(self, count: int) -> float:
        """CPU microseconds of one."""
        (near, far), (here, there), ping, pong = self._ends, self._addresses, self._ping, self._pong
        began = time.process_time()
        for _ in range(count):
            near.sendto(ping, there)
            far.recvfrom(limits.DATAGRAM_BYTES_RECEIVE_MAX)
            far.sendto(pong, here)
            near.recvfrom(limits.DATAGRAM_BYTES_RECEIVE_MAX)
        return (time.process_time() - began) / count * 1e6

    def close(self) -> None:
        for end in self._ends:
            end.close()


def _ping(asker: Protocol, peer: Peer) -> Awaitable[object]:
    answered: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    asker.ping(peer, lambda _, answer: answered.set_result(answer))
    return answered


async def _measure(quick: bool) -> dict[str, dict[int, float]]:
    chance = random.Random(1)
    loop = asyncio.get_running_loop()
    ours, stock = OverlayNetwork(1 + ASKED, chance), StockNetwork(1 + ASKED, 20, chance)
    await ours.start()
    await stock.start()
    echo, _ = await loop.create_datagram_endpoint(_Echo, local_addr=(HOST, 0))
    calls, caller = await loop.create_datagram_endpoint(lambda: _Caller(chance), local_addr=(HOST, 0))
    place = echo.get_extra_info("sockname")
    bare, other, alone = _Bare(chance), _Bare(chance), _Calls()
    asker, server = ours.nodes[0].protocol, stock.servers[0]
    peers = itertools.cycle([asker.peer_at((HOST, port)) for port in ours.ports[1:]])
    addresses = itertools.cycle([each.transport.get_extra_info("sockname") for each in stock.servers[1:]])
    try:
        trips: dict[str, Trip] = {
            "dhtex": lambda: _ping(asker, next(peers)),
            "stock": lambda: server.protocol.ping(next(addresses), server.node.id),
            "echo": lambda: caller.call(place),
            "bare": lambda: bare.call(other.address),
        }
        return await _take_turns(trips, alone, 3 if quick else 9, 640 if quick else 3200)
    finally:
        alone.close()
        bare.close()
        other.close()
        calls.close()
        echo.close()
        stock.stop()
        await ours.stop()


async def _take_turns(trips: dict[str, Trip], alone: _Calls, rounds: int, count: int) -> dict[str, dict[int, float]]:
    """CPU microseconds of one trip, the median of the rounds."""
    names = (*trips, "calls")
    taken: dict[str, dict[int, list[float]]] = {name: {width: [] for width in IN_FLIGHT} for name in names}
    for _ in range(rounds):
        for width in IN_FLIGHT:
            taken["calls"][width].append(alone.cpu_us(count))
        for name, trip in trips.items():
            for width in IN_FLIGHT:
                taken[name][width].append(await _cpu_us(trip, width, count))
    return {name: {width: sorted(us)[rounds // 2] for width, us in rows.items()} for name, rows in taken.items()}


async def _cpu_us(trip: Trip, width: int, count: int) -> float:
    async def one_after_another() -> None:
        for _ in range(count // width):
            await trip()

    began = time.process_time()
    await asyncio.gather(*(one_after_another() for _ in range(width)))
    return (time.process_time() - began) / count * 1e6


def rates(quick: bool) -> list[list[object]]:
    """The rows of the report: trips per second of CPU time, by what the heap has room for and number in flight; of
    what is compiled beside them, if it is there, with the stock package measured in its own process."""
    rows: list[list[object]] = []
    for heap in HEAPS:
        plain = _measured(heap, quick, False)
        quicker = _measured(heap, quick, True) if compiled.is_there() else None
        for width in IN_FLIGHT:
            names = ("dhtex", "stock", "echo", "bare", "calls")
            dhtex, stock, echo, bare, calls = (plain[name][width] for name in names)
            per_s = [f"{1e6 / one:,.0f}" for one in (dhtex, stock, echo, bare, calls)]
            ratios = [f"{stock / dhtex:.1f}x", f"{echo / dhtex:.2f}", f"{bare / dhtex:.2f}", f"{stock / calls:.1f}x"]
            made = ["", ""]
            if quicker is not None:
                made_us = quicker["dhtex"][width]
                made = [f"{1e6 / made_us:,.0f}", f"{quicker['stock'][width] / made_us:.1f}x"]
            rows.append([heap, width, *per_s, *ratios, *made])
    return rows


def _measured(heap: str, quick: bool, made: bool) -> dict[str, dict[int, float]]:
    command = [sys.executable, "-m", "bench.trips", heap, "quick" if quick else "full"]
    ran = subprocess.run(command, env=compiled.environment(made) | HEAPS[heap], stdout=subprocess.PIPE, check=True)
    return msgspec.json.decode(ran.stdout, type=dict[str, dict[int, float]])


if __name__ == "__main__":
    plugs = [bytes(_RECEIVED_INTO + 1) for _ in range(64)] if sys.argv[1] == "no room" else []
    print(json.dumps(asyncio.run(_measure(sys.argv[2] == "quick"))))
