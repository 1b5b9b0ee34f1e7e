"""What the overlay needs from the node around it, a shelf that keeps records for others, and who answers from it."""

from typing import Protocol

from dhtex.market.holding import WHOLE, Page, PutVerdict, Span
from dhtex.market.ids import DhtKey
from dhtex.overlay.addresses import Address
from dhtex.overlay.wire import GetArgs, GetReply, PutArgs, PutReply


class Holdings(Protocol):
    """The records that a node holds. It judges and places records; the overlay only carries them. Nothing raises."""

    def put(self, wire: bytes, prefix: str | None, now: float, source: str) -> PutVerdict:
        """Judge and keep a record at its order's key (`prefix` None) or index node; `source` is the neighbourhood that
        brought it (`addresses.neighbourhood`), or "self"."""
        ...

    def page(self, key: DhtKey, kind: int, rank: int, room_bytes: int, now: float, span: Span = WHOLE) -> Page:
        """Records of a key from position `rank` of its listing order on, as many as fit into `room_bytes`; of orders
        those in the span."""
        ...

    def stock_value(self, key: DhtKey, now: float) -> bytes | None:
        """The order whose key this is, for a stock reader."""
        ...

    def stock_put(self, key: DhtKey, value: object, now: float, source: str) -> bool:
        """Keep what a stock peer stores, if it is a valid order and this its key."""
        ...

    def keys(self, now: float) -> dict[DhtKey, str | None]:
        """Where something is held, with its index prefix (None at an order's key)."""
        ...


class Answering(Protocol):
    """Answers what others ask of a holder; honest is `serving.Serving`."""

    def get(self, args: GetArgs, token: bytes, address: Address, room_bytes: int = ...) -> GetReply:
        """Contacts near a key and a page of its records, in an answer of at most `room_bytes`."""
        ...

    def put(self, args: PutArgs, token: bytes, address: Address) -> PutReply:
        """What became of a record."""
        ...

    def store(self, record: bytes, prefix: str | None, source: Address | None) -> PutVerdict:
        """The same, for a record that came by another way; `source` None is this node."""
        ...
