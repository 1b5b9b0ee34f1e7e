"""Asking the router to let strangers in: a UPnP port mapping (IGD), renewed while the node runs; optional."""

import asyncio
import ipaddress
import logging
from datetime import timedelta
from typing import Any, Final

from dhtex.node.lan import load

log = logging.getLogger(__name__)

LEASE_S: Final = 3600
RENEW_S: Final = 1500.0
RETRY_S: Final = 300.0
SEARCH_S: Final = 4
ANY: Final = ipaddress.IPv4Address(0)


class Mapping:
    """The mapping of one UDP port. Raises UsageError when the extra `nat` is missing."""

    def __init__(self) -> None:
        self._igd = load("async_upnp_client.profiles.igd", "nat")
        self._factory = load("async_upnp_client.client_factory", "nat")
        self._requester = load("async_upnp_client.aiohttp", "nat")
        self._error: type[Exception] = load("async_upnp_client.exceptions", "nat").UpnpError
        self._router: Any = None
        self.state = "trying"

    async def run(self, port: int) -> None:
        """Map the port and keep it mapped, for ever; cancelled when the node stops."""
        while True:
            try:
                await self._map(port)
                self.state, pause_s = "mapped", RENEW_S
            except (self._error, OSError, TimeoutError) as error:
                self._router, self.state, pause_s = None, "no router maps the port", RETRY_S
                log.warning("the router does not map UDP port %d: %s", port, error)
            await asyncio.sleep(pause_s)

    async def _map(self, port: int) -> None:
        if self._router is None:
            found = await self._igd.IgdDevice.async_search(timeout=SEARCH_S)
            if not found:
                raise OSError("no router answers to UPnP")
            factory = self._factory.UpnpFactory(self._requester.AiohttpRequester(), non_strict=True)
            place = min(str(answer["location"]) for answer in found)
            self._router = self._igd.IgdDevice(await factory.async_create_device(place), None)
        await self._router.async_add_port_mapping(
            remote_host=ANY, external_port=port, protocol="UDP", internal_port=port,
            internal_client=await _own_address(self._router), enabled=True, description="dhtex",
            lease_duration=timedelta(seconds=LEASE_S),
        )  # fmt: skip

    async def close(self, port: int) -> None:
        """Take the mapping back, if there is one."""
        if self._router is None:
            return
        try:
            async with asyncio.timeout(1.0):
                await self._router.async_delete_port_mapping(remote_host=ANY, external_port=port, protocol="UDP")
        except (self._error, OSError, TimeoutError):
            return


async def _own_address(router: Any) -> ipaddress.IPv4Address:
    """Our address on the way to the router."""
    host = str(router.device.device_url).split("//")[-1].split("/")[0].rpartition(":")[0]
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        asyncio.DatagramProtocol, remote_addr=(host, 9)
    )
    try:
        return ipaddress.IPv4Address(transport.get_extra_info("sockname")[0])
    finally:
        transport.close()
