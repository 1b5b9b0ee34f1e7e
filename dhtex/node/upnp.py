"""UPnP (IGD): a port mapping by way of the router's web service, with the optional package of the extra `nat`."""

import asyncio
import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlsplit
from xml.etree.ElementTree import ParseError

from dhtex.node.lan import load

SEARCH_S: Final = 4
_NONSENSE: Final = (ValueError, LookupError, AttributeError, TypeError, ParseError)  # the package lets these through


class AnyHost:
    """The standard's wildcard for who may come in: empty. The package takes an address, and sends this of it."""

    exploded: Final = ""


class Upnp:
    """The mapping of one UDP port at a router that speaks UPnP. Raises UsageError when the extra `nat` is missing."""

    name = "UPnP"

    def __init__(self) -> None:
        self._igd = load("async_upnp_client.profiles.igd", "nat")
        self._factory = load("async_upnp_client.client_factory", "nat")
        self._requester = load("async_upnp_client.aiohttp", "nat")
        self._error: type[Exception] = load("async_upnp_client.exceptions", "nat").UpnpError
        self._router: Any = None

    async def open(self, port: int, lease_s: int) -> float:
        """Map the port, or prolong that; for how many seconds. Raises OSError or TimeoutError."""
        with self._failing():
            if self._router is None:
                self._router = await self._find()
            await self._router.async_add_port_mapping(
                remote_host=AnyHost(), external_port=port, protocol="UDP", internal_port=port,
                internal_client=await _own_address(self._router), enabled=True, description="dhtex",
                lease_duration=timedelta(seconds=lease_s),
            )  # fmt: skip
        return lease_s

    async def close(self, port: int) -> None:
        """Take the mapping back."""
        if self._router is None:
            return
        with self._failing():
            await self._router.async_delete_port_mapping(remote_host=AnyHost(), external_port=port, protocol="UDP")

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Within this, what the package makes of a refusal and of nonsense is an OSError, and the router forgotten."""
        try:
            yield
        except self._error as error:
            self._router = None
            raise OSError(f"the router refuses by UPnP: {error}") from error
        except _NONSENSE as error:
            self._router = None
            raise OSError(f"the router talks nonsense by UPnP: {type(error).__name__}: {error}") from error

    async def _find(self) -> Any:
        found = await self._igd.IgdDevice.async_search(timeout=SEARCH_S)
        if not found:
            raise OSError("no router answers to UPnP")
        factory = self._factory.UpnpFactory(self._requester.AiohttpRequester(), non_strict=True)
        place = min(str(answer["location"]) for answer in found)
        return self._igd.IgdDevice(await factory.async_create_device(place), None)


async def _own_address(router: Any) -> ipaddress.IPv4Address:
    """Our address on the way to the router."""
    host = urlsplit(str(router.device.device_url)).hostname or ""
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        asyncio.DatagramProtocol, remote_addr=(host, 9)
    )
    try:
        return ipaddress.IPv4Address(transport.get_extra_info("sockname")[0])
    finally:
        transport.close()
