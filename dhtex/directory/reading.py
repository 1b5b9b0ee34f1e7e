"""From what several holders answered to what is true: merge, check, and say how well it is covered.

Theory of operation. Holders answer with *versions*: sets of records, recognised by digest, each vouched for by one or
more holders. Every record is self-certifying, so the merged set is the union of all that passes the checks; nobody is
outvoted on what exists. What a holder may do is hide, or show again what is closed; one that was away for a while does
both. So an order that some version lacks is *contested*: its own key is asked, where one honest holder with a Status is
enough to close it. There is a bound to that; beyond it an order is shown if most holders have it, and else left out as
`unconfirmed`.

Two kinds of holders lack an order and do no wrong: who delegates it to a branch, and who is new and has nothing yet.
They hide nothing, but they do not vouch for it either: where most holders of a node are such, the order is contested
like others, unless most of another node keep it. An order is *lonely* where most have nothing at all: they are new, or
everything is over and somebody has not heard. Some are asked about; if all of those are closed, the rest is left out.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from dhtex.coverage import Coverage
from dhtex.directory.pricetree import ROOT, Rank, Step, votes
from dhtex.market.admission import tree_path
from dhtex.market.branches import Branches, unpack
from dhtex.market.ids import NodeId, PublicKey, RecordId
from dhtex.market.merge import may_sign_receipt, order_state
from dhtex.market.pricebits import best_first, price_bits
from dhtex.market.records import (
    Accept,
    AnyRecord,
    Beat,
    Code,
    Order,
    Receipt,
    Record,
    Refusal,
    Side,
    Status,
    is_a,
    parse_record,
)
from dhtex.overlay.results import GetResult, Holder, Version

Check = Callable[[AnyRecord], Code | None]
EMPTY_CONTESTS_MAX: Final = 8  # a holder that has nothing at all is new, and contests no more orders than this
EVERYTHING: Final = Step(ROOT, None)
_FIRST: Final[Rank] = ("", 0, b"")


@dataclass(slots=True)
class Suspect:
    """What one holder of one node said that others did not: orders that it hid, served though they are closed
    (`revived`) or made up, whether its answer was never complete, and branches that nobody has."""

    holder: Holder
    prefix: str
    hidden: list[RecordId] = field(default_factory=list)
    revived: list[RecordId] = field(default_factory=list)
    invented: int = 0
    unfinished: bool = False
    branches: int = 0


@dataclass(slots=True)
class IndexReading:
    """One node of the index as its holders tell it, or several together; `beats` maps a maker to the newest time it was
    heard of. `contested` orders are not held by all who should, `settled` ones are, at some node. Of these most hold
    `backed` ones there, and `lonely` ones as long as holders that have nothing do not count.

    `haves` and `lacks` name the holders of contested orders, with the node's prefix; `rest` is the path behind which
    more orders stand that were not asked for, `unread` of each node; `visited` are the prefixes of the nodes that were
    read, `beyond` is where orders begin that were not wanted (see `pricetree.Walked`).
    `standing` orders are listed by nobody, and yet nobody knows an end of them.
    """

    orders: dict[RecordId, Record[Order]] = field(default_factory=dict)
    statuses: dict[RecordId, list[Record[Status]]] = field(default_factory=dict)
    beats: dict[PublicKey, int] = field(default_factory=dict)
    contested: list[RecordId] = field(default_factory=list)
    backed: set[RecordId] = field(default_factory=set)
    lonely: set[RecordId] = field(default_factory=set)
    settled: set[RecordId] = field(default_factory=set)
    rejected: dict[str, int] = field(default_factory=dict)
    coverage: Coverage = field(default_factory=lambda: add_coverage([]))
    haves: dict[RecordId, list[tuple[Holder, str]]] = field(default_factory=dict)
    lacks: dict[RecordId, list[tuple[Holder, str]]] = field(default_factory=dict)
    suspects: dict[tuple[NodeId, str], Suspect] = field(default_factory=dict)
    branches: dict[str, frozenset[NodeId]] = field(default_factory=dict)
    rest: Rank | None = None
    unread: dict[str, int] = field(default_factory=dict)
    standing: list[RecordId] = field(default_factory=list)
    beyond: str = ""
    visited: tuple[str, ...] = ()

    def reject(self, reason: str, count: int = 1) -> None:
        """Count a record that was left out."""
        self.rejected[reason] = self.rejected.get(reason, 0) + count

    def suspect(self, holder: Holder, prefix: str) -> Suspect:
        """The page of one holder at one node."""
        return self.suspects.setdefault((holder.id, prefix), Suspect(holder, prefix))

    def absorb(self, other: "IndexReading") -> None:
        """Add what another node of the same tree told."""
        self.orders |= other.orders
        for maker, at in other.beats.items():
            self.beats[maker] = max(at, self.beats.get(maker, 0))
        self.settled |= other.settled
        self.backed |= other.backed
        self.lonely |= other.lonely
        self.contested = list(dict.fromkeys(self.contested + other.contested))
        for reason, count in other.rejected.items():
            self.reject(reason, count)
        for ours, theirs in ((self.haves, other.haves), (self.lacks, other.lacks)):
            for order_id, holders in theirs.items():
                ours.setdefault(order_id, []).extend(holders)
        self.suspects |= other.suspects
        self.unread |= other.unread

    def doubtful(self, most: int, wants: Callable[[Rank], bool] = lambda rank: True) -> list[RecordId]:
        """The `most` contested orders that are worth asking about: first those that most holders do not have, of which
        the rest is left out. What all holders of another node have is in no doubt. What is not wanted stays contested.
        """
        contested = [order_id for order_id in self.contested if order_id in self.orders.keys() - self.settled]
        self.contested = [order_id for order_id in contested if not wants(rank_of(self.orders[order_id]))]
        contested = [order_id for order_id in contested if order_id not in self.contested]
        doubtful = [order_id for order_id in contested if order_id not in self.backed]
        self.leave_out(doubtful[most:])
        others = [order_id for order_id in contested if order_id in self.backed]
        others.sort(key=lambda order_id: order_id not in self.lonely)
        return doubtful[:most] + others[: max(0, min(most - len(doubtful), most // 4))]

    def replaced(self) -> set[RecordId]:
        """Orders that another listed one of the same key replaces: their end is on its way to where they are listed."""
        ends = {(RecordId(order.body.replaces), order.body.author) for order in self.orders.values()}
        return {old for old, maker in ends if old in self.orders and self.orders[old].body.author == maker}

    def leave_out(self, order_ids: Iterable[RecordId], reason: str = "unconfirmed") -> None:
        """Do not show these."""
        for order_id in order_ids:
            del self.orders[order_id]
            self.reject(reason)


@dataclass(slots=True)
class OrderReading:
    """Everything that the holders of an order's key know about it."""

    order: Record[Order] | None = None
    statuses: list[Record[Status]] = field(default_factory=list)
    accepts: list[Record[Accept]] = field(default_factory=list)
    refusals: list[Record[Refusal]] = field(default_factory=list)
    receipts: list[Record[Receipt]] = field(default_factory=list)
    answered: int = 0
    lead: int = 0  # see GetResult

    @property
    def by_most(self) -> bool:
        """Whether most of the other holders that were asked answered in full."""
        return self.lead > 0

    @property
    def records(self) -> list[AnyRecord]:
        """All of them in one list, the order first."""
        order: list[AnyRecord] = [] if self.order is None else [self.order]
        return [*order, *self.statuses, *self.accepts, *self.refusals, *self.receipts]


