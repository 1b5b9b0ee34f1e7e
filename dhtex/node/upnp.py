"""UPnP (IGD): a port mapping by way of the router's web service, with the optional package of the extra `nat`."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final
from urllib.parse import urlsplit
from xml.etree.ElementTree import ParseError

from dhtex.node.gateway import Granted, find_gateway
from dhtex.node.lan import load

SEARCH_S: Final = 4
PLACES_MAX: Final = 8  # descriptions that are read: anybody near may say that he is a router
SERVICES: Final = frozenset(
    f"urn:schemas-upnp-org:service:{name}" for name in ("WANIPConnection:1", "WANIPConnection:2", "WANPPPConnection:1")
)
TAKEN: Final = 718  # ConflictInMappingEntry
ONLY_PERMANENT: Final = 725  # OnlyPermanentLeasesSupported
ANY_HOST: Final = ""
# The package lets these through.
_NONSENSE: Final = (ValueError, LookupError, AttributeError, TypeError, ParseError, RecursionError)


class Upnp:
    """The mapping of one UDP port at a router that speaks UPnP. Raises UsageError when the extra `nat` is missing."""

    name = "UPnP"

    def __init__(self, find_gateway: Callable[[], str | None] = find_gateway) -> None:
        self._igd = load("async_upnp_client.profiles.igd", "nat")
        self._factory = load("async_upnp_client.client_factory", "nat")
        self._requester = load("async_upnp_client.aiohttp", "nat")
        self._error: type[Exception] = load("async_upnp_client.exceptions", "nat").UpnpError
        self._find_gateway = find_gateway
        self._service: Any = None  # the one that let us in last

    async def open(self, port: int, lease_s: int) -> Granted:
        """Map the port, or prolong that. Raises OSError or TimeoutError."""
        if self._service is not None:
            with suppress(OSError):  # it was restarted and is elsewhere now, or another one has taken its place
                return await self._map(self._service, port, lease_s)
        faults: list[str] = []
        for service in await self._find(faults):
            try:
                granted = await self._map(service, port, lease_s)
            except OSError as error:
                faults.append(str(error))
                continue
            self._service = service
            return granted
        raise OSError(", ".join(dict.fromkeys(faults)) or "no router answers")

    async def close(self, port: int) -> None:
        """Take the mapping back."""
        if self._service is None:
            return
        with self._failing():
            action = self._service.action("DeletePortMapping")
            await action.async_call(NewRemoteHost=ANY_HOST, NewExternalPort=port, NewProtocol="UDP")

    async def _map(self, service: Any, port: int, lease_s: int) -> Granted:
        """By this service; for ever, and until `close`, where the router knows no other lease."""
        with self._failing():
            host = await _own_address(_host_of(service.control_url))
            fields = {
                "NewRemoteHost": ANY_HOST, "NewExternalPort": port, "NewProtocol": "UDP", "NewInternalPort": port,
                "NewInternalClient": host, "NewEnabled": True, "NewPortMappingDescription": "dhtex",
            }  # fmt: skip
            action = service.action("AddPortMapping")
            try:
                await action.async_call(**fields, NewLeaseDuration=lease_s)
            except self._error as error:
                if _code_of(error) != ONLY_PERMANENT:
                    raise
                await action.async_call(**fields, NewLeaseDuration=0)
        return Granted(port, lease_s)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Within this, what the package makes of a refusal and of nonsense is an OSError."""
        try:
            yield
        except self._error as error:
            taken = _code_of(error) == TAKEN
            raise OSError(f"the router refuses: {'the port is taken' if taken else error}") from error
        except _NONSENSE as error:
            raise OSError(f"the router talks nonsense: {type(error).__name__}: {error}") from error

    async def _find(self, faults: list[str]) -> list[Any]:
        """What can map ports: of our gateway first, then of whatever else calls itself a router."""
        with self._failing():
            found = await self._igd.IgdDevice.async_search(timeout=SEARCH_S)
        gateway = self._find_gateway()
        places = {place for answer in found if _host_of(place := str(answer.get("location", "")))}
        services: list[Any] = []
        for place in sorted(places, key=lambda place: (_host_of(place) != gateway, place))[:PLACES_MAX]:
            try:
                services += await self._services_at(place)
            except OSError as error:
                faults.append(str(error))
        return services

    async def _services_at(self, place: str) -> list[Any]:
        factory = self._factory.UpnpFactory(self._requester.AiohttpRequester(), non_strict=True)
        with self._failing():
            device = await factory.async_create_device(place)
            services = [one for one in device.all_services if one.service_type in SERVICES]
        if not services:
            raise OSError("the router has nothing that maps ports")
        return services


def _code_of(error: Exception) -> int | None:
    """The code of a refusal."""
    code = getattr(error, "error_code", None)
    return code if isinstance(code, int) else None


def _host_of(url: str) -> str:
    """The host that a URL names; empty if it names none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


async def _own_address(router: str) -> str:
    """Our address on the way to the router."""
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        asyncio.DatagramProtocol, remote_addr=(router, 9)
    )
    try:
        return str(transport.get_extra_info("sockname")[0])
    finally:
        transport.close()
