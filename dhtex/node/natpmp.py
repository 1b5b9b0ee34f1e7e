"""NAT-PMP (RFC 6886): a port mapping for twelve bytes of UDP, at the gateway of the default route."""

import asyncio
import struct
from collections.abc import Callable
from typing import Final

from dhtex.node.gateway import Granted, find_gateway
from dhtex.overlay.addresses import Address

PORT: Final = 5351
TRIES_S: Final = (0.25, 0.5, 1.0, 2.0)  # the RFC goes on for a minute, but who is near is quick
_MAP_UDP: Final = 1
_ANSWER: Final = 128
_CODES: Final = {2: "mappings are switched off", 3: "it has no address", 4: "it has no room"}


def encode_request(port: int, external: int, lifetime_s: int) -> bytes:
    """Ask for a mapping of a UDP port, best at `external`; a lifetime of 0 takes it back."""
    return struct.pack(">BBHHHI", 0, _MAP_UDP, 0, port, external, lifetime_s)


def decode_answer(data: bytes, port: int) -> Granted | None:
    """What a gateway grants for a port; None if this is no answer to that. Raises OSError when it refuses."""
    if len(data) < 16 or data[0] != 0 or data[1] != _ANSWER + _MAP_UDP:
        return None
    code, _epoch, internal, external, lifetime_s = struct.unpack(">HIHHI", data[2:16])
    if internal != port:
        return None
    if code:
        raise OSError(f"the gateway refuses: {_CODES.get(code, f'code {code}')}")
    return Granted(external, lifetime_s)


class _Line(asyncio.DatagramProtocol):
    """Waits for the answer about one port."""

    def __init__(self, port: int) -> None:
        self.granted: asyncio.Future[Granted] = asyncio.get_running_loop().create_future()
        self._port = port

    def datagram_received(self, data: bytes, addr: object) -> None:
        try:
            granted = decode_answer(data, self._port)
        except OSError as error:
            self.error_received(error)
            return
        if granted is not None and not self.granted.done():
            self.granted.set_result(granted)

    def error_received(self, error: Exception) -> None:
        if not self.granted.done():
            self.granted.set_exception(error)


def _find_gateway() -> Address | None:
    ip = find_gateway()
    return None if ip is None else (ip, PORT)


class NatPmp:
    """The mapping of one UDP port at a gateway that speaks NAT-PMP."""

    name = "NAT-PMP"

    def __init__(self, find_gateway: Callable[[], Address | None] = _find_gateway) -> None:
        self._find_gateway = find_gateway

    async def open(self, port: int, lease_s: int) -> Granted:
        """Map the port, or prolong that. Raises OSError or TimeoutError.

        The same port of the gateway is asked for each time, also when another one was granted: peers see us at it, and
        who had it may have gone.
        """
        return await self._ask(port, port, lease_s)

    async def close(self, port: int) -> None:
        """Take the mapping back."""
        await self._ask(port, 0, 0)

    async def _ask(self, port: int, external: int, lease_s: int) -> Granted:
        gateway = self._find_gateway()
        if gateway is None:
            raise OSError("there is no gateway to ask")
        loop = asyncio.get_running_loop()
        transport, line = await loop.create_datagram_endpoint(lambda: _Line(port), remote_addr=gateway)
        try:
            for wait_s in TRIES_S:
                transport.sendto(encode_request(port, external, lease_s))
                if (await asyncio.wait([line.granted], timeout=wait_s))[0]:
                    return line.granted.result()
            raise TimeoutError("the gateway does not answer")
        finally:
            transport.close()
            line.granted.cancel()
