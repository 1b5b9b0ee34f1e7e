"""The optional helpers of a node at its surroundings: neighbours on the local network, and the router's door."""

import logging
from collections.abc import Awaitable, Callable

from dhtex.config import NodeConfig
from dhtex.node.lan import Lan
from dhtex.node.mapping import Mapping
from dhtex.tasks import Tasks

log = logging.getLogger(__name__)


class Outside:
    """Those helpers that the settings ask for. Raises UsageError when one needs a package that is missing."""

    def __init__(self, config: NodeConfig, node_id: bytes, meet: Callable[[str, int], Awaitable[bool]]) -> None:
        self._host = config.host
        self._lan = Lan(config.network, node_id, meet) if config.lan else None
        self.mapping = Mapping() if config.map_port else None
        self._tasks = Tasks()
        self._port = 0

    async def start(self, port: int) -> None:
        """Begin; what the surroundings do not offer is logged, and is no error."""
        self._port = port
        if self._lan is not None:
            try:
                await self._lan.start(port, self._host)
            except OSError as error:
                log.warning("no discovery on the local network: %s", error)
        if self.mapping is not None:
            self._tasks.spawn(self.mapping.run(port))

    async def stop(self) -> None:
        """Leave no trace."""
        await self._tasks.end()
        if self.mapping is not None:
            await self.mapping.close(self._port)
        if self._lan is not None:
            await self._lan.close()
