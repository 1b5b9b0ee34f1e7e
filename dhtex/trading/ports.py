"""What the desks need from the node around them: a way to put, read and watch order keys, and a mint for stamps."""

from collections.abc import Callable
from typing import Final, Protocol

from dhtex.market.ids import RecordId
from dhtex.market.records import AnyRecord, Kind, Order, Record

ACCEPTS: Final = "accepts"  # why a key is watched: accepts, and what becomes of them
RECEIPTS: Final = "receipts"  # or what is said after the trade
Progress = Callable[[float], None]


class Publisher(Protocol):
    """The network as the desks see it."""

    async def put_order_key(self, order_id: RecordId, wire: bytes) -> int:
        """Put a record at an order's key; how many other nodes hold it now. Does not raise."""
        ...

    async def put_index(self, order: Order, wire: bytes) -> int:
        """Put a Status at the index node of its order; how many other nodes hold it now. Does not raise."""
        ...

    async def read(self, order_id: RecordId) -> list[AnyRecord]:
        """What the holders of an order's key have. Raises NoPeerError when nobody answered."""
        ...

    async def read_both(self, order: Record[Order]) -> list[AnyRecord]:
        """As `read`; where nothing there ends the order, also the ends that only the pair's index knows."""
        ...

    async def read_back(self, order_id: RecordId) -> list[AnyRecord]:
        """As `read`, and raises NoPeerError unless most of the other holders answered, and in full."""
        ...

    def watch(self, order_id: RecordId, why: str = ACCEPTS) -> None:
        """Ask to be told what is put at an order's key; asking twice is no error."""
        ...

    def unwatch(self, order_id: RecordId, why: str = ACCEPTS) -> None:
        """Ask no longer, unless there is another reason to."""
        ...

    def bits_asked(self, wire: bytes) -> int:
        """How many bits most holders want the stamp of a record to have that was put just now; 0: they are content."""
        ...

    async def mint(self, record_id: RecordId, kind: Kind, progress: Progress | None, bits: int = 0) -> bytes:
        """Make the stamp that this network asks of a record of this kind, or one of `bits` if that is more."""
        ...
