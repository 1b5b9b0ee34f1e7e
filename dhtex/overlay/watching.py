"""Being told what happens at a key, and telling others.

Theory of operation, watcher's side. For each watched key the closest holders are looked up, and WATCH_HOLDERS of them
get the key into their lease. There is one lease with each holder, however many keys it covers; one datagram renews it,
and carries the changes of its set of keys, one at a time. A lease that is out of step is ended and started anew.

Holder's side. A record that is new at a watched key is pushed at once to every watcher, each push numbered,
acknowledged and repeated like any request. A push is a hint: a watcher that learns of a number it never got, that loses
a holder, or that has just got a lease, is told to pull (`on_gap`).

Records reach `on_record` once, whichever holder told first, and also when they came into our own holdings.
"""

import hashlib
import random
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from dhtex import limits
from dhtex.market.ids import DhtKey
from dhtex.overlay import wire
from dhtex.overlay.addresses import Address
from dhtex.overlay.contact import Contact, Peer
from dhtex.overlay.crawl import Network
from dhtex.overlay.leases import Lease, Leases, key_digest
from dhtex.overlay.requests import Request

Locate = Callable[[DhtKey, Callable[[DhtKey, list[Contact]], None]], None]

LOOK_AGAIN_S: Final = (180.0, 300.0)
LOOK_AGAIN_S_FEW: Final = (5.0, 10.0)  # when too few holders were found
RESYNCS_MAX: Final = 3
SHUNNED_S: Final = 60.0  # after a holder refused or fell silent


# What is gone through in turn is kept in dicts, not in sets: bytes hash differently in each process, and a run with
# injected time and chance must be repeatable.


class _Watched:
    """One key that we watch."""

    __slots__ = ("due", "farthest", "holders", "locating", "pull")

    def __init__(self) -> None:
        self.holders: dict[Address, None] = {}
        self.due = 0.0
        self.locating = False
        self.pull = True
        self.farthest = 0


class _Holder:
    """Our lease with one holder; `announced` is what it should cover, as far as we have told."""

    __slots__ = ("add", "announced", "base", "busy", "digest", "drop", "peer", "received", "renew_at", "resyncs")

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.announced: dict[DhtKey, None] = {}
        self.digest = 0
        self.add: dict[DhtKey, None] = {}
        self.drop: dict[DhtKey, None] = {}
        self.busy = False
        self.renew_at = 0.0
        self.base = 0
        self.received: set[int] = set()
        self.resyncs = 0


