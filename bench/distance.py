"""The way between nodes that are far apart: `python -m bench.distance`, in a network of its own (see `isolate`).

Nodes listen at HOST, and reach each other at SEEN, which lies behind a tunnel (tun(4)) whose other end is this program.
It waits as long as a datagram is on its way, exchanges the two addresses, which leaves all checksums right, and hands
the datagram back. So everybody is seen at SEEN and his own port, and nobody can tell that he is on the same machine.

How long the way is depends on the two ports: as in the Internet, some are near each other, and stay so. All contestants
use the same ports, so their networks have the same distances.
"""

import fcntl
import heapq
import math
import os
import random
import select
import socket
import struct
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import Final

from bench.place import HOST, SEEN

WAY_S: Final = 0.025  # of a datagram, in the median of all pairs
SPREAD: Final = 0.4  # of the logarithm of that
TUNNELS: Final = Path("/dev/net/tun")
_NAME: Final = b"far0"
_PACKET_BYTES_MAX: Final = 65_536
_SET_INTERFACE: Final = 0x400454CA  # TUNSETIFF
_TUN: Final = 0x1001  # IFF_TUN | IFF_NO_PI
_SET_ADDRESS, _SET_OTHER_END, _SET_FLAGS, _SET_QUEUE = 0x8916, 0x8918, 0x8914, 0x8943
_UP: Final = 1
_QUEUE: Final = 100_000
_SOURCE: Final = slice(12, 16)
_TARGET: Final = slice(16, 20)
_HEAD_BYTES: Final = 20  # of IPv4 without options; the two ports follow


def lay() -> "subprocess.Popen[bytes]":
    """Make the way of this process's network; the process of it, which ends with what keeps it."""
    pipe = subprocess.PIPE
    way = subprocess.Popen([sys.executable, "-m", "bench.distance"], stdin=pipe, stdout=pipe)
    assert way.stdout is not None
    assert way.stdout.readline(), "no tunnel"
    return way


def open_tunnel() -> int:
    """Make the tunnel; the descriptor of its other end. Needs root."""
    tunnel = os.open(TUNNELS, os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tunnel, _SET_INTERFACE, struct.pack("16sH14x", _NAME, _TUN))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for request, ip in ((_SET_ADDRESS, HOST), (_SET_OTHER_END, SEEN)):
            fcntl.ioctl(sock, request, struct.pack("16sHH4s8x", _NAME, socket.AF_INET, 0, socket.inet_aton(ip)))
        fcntl.ioctl(sock, _SET_QUEUE, struct.pack("16si12x", _NAME, _QUEUE))
        fcntl.ioctl(sock, _SET_FLAGS, struct.pack("16sH14x", _NAME, _UP))
    return tunnel


@cache
def way_s(ports: bytes) -> float:
    """How long a datagram is on its way from the first port to the second, which is the same back."""
    pair = sorted((ports[:2], ports[2:]))
    return WAY_S * math.exp(random.Random(b"".join(pair)).gauss(0.0, SPREAD))


def carry(tunnel: int, until: int) -> None:
    """Take datagrams and hand them back in time, until there is something to read."""
    under_way: list[tuple[float, int, bytes]] = []
    number = 0
    while True:
        wait_s = max(0.0, under_way[0][0] - time.monotonic()) if under_way else None
        ready, _, _ = select.select([tunnel, until], [], [], wait_s)
        if until in ready:
            return
        if ready:
            packet = os.read(tunnel, _PACKET_BYTES_MAX)
            if packet[0] >> 4 == 4:  # the kernel says hello in IPv6
                back = packet[: _SOURCE.start] + packet[_TARGET] + packet[_SOURCE] + packet[_HEAD_BYTES:]
                due = time.monotonic() + way_s(packet[_HEAD_BYTES : _HEAD_BYTES + 4])
                number += 1
                heapq.heappush(under_way, (due, number, back))
        while under_way and under_way[0][0] <= time.monotonic():
            os.write(tunnel, heapq.heappop(under_way)[2])


if __name__ == "__main__":
    tunnel = open_tunnel()
    print("ready", flush=True)
    carry(tunnel, sys.stdin.fileno())
