"""This node's own orders: published, cancelled, amended, and brought back after a restart.

Whatever is decided is first in the journal and then in the network, so a crash between the two loses nothing: `resume`
puts every live record back.
"""

import asyncio
import logging
import math
import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec

from dhtex import limits
from dhtex.clock import Clock
from dhtex.directory.service import Directory, Published
from dhtex.errors import DhtexError, NotFoundError, RefusedError, UsageError
from dhtex.market.drafts import Author, Lineage, draft_of, group_name, order_from_draft
from dhtex.market.identity import Identity
from dhtex.market.ids import RecordId
from dhtex.market.keyring import Keyring
from dhtex.market.present import milliseconds
from dhtex.market.records import (
    Closing,
    Code,
    Kind,
    Order,
    Record,
    Side,
    Status,
    id_of,
    is_a,
    parse_record,
    seal_record,
)
from dhtex.market.stamp import bits_of, bits_to_mint
from dhtex.market.trade import MakerState
from dhtex.node.counter import MintAt, Progress
from dhtex.store.journal import Journal
from dhtex.store.rows import Closed, OwnOrder
from dhtex.trading.maker import closing_status
from dhtex.views import Amendment, OrderDraft

log = logging.getLogger(__name__)

Signed = Callable[[Record[Order]], None]
"""Hears of an order that is in the journal, and so is published whatever happens."""

LIVE: Final = (MakerState.OPEN, MakerState.PUBLISHING)
PARSED_MAX: Final = 8192  # own orders that are not parsed again; about 20 MB
OVERDUE_AGAIN_S: Final = 5.0
RESUME_S: Final = 5.0  # own records return within this after a start, jittered, if they are few
RESUME_RECORDS_PER_S: Final = 1.0  # and not quicker than this if they are many: all nodes may have lost power at once


def resume_within_s(records: int) -> float:
    """The time over which a node that starts spreads the first puts of its own records."""
    return min(max(RESUME_S, records / RESUME_RECORDS_PER_S), limits.REPUBLISH_INTERVAL_S)


def _unheard(order: Record[Order]) -> None:
    pass


