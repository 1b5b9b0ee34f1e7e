"""The composition root: the only place where the parts of a node are built, and the only file that knows all layers."""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dhtex import limits
from dhtex.clock import Clock
from dhtex.config import NETWORK_OF_STATE, POW_BITS_OF_NETWORK, NodeConfig, settle
from dhtex.directory.proving import Gate
from dhtex.directory.reading import Check
from dhtex.directory.service import Directory
from dhtex.directory.tending import Tending
from dhtex.errors import StateError
from dhtex.market.admission import Verifier
from dhtex.market.identity import Identity
from dhtex.market.ids import NodeId, RecordId
from dhtex.market.keyring import Keyring
from dhtex.market.records import Kind, Order, is_a, parse_record
from dhtex.market.stamp import hour_of, required_bits
from dhtex.minting import Mint
from dhtex.node.beats import Beats
from dhtex.node.bootstrap import Bootstrap
from dhtex.node.canary import Canary
from dhtex.node.counter import Counter, Progress
from dhtex.node.events import Hub
from dhtex.node.following import Following
from dhtex.node.market import Market
from dhtex.node.offers import Offers
from dhtex.overlay.addresses import canonical_ip
from dhtex.overlay.bep42 import follows, node_id_for
from dhtex.overlay.server import Overlay
from dhtex.overlay.transport import OpenEndpoint
from dhtex.store.database import Database
from dhtex.store.holdings import Holdings
from dhtex.store.journal import Journal
from dhtex.store.soundness import check_rows
from dhtex.trading.receipts import Receipts
from dhtex.trading.selling import Terms
from dhtex.trading.service import Desk
from dhtex.trading.settling import Settling


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Everything of which a node consists. `config` names the network, whether or not it was said."""

    config: NodeConfig
    database: Database
    journal: Journal
    identity: Identity
    keys: Keyring
    node_id: NodeId
    epoch: int
    holdings: Holdings
    overlay: Overlay
    directory: Directory
    counter: Counter
    desk: Desk
    settling: Settling
    offers: Offers
    beats: Beats
    market: Market
    following: Following
    hub: Hub
    mint: Mint
    bootstrap: Bootstrap
    canary: Canary
    check: Check
    tending: Tending

    def save(self, now: float, *, peers: bool = False, rows_max: int | None = None) -> bool:
        """Write what can wait: held records (all, or so many) and, if asked, whom to ask after a restart. False when
        the disk refuses: nothing is lost then, and it is written the next time."""
        try:
            self.holdings.flush(now, rows_max)
            if peers:
                known = [(peer.id, peer.address) for peer in self.overlay.peers() if peer.kind == "dhtex"]
                if known:  # else all that are on disk stay; of a network cut apart the others may be among the missing
                    both = self.overlay.missing_peers()[-limits.LOST_PEERS_MAX :] + known
                    self.journal.save_peers([(node_id, *address) for node_id, address in both])
                if (ip := self.overlay.selfview.public_ip()) is not None and ip != self.journal.public_ip():
                    self.journal.set_public_ip(ip)
        except StateError:
            return False
        return True


def settled_id(journal: Journal, node_id: NodeId, entropy: random.Random) -> NodeId:
    """The overlay id of this life. One that does not follow from the global address that peers saw last is replaced
    (BEP 42): between two lives, because a running node is known by its id, and holds what is near it."""
    ip = canonical_ip(journal.public_ip() or "")
    if ip is None or follows(node_id, ip):
        return node_id
    changed = NodeId(node_id_for(ip, entropy.randbytes(len(node_id))))
    journal.set_node_id(changed)
    return changed


def settled_config(journal: Journal, config: NodeConfig, of_records: str) -> NodeConfig:
    """The settings with the network of the state, which remembers it from then on. A state without records of its own
    may change to another network. Raises StateError for one that cannot."""
    remembered = journal.network()
    known = remembered or (of_records, POW_BITS_OF_NETWORK)  # a new state, or one of a version that did not remember
    if not of_records and config.network not in (NETWORK_OF_STATE, known[0]):
        known = ("", POW_BITS_OF_NETWORK)
    elif of_records not in ("", known[0]):
        raise StateError(
            f"the state file is damaged: its records are of network {of_records}", hint="put back a backup"
        )
    settled = settle(config, *known)
    if (settled.network, settled.pow_bits) != remembered:
        journal.set_network(settled.network, settled.pow_bits)
    return settled


class OpenDatabase(Protocol):
    """What opens a node's state, as `Database.open` does."""

    def __call__(self, path: Path | None, *, fresh: bool = False) -> Database: ...


def _keyring(seed: bytes, config: NodeConfig, journal: Journal, now: float) -> Keyring:
    """The keys of this node, those of its orders that still matter among them."""
    keys = Keyring(seed, config.tag)
    for own in journal.orders():
        live = own.expires + limits.TOMBSTONE_S > now
        if live and is_a(order := parse_record(own.wire, config.network), Order) and keys.of(order.body) is None:
            raise StateError("the state file is damaged: its orders are not of its key", hint="put back a backup")
    return keys


def build(
    config: NodeConfig, clock: Clock, entropy: random.Random, database: Database, open_endpoint: OpenEndpoint
) -> Parts:
    """Build everything on an open state; nothing listens yet. Raises StateError or UsageError."""
    journal, of_records = Journal(database), check_rows(database)
    seed, node_id, epoch = journal.identity(entropy)
    config = settled_config(journal, config, of_records)
    node_id = settled_id(journal, node_id, entropy)
    keys = _keyring(seed, config, journal, clock.now())
    verifier, mint, hub = Verifier(), Mint(entropy), Hub(clock)
    gate = Gate(verifier, config.pow_bits, clock)
    holdings = Holdings(database, config.network, config.pow_bits, verifier)
    overlay = Overlay(node_id, config.network, holdings, clock, entropy, open_endpoint=open_endpoint)
    overlay.selfview.client = overlay.selfview.always_client = config.client

    async def stamp(record_id: RecordId, kind: Kind, made: float, progress: Progress | None, bits: int) -> bytes:
        return await mint.mint(record_id, max(bits, required_bits(kind, config.pow_bits)), hour_of(made), progress)

    directory = Directory(overlay, config.network, gate.check, clock, entropy, gate.prove)
    counter = Counter(directory, overlay, stamp, clock.now)
    terms = Terms(config.network, config.pow_bits, epoch, verifier.check, config.contact)
    desk = Desk(journal, keys, counter, clock, entropy, terms)
    offers = Offers(
        config.network,
        keys,
        epoch,
        journal,
        directory,
        stamp,
        config.pow_bits,
        clock,
        entropy,
        on_opened=desk.order_opened,
        on_closed=desk.order_closed,
        read_back=desk.read_back,
    )
    market = Market(config.network, keys, directory, journal, holdings, offers, clock)
    return Parts(
        config=config,
        database=database,
        journal=journal,
        identity=keys.main,
        keys=keys,
        node_id=node_id,
        epoch=epoch,
        holdings=holdings,
        overlay=overlay,
        directory=directory,
        counter=counter,
        desk=desk,
        settling=Settling(Receipts(journal, keys, terms, entropy), counter, clock, entropy),
        offers=offers,
        beats=Beats(config.network, keys, offers, directory, clock, entropy),
        market=market,
        following=Following(market, directory, hub, clock),
        hub=hub,
        mint=mint,
        bootstrap=Bootstrap(overlay, config.bootstrap, entropy),
        canary=Canary(config.network, keys.main, overlay, clock, entropy),
        check=gate.check,
        tending=Tending(overlay, holdings, config.network, clock, entropy),
    )