class Watching:
    """Both sides of watching, for one node. `locate` finds a key's holders, closest first, and calls back."""

    def __init__(self, network: Network, locate: Locate, entropy: random.Random) -> None:
        self.leases = Leases()
        self.on_record: Callable[[DhtKey, bytes], None] = lambda key, record: None
        self.on_gap: Callable[[DhtKey], None] = lambda key: None
        self._network = network
        self._locate = locate
        self._entropy = entropy
        self._keys: dict[DhtKey, _Watched] = {}
        self._queue: OrderedDict[DhtKey, None] = OrderedDict()
        self._locating = 0
        self._dealing = False
        self._holders: dict[Address, _Holder] = {}
        self._shunned: dict[Address, float] = {}
        self._newcomers: list[Contact] = []
        self._homeless: dict[DhtKey, None] = {}
        self._seen: OrderedDict[bytes, None] = OrderedDict()

    # --- What we watch ---------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """How many keys are watched."""
        return len(self._keys)

    def watch(self, key: DhtKey) -> None:
        """Be told of new records at a key from now on."""
        if key not in self._keys:
            self._keys[key] = _Watched()
            self._enqueue(key)

    def unwatch(self, key: DhtKey) -> None:
        """Be told no more."""
        watched = self._keys.pop(key, None)
        self._queue.pop(key, None)
        if watched is not None:
            for address in watched.holders:
                self._release(address, key)

    def _release(self, address: Address, key: DhtKey) -> None:
        holder = self._holders.get(address)
        if holder is not None:
            holder.add.pop(key, None)
            if key in holder.announced:
                holder.drop[key] = None
            self._pump(holder)

    def _enqueue(self, key: DhtKey) -> None:
        watched = self._keys.get(key)
        if watched is not None and not watched.locating:
            self._queue[key] = None
            self._locate_next()

    def _locate_next(self) -> None:
        if self._dealing:  # an answer that is known at once comes back while we deal
            return
        self._dealing = True
        while self._queue and self._locating < limits.WATCH_LOOKUPS_PARALLEL:
            key, _ = self._queue.popitem(last=False)
            self._keys[key].locating = True
            self._locating += 1
            self._locate(key, self._located)
        self._dealing = False

    def _located(self, key: DhtKey, contacts: list[Contact]) -> None:
        self._locating -= 1
        watched = self._keys.get(key)
        if watched is not None:
            watched.locating = False
            self._settle_on(key, watched, contacts)
        self._locate_next()

    def _settle_on(self, key: DhtKey, watched: _Watched, contacts: list[Contact]) -> None:
        now = self._network.monotonic()
        chosen = [c for c in contacts if self._shunned.get(c.address, 0.0) <= now][: limits.WATCH_HOLDERS]
        addresses = dict.fromkeys(contact.address for contact in chosen)
        for address in [address for address in watched.holders if address not in addresses]:
            self._release(address, key)
        fresh = [contact for contact in chosen if contact.address not in watched.holders]
        if fresh and watched.holders:
            watched.pull = True
        watched.holders = addresses
        if not chosen:
            self._homeless[key] = None
        enough = len(chosen) >= limits.WATCH_HOLDERS
        watched.due = now + self._entropy.uniform(*(LOOK_AGAIN_S if enough else LOOK_AGAIN_S_FEW))
        watched.farthest = chosen[-1].long_id ^ int.from_bytes(key) if enough else 1 << 160
        for contact in fresh:
            holder = self._holders.get(contact.address)
            if holder is None:
                peer = self._network.peer_at(contact.address, contact)
                holder = self._holders[contact.address] = _Holder(peer)
            holder.drop.pop(key, None)
            holder.add[key] = None
            self._pump(holder)

    # --- Leases that we have ---------------------------------------------------------------------------------------

    def _pump(self, holder: _Holder) -> None:
        """Tell a holder what has changed, or renew its lease, if nothing is under way to it."""
        if holder.busy:
            return
        now = self._network.monotonic()
        if holder.announced and not holder.add and not holder.drop and now < holder.renew_at:
            return
        most = limits.WATCH_KEYS_PER_DATAGRAM_MAX
        add = [key for key, _ in zip(holder.add, range(most), strict=False)]
        drop = [key for key, _ in zip(holder.drop, range(most - len(add)), strict=False)]
        if not add and len(holder.drop) == len(holder.announced):
            self._part(holder)
            return
        for key in add:
            del holder.add[key]
        for key in drop:
            del holder.drop[key]
        holder.digest = key_digest([k for k in add if k not in holder.announced], holder.digest)
        holder.announced.update(dict.fromkeys(add))
        holder.digest = key_digest([k for k in drop if k in holder.announced], holder.digest)
        for key in drop:
            holder.announced.pop(key, None)
        self._send(holder, round(limits.LEASE_S), add, drop)

    def _send(self, holder: _Holder, lease_s: int, add: list[DhtKey], drop: list[DhtKey]) -> None:
        network = self._network
        holder.busy = True
        digest = holder.digest.to_bytes(8)
        args = wire.WatchArgs(network.net, network.own_id, b"", lease_s, add, drop, digest)
        network.ask(holder.peer, wire.WATCH, args, self._answered, context=(holder, lease_s, add))

    def _part(self, holder: _Holder) -> None:
        """Nothing is left to watch there."""
        if self._holders.get(holder.peer.address) is holder:
            del self._holders[holder.peer.address]
            self._send(holder, 0, [], [])

    def _answered(self, request: Request, answer: wire.WatchReply | None) -> None:
        holder: _Holder
        holder, lease_s, added = request.context
        holder.busy = False
        if self._holders.get(holder.peer.address) is not holder:
            return
        if answer is None or (lease_s and not answer.granted_s):
            self._lose(holder)
            return
        now = self._network.monotonic()
        if lease_s and not answer.in_step:
            self._resync(holder)
            return
        if lease_s:
            holder.resyncs = 0
            holder.renew_at = now + answer.granted_s / 3 * self._entropy.uniform(0.8, 1.0)
            self._settled(holder, answer.settled)
            for key in added:
                self._granted(key)
        self._pump(holder)

    def _granted(self, key: DhtKey) -> None:
        watched = self._keys.get(key)
        if watched is not None and watched.pull:
            watched.pull = False
            self.on_gap(key)

    def _settled(self, holder: _Holder, settled: int) -> None:
        """Compare what a holder has sent with what came."""
        if settled <= holder.base:
            return
        arrived = {sequence for sequence in holder.received if sequence <= settled}
        missing = settled - holder.base - len(arrived)
        holder.base = settled
        holder.received -= arrived
        if missing > 0:
            for key in list(holder.announced):
                self.on_gap(key)

    def _resync(self, holder: _Holder) -> None:
        """Start a lease anew: end it, and announce all of its keys again."""
        holder.resyncs += 1
        if holder.resyncs > RESYNCS_MAX:
            self._lose(holder)
            return
        for key in holder.announced:
            holder.add[key] = None
            if (watched := self._keys.get(key)) is not None:
                watched.pull = True
        holder.drop.clear()
        holder.announced.clear()
        holder.digest = 0
        holder.base = 0
        holder.received.clear()
        self._send(holder, 0, [], [])

    def _lose(self, holder: _Holder) -> None:
        """A holder fell silent or refused: look for others for its keys."""
        address = holder.peer.address
        if self._holders.get(address) is holder:
            del self._holders[address]
        self._shunned[address] = self._network.monotonic() + SHUNNED_S
        for key in [*holder.announced, *holder.add]:
            watched = self._keys.get(key)
            if watched is not None and address in watched.holders:
                del watched.holders[address]
                watched.pull = True
                self._enqueue(key)

    def peer_lost(self, peer: Peer) -> None:
        """A peer was evicted; if it is a holder of ours, replace it."""
        if (holder := self._holders.get(peer.address)) is not None:
            self._lose(holder)

    def peer_found(self, contact: Contact) -> None:
        """A peer was admitted; it may be a better holder, or the first.

        One that is shunned is none: on a bad line peers come and go every second, and to look for all keys each time
        would crowd the line more.
        """
        if self._shunned.get(contact.address, 0.0) > self._network.monotonic():
            return
        self._newcomers.append(contact)
        homeless, self._homeless = self._homeless, {}
        for key in homeless:
            self._enqueue(key)

    def resumed(self) -> None:
        """Our leases may have ended: renew them at the next tick, and read what may have been missed."""
        for holder in self._holders.values():
            holder.renew_at = 0.0
        for key in list(self._keys):
            self.on_gap(key)

    def tick(self, now: float) -> None:
        """Renew what is due. Call about once a second."""
        self.leases.expire(now)
        self._shunned = {address: until for address, until in self._shunned.items() if until > now}
        for holder in list(self._holders.values()):
            self._pump(holder)
        newcomers, self._newcomers = self._newcomers, []
        for key, watched in self._keys.items():
            if watched.locating:
                continue
            goal = int.from_bytes(key) if newcomers else 0
            if watched.due <= now or any(contact.long_id ^ goal < watched.farthest for contact in newcomers):
                self._queue[key] = None
        self._locate_next()

    def close(self) -> None:
        """Say goodbye to all holders; nobody waits for their answers."""
        self._keys.clear()
        self._queue.clear()
        for holder in list(self._holders.values()):
            self._part(holder)

    # --- Records that arrive ---------------------------------------------------------------------------------------

    def on_push(self, args: wire.PushArgs, address: Address) -> bool:
        """A holder tells of a record. Whether to acknowledge: only what a lease of ours asked for."""
        holder = self._holders.get(address)
        if holder is None or holder.peer.contact is None or holder.peer.contact.id != args.sender:
            return False
        if args.sequence > holder.base and args.sequence not in holder.received:
            if len(holder.received) < limits.SEEN_PUSHES_MAX:
                holder.received.add(args.sequence)
            self._heard(args.key, args.wire)
        return True

    def _heard(self, key: DhtKey, record: bytes) -> None:
        if key not in self._keys:
            return
        mark = hashlib.sha1(key + record, usedforsecurity=False).digest()
        if mark not in self._seen:
            self._seen[mark] = None
            if len(self._seen) > limits.SEEN_PUSHES_MAX:
                self._seen.popitem(last=False)
            self.on_record(key, record)

    # --- What others watch -----------------------------------------------------------------------------------------

    def on_watch(self, args: wire.WatchArgs, token: bytes, peer: Peer) -> wire.WatchReply:
        """A watcher starts, changes, renews or ends its lease."""
        network = self._network
        most = limits.WATCH_KEYS_PER_DATAGRAM_MAX
        lease, granted_s = self.leases.change(
            peer, args.sender, args.lease_s, args.add[:most], args.drop[:most], network.monotonic()
        )
        digest, settled = (lease.digest, lease.settled) if lease is not None else (0, 0)
        in_step = digest == int.from_bytes(args.digest)
        return wire.WatchReply(network.own_id, token, wire.OK, round(granted_s), in_step, settled)

    def stored(self, key: DhtKey, record: bytes) -> None:
        """A record was new here: tell those who watch its key, whoever brought it."""
        self._heard(key, record)
        network = self._network
        for lease in self.leases.watching(key, network.monotonic()):
            sequence, send = self.leases.next_push(lease)
            if send:
                args = wire.PushArgs(network.net, network.own_id, sequence, key, record)
                network.ask(lease.peer, wire.PUSH, args, self._pushed, context=(lease, sequence))

    def _pushed(self, request: Request, answer: wire.PushReply | None) -> None:
        lease: Lease
        lease, sequence = request.context
        self.leases.settle(lease, sequence, arrived=answer is not None)
