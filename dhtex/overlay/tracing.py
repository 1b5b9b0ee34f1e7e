"""A search that writes down what it does: who was asked, named by whom, how long the answer took, and what it said.

A digest is repeated as easily as a rumour. So at the end each holder is asked for its first page, and that is compared
with what the holder says of it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from dhtex import limits
from dhtex.market.holding import ANY_KIND
from dhtex.market.ids import DhtKey, NodeId
from dhtex.market.records import Fault, parse_record
from dhtex.overlay import wire
from dhtex.overlay.addresses import Address
from dhtex.overlay.contact import Contact, Peer, parse_compact
from dhtex.overlay.crawl import Crawl, Network
from dhtex.overlay.pages import digest_of
from dhtex.overlay.requests import Done, Request, Soft, _nobody
from dhtex.overlay.table import Table

OWN_TABLE: Final = ""


@dataclass(slots=True)
class Hop:
    """One node that was asked. `named_by` is the id of who named it, OWN_TABLE if we knew it.

    `answer`: silent, contacts (a stock peer's, or before its page is asked), page, junk (a page that is not what its
    total and digest say), or another node lives there: moved.
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

    @property
    def said(self) -> tuple[bytes, int] | None:
        """What it holds, to be compared with what others hold; None of one whose page is something else."""
        return None if self.answer == "junk" else (self.digest, self.total)


class Tracing:
    """One search for a key with all its hops. `done` is called at its end; late answers still enter their hops."""

    def __init__(self, network: Network, key: DhtKey, done: Callable[["Tracing"], None]) -> None:
        self.hops: dict[Address, Hop] = {}
        self.own_id: NodeId = network.own_id
        self.net = network.net
        self.table: Table = network.table
        self.monotonic = network.monotonic
        self.later = network.later
        self.peer_at = network.peer_at
        self.worth_asking = network.worth_asking
        self.hint = network.hint
        self._network = network
        self._started = network.monotonic()
        self._named: dict[bytes, str] = {}
        self._key = key
        self._done = done
        self._pages = 0  # that are awaited
        self._crawl = Crawl(self, key, lambda crawl: self._ask_pages(), kind=ANY_KIND)

    def start(self) -> None:
        """Begin with what the routing table knows."""
        self._crawl.start()

    def expire(self) -> None:
        """End now with what there is."""
        self._crawl.expire()
        if self._pages:
            self._pages = 0
            self._done(self)

    @property
    def took_s(self) -> float:
        """How long it has taken until now."""
        return self.monotonic() - self._started

    def holders(self) -> list[Contact]:
        """The closest nodes that answered."""
        return self._crawl.closest()[: limits.HOLDERS]

    # --- what holders give ------------------------------------------------------------------------------------------

    def _ask_pages(self) -> None:
        holders = self.holders()
        self._pages = len(holders)
        for contact in holders:
            args = wire.GetArgs(self.net, self.own_id, b"", self._key, ANY_KIND, 0, False)
            self._network.ask(self.peer_at(contact.address, contact), wire.GET, args, self._on_page, context=contact)
        if not holders:
            self._done(self)

    def _on_page(self, request: Request, answer: wire.GetReply | None) -> None:
        hop = self.hops[request.context.address]
        if answer is not None and answer.responder == hop.contact.id:
            hop.total, hop.digest = answer.total, answer.digest
            hop.answer = "page" if _is_sound(answer) else "junk"
        if self._pages:
            self._pages -= 1
            if not self._pages:
                self._done(self)

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


def _is_sound(page: wire.GetReply) -> bool:
    """Whether a first page is made of records; and if these are all, whether its digest is theirs."""
    wires = page.wires
    if any(isinstance(parse_record(each, None), Fault) for each in wires):
        return False
    return digest_of(wires) == page.digest if len(wires) == page.total else 0 < len(wires) < page.total
