"""A search that writes down what it does: who was asked, named by whom, how long the answer took, and what it said."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from dhtex import limits
from dhtex.market.holding import ANY_KIND
from dhtex.market.ids import DhtKey, NodeId
from dhtex.overlay import wire
from dhtex.overlay.addresses import Address
from dhtex.overlay.contact import Contact, Peer, parse_compact
from dhtex.overlay.crawl import Crawl, Network
from dhtex.overlay.requests import Done, Request, Soft, _nobody
from dhtex.overlay.table import Table

OWN_TABLE: Final = ""


@dataclass(slots=True)
class Hop:
    """One node that was asked. `named_by` is the id of who named it, OWN_TABLE if we knew it.

    `answer`: silent, contacts (a stock peer's, or before its page is asked), page, or another node lives there: moved.
    `total` and `digest` speak of the records that it holds at the key. Seconds are since the start of the search.
    """

    contact: Contact
    named_by: str
    asked_s: float
    rtt_s: float | None = None
    answer: str = "silent"
    contacts: int = 0
    total: int = 0
    digest: bytes = b""


class Tracing:
    """One search for a key with all its hops. `done` is called at its end; late answers still enter their hops."""

    def __init__(self, network: Network, key: DhtKey, done: Callable[["Tracing"], None]) -> None:
        self.hops: dict[Address, Hop] = {}
        self.own_id: NodeId = network.own_id
        self.net = network.net
        self.table: Table = network.table
        self.monotonic = network.monotonic
        self.peer_at = network.peer_at
        self.worth_asking = network.worth_asking
        self.hint = network.hint
        self._network = network
        self._started = network.monotonic()
        self._named: dict[bytes, str] = {}
        self._crawl = Crawl(self, key, lambda crawl: done(self), kind=ANY_KIND)

    def start(self) -> None:
        """Begin with what the routing table knows."""
        self._crawl.start()

    def expire(self) -> None:
        """End now with what there is."""
        self._crawl.expire()

    @property
    def took_s(self) -> float:
        """How long it has taken until now."""
        return self.monotonic() - self._started

    def holders(self) -> list[Contact]:
        """The closest nodes that answered."""
        return self._crawl.closest()[: limits.HOLDERS]

    # --- what the search thinks is the network ---------------------------------------------------------------------

    def ask(
        self, peer: Peer, verb: wire.Verb, args: Any, done: Done, soft: Soft = _nobody, context: Any = None
    ) -> None:
        self._network.ask(peer, verb, args, self._noted(context, done), soft, context)

    def ask_find_node(self, peer: Peer, target: bytes, done: Done, soft: Soft = _nobody, context: Any = None) -> None:
        self._network.ask_find_node(peer, target, self._noted(context, done), soft, context)

    def _noted(self, contact: Contact, done: Done) -> Done:
        hop = self.hops.get(contact.address)
        if hop is None:
            named_by = self._named.get(contact.wire, OWN_TABLE)
            hop = self.hops[contact.address] = Hop(contact, named_by, self.took_s)
        row, asked_at = hop, self.monotonic()

        def answered(request: Request, answer: Any) -> None:
            if answer is not None:
                row.rtt_s = self.monotonic() - asked_at
                self._note(row, answer)
            done(request, answer)

        return answered

    def _note(self, hop: Hop, answer: Any) -> None:
        if not isinstance(answer, wire.GetReply):
            hop.answer = "contacts"
            hop.contacts = len(answer) if isinstance(answer, list) else 0
            return
        hop.answer = "page" if answer.responder == hop.contact.id else "moved"
        hop.contacts, hop.total, hop.digest = len(answer.contacts), answer.total, answer.digest
        for compact in answer.contacts[: limits.CONTACTS_PER_REPLY_MAX]:
            named = parse_compact(compact)
            if named is not None:
                self._named.setdefault(named.wire, answer.responder.hex())
