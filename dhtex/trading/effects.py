"""What the desks want done: they only decide and write to the journal, the service carries it out."""

from dataclasses import dataclass

from dhtex.market.ids import RecordId
from dhtex.market.records import Order, Record
from dhtex.store.rows import Trade


@dataclass(frozen=True, slots=True)
class Publish:
    """Put a durable answer to an accept into the network until another node holds it, or it matters no more (`until`,
    Unix s). A certificate goes to the order's index too; a refusal concerns nobody else."""

    order: Record[Order]
    accept_id: RecordId
    wire: bytes
    certificate: bool
    until: float


@dataclass(frozen=True, slots=True)
class Changed:
    """A trade is new, or in another state; on disk already."""

    trade: Trade


@dataclass(frozen=True, slots=True)
class Ended:
    """One of our orders has ended; on disk already."""

    order_id: RecordId
    state: str


@dataclass(frozen=True, slots=True)
class Wait:
    """An accept waits for a person until its deadline (Unix s)."""

    accept_id: RecordId
    deadline: float


Effect = Publish | Changed | Ended | Wait