def coverage_of(result: GetResult) -> Coverage:
    """How many holders were asked, answered, and gave the answer that most gave. It is complete when most of those who
    answered gave all of what they vouch for."""
    agreed = max((version.holders for version in result.versions), default=0)
    return _covered(result, agreed, sum(version.holders for version in result.versions if version.complete))


def _covered(result: GetResult, agreed: int, whole: int) -> Coverage:
    complete = result.answered > 0 and (2 * whole > result.answered or not result.versions)
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
        missing=[gap for row in rows for gap in row.missing],
        disagreed=[holder for row in rows for holder in row.disagreed],
    )


def placed_orders(network: str, place: tuple[str, str], answers: GetResult, step: Step) -> dict[bytes, Record[Order]]:
    """By their bytes, the orders in the answers for one index node of a pair and side (`place`) that belong there and
    were asked for."""
    records = ((wire, parse_record(wire, network)) for wire in _distinct(answers))
    return {
        wire: record
        for wire, record in records
        if is_a(record, Order)
        and (record.body.pair, record.body.side) == place
        and tree_path(record).startswith(step.prefix)
        and step.spans(rank_of(record)[0])
    }


def merge_index(
    placed: Mapping[bytes, Record[Order]], answers: GetResult, check: Check, step: Step = EVERYTHING
) -> IndexReading:
    """Merge the answers for one index node. What is not among the `placed` orders or fails a check is counted by
    reason."""
    reading = IndexReading(coverage=coverage_of(answers))
    found: dict[RecordId, list[_Witness]] = {}
    witnesses = [_Witness(version) for version in answers.versions]
    having: dict[bytes, list[_Witness]] = {}
    for witness in witnesses:
        for wire in dict.fromkeys(witness.version.wires):
            having.setdefault(wire, []).append(witness)
    for wire, versions in having.items():
        record = placed.get(wire)
        fault = "misplaced" if record is None else check(record)
        if record is not None and fault is None:
            rank = rank_of(record)
            reading.orders[record.id] = record
            found.setdefault(record.id, []).extend(versions)
            for witness in versions:
                witness.last = max(witness.last, rank)
        elif fault is not None:
            reading.reject(fault)
            for witness in versions:
                witness.bad += fault != Code.EXPIRED
    whole = sum(witness.version.holders for witness in witnesses if witness.is_whole)
    reading.coverage = _covered(answers, reading.coverage.agreed, whole)
    _compare(reading, witnesses, found, step.prefix)
    return reading


