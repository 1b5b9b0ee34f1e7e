"""UDP sockets of our own: IPv4 and IPv6 behind one endpoint, read in bounded gulps, never raising on a send.

The event loop's own datagram transport reads one datagram a turn and closes the socket when a send raises anything but
OSError. Here the socket is drained up to DRAIN_DATAGRAMS_MAX a turn, and a send that fails, for whatever reason, is a
lost datagram: that is what the protocol above is built to survive.
"""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from dhtex import limits
from dhtex.errors import PortInUseError, UsageError
from dhtex.overlay.addresses import Address, canonical_ip

PORT_ATTEMPTS: Final = 16
GULPS_BEFORE_LARGER: Final = 8


class Receiver(Protocol):
    """What takes the datagrams, and counts what does not leave. It must not raise."""

    def datagram_received(self, data: bytes, addr: Address) -> None: ...

    def count(self, what: str) -> None: ...


class Endpoint(Protocol):
    """Where datagrams leave. The shape of an asyncio datagram transport, as far as it is used."""

    port: int

    def sendto(self, data: bytes, addr: Address) -> None:
        """Send to a literal address; a failure is a loss."""
        ...

    def send_afresh(self, data: bytes, addr: Address) -> None:
        """The same from a port that nobody has heard of, so that no NAT expects it; there is no answer."""
        ...

    def close(self) -> None:
        """Stop receiving and free the port."""
        ...


OpenEndpoint = Callable[[Receiver, str | None, int], Awaitable[Endpoint]]


class UdpEndpoint:
    """One port on one or two sockets."""

    def __init__(self, receiver: Receiver, sockets: dict[int, socket.socket], port: int) -> None:
        self.port = port
        self._received = receiver.datagram_received
        self._count = receiver.count
        self._sockets = sockets
        self._v4 = sockets.get(socket.AF_INET)
        self._v6 = sockets.get(socket.AF_INET6)
        self._gulp = 1
        self._full_gulps = 0
        self._loop = asyncio.get_running_loop()
        for sock in sockets.values():
            self._loop.add_reader(sock.fileno(), self._drain, sock)

    def _drain(self, sock: socket.socket) -> None:
        """Read up to a gulp of datagrams.

        To find a socket empty costs as much as reading from it, so a lone datagram is read alone. A gulp that was full
        GULPS_BEFORE_LARGER times is doubled: nobody knows what else was there; one that was not becomes what there was.
        """
        receive, received = sock.recvfrom, self._received
        for count in range(self._gulp):
            try:
                data, address = receive(limits.DATAGRAM_BYTES_RECEIVE_MAX + 1)
            except (BlockingIOError, InterruptedError):
                self._gulp = max(1, count)
                return
            except OSError:  # an earlier send was refused; nothing to read from it
                continue
            received(data, address[:2])
            if sock.fileno() < 0:  # closed by what was received
                return
        self._full_gulps += 1
        if self._full_gulps % GULPS_BEFORE_LARGER == 0:
            self._gulp = min(2 * self._gulp, limits.DRAIN_DATAGRAMS_MAX)

    def sendto(self, data: bytes, addr: Address) -> None:
        sock = self._v6 if ":" in addr[0] else self._v4
        try:
            if sock is not None:
                sock.sendto(data, addr)
        except (OSError, OverflowError, TypeError, ValueError):
            self._count("lost_at_send")

    def send_afresh(self, data: bytes, addr: Address) -> None:
        sock = self._v6 if ":" in addr[0] else self._v4
        if sock is None:
            return
        try:
            with socket.socket(sock.family, socket.SOCK_DGRAM) as fresh:
                fresh.setblocking(False)
                fresh.bind((sock.getsockname()[0], 0))
                fresh.sendto(data, addr)
        except (OSError, OverflowError, TypeError, ValueError):
            self._count("lost_at_send")

    def close(self) -> None:
        for sock in self._sockets.values():
            self._loop.remove_reader(sock.fileno())
            sock.close()
        self._sockets = {}
        self._v4 = self._v6 = None


async def open_endpoint(receiver: Receiver, host: str | None, port: int) -> Endpoint:
    """Bind a UDP port. `host` None means every address, IPv4 and IPv6; port 0 lets the system choose.

    Raises PortInUseError, and UsageError if the host is no address of this machine.
    """
    places = [("0.0.0.0", socket.AF_INET), ("::", socket.AF_INET6)] if host is None else await _resolve(host)
    for attempt in range(PORT_ATTEMPTS):
        try:
            sockets, bound = _bind_all(places, port, all_needed=host is not None)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise UsageError(f"cannot listen at {host or 'any address'}", hint=str(error.strerror)) from error
            if port or attempt == PORT_ATTEMPTS - 1:
                raise PortInUseError(
                    f"UDP port {port} is in use", hint="another node may be running; choose another --port"
                ) from error
            continue
        return UdpEndpoint(receiver, sockets, bound)
    raise AssertionError("the loop returns or raises")


async def _resolve(host: str) -> list[tuple[str, socket.AddressFamily]]:
    """The addresses of our own host name, at most one of each family."""
    if host in ("0.0.0.0", "::"):
        return [(host, socket.AF_INET6 if ":" in host else socket.AF_INET)]
    if (literal := canonical_ip(host)) is not None:
        return [(literal, socket.AF_INET6 if ":" in literal else socket.AF_INET)]
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, 0, type=socket.SOCK_DGRAM)
    except OSError as error:
        raise UsageError(f"'{host[:60]}' is no address of this machine", hint="give an IP address") from error
    by_family = {entry[0]: (str(entry[4][0]), entry[0]) for entry in reversed(found)}
    return list(by_family.values())


def _bind_all(
    places: list[tuple[str, socket.AddressFamily]], port: int, *, all_needed: bool
) -> tuple[dict[int, socket.socket], int]:
    sockets: dict[int, socket.socket] = {}
    missing: OSError | None = None
    with contextlib.ExitStack() as undo:
        for host, family in places:
            try:
                sock = _bind(host, family, port)
            except OSError as error:
                if all_needed or error.errno == errno.EADDRINUSE:
                    raise
                missing = error  # a machine without IPv6, or without IPv4
                continue
            undo.callback(sock.close)
            sockets[family] = sock
            port = int(sock.getsockname()[1])
        undo.pop_all()
    if missing is not None and not sockets:
        raise missing
    return sockets, port


def _bind(host: str, family: socket.AddressFamily, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, limits.SOCKET_BUFFER_BYTES)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, limits.SOCKET_BUFFER_BYTES)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock
