"""Looking beside a crowd: when the nodes closest to a key are suspected to be one person's, holders are found near by.

Theory of operation. Searches for points that nobody could foresee are samples of the network's size (`estimate`). When
a search for a key ends among nodes that lie too close together for that size, further searches go to random points of
the ranges beside it, and whom they find counts as holders too, for puts and gets and watches. Such a range holds fewer
nodes than a search finds, so all who look there meet the same ones, whichever points they drew.
"""

import random
from collections.abc import Callable
from typing import Protocol

from dhtex import limits
from dhtex.market.holding import NO_KIND
from dhtex.market.ids import DhtKey
from dhtex.overlay import wire
from dhtex.overlay.contact import Contact
from dhtex.overlay.crawl import Crawl, Network
from dhtex.overlay.estimate import ID_BITS, SizeEstimate
from dhtex.overlay.requests import Request
from dhtex.overlay.table import random_id_at

Done = Callable[[Crawl], None]


class Search(Protocol):
    """Starts a thorough search for a key; calls back once."""

    def __call__(self, key: DhtKey, done: Done, *, narrow: bool) -> None: ...


class Widening:
    """The size of the network as one node sees it, and what follows for its searches. `survey` orders new samples."""

    def __init__(self, network: Network, search: Search, entropy: random.Random) -> None:
        self.survey: Callable[[], None] = lambda: None
        self.size = SizeEstimate()
        self._network = network
        self._search = search
        self._entropy = entropy
        self._surveyed = network.monotonic()

    def sample(self, crawl: Crawl) -> None:
        """Learn from a search for a point that nobody could foresee."""
        if found := crawl.closest():
            if not len(self.size):
                self.size.begin(self._network.own_id, self._neighbours())
            bucket = _shared_bits(crawl.target, self._network.own_id)
            self.size.add(crawl.target, [contact.id for contact in found], 0.5 ** (bucket + 1))

    def network_size(self) -> int:
        """An estimate of the number of dhtex nodes, ourselves included."""
        return self.size.nodes(self._network.own_id, self._neighbours())

    def reach(self, key: DhtKey) -> int:
        """The distance from a key within which the HOLDERS nearest that we know should be its holders: chance puts as
        many nodes there, or half as many again where our table may have all of them."""
        table = self._network.table
        count = limits.HOLDERS * (1.5 if table.is_whole(key) else 1.0)
        return int((1 << ID_BITS) * min(1.0, count / (max(self.size.others(), len(table)) + 1)))

    def _neighbours(self) -> list[bytes]:
        own_id, table = self._network.own_id, self._network.table
        near = table.closest(own_id, limits.BUCKET_SIZE, dhtex_only=True)
        return [peer.contact.id for peer in near if peer.contact is not None]

    def tick(self, now: float) -> None:
        """Measure anew if the network has changed. Call about once a second."""
        if now - self._surveyed >= limits.SIZE_RESAMPLE_S:
            self._surveyed = now
            if self.size.outdated(self._network.own_id, self._neighbours()):
                self.size.begin(self._network.own_id, self._neighbours())
                self.survey()

    def widen(self, crawl: Crawl, done: Done) -> None:
        """Call `done`, at once or after `crawl.beside` was filled with holders beside a crowd."""
        if not self.size.crowded(crawl.target, [contact.id for contact in crawl.near()]):
            done(crawl)
            return
        ranges = self.size.detours()
        found: dict[int, list[Contact]] = {}

        def ended(detour: Crawl) -> None:
            depth = _shared_bits(detour.target, crawl.target)
            found[depth] = [c for c in detour.closest() if _shared_bits(c.id, crawl.target) == depth]
            if len(found) == len(ranges):
                near = set(crawl.near()[: limits.HOLDERS])
                # The narrowest range first: it is the one of which all who look meet the same nodes.
                beside = [contact for depth in reversed(ranges) for contact in found[depth] if contact not in near]
                self._ask_pages(crawl, beside, done)

        for depth in ranges:
            point = random_id_at(crawl.target, depth, self._entropy.randbytes(len(crawl.target)))
            self._search(DhtKey(point), ended, narrow=True)

    def _ask_pages(self, crawl: Crawl, beside: list[Contact], done: Done) -> None:
        """Fill `crawl.beside` and, if pages are wanted, `crawl.answers`, as the search itself does for the closest."""
        network, waiting = self._network, len(beside)

        def answered(request: Request, answer: wire.GetReply | None) -> None:
            nonlocal waiting
            contact: Contact = request.context
            if answer is not None and answer.responder == contact.id:
                crawl.answers[contact] = answer
                crawl.beside.append(contact)
            waiting -= 1
            if not waiting:
                done(crawl)

        if not beside or crawl.kind == NO_KIND:
            crawl.beside = beside
            done(crawl)
            return
        for contact in beside:
            args = wire.GetArgs(network.net, network.own_id, b"", crawl.target, crawl.kind, 0, False, *crawl.span)
            network.ask(network.peer_at(contact.address, contact), wire.GET, args, answered, context=contact)


def _shared_bits(one: bytes, other: bytes) -> int:
    return 8 * len(one) - (int.from_bytes(one) ^ int.from_bytes(other)).bit_length()
