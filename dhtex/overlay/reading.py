"""Reading a key: all holders are asked, equal answers are recognised by digest, and each different one is pulled once.

Theory of operation. The crawl that finds the holders brings the first page of each along. Holders whose digests are
equal hold equal sets, so their *version* is pulled from all of them together, pages in parallel. Of versions that
differ only the one that most vouch for is pulled so; of the others the short ids are, and then the records that are not
known. Each holder lists orders by price and so in the same order; small sets may be listed by arrival, and come from
one holder. The digest over the ids that came tells whether the version is complete; if not, it is pulled once more from
each holder alone, until one of them gives what it vouches for: whoever repeats the digest of others but not their
records hides nothing.

A liar may also promise thousands of records and give them one by one, each just in time. So a reading ends after
READ_S_MAX with what it has, or READ_GRACE_S after it has all of what most holders vouch for; what was not pulled by
then counts as incomplete.
"""

from collections.abc import Callable
from typing import Final

from dhtex import limits
from dhtex.market.holding import IDS, SHORT_ID_BYTES, Page
from dhtex.market.ids import DhtKey
from dhtex.overlay import wire
from dhtex.overlay.contact import Contact
from dhtex.overlay.crawl import Crawl, Network
from dhtex.overlay.pages import PagePlan, digest_of, split_ids, wire_id
from dhtex.overlay.requests import Request
from dhtex.overlay.results import GetResult, Holder, Version

SMALL: Final = limits.RECORDS_PER_ORDER_KEY_MAX


class _Pull:
    """One version on its way, and the holders that vouch for it."""

    def __init__(
        self,
        reading: "Reading",
        digest: bytes,
        total: int,
        holders: list[Contact],
        by: tuple[Holder, ...],
        first: list[bytes],
    ) -> None:
        self.digest = digest
        self.total = total
        self.voters = len(holders)
        self._by = by
        self.reading = reading
        self.plan = PagePlan(total, reading.limit)
        self._first = first
        self._sources = holders
        self._alone = holders[::-1]
        self.came: dict[bytes, None] = {}
        self._turn = 0
        self._ids: PagePlan | None = None
        self.settled = False
        self.complete = False

    def start(self, *, by_ids: bool) -> None:
        """Use the page that came with the crawl, and ask for the rest; first for the ids, if most of it may be
        known."""
        if by_ids and self.total > SMALL and self.plan.wanted > len(self._first):
            self._ids = PagePlan(self.total, self.reading.limit)
        if self._first:
            self.plan.on_page(0, self._first)
        if self.total <= SMALL:
            self._sources = self._sources[:1]
            self._alone.insert(0, self._alone.pop())  # the others first
        self.pump()

    def pump(self) -> None:
        """Keep the window full."""
        if self._ids is not None and self.waits:
            if not self.reading.is_pool_ready(self):
                return
            ids, self._ids = self._ids, None
            if ids.full:
                pool = self.reading.pool(self)
                self.plan.fill([pool.get(short) if short is not None else None for short in ids.rows()])
        plan = self.plan if self._ids is None else self._ids
        while not self.settled and plan.in_flight < self.reading.window:
            rank = plan.next()
            if rank is None:
                break
            self._turn += 1
            self.reading.ask_page(self, self._sources[self._turn % len(self._sources)], plan, rank)
        if plan is self.plan and not self.settled and (plan.finished or not plan.in_flight):
            self._settle()

    def on_page(self, request: Request, answer: wire.GetReply | None) -> None:
        """A page, or None."""
        _, plan, rank = request.context
        if self.settled or plan not in (self.plan, self._ids):
            return
        if answer is None:
            plan.on_lost(rank)
        else:
            plan.on_page(rank, answer.wires if plan is self.plan else split_ids(answer.wires))
        self.pump()

    def _settle(self) -> None:
        plan = self.plan
        all_of_it = plan.wanted == self.total
        self.complete = plan.full and not plan.cut_short and (not all_of_it or digest_of(plan.wires()) == self.digest)
        if not self.complete and plan.wanted and not plan.cut_short and self._alone:
            self._keep()
            self.plan = PagePlan(self.total, self.reading.limit)
            self._ids = PagePlan(self.total, self.reading.limit) if self.total > SMALL else None
            self._sources = [self._alone.pop()]
            self.pump()
            return
        self.settled = True
        self.reading.settled()

    def _keep(self) -> None:
        """Remember what came: each record is checked by its own signature, so nothing is lost to a bad neighbour."""
        self.came.update(dict.fromkeys(self.plan.wires()))

    @property
    def waits(self) -> bool:
        """Whether the ids are there, and what they are compared to is not."""
        return self._ids is not None and (self._ids.full or self._ids.finished)

    def expire(self) -> None:
        """Take what there is."""
        self.settled = True

    def version(self) -> Version:
        """What came of it."""
        if not self.complete:
            self._keep()
        wires = self.plan.wires() if self.complete else tuple(self.came)
        return Version(self.digest, self.total, self.voters, wires, self.complete, self._by)


