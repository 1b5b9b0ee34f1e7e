"""From what several holders answered to what is true: merge, check, and say how well it is covered.

Theory of operation. Holders answer with *versions*: sets of records, recognised by digest, each vouched for by one or
more holders. Every record is self-certifying, so the merged set is the union of all that passes the checks; nobody is
outvoted on what exists. What a holder may do is hide, or show again what is closed. So an order that some version lacks
is *contested*: its own key is asked, where one honest holder with a Status is enough to close it. There is a bound to
that; beyond it an order is shown if most holders have it, and else left out as `unconfirmed`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from dhtex.market.ids import PublicKey, RecordId
from dhtex.market.merge import may_sign_receipt, order_state
from dhtex.market.records import (
    Accept,
    AnyRecord,
    Beat,
    Code,
    Order,
    Receipt,
    Record,
    Refusal,
    Status,
    is_a,
    parse_record,
)
from dhtex.overlay.results import GetResult, Version
from dhtex.views import Coverage

Check = Callable[[AnyRecord], Code | None]


@dataclass(slots=True)
class IndexReading:
    """One node of the index as its holders tell it; `beats` maps a maker to the newest time it was heard of."""

    orders: dict[RecordId, Record[Order]] = field(default_factory=dict)
    statuses: dict[RecordId, list[Record[Status]]] = field(default_factory=dict)
    beats: dict[PublicKey, int] = field(default_factory=dict)
    contested: list[RecordId] = field(default_factory=list)
    outvoted: set[RecordId] = field(default_factory=set)
    rejected: dict[str, int] = field(default_factory=dict)
    coverage: Coverage = field(default_factory=lambda: add_coverage([]))

    def reject(self, reason: str) -> None:
        """Count a record that was left out."""
        self.rejected[reason] = self.rejected.get(reason, 0) + 1

    def doubtful(self, most: int) -> list[RecordId]:
        """The `most` contested orders that are worth asking about: first those that most holders do not have, of which
        the rest is left out."""
        doubtful = sorted(self.contested, key=lambda order_id: order_id not in self.outvoted)
        for order_id in doubtful[most:]:
            if order_id in self.outvoted:
                del self.orders[order_id]
                self.reject("unconfirmed")
        return doubtful[:most]


@dataclass(slots=True)
class OrderReading:
    """Everything that the holders of an order's key know about it."""

    order: Record[Order] | None = None
    statuses: list[Record[Status]] = field(default_factory=list)
    accepts: list[Record[Accept]] = field(default_factory=list)
    refusals: list[Record[Refusal]] = field(default_factory=list)
    receipts: list[Record[Receipt]] = field(default_factory=list)
    answered: int = 0
    by_most: bool = False

    @property
    def records(self) -> list[AnyRecord]:
        """All of them in one list, the order first."""
        order: list[AnyRecord] = [] if self.order is None else [self.order]
        return [*order, *self.statuses, *self.accepts, *self.refusals, *self.receipts]


def coverage_of(result: GetResult) -> Coverage:
    """How many holders were asked, answered, and gave the answer that most gave."""
    agreed = max((version.holders for version in result.versions), default=0)
    complete = result.answered > 0 and all(version.complete for version in result.versions)
    return Coverage(nodes=1, asked=result.asked, answered=result.answered, agreed=agreed, complete=complete)


def add_coverage(parts: Iterable[Coverage]) -> Coverage:
    """The coverage of an answer made of several index nodes: that of the one which is covered worst."""
    rows = list(parts)
    if not rows:
        return Coverage(nodes=0, asked=0, answered=0, agreed=0, complete=False)
    worst = min(rows, key=lambda row: (row.complete, row.answered - row.asked, row.agreed - row.asked, -row.asked))
    return Coverage(
        nodes=sum(row.nodes for row in rows),
        asked=worst.asked,
        answered=worst.answered,
        agreed=worst.agreed,
        complete=all(row.complete for row in rows),
    )


def merge_index(network: str, pair: str, side: str, orders: GetResult, beats: GetResult, check: Check) -> IndexReading:
    """Merge the answers for one index node; what does not belong there or fails a check is counted by reason."""
    reading = IndexReading(coverage=coverage_of(orders))
    for wire, versions in _distinct(orders).items():
        record = parse_record(wire, network)
        if not is_a(record, Order) or (record.body.pair, record.body.side) != (pair, side):
            reading.reject("misplaced")
        elif (fault := check(record)) is not None:
            reading.reject(fault)
        else:
            reading.orders[record.id] = record
            if len(versions) < len(orders.versions):
                reading.contested.append(record.id)
                if 2 * sum(version.holders for version in versions) <= orders.answered:
                    reading.outvoted.add(record.id)
    for wire in _distinct(beats):
        record = parse_record(wire, network)
        if is_a(record, Beat) and (record.body.pair, record.body.side) == (pair, side) and check(record) is None:
            maker = record.body.author
            reading.beats[maker] = max(record.body.at, reading.beats.get(maker, 0))
    return reading


def merge_ends(network: str, pair: str, side: str, result: GetResult, check: Check) -> list[Record[Status]]:
    """The statuses of an index node's answers that pass the check, each once."""
    records = [parse_record(wire, network) for wire in _distinct(result)]
    return [
        record
        for record in records
        if is_a(record, Status) and (record.body.pair, record.body.side) == (pair, side) and check(record) is None
    ]


def merge_order(network: str, order_id: RecordId, result: GetResult, check: Check) -> OrderReading:
    """Merge the answers for one order's key; a Status or Refusal of anyone but the order's maker is dropped,
    and a Receipt of anyone but the two sides of a certified trade."""
    reading = OrderReading(answered=result.answered, by_most=result.by_most)
    for wire in _distinct(result):
        record = parse_record(wire, network)
        if is_a(record, Order):
            if record.id == order_id and check(record) in (None, Code.EXPIRED):
                reading.order = record
        elif is_a(record, Status) and record.body.order_id == order_id and check(record) is None:
            reading.statuses.append(record)
        elif is_a(record, Accept) and record.body.order_id == order_id and check(record) is None:
            reading.accepts.append(record)
        elif is_a(record, Refusal) and record.body.order_id == order_id and check(record) is None:
            reading.refusals.append(record)
        elif is_a(record, Receipt) and record.body.order_id == order_id and check(record) is None:
            reading.receipts.append(record)
    if (order := reading.order) is not None:
        reading.statuses = [s for s in reading.statuses if s.body.maker == order.body.maker]
        reading.refusals = [r for r in reading.refusals if r.body.maker == order.body.maker]
    reading.receipts = [r for r in reading.receipts if may_sign_receipt(r.body, reading.statuses)]
    return reading


def _distinct(result: GetResult) -> dict[bytes, list[Version]]:
    """Each record's bytes, with the versions that have it."""
    found: dict[bytes, list[Version]] = {}
    for version in result.versions:
        for wire in dict.fromkeys(version.wires):
            found.setdefault(wire, []).append(version)
    return found


def untold(reading: OrderReading, result: GetResult, now: float) -> list[Record[Status]]:
    """The statuses that prove an equivocation, if some holder that answered in full lacks one of them."""
    if reading.order is None:
        return []
    proof = order_state(reading.order, reading.statuses, now).proof
    told = [set(version.wires) for version in result.versions if version.complete]
    return [status for status in proof if any(status.wire not in wires for wires in told)]
