"""Finding nodes of the same network on the local one, by multicast DNS (RFC 6762, RFC 6763); optional.

Each node announces `<its id>._dhtex._udp.local.` with the tag of its network, and meets whoever else announces that.
What is heard is a claim like any other contact: it is pinged, and nothing else.
"""

import logging
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any, Final

from dhtex.errors import UsageError
from dhtex.tasks import Tasks

log = logging.getLogger(__name__)

SERVICE: Final = "_dhtex._udp.local."
ASK_S_MAX: Final = 3.0
MET_MAX: Final = 256  # services that are met in one life; a LAN full of liars must not grow anything


def load(module: str, extra: str) -> Any:
    """An optional package. Raises UsageError that says how to install it."""
    try:
        return import_module(module)
    except ImportError:
        package = module.partition(".")[0]
        raise UsageError(
            f"this needs the package {package}, which is not installed", hint=f"pip install 'dhtex[{extra}]'"
        ) from None


class Lan:
    """Announces one node and meets its neighbours. Raises UsageError when the extra `lan` is missing."""

    def __init__(self, network: str, node_id: bytes, meet: Callable[[str, int], Awaitable[bool]]) -> None:
        self._library = load("zeroconf.asyncio", "lan")
        self._network = network
        self._name = f"{node_id.hex()}.{SERVICE}"
        self._meet = meet
        self._met: dict[str, None] = {}
        self._tasks = Tasks()
        self._zeroconf: Any = None
        self._browser: Any = None

    async def start(self, port: int, host: str | None) -> None:
        """Announce, and listen to others until `close`."""
        library = self._library
        interfaces = [host] if host is not None else None
        self._zeroconf = library.AsyncZeroconf(**({"interfaces": interfaces} if interfaces else {}))
        addresses = [host] if host is not None else [ip for ip in _own_addresses() if not ip.startswith("127.")]
        info = library.AsyncServiceInfo(
            SERVICE, self._name, port=port, properties={"network": self._network}, parsed_addresses=addresses
        )
        await self._zeroconf.async_register_service(info)
        self._browser = library.AsyncServiceBrowser(self._zeroconf.zeroconf, SERVICE, handlers=[self._seen])

    async def close(self) -> None:
        """Take leave."""
        await self._tasks.end()
        if self._browser is not None:
            await self._browser.async_cancel()
        if self._zeroconf is not None:
            await self._zeroconf.async_unregister_all_services()
            await self._zeroconf.async_close()

    def _seen(self, zeroconf: Any, service_type: str, name: str, state_change: Any) -> None:
        if name == self._name or name in self._met or state_change.name != "Added" or len(self._met) >= MET_MAX:
            return
        self._met[name] = None
        self._tasks.spawn(self._ask(zeroconf, name))

    async def _ask(self, zeroconf: Any, name: str) -> None:
        info = self._library.AsyncServiceInfo(SERVICE, name)
        known = await info.async_request(zeroconf, int(ASK_S_MAX * 1000))
        if not known or info.port is None or info.properties.get(b"network") != self._network.encode():
            self._met.pop(name, None)
            return
        for ip in info.parsed_addresses():
            if await self._meet(ip, info.port):
                log.info("met %s:%d on the local network", ip, info.port)
                return


def _own_addresses() -> list[str]:
    return [str(ip) for ip in load("zeroconf", "lan").get_all_addresses()]
