"""One record at one key, in as little memory as can be: a node has a hundred thousand of them.

Theory of operation. The bytes that travel are kept once and decoded again when somebody asks for the record, which is
rare: what placing, ranking, expiring and evicting ask all the time stands beside them as plain values. Names that many
records share (author, source, what an order key is about) are one object, which is for the caller to see to.
"""

from typing import Final

from dhtex import limits
from dhtex.market.admission import keep_until
from dhtex.market.ids import DhtKey, PublicKey, RecordId
from dhtex.market.kept import decode_kept
from dhtex.market.merge import Slot, subject
from dhtex.market.records import Accept, AnyRecord, Kind, Order, Receipt, Status
from dhtex.market.stamp import bits_of

NUMBER_MAX: Final = 1 << 62  # of a row; SQLite's own bound is twice that, and no node lives long enough for either


class Place:
    """A key of the network, with the prefix of its node of a price tree; None at an order's key."""

    __slots__ = ("key",)
    prefix: str | None = None

    def __init__(self, key: DhtKey) -> None:
        self.key = key


class Held:
    """A record where it is held.

    subject   what it competes for with others of its kind and author; see `dhtex.market.merge`
    source    the neighbourhood that brought it
    number    what decides between it and another: bits of the stamp, seq of a Status or Receipt, else the time
    expires   Unix s from which it is of no use
    row       its number in the file: the order in which records came
    rank      its place in the listing order of its kind
    anchored  whether it is an order, or speaks about one that is known
    """

    __slots__ = (
        "anchored", "author", "expires", "id", "kind", "number", "place", "rank", "row", "source", "subject", "wire",
    )  # fmt: skip

    def __init__(self, record: AnyRecord, place: Place, anchored: bool, source: str, row: int) -> None:
        self.wire = record.wire
        self.kind: Kind = record.kind
        self.id: RecordId = record.id
        self.author: PublicKey = record.body.author
        self.subject = subject(record)
        self.number = _number(record)
        self.expires = keep_until(record)
        self.place = place
        self.anchored = anchored
        self.source = source
        self.row = self.rank = row

    def __lt__(self, other: "Held") -> bool:
        """The order of a heap of what expires."""
        return self.expires < other.expires

    @property
    def record(self) -> AnyRecord:
        """The record, decoded anew."""
        return decode_kept(self.wire, self.kind, self.id)

    @property
    def slot(self) -> Slot:
        """As `dhtex.market.merge.slot` of the record."""
        return self.kind, self.subject, self.author

    @property
    def deadline(self) -> int:
        """Until when an accept, or a refusal of it, matters."""
        return self.expires - limits.TOMBSTONE_S

    @property
    def gone(self) -> bool:
        """Whether it is held no more: its bytes are let go at once, whoever still has this."""
        return not self.wire


def _number(record: AnyRecord) -> int:
    body = record.body
    if isinstance(body, (Order, Accept)):
        return bits_of(record.stamp)
    return body.seq if isinstance(body, (Status, Receipt)) else body.at