class Offers:
    """What a maker does with orders. `mint` makes a stamp; `on_opened` and `on_closed` hear what is in the journal;
    `read_back` hears what copies of this node have signed for an order, if there may be any.

    `on_changed`, which may be set, hears of what was opened or closed after them.
    """

    def __init__(
        self,
        network: str,
        keys: Keyring,
        epoch: int,
        journal: Journal,
        directory: Directory,
        mint: MintAt,
        pow_bits: int,
        clock: Clock,
        entropy: random.Random,
        on_opened: Callable[[RecordId], None],
        on_closed: Callable[[RecordId], None],
        read_back: Callable[[RecordId], Awaitable[object]],
    ) -> None:
        self._network = network
        self._keys = keys
        self._epoch = epoch
        self._journal = journal
        self._directory = directory
        self._mint = mint
        self._pow_bits = pow_bits
        self._clock = clock
        self._entropy = entropy
        self._on_opened = on_opened
        self._on_closed = on_closed
        self._read_back = read_back
        self.parsed = lru_cache(PARSED_MAX)(self._parse)  # an own order, from its bytes in the journal
        self._stamping: set[RecordId] = set()
        self._withdrawing: set[RecordId] = set()
        self._overdue_from = 0.0
        self.on_changed: Callable[[RecordId], None] = lambda _: None

    async def add(
        self, draft: OrderDraft, progress: Progress | None, signed: Signed = _unheard
    ) -> tuple[Record[Order], Published]:
        """Sign, stamp, journal and publish an order; `signed` hears that it is in the journal. Raises UsageError for
        what is wrong with the draft, RefusedError when an order of its group was filled already.
        """
        _check_switch(draft.cancel_after_s)
        name = group_name(draft.group)
        if name and draft.fresh_key:
            raise UsageError(
                "the orders of a group show that they belong together, whatever their keys",
                hint="leave out --group or --fresh-key",
            )
        lineage = Lineage(group=self._keys.main.group(name) if name else b"")
        order = await self._sign(draft, lineage, progress)
        if not self._journal.add_order(self._row(order, draft.reply, draft.cancel_after_s or 0)):
            raise RefusedError(
                f"an order of the group '{name}' is filled already", reason=Code.TAKEN, hint="name another --group"
            )
        signed(order)
        return await self._stamped_enough(order, await self._publish(order), progress)

    async def cancel_found(self, order: Record[Order]) -> None:
        """As `cancel`, also of an order that this node has published after the backup that it was made of: that comes
        into the journal only to be ended, as nobody knows its reply and its switch any more."""
        unknown = self._journal.order(order.id) is None and order.body.epoch < self._epoch
        adopted = unknown and self._keys.of(order.body) is not None and self._journal.add_order(self._row(order, "", 0))
        try:
            await self.cancel(order.id)
        except BaseException:
            if adopted:
                self._journal.forget_order(order.id)
            raise

    async def cancel(self, order_id: RecordId) -> Record[Status]:
        """Close an open order for good and say so in the network."""
        await self._read_back(order_id)
        own, order = self._open(order_id)
        status = self._status(order, own.seq + 1, Closing.CANCELED, b"")
        if not self._journal.close_order(order_id, Closing.CANCELED, status.wire):
            raise self._closed_meanwhile(order_id)
        await self.say_closed(order_id, status)
        return status

    def close_at_once(self, orders: Sequence[Record[Order]]) -> dict[RecordId, Record[Status]]:
        """Cancel in one step of the journal, and so with one wait for the disk, those of these orders that are open and
        need not be read back before; their ends are left to be said. Raises StateError: then none has ended."""
        statuses: dict[RecordId, Record[Status]] = {}
        for order in orders:
            own = self._journal.order(order.id)
            if own is not None and not order.body.group and order.body.epoch == self._epoch:
                statuses[order.id] = self._status(order, own.seq + 1, Closing.CANCELED, b"")
        ended = self._journal.cancel_orders([Closed(order_id, end.wire) for order_id, end in statuses.items()])
        return {order_id: status for order_id, status in statuses.items() if order_id in ended}

    async def amend(
        self, order_id: RecordId, change: Amendment, progress: Progress | None, signed: Signed = _unheard
    ) -> tuple[Record[Order], Published]:
        """Replace an open order by a changed one. The old one closes in the transaction that opens the new one."""
        own, order = self._open(order_id)
        draft = draft_of(order.body, change, own.reply_text, self._clock.now())
        draft = msgspec.structs.replace(draft, fresh_key=order.body.maker != self._keys.main.public)
        successor = await self._sign(draft, Lineage(replaces=order_id, group=order.body.group), progress)
        await self._read_back(order_id)  # after the stamp, which takes a while: nothing may come between it and the end
        status = self._status(order, own.seq + 1, Closing.REPLACED, successor.id)
        if not self._journal.replace_order(
            order_id, self._row(successor, own.reply_text, own.cancel_after), status.wire
        ):
            raise self._closed_meanwhile(order_id)
        signed(successor)
        opening = asyncio.create_task(self._publish(successor))  # else nobody awaits it if the other fails
        await asyncio.gather(opening, self.say_closed(order_id, status))
        return await self._stamped_enough(successor, opening.result(), progress)

    async def withdraw_overdue(self) -> None:
        """Cancel the orders whose dead man's switch went off. One that cannot be is tried again at the next call."""
        now = self._clock.now()
        self._overdue_from = now + OVERDUE_AGAIN_S  # if the disk gives nothing back
        overdue, first = self._journal.overdue(now), self._journal.next_switch(now)
        self._overdue_from = math.inf if first is None else first
        for own in overdue:
            if own.order_id in self._withdrawing:
                continue
            self._withdrawing.add(own.order_id)
            try:
                await self.cancel(own.order_id)
            except DhtexError as error:
                log.warning("order=%s is overdue, and cannot be canceled: %s", own.order_id.hex()[:12], error)
            finally:
                self._withdrawing.discard(own.order_id)

    def is_overdue(self) -> bool:
        """Whether there may be something for `withdraw_overdue`; costs nothing."""
        return self._clock.now() >= self._overdue_from

    def renew(self) -> list[Record[Order]]:
        """Let the time of all dead man's switches begin again; the open orders that have one."""
        now = self._clock.now()
        self._journal.renew(now)
        self._overdue_from = 0.0
        return [self.parsed(own.wire) for own in self._journal.switched(now)]

    def cancel_at(self, order_id: RecordId) -> int | None:
        """When an own open order is withdrawn unless it is renewed, Unix seconds; None: never."""
        own = self._journal.order(order_id)
        return own.cancel_at or None if own is not None and own.state in LIVE else None

    def switches(self) -> dict[str, int]:
        """The same of all of them that have a dead man's switch, by id in digits, in Unix ms."""
        return {own.order_id.hex(): milliseconds(own.cancel_at) for own in self._journal.switched(self._clock.now())}

    async def relist(self) -> None:
        """Stamp and publish what part fills have left over.

        A remainder is in the journal since its fill, signed but without a stamp, so whatever stops this, the next call
        goes on with it; and when it was cancelled or has expired meanwhile, it stays closed.
        """
        for own in self._journal.orders(MakerState.PUBLISHING):
            if own.order_id in self._stamping:
                continue
            bare = parse_record(own.wire, self._network)
            assert is_a(bare, Order), "the journal holds what was once valid"
            if own.expires <= self._clock.now():
                if bare.body.epoch == self._epoch:  # else the desk reads first what another copy has made of it
                    self._journal.close_order(own.order_id, MakerState.EXPIRED, b"")
                continue
            self._stamping.add(own.order_id)
            try:
                stamp = await self._mint(bare.id, Kind.ORDER, bare.body.created, None, 0)
                order = seal_record(bare.body, self._keys.signer(bare.body).sign, stamp)
                if self._journal.stamp_order(order.id, order.wire):
                    await self._stamped_enough(order, await self._publish(order), None)
            finally:
                self._stamping.discard(own.order_id)

    async def stamp_enough(self) -> None:
        """After a start with more work asked for than before: stamp the open orders again that bear less."""
        for own in self._journal.orders(MakerState.OPEN):
            order = parse_record(own.wire, self._network)
            in_time = own.expires > self._clock.now()
            if in_time and is_a(order, Order) and bits_of(order.stamp) < self._pow_bits:
                await self._stamp_again(order, self._pow_bits, None)

    def resume(self) -> None:
        """Bring all own records that still matter back into the network."""
        now = self._clock.now()
        rows = self._journal.orders()
        within_s = resume_within_s(len(rows))
        for own in rows:
            if own.expires + limits.TOMBSTONE_S <= now:
                continue
            if own.state == "open" and own.expires > now:
                order = parse_record(own.wire, self._network)
                assert is_a(order, Order), "the journal holds what was once valid"
                self._directory.keep(order, within_s)
            elif own.status_wire:
                self._keep_status(own.status_wire, within_s)

    def ended(self, order_id: RecordId) -> None:
        """An own order was filled, expired, or closed elsewhere: from now on its Status is kept in the network."""
        self._directory.forget(order_id)
        own = self._journal.order(order_id)
        if own is not None and own.status_wire:
            # The desk puts a certificate itself; what ended with its group, or elsewhere, is put here.
            self._keep_status(own.status_wire, limits.REPUBLISH_INTERVAL_S if own.state == "filled" else 0.0)

    def _keep_status(self, wire: bytes, within_s: float) -> None:
        status = parse_record(wire, self._network)
        assert is_a(status, Status), "the journal holds what was once valid"
        self._directory.keep(status, within_s)

    def open_orders(self) -> list[Record[Order]]:
        """Own orders that are open, or about to be, and not expired."""
        return list(map(self.parsed, self._journal.open_wires(self._clock.now())))

    def count_open(self) -> int:
        """How many these are."""
        return self._journal.count_open(self._clock.now())

    def beats_needed(self) -> list[tuple[str, Side, str, Identity]]:
        """The pairs, sides and nodes of their trees where this maker must be heard of, and under which of its keys."""
        needed: dict[tuple[str, Side, str, bytes], Identity] = {}
        for order in self.open_orders():
            if order.body.liveness == "beat":
                prefix = self._directory.tree_prefix(order.id)
                needed[order.body.pair, order.body.side, prefix, order.body.author] = self._keys.signer(order.body)
        return [(pair, side, prefix, needed[pair, side, prefix, key]) for pair, side, prefix, key in sorted(needed)]

    async def _sign(self, draft: OrderDraft, lineage: Lineage, progress: Progress | None) -> Record[Order]:
        now = self._clock.now()
        salt = self._keys.salt(self._entropy)
        signer = self._keys.fresh(salt) if draft.fresh_key else self._keys.main
        author = Author(
            network=self._network,
            maker=signer.public,
            encryption_key=signer.encryption_public,
            epoch=self._epoch,
            now=now,
            salt=salt,
        )
        body = order_from_draft(draft, author, lineage)
        stamp = await self._mint(id_of(body), Kind.ORDER, body.created, progress, 0)
        return seal_record(body, signer.sign, stamp)

    async def _stamped_enough(
        self, order: Record[Order], published: Published, progress: Progress | None
    ) -> tuple[Record[Order], Published]:
        """Stamp an order again if most holders ask for more work than it bears, and publish it: the same order."""
        bits = bits_to_mint(published.bits_asked, bits_of(order.stamp), self._pow_bits)
        again = await self._stamp_again(order, bits, progress) if bits else None
        return again or (order, published)

    async def _stamp_again(
        self, order: Record[Order], bits: int, progress: Progress | None
    ) -> tuple[Record[Order], Published] | None:
        """Publish the same order under a better stamp; None when it has ended meanwhile."""
        stamp = await self._mint(order.id, Kind.ORDER, order.body.created, progress, bits)
        again = seal_record(order.body, self._keys.signer(order.body).sign, stamp)
        if not self._journal.stamp_again(order.id, again.wire):
            return None
        self._directory.forget(order.id)
        return again, await self._directory.publish(again)

    # Whoever asked may go away while a put is under way. So these two are no coroutines: what must happen has happened
    # when they return, and only the first put is left to wait for.

    def _publish(self, order: Record[Order]) -> Coroutine[Any, Any, Published]:
        self._overdue_from = 0.0
        self._on_opened(order.id)
        published = self._directory.publish(order)
        self.on_changed(order.id)
        return published

    def say_closed(self, order_id: RecordId, status: Record[Status]) -> Coroutine[Any, Any, Published]:
        """Tell everybody of the end of an own order that the journal knows already."""
        self._directory.forget(order_id)
        self._on_closed(order_id)
        published = self._directory.publish(status)
        self.on_changed(order_id)
        return published

    def _open(self, order_id: RecordId) -> tuple[OwnOrder, Record[Order]]:
        own = self._journal.order(order_id)
        if own is None:
            raise NotFoundError("this is not an order of yours", hint="see your own with: dhtex order list --mine")
        if own.state not in LIVE or own.expires <= self._clock.now():
            raise self._closed_meanwhile(order_id)
        order = parse_record(own.wire, self._network)
        assert is_a(order, Order), "the journal holds what was once valid"
        return own, order

    def _closed_meanwhile(self, order_id: RecordId) -> RefusedError:
        own = self._journal.order(order_id)
        state = "expired" if own is None or own.state in LIVE else own.state
        return RefusedError(f"the order is {state} already", reason=state, hint="only an open order can change")

    def _parse(self, wire: bytes) -> Record[Order]:
        order = parse_record(wire, self._network)
        assert is_a(order, Order), "the journal holds what was once valid"
        return order

    def _row(self, order: Record[Order], reply: str, cancel_after: int) -> OwnOrder:
        return OwnOrder(
            order_id=order.id,
            wire=order.wire,
            state="open",
            seq=0,
            status_wire=b"",
            reply_text=reply,
            created=order.body.created,
            expires=order.body.expires,
            group_id=order.body.group,
            parent=order.body.parent,
            cancel_after=cancel_after,
            cancel_at=int(self._clock.now()) + cancel_after if cancel_after else 0,
        )

    def _status(self, order: Record[Order], seq: int, closing: Closing, successor: bytes) -> Record[Status]:
        body = closing_status(order, seq, closing, successor, self._clock.now())
        return seal_record(body, self._keys.signer(order.body).sign)


def _check_switch(cancel_after_s: int | None) -> None:
    if cancel_after_s is not None and not limits.CANCEL_AFTER_S_MIN <= cancel_after_s <= limits.ORDER_LIFE_S_MAX:
        raise UsageError(
            "the time after which an order is canceled is out of range",
            hint=f"{limits.CANCEL_AFTER_S_MIN}s to {limits.ORDER_LIFE_S_MAX // 86_400}d",
        )
