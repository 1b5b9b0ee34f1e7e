"""Fetching what proves itself, as an order does by its id: one honest holder is enough, so as few as can be are asked.

Theory of operation. Of those that should be holders by the network's size the quickest is asked alone, or whoever is
closest, for FETCH_ALONE_S: a node that is near has answered by then, and a holder answers with the record instead of
contacts. When it has nothing, is silent, or is far away, the search goes on as usual, FETCH_PARALLEL at a time, until
somebody has the record or all that could have.
"""

from collections.abc import Callable

from dhtex import limits
from dhtex.market.holding import EITHER
from dhtex.market.ids import DhtKey
from dhtex.overlay.crawl import Crawl, Network
from dhtex.overlay.widening import Widening
from dhtex.overlay.wire import GetReply


class Fetch:
    """One fetch, whose search ends within LOOKUP_S_MAX. `done` is called once, with a record that `is_it`, or None."""

    def __init__(
        self,
        network: Network,
        widening: Widening,
        key: DhtKey,
        kind: int,
        is_it: Callable[[bytes], bool],
        done: Callable[[bytes | None], None],
    ) -> None:
        self._widening = widening
        self._is_it = is_it
        self._done = done
        self._found: bytes | None = None
        self._crawl = Crawl(
            network, key, self._crawled, kind=kind | EITHER, enough=self._enough, reach=widening.reach(key)
        )
        self._later = network.later
        self._timer = self._later(limits.FETCH_ALONE_S, self._hurry)

    def start(self) -> None:
        """Ask the first."""
        self._crawl.start()

    def _enough(self, answer: GetReply) -> bool:
        if self._found is None:
            self._found = next(filter(self._is_it, answer.wires), None)
        return self._found is not None

    def _hurry(self) -> None:
        self._timer = self._later(limits.LOOKUP_S_MAX, self._crawl.expire)
        self._crawl.hurry()

    def _crawled(self, crawl: Crawl) -> None:
        self._timer.cancel()
        if self._found is None:
            self._widening.widen(crawl, self._widened)
        else:
            self._done(self._found)

    def _widened(self, crawl: Crawl) -> None:
        for contact in crawl.beside:
            self._enough(crawl.answers[contact])
        self._done(self._found)
