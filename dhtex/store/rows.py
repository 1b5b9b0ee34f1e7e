"""The rows of the journal as values. Ids and wires are bytes as in `dhtex.market.records`; times are Unix seconds."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from dhtex.market.ids import NodeId, RecordId


class Role(StrEnum):
    """On which side of a trade this node stands."""

    MAKER = "maker"
    TAKER = "taker"


class NodeIdentity(NamedTuple):
    """Who this node is. `epoch` counts how often its state was restored from a copy."""

    seed: bytes
    node_id: NodeId
    epoch: int


@dataclass(frozen=True, slots=True)
class OwnOrder:
    """An order of this node. `state` as in `dhtex.market.trade`; `seq` and `status_wire` of its last Status, or 0 and
    empty; `reply_text` is sealed to whoever is confirmed; `replaced_by` is empty or the successor's id. `group_id` and
    `parent` repeat what the signed order says, or are empty. `cancel_after` (seconds; 0: never) is the order's dead
    man's switch, and `cancel_at` (Unix s) when it goes off unless the order is renewed before."""

    order_id: RecordId
    wire: bytes
    state: str
    seq: int
    status_wire: bytes
    reply_text: str
    created: int
    expires: int
    replaced_by: bytes = b""
    group_id: bytes = b""
    parent: bytes = b""
    cancel_after: int = 0
    cancel_at: int = 0


@dataclass(frozen=True, slots=True)
class Closed:
    """The end of another order of a group, because one of it was filled: a signed Status."""

    order_id: RecordId
    status_wire: bytes


@dataclass(frozen=True, slots=True)
class Sequel:
    """What is written together with a fill: the ends of the other orders of its group, and the order of its remainder,
    which still lacks its stamp."""

    others: tuple[Closed, ...] = ()
    child: OwnOrder | None = None


@dataclass(frozen=True, slots=True)
class Pending:
    """An accept that waits for a person to confirm or decline it."""

    accept_id: RecordId
    order_id: RecordId
    wire: bytes
    received: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What was decided on an accept, as signed bytes: a Status or a Refusal."""

    accept_id: RecordId
    order_id: RecordId
    wire: bytes


@dataclass(frozen=True, slots=True)
class KeptReceipt:
    """The newest word of one side (`role`) about a trade. `reason` is the opened text, or ours; `published` is 1 once
    another node is known to hold the receipt."""

    accept_id: RecordId
    role: str
    outcome: str
    seq: int
    at: int
    reason: str
    wire: bytes
    published: int


@dataclass(frozen=True, slots=True)
class Trade:
    """One accept of this node's, or of one of its orders. `code` says why it was refused, or is empty.

    `message` and `reply` are the opened texts. `answer_wire` is the Status or Refusal that ended it, or empty.
    """

    accept_id: RecordId
    order_id: RecordId
    role: str
    state: str
    code: str
    order_wire: bytes
    accept_wire: bytes
    answer_wire: bytes
    message: str
    reply: str
    created: int
    deadline: int
