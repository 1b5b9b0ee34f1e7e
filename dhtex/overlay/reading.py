"""Reading a key: all holders are asked, equal answers are recognised by digest, and each different one is pulled once.

Theory of operation. The crawl that finds the holders brings the first page of each along. Holders whose digests are
equal hold equal sets, so their *version* is pulled from all of them together, pages in parallel. Of versions that
differ only the one that most vouch for is pulled so; of the others the short ids are, and then the records that are not
known. Each holder lists orders by price and so in the same order; small sets may be listed by arrival, and come from
one holder. The digest over the ids that came tells whether the version is complete. If not, somebody repeats the digest
of others but not their records, or the list has changed meanwhile. So each holder is asked once more alone what it has
now, by short ids, and only for records that have not come from anybody yet: until one of them gives what all vouched
for. Whose list has changed is a version of its own. So a book in which much happens costs each holder's list of ids
once more, and no list of records twice.

A liar may also promise thousands of records and give them one by one, each just in time. So a reading ends after
READ_S_MAX with what it has, or READ_GRACE_S after it has all of what most holders vouch for; what was not pulled by
then counts as incomplete.
"""

from collections.abc import Callable
from typing import Final

from dhtex import limits
from dhtex.market.holding import IDS, SHORT_ID_BYTES, WHOLE, Page
from dhtex.market.ids import DhtKey
from dhtex.overlay import wire
from dhtex.overlay.contact import Contact
from dhtex.overlay.crawl import Crawl, Network
from dhtex.overlay.pages import ID_STRIDE, PagePlan, digest_of, split_ids, wire_id
from dhtex.overlay.requests import Request
from dhtex.overlay.results import GetResult, Holder, Version

SMALL: Final = limits.RECORDS_PER_ORDER_KEY_MAX


class _Pull:
    """One version on its way, and the holders that vouch for it."""

    def __init__(
        self, reading: "Reading", digest: bytes, total: int, holders: dict[Contact, Holder], first: list[bytes]
    ) -> None:
        self.digest = digest
        self.total = total
        self.reading = reading
        self.plan = PagePlan(total, reading.limit)
        self._by = holders
        self._first = first
        self._sources = list(holders)
        self._alone = self._sources[::-1]
        self._sole: Contact | None = None  # who is asked alone, and the digest and total that it gives now
        self._told: tuple[bytes, int] | None = None
        self._least = total  # records that it had while it was asked
        self._parted: list[Version] = []
        self.came: dict[bytes, None] = {}
        self._turn = 0
        self._ids: PagePlan | None = None
        self.settled = False
        self.complete = False

    @property
    def voters(self) -> int:
        """How many holders vouch for it."""
        return len(self._by)

    def start(self, *, by_ids: bool) -> None:
        """Use the page that came with the crawl, and ask for the rest; first for the ids, if most of it may be
        known."""
        if by_ids and self.total > SMALL and self.plan.wanted > len(self._first):
            self._ids = PagePlan(self.total, self.reading.limit, ID_STRIDE)
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
            pool = self.reading.pool(self)
            self.plan.fill([None if short is None else pool.get(short) for short in ids.rows()])
        plan = self.plan if self._ids is None else self._ids
        window = 1 if self._sole is not None and self._told is None else self.reading.window
        while not self.settled and plan.in_flight < window:
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
        begins = self._sole is not None and self._told is None
        if answer is None and begins:
            self._go_on()  # it is silent, and the next may know as well
            return
        if answer is None:
            plan.on_lost(rank)
        elif begins and self._begin_anew(answer, plan is self._ids):
            return
        else:
            self._least = min(self._least, answer.total)
            plan = self.plan if self._ids is None else self._ids
            plan.on_page(rank, answer.wires if plan is self.plan else split_ids(answer.wires))
        self.pump()

    def _settle(self) -> None:
        plan = self.plan
        digest, total = self._told or (self.digest, self.total)
        all_of_it = plan.wanted == total
        complete = plan.full and not plan.cut_short and (not all_of_it or digest_of(plan.wires()) == digest)
        if self._sole is not None and (digest, total) != (self.digest, self.total):
            self._keep()
            wires, by = plan.wires() if complete else tuple(self.came), (self._by.pop(self._sole),)
            self._parted.append(Version(digest, total if complete else self._least, 1, wires, complete, by))
        else:
            self.complete = complete
        if self.complete or plan.cut_short or not (plan.wanted or self._sole):
            self._alone.clear()
        self._go_on()

    def _go_on(self) -> None:
        """Ask the next holder alone, or end if there is none."""
        if not self._alone:
            self.settled = True
            self.reading.settled()
            return
        self._keep()
        self._sole, self._told = self._alone.pop(), None
        self._sources = [self._sole]
        self._plan_anew(self.total)
        self.pump()

    def _plan_anew(self, total: int) -> None:
        self.plan = PagePlan(total, self.reading.limit, self.plan.stride)
        self._ids = PagePlan(total, self.reading.limit, ID_STRIDE) if total > SMALL else None

    def _begin_anew(self, answer: wire.GetReply, ids: bool) -> bool:
        """What the holder that is asked alone has now; whether its list needs no pulling, as another has the same."""
        self._told = told = (answer.digest, answer.total)
        self._least = answer.total
        if told != (self.digest, self.total):
            self._plan_anew(answer.total)
            if ids != (self._ids is not None):
                self.pump()
                return True
        same = next((v for v in self._parted if v.complete and (v.digest, v.total) == told), None)
        if same is None or self._sole is None:
            return False
        by = (*same.by, self._by.pop(self._sole))
        self._parted[self._parted.index(same)] = Version(*told, len(by), same.wires, True, by)
        self._go_on()
        return True

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

    @property
    def vouched(self) -> int:
        """How many holders vouch for what came in full."""
        parted = sum(version.holders for version in self._parted if version.complete)
        return parted + (self.voters if self.complete else 0)

    def versions(self) -> list[Version]:
        """What came of it; more than one, if the lists of holders changed meanwhile."""
        if not self._by:
            return self._parted
        if not self.complete:
            self._keep()
        wires = self.plan.wires() if self.complete else tuple(self.came)
        rest = Version(self.digest, self.total, self.voters, wires, self.complete, tuple(self._by.values()))
        return [*self._parted, rest]


