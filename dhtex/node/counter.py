"""The counter between the trading desk and the network: the desk names orders, the directory keys."""

from collections.abc import Awaitable, Callable

from dhtex.directory.reading import OrderReading
from dhtex.directory.service import Directory
from dhtex.errors import NoPeerError
from dhtex.market.ids import DhtKey, RecordId, order_key
from dhtex.market.records import AnyRecord, Kind, Order, Record, Status, is_a, parse_record
from dhtex.overlay.server import Overlay
from dhtex.trading.ports import ACCEPTS

Progress = Callable[[float], None]
MintAt = Callable[[RecordId, Kind, float, Progress | None, int], Awaitable[bytes]]
"""The third: when the record was made. A stamp names an hour, which must be about that of its record. The last: how
many bits at least, if the network's own are too few."""


class Counter:
    """Implements `dhtex.trading.ports.Publisher`."""

    def __init__(self, directory: Directory, overlay: Overlay, mint: MintAt, now: Callable[[], float]) -> None:
        self._directory = directory
        self._overlay = overlay
        self._mint = mint
        self._now = now
        self._watched: dict[DhtKey, RecordId] = {}
        self._dearer: tuple[bytes, int] = (b"", 0)
        self._reasons: dict[RecordId, set[str]] = {}

    def order_at(self, key: DhtKey) -> RecordId | None:
        """The order whose key is watched."""
        return self._watched.get(key)

    async def put_order_key(self, order_id: RecordId, wire: bytes) -> int:
        result = await self._directory.put_at_order(order_id, wire)
        self._dearer = (wire, result.dearer)
        return result.holders

    def bits_asked(self, wire: bytes) -> int:
        return self._dearer[1] if self._dearer[0] == wire else 0

    async def put_index(self, order: Order, wire: bytes) -> int:
        status = parse_record(wire, order.network)
        assert is_a(status, Status), "the desk ends orders"
        return await self._directory.put_in_tree(status)

    async def read(self, order_id: RecordId) -> list[AnyRecord]:
        return (await self._read(order_id)).records

    async def read_both(self, order: Record[Order]) -> list[AnyRecord]:
        reading = await self._read(order.id)
        return [*reading.records, *await self._directory.read_ends_of(order, reading.statuses)]

    async def read_back(self, order_id: RecordId) -> list[AnyRecord]:
        reading = await self._read(order_id)
        if reading.lead <= self._overlay.silent_holders(order_key(order_id)):
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

    def watch(self, order_id: RecordId, why: str = ACCEPTS) -> None:
        self._watched[order_key(order_id)] = order_id
        self._reasons.setdefault(order_id, set()).add(why)
        self._directory.watch_order(order_id)

    def unwatch(self, order_id: RecordId, why: str = ACCEPTS) -> None:
        reasons = self._reasons.get(order_id, set())
        reasons.discard(why)
        if not reasons and self._watched.pop(order_key(order_id), None) is not None:
            del self._reasons[order_id]
            self._directory.unwatch_order(order_id)

    async def mint(self, record_id: RecordId, kind: Kind, progress: Progress | None, bits: int = 0) -> bytes:
        return await self._mint(record_id, kind, self._now(), progress, bits)
