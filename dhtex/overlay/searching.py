"""Finding the nodes near a key: one search at a time for those who need it, and what the last one found.

A *quick* search ends when the closest LOOKUP_SURE nodes have answered, which know their neighbours; a thorough one when
all that could be holders have. Who publishes an order watches its key and puts the order there: one quick search does.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterable

from dhtex import limits
from dhtex.market.holding import NO_KIND, WHOLE, Span
from dhtex.market.ids import DhtKey
from dhtex.overlay.contact import Contact, Peer
from dhtex.overlay.crawl import Crawl, Network
from dhtex.overlay.lookup import is_holder
from dhtex.overlay.widening import Widening


class Regions:
    """Who held a key when we last looked, for a short while: puts and watches of one key need one search."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._rows: dict[DhtKey, tuple[float, tuple[Contact, ...]]] = {}

    def remember(self, crawl: Crawl) -> None:
        """Keep the result of a crawl, unless its holders are a crowd: these are looked for anew each time."""
        self._rows.pop(crawl.target, None)
        if crawl.beside:
            return
        until = self._network.monotonic() + limits.HOLDERS_REMEMBERED_S
        self._rows[crawl.target] = (until, tuple(crawl.near()[: limits.HOLDERS]))
        if len(self._rows) > limits.HOLDERS_REMEMBERED_MAX:
            del self._rows[next(iter(self._rows))]

    def forget(self, key: DhtKey) -> None:
        """Look again the next time."""
        self._rows.pop(key, None)

    def holders(self, key: DhtKey) -> tuple[Contact, ...] | None:
        """The holders of a key; None if unknown, or if one of them failed since, or somebody closer turned up."""
        until, contacts = self._rows.get(key, (0.0, ()))
        network = self._network
        if until <= network.monotonic() or not contacts:
            return None
        known = {contact.id for contact in contacts}
        if any(network.peer_at(contact.address, contact).failures for contact in contacts):
            return None
        near = network.table.closest(key, len(contacts), dhtex_only=True, sound_only=True)
        if len(contacts) < limits.HOLDERS and len(near) < len(network.table):
            near = network.table.closest(key, limits.HOLDERS, dhtex_only=True, sound_only=True)
        goal = int.from_bytes(key)
        farthest = contacts[-1].long_id ^ goal
        for peer in near:
            if (
                peer.contact is not None
                and peer.contact.id not in known
                and (len(contacts) < limits.HOLDERS or peer.contact.long_id ^ goal < farthest)
            ):
                return None
        return contacts


class _Search:
    """What follows when a search has ended."""

    timer: asyncio.TimerHandle

    def __init__(self, searches: "Searches", done: Callable[[Crawl], None], narrow: bool) -> None:
        self._searches = searches
        self._done = done
        self._narrow = narrow

    def finish(self, crawl: Crawl) -> None:
        self.timer.cancel()
        if self._narrow:
            self._done(crawl)
        else:
            self._searches.widening.widen(crawl, self._widened)

    def _widened(self, crawl: Crawl) -> None:
        self._searches.regions.remember(crawl)
        self._done(crawl)


class Searches:
    """The searches of one node. Unless `narrow`, they find holders beside a crowd too (see `widening`)."""

    def __init__(self, network: Network, entropy: random.Random) -> None:
        self._network = network
        self.regions = Regions(network)
        self.widening = Widening(network, self.start, entropy)
        self._quick: dict[DhtKey, list[Callable[[Crawl], None]]] = {}  # under way, and who waits for it

    def start(
        self,
        key: DhtKey,
        done: Callable[[Crawl], None],
        *,
        kind: int = NO_KIND,
        span: Span = WHOLE,
        seeds: Iterable[Peer] = (),
        wanted: int = limits.HOLDERS,
        narrow: bool = False,
    ) -> None:
        """Search for the `wanted` nodes nearest to a key; LOOKUP_S_MAX at most."""
        search = _Search(self, done, narrow)
        crawl = Crawl(self._network, key, search.finish, kind=kind, span=span, wanted=wanted)
        search.timer = asyncio.get_running_loop().call_later(limits.LOOKUP_S_MAX, crawl.expire)
        crawl.start(seeds)

    def evident(self, key: DhtKey) -> list[Contact]:
        """Who else holds a key as far as we know, closest first: nobody, unless our table may have all who are near it.

        It may lack some nevertheless; so whoever is farther than the holders of a network of this size is left out."""
        network = self._network
        if not network.table.is_whole(key):
            return []
        near = network.table.closest(key, limits.HOLDERS, dhtex_only=True)
        contacts = [peer.contact for peer in near if peer.contact is not None and not peer.failures]
        others = limits.HOLDERS - is_holder(network.own_id, key, contacts)
        goal, reach, of_one = int.from_bytes(key), self.widening.reach(key), Counter[bytes | None]()
        evident = []
        for contact in contacts[:others]:
            of_one[contact.subnet] += contact.subnet is not None
            if contact.long_id ^ goal <= reach and of_one[contact.subnet] <= limits.PEERS_PER_SUBNET_IN_BUCKET:
                evident.append(contact)
        return evident

    async def run(self, key: DhtKey, *, quick: bool) -> Crawl:
        """Search for a key's holders; if `quick`, share the search of others who look for the same."""
        found: asyncio.Future[Crawl] = asyncio.get_running_loop().create_future()
        start = self._start_quick if quick else self.start
        start(key, lambda crawl: None if found.done() else found.set_result(crawl))
        return await found

    def _start_quick(self, key: DhtKey, done: Callable[[Crawl], None]) -> None:
        waiting = self._quick.setdefault(key, [])
        waiting.append(done)
        if len(waiting) > 1:
            return

        def ended(crawl: Crawl) -> None:
            if self._quick.get(key) is waiting:
                del self._quick[key]
            for each in waiting:
                each(crawl)

        self.start(key, ended, wanted=limits.LOOKUP_SURE)

    def peer_found(self) -> None:
        """A peer was admitted, of which the searches under way know nothing: who comes now searches anew."""
        self._quick.clear()

    def survey(self, key: DhtKey, seeds: Iterable[Peer] = (), done: Callable[[], None] = lambda: None) -> None:
        """Search for the sake of the contacts met and of the estimate of the network's size."""

        def ended(crawl: Crawl) -> None:
            self.widening.sample(crawl)
            done()

        self.start(key, ended, seeds=seeds, narrow=True)

    def look(self, key: DhtKey) -> None:
        """Hear from whoever is nearest to a key who else is near."""
        self.start(key, lambda crawl: None, wanted=1, narrow=True)

    async def settle(self, peer: Peer) -> None:
        """Find our own neighbourhood through a peer."""
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        own_id = DhtKey(self._network.own_id)
        self.survey(own_id, (peer,), lambda: None if ended.done() else ended.set_result(None))
        await ended

    def locate(self, key: DhtKey, done: Callable[[DhtKey, list[Contact]], None]) -> None:
        """Find a key's holders, other than ourselves, closest first: from memory, or by a quick search.

        If they are a crowd, those beside it come behind the closest, so that the first few are of both.
        """
        known = self.regions.holders(key)
        if known is not None:
            done(key, list(known))
        else:
            self._start_quick(key, lambda crawl: done(key, crawl.mixed()))