def _holders(crawl: Crawl, contacts: list[Contact]) -> tuple[Holder, ...]:
    return tuple(Holder(contact.id, contact.address, crawl.answers[contact].branches) for contact in contacts)


class Reading:
    """One get. `own` is our own page of the key if we hold it: all records, or the first `limit`.

    `hurry` is called once, when what most holders vouch for is there but something else is still being pulled.
    """

    def __init__(
        self,
        network: Network,
        kind: int,
        limit: int | None,
        own: Page | None,
        done: Callable[[GetResult], None],
        hurry: Callable[[], None],
    ) -> None:
        self.limit = limit
        self.window = limits.PAGES_IN_FLIGHT_MAX
        self._network = network
        self._key = DhtKey(b"")
        self._kind = kind
        self._own = own
        self._done = done
        self._hurry: Callable[[], None] | None = hurry
        self._pulls: list[_Pull] = []
        self._versions: list[Version] = []
        self._asked = 0
        self._answered = 0
        self._finished = False

    def start(self, crawl: Crawl, holders: list[Contact]) -> None:
        """Go on from a finished crawl with the answers of its closest nodes."""
        self._key = crawl.target
        own = self._own
        self._asked = self._answered = len(holders) + (own is not None)
        self._asked += min(len(crawl.slow()), limits.HOLDERS - min(self._asked, limits.HOLDERS))
        groups: dict[tuple[bytes, int], list[Contact]] = {}
        for contact in holders:
            answer = crawl.answers[contact]
            groups.setdefault((answer.digest, answer.total), []).append(contact)
        if own is not None:
            same = groups.pop((own.digest, own.total), [])
            wires = tuple(own.wires if self.limit is None else own.wires[: self.limit])
            by = (Holder(self._network.own_id, None, own.branches), *_holders(crawl, same))
            self._versions.append(Version(own.digest, own.total, 1 + len(same), wires, True, by))
        for (digest, total), contacts in groups.items():
            first = max((crawl.answers[contact].wires for contact in contacts), key=len)
            if total <= SMALL:
                first = crawl.answers[contacts[0]].wires
            self._pulls.append(_Pull(self, digest, total, contacts, _holders(crawl, contacts), first))
        self.window = max(1, limits.PAGES_IN_FLIGHT_MAX // max(1, len(self._pulls)))
        self._pulls.sort(key=lambda pull: (-pull.voters, -pull.total, pull.digest))
        for place, pull in enumerate(self._pulls):
            pull.start(by_ids=own is not None or place > 0)
        self.settled()

    def is_pool_ready(self, asking: _Pull) -> bool:
        """Whether the version to which others are compared is there."""
        reference = self._pulls[0]
        return self._own is not None or reference is asking or reference.settled

    def pool(self, asking: _Pull) -> dict[bytes, bytes]:
        """All records that came so far, by short id."""
        wires = [wire for version in self._versions for wire in version.wires]
        wires += [wire for pull in self._pulls if pull.settled for wire in pull.version().wires]
        return {wire_id(wire)[:SHORT_ID_BYTES]: wire for wire in (*wires, *asking.came, *asking.plan.wires())}

    def ask_page(self, pull: _Pull, contact: Contact, plan: PagePlan, rank: int) -> None:
        """Ask a holder for one page, without contacts."""
        network = self._network
        kind = self._kind if plan is pull.plan else self._kind | IDS
        args = wire.GetArgs(network.net, network.own_id, b"", self._key, kind, rank, False)
        network.ask(network.peer_at(contact.address, contact), wire.GET, args, pull.on_page, context=(pull, plan, rank))

    def expire(self) -> None:
        """End now with what there is."""
        for pull in self._pulls:
            if not pull.settled:
                pull.expire()
        self.settled()

    def settled(self) -> None:
        """A version came to its end; when all have, so has the reading."""
        for pull in [pull for pull in self._pulls if not pull.settled and pull.waits]:
            pull.pump()
        if not self._finished and all(pull.settled for pull in self._pulls):
            self._finished = True
            versions = self._versions + [pull.version() for pull in self._pulls]
            versions.sort(key=lambda version: (-version.holders, -version.total, version.digest))
            own = self._own
            self._done(GetResult(self._asked, self._answered, tuple(versions), own is not None))
        elif not self._finished and self._hurry is not None and 2 * self._vouched() > self._answered:
            self._hurry()
            self._hurry = None

    def _vouched(self) -> int:
        """How many holders vouch for the versions that are complete."""
        return sum(v.holders for v in self._versions) + sum(pull.voters for pull in self._pulls if pull.complete)