def placed_beats(network: str, place: tuple[str, str], wires: Iterable[bytes]) -> list[Record[Beat]]:
    """The signs of life among these records that are of this pair and side, the newest first."""
    records = [parse_record(wire, network) for wire in dict.fromkeys(wires)]
    beats = [beat for beat in records if is_a(beat, Beat) and (beat.body.pair, beat.body.side) == place]
    return sorted(beats, key=lambda beat: -beat.body.at)


def merge_beats(beats: Iterable[Record[Beat]], check: Check, reading: IndexReading) -> None:
    """Add the signs of life of one index node."""
    for beat in beats:
        maker = beat.body.author
        if beat.body.at > reading.beats.get(maker, 0) and check(beat) is None:
            reading.beats[maker] = beat.body.at


class _Witness:
    """One version, and what came of its records. `last`: the rank of the last; behind it a short answer says
    nothing."""

    def __init__(self, version: Version) -> None:
        self.version = version
        self.last: Rank = _FIRST
        self.bad = 0
        self.short = version.complete and version.total > len(version.wires)

    @property
    def is_whole(self) -> bool:
        """Whether all of it came; a list that changed while it was read does not fit its digest, but has its length."""
        return self.version.complete or 0 < self.version.total <= len(self.version.wires) - self.bad


def _compare(
    reading: IndexReading, witnesses: list[_Witness], found: dict[RecordId, list[_Witness]], prefix: str
) -> None:
    """Who has what, who lacks it though nothing excuses that, who delegates where, and who made things up."""
    named: list[tuple[NodeId, list[str]]] = []
    branches: dict[NodeId, Branches] = {}
    for witness in witnesses:
        for holder in witness.version.by:
            unpacked = unpack(holder.branches, prefix)
            if unpacked is None:
                reading.suspect(holder, prefix).branches += 1
            elif unpacked:
                named.append((holder.id, unpacked))
                branches[holder.id] = Branches(prefix)
                branches[holder.id].add(unpacked)
            if witness.bad or not witness.is_whole:
                suspect = reading.suspect(holder, prefix)
                suspect.invented, suspect.unfinished = witness.bad, not witness.is_whole
    reading.branches = votes(named)
    versions = [witness.version for witness in witnesses if witness.version.complete]
    left = sorted(version.total - len(version.wires) for version in versions for _ in range(version.holders))
    reading.unread[prefix] = left[(len(left) - 1) // 2] if left else 0  # one alone says nothing
    short = [witness.last for witness in witnesses if witness.short and witness.last > _FIRST]
    if short:
        reading.rest = min(short)
    for order_id, having in found.items():
        _contest(reading, order_id, having, witnesses, branches, prefix, forgiving=len(found) > EMPTY_CONTESTS_MAX)


def _contest(
    reading: IndexReading,
    order_id: RecordId,
    having: list[_Witness],
    witnesses: list[_Witness],
    branches: Mapping[NodeId, Branches],
    prefix: str,
    *,
    forgiving: bool,
) -> None:
    """Whether an order is in doubt, and who has it and lacks it then. `forgiving`: who has nothing is new."""
    absent = [w for w in witnesses if w not in having and w.version.complete]
    if not absent:
        reading.settled.add(order_id)
        return
    order = reading.orders[order_id]
    rank, path = rank_of(order), tree_path(order)
    lacking = [w for w in absent if not (w.short and rank > w.last)]
    new = sum(w.version.holders for w in lacking if forgiving and not w.version.total)
    lacking = [w for w in lacking if w.version.total or not forgiving]
    showing, without = (sum(w.version.holders for w in side) for side in (having, lacking))
    lacks = [(holder, prefix) for w in lacking for holder in w.version.by]
    hiding = [(holder, at) for holder, at in lacks if holder.id not in branches or branches[holder.id].of(path) is None]
    if without == len(lacks) - len(hiding) and showing > without + new:
        reading.settled.add(order_id)
        return
    reading.contested.append(order_id)
    reading.haves[order_id] = [(holder, prefix) for w in having for holder in w.version.by]
    reading.lacks[order_id] = hiding
    if showing > without:
        reading.backed.add(order_id)
        if showing <= new:
            reading.lonely.add(order_id)


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
    reading = OrderReading(answered=result.answered, lead=result.lead)
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


def _distinct(answers: GetResult) -> Iterable[bytes]:
    return dict.fromkeys(wire for version in answers.versions for wire in version.wires)


def rank_of(order: Record[Order]) -> Rank:
    """The place of an order in the listing order of its node."""
    body = order.body
    return best_first(price_bits(body.price), buys=body.side is Side.BUY), body.created, order.id


def untold(reading: OrderReading, result: GetResult, now: float) -> list[Record[Status]]:
    """The statuses that prove an equivocation, if some holder that answered in full lacks one of them."""
    if reading.order is None:
        return []
    proof = order_state(reading.order, reading.statuses, now).proof
    told = [set(version.wires) for version in result.versions if version.complete]
    return [status for status in proof if any(status.wire not in wires for wires in told)]