def _holders(crawl: Crawl, contacts: list[Contact]) -> dict[Contact, Holder]:
    return {contact: Holder(contact.id, contact.address, crawl.answers[contact].branches) for contact in contacts}


def _nothing(_result: GetResult) -> None:
    return


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
        self._span = WHOLE
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
        self._key, self._span = crawl.target, crawl.span
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
            by = (Holder(self._network.own_id, None, own.branches), *_holders(crawl, same).values())
            self._versions.append(Version(own.digest, own.total, 1 + len(same), wires, True, by))
        for (digest, total), contacts in groups.items():
            contacts.sort(key=lambda contact: not crawl.answers[contact].wires)  # some had no room for records
            first = max((crawl.answers[contact].wires for contact in contacts), key=len)
            if total <= SMALL:
                first = crawl.answers[contacts[0]].wires
            self._pulls.append(_Pull(self, digest, total, _holders(crawl, contacts), first))
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
        wires += [wire for pull in self._pulls if pull.settled for version in pull.versions() for wire in version.wires]
        return {wire_id(wire)[:SHORT_ID_BYTES]: wire for wire in (*wires, *asking.came, *asking.plan.wires())}

    def ask_page(self, pull: _Pull, contact: Contact, plan: PagePlan, rank: int) -> None:
        """Ask a holder for one page, without contacts."""
        network = self._network
        kind = self._kind if plan is pull.plan else self._kind | IDS
        args = wire.GetArgs(network.net, network.own_id, b"", self._key, kind, rank, False, *self._span)
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
            versions = [*self._versions, *(version for pull in self._pulls for version in pull.versions())]
            versions.sort(key=lambda version: (-version.holders, -version.total, version.digest))
            result = GetResult(self._asked, self._answered, tuple(versions), self._own is not None)
            done, self._done, self._hurry = self._done, _nothing, None  # all of it can go when its last question does
            self._pulls.clear()
            done(result)
        elif not self._finished and self._hurry is not None and 2 * self._vouched() > self._answered:
            self._hurry()
            self._hurry = None

    def _vouched(self) -> int:
        """How many holders vouch for the versions that are complete."""
        return sum(v.holders for v in self._versions) + sum(pull.vouched for pull in self._pulls)
