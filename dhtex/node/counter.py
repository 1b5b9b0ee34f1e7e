"""The counter between the trading desk and the network: the desk names orders, the directory keys."""

from collections.abc import Awaitable, Callable

from dhtex.directory.reading import OrderReading
from dhtex.directory.service import Directory
from dhtex.errors import NoPeerError
from dhtex.market.ids import DhtKey, RecordId, order_key
from dhtex.market.records import AnyRecord, Kind, Order, Status, is_a, parse_record
from dhtex.overlay.server import Overlay

Progress = Callable[[float], None]
Mint = Callable[[RecordId, Kind, Progress | None], Awaitable[bytes]]
MintAt = Callable[[RecordId, Kind, float, Progress | None, int], Awaitable[bytes]]
"""The third: when the record was made. A stamp names an hour, which must be about that of its record. The last: how
many bits, if they are more than the network asks for."""


class Counter:
    """Implements `dhtex.trading.ports.Publisher`."""

    def __init__(self, directory: Directory, overlay: Overlay, mint: Mint) -> None:
        self._directory = directory
        self._overlay = overlay
        self._mint = mint
        self._watched: dict[DhtKey, RecordId] = {}

    def order_at(self, key: DhtKey) -> RecordId | None:
        """The order whose key is watched."""
        return self._watched.get(key)

    async def put_order_key(self, order_id: RecordId, wire: bytes) -> int:
        return await self._directory.put_at_order(order_id, wire)

    async def put_index(self, order: Order, wire: bytes) -> int:
        status = parse_record(wire, order.network)
        assert is_a(status, Status), "the desk ends orders"
        return await self._directory.put_status(status)

    async def read(self, order_id: RecordId) -> list[AnyRecord]:
        return (await self._read(order_id)).records

    async def read_back(self, order_id: RecordId) -> list[AnyRecord]:
        reading = await self._read(order_id)
        if not reading.by_most:
            raise NoPeerError(
                "the order is from before a backup was restored, and too few of its holders answer to be sure of it",
                hint="try again when there are more peers: dhtex peers",
            )
        return reading.records

    async def _read(self, order_id: RecordId) -> OrderReading:
        if not self._overlay.peers():
            raise NoPeerError("no peer is known", hint="join a network first: dhtex connect HOST:PORT")
        reading = await self._directory.read_order(order_id)
        if not reading.answered:
            raise NoPeerError("no peer answers", hint="see: dhtex peers")
        return reading

    def watch(self, order_id: RecordId) -> None:
        self._watched[order_key(order_id)] = order_id
        self._directory.watch_order(order_id)

    def unwatch(self, order_id: RecordId) -> None:
        if self._watched.pop(order_key(order_id), None) is not None:
            self._directory.unwatch_order(order_id)

    async def mint(self, record_id: RecordId, kind: Kind, progress: Progress | None) -> bytes:
        return await self._mint(record_id, kind, progress)
