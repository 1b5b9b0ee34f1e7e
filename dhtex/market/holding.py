"""What passes between the overlay and the shelf of records that a node holds for others."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from dhtex.market.ids import DhtKey, RecordId


class Taken(StrEnum):
    """What became of a record that was handed to a holder."""

    STORED = "stored"
    KNOWN = "known"  # it was there already; counts as held
    SUPERSEDED = "superseded"  # a newer one is there, and is returned
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class PutVerdict:
    """A holder's answer. `code` says why a record was refused; `bits` what a stamp must have when it was too low.

    `code` MOVED says that it belongs deeper in the price tree, whether it is held here or not: `newer` is that prefix.
    """

    taken: Taken
    key: DhtKey | None = None
    code: str = ""
    bits: int = 0
    newer: bytes = b""


@dataclass(frozen=True, slots=True)
class Page:
    """Some records of a key, in its listing order.

    `total` and `digest` speak of all records of that key and kind; the digest is the exclusive or of the first 8 bytes
    of their ids, so that equal sets are recognised at a glance and a reader can tell whether it got them all.
    `branches` are the prefixes to which a node of the price tree delegates, as `dhtex.market.branches` packs them.
    """

    total: int
    digest: bytes
    wires: list[bytes]
    branches: bytes = b""


class Span(NamedTuple):
    """The orders of a node of a price tree from one price to another, both included, in its listing order.

    A bound is what `dhtex.market.pricebits.packed` makes of the price's bits, as `best_first` has them; the rest of a
    shorter one counts as zeros in `best` and as ones in `worst`, so that two empty ones are everything.
    """

    best: bytes = b""
    worst: bytes = b""


class TreeOrder(NamedTuple):
    """An order of a node of a price tree, and its path there."""

    id: RecordId
    path: str
    wire: bytes


@dataclass(frozen=True, slots=True)
class TreeNode:
    """A node of a price tree that is held here."""

    key: DhtKey
    pair: str
    side: str
    prefix: str
    orders: list[TreeOrder]
    branches: tuple[str, ...]


WHOLE = Span()
MOVED = "moved"
NO_DIGEST = bytes(8)
ANY_KIND = 0
IDS = 0x80  # beside a kind: not the records, but the first 8 bytes of their ids, all in one string
EITHER = 0x40  # beside a kind: contacts only if there are no records
SHORT_ID_BYTES = 8
WIRE_HEAD_BYTES = 3  # MessagePack's head of a byte string of up to 64 KiB
NO_KIND = 255
