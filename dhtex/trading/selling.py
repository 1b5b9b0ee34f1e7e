"""The maker's desk: accepts of our orders come in, one is confirmed, the others are refused.

Each method is one step from now to done: it decides, writes the journal, and returns what is left to do (`Effect`).
There is no await between reading and writing, so within a node nothing can come between; against another process on the
same file, and for certainty, the journal swaps only from the state that was read.
"""

import random
from dataclasses import dataclass, replace

from dhtex import limits
from dhtex.errors import NotFoundError, RefusedError, UsageError
from dhtex.market.admission import keep_until
from dhtex.market.drafts import check_reply
from dhtex.market.identity import Identity
from dhtex.market.ids import RecordId
from dhtex.market.merge import order_state
from dhtex.market.records import Accept, Code, Order, Record, Status, is_a, parse_record, seal_record
from dhtex.market.trade import MAKER, MakerEvent, MakerState, TakerState, advance
from dhtex.store.journal import Journal
from dhtex.store.rows import OwnOrder, Pending, Role, Trade
from dhtex.trading.effects import Changed, Effect, Ended, Publish, Wait
from dhtex.trading.letters import open_text, seal_text
from dhtex.trading.maker import (
    ENDED,
    Ask,
    Fill,
    GoodSignature,
    Refuse,
    Repeat,
    Rules,
    Standing,
    decide,
    fill_status,
    objection,
    refusal,
)


@dataclass(frozen=True, slots=True)
class Terms:
    """What a desk has to know of its node: the network and its price of publishing, this node's epoch, how to check a
    signature, and the text that a taker gets when an order has none of its own. Raises UsageError for a bad text."""

    network: str
    pow_bits: int
    epoch: int
    good: GoodSignature
    contact: str = ""

    def __post_init__(self) -> None:
        check_reply(self.contact)


class Selling:
    """Decides on accepts of this node's orders. Methods raise StateError when the journal cannot be written."""

    def __init__(self, journal: Journal, identity: Identity, terms: Terms, entropy: random.Random) -> None:
        self._journal = journal
        self._identity = identity
        self._terms = terms
        self._entropy = entropy
        self._rules = Rules(frozenset({identity.public}), terms.epoch, terms.pow_bits, terms.good)

    def order(self, order_id: RecordId) -> tuple[OwnOrder, Record[Order]] | None:
        """One of our orders, as kept and as signed."""
        own = self._journal.order(order_id)
        order = None if own is None else parse_record(own.wire, self._terms.network)
        return (own, order) if own is not None and order is not None and is_a(order, Order) else None

    def open_orders(self) -> list[OwnOrder]:
        """Our orders that may still be filled, or whose expiry was not yet noted."""
        states = [row.state for row in MAKER if row.event is MakerEvent.FILL]
        return [own for state in states for own in self._journal.orders(state)]

    def consider(self, accept: Record[Accept], now: float) -> list[Effect]:
        """Answer an accept that somebody sent, or leave it."""
        found = self.order(RecordId(accept.body.order_id))
        if found is None:
            return []
        own, order = found
        waiting = self._journal.pending(order.id)
        standing = Standing(
            order=order,
            state=own.state,
            answered=self._journal.answer(accept.id) or b"",
            waiting=any(row.accept_id == accept.id for row in waiting),
            answers=self._journal.answers_count(order.id),
            waiting_count=len(waiting),
        )
        match decide(accept, standing, self._rules, now):
            case Repeat(wire):
                return [self._publish(order, accept.id, wire)]
            case Refuse(code):
                return self._refuse(order, accept, code, now)
            case Fill():
                filled = self._fill(own, order, accept, own.reply_text, now)
                # Somebody else has filled or closed it since it was read: what is true now decides.
                return filled if filled is not None else self.consider(accept, now)
            case Ask():
                return self._ask(order, accept, now)
        return []

    # --- what a person says ---------------------------------------------------------------------------------------

    def confirm(self, order_id: RecordId, accept_id: RecordId | None, reply: str, now: float) -> list[Effect]:
        """Give an order to an accept that waits; None means the only one. Raises NotFoundError, or UsageError when
        several wait, or RefusedError when it can no longer be."""
        check_reply(reply)
        own, order, accept = self._waiting(order_id, accept_id)
        code = objection(accept, order, own.state, self._rules, now)
        filled = None if code is not None else self._fill(own, order, accept, reply or own.reply_text, now)
        if filled is None:
            reason = code or Code.TAKEN
            raise RefusedError("the order cannot be confirmed any more", reason=reason, hint=f"reason: {reason}")
        return filled

    def decline(self, order_id: RecordId, accept_id: RecordId | None, now: float) -> list[Effect]:
        """Refuse an accept that waits. Raises as `confirm`."""
        _, order, accept = self._waiting(order_id, accept_id)
        return self._refuse(order, accept, Code.DECLINED, now)

    def _waiting(
        self, order_id: RecordId, accept_id: RecordId | None
    ) -> tuple[OwnOrder, Record[Order], Record[Accept]]:
        found = self.order(order_id)
        if found is None:
            raise NotFoundError("this is not an order of yours", hint="see your own with: dhtex order list --mine")
        rows = [row for row in self._journal.pending(order_id) if accept_id in (None, row.accept_id)]
        if not rows:
            raise NotFoundError("no accept of this order waits for you", hint="see: dhtex trade list")
        if len(rows) > 1:
            names = ", ".join(row.accept_id.hex()[:12] for row in rows)
            raise UsageError(f"{len(rows)} accepts of this order wait", hint=f"name one of {names}")
        accept = parse_record(rows[0].wire, self._terms.network)
        assert is_a(accept, Accept), "the journal holds what was once valid"
        return *found, accept

    # --- what time and the network bring ----------------------------------------------------------------------------

    def resume(self, now: float) -> list[Effect]:
        """After a start: publish again what may not have been heard, and go on with what waited."""
        self._journal.prune(now)
        effects: list[Effect] = [
            self._publish(found[1], answer.accept_id, answer.wire)
            for answer in self._journal.unpublished()
            if (found := self.order(answer.order_id)) is not None
        ]
        for own in self.open_orders():
            effects += self.expire(own.order_id, now)
        for order_id in dict.fromkeys(row.order_id for row in self._journal.pending()):
            effects += self.order_closed(order_id, now)
        for row in self._journal.pending():
            accept = parse_record(row.wire, self._terms.network)
            assert is_a(accept, Accept), "the journal holds what was once valid"
            effects.append(Wait(accept.id, accept.body.deadline))
        return effects

    def published(self, accept_id: RecordId) -> list[Effect]:
        """Note that another node holds an answer, or that nobody needs it any more."""
        self._journal.mark_published(accept_id)
        return []

    def order_closed(self, order_id: RecordId, now: float) -> list[Effect]:
        """Refuse all that wait for an order that has ended; nothing while it is open."""
        found = self.order(order_id)
        if found is None or MakerState(found[0].state) not in ENDED:
            return []
        effects: list[Effect] = []
        for row in self._journal.pending(order_id):
            accept = parse_record(row.wire, self._terms.network)
            assert is_a(accept, Accept), "the journal holds what was once valid"
            effects += self._refuse(found[1], accept, ENDED[MakerState(found[0].state)], now)
        return effects

    def expire(self, order_id: RecordId, now: float) -> list[Effect]:
        """End an order whose time is over."""
        own = self._journal.order(order_id)
        if own is None or now < own.expires or not self._journal.close_order(order_id, MakerState.EXPIRED, b""):
            return []
        return [Ended(order_id, MakerState.EXPIRED), *self.order_closed(order_id, now)]

    def lapse(self, accept_id: RecordId, now: float) -> list[Effect]:
        """Stop waiting for a person whose time to decide is over."""
        trade = self._journal.trade(accept_id)
        if trade is None or now <= trade.deadline:
            return []
        void = replace(trade, state=TakerState.VOID)
        return [Changed(void)] if self._journal.drop_pending(accept_id, void) else []

    def reconcile(self, status: Record[Status], now: float) -> list[Effect]:
        """Hear a Status about one of our orders. One of our key that is not in our journal was signed elsewhere: by a
        copy of this node. It closes an open order; one that contradicts ours leaves the order disputed."""
        found = self.order(RecordId(status.body.order_id))
        if found is None or status.body.maker != self._identity.public or not self._terms.good(status):
            return []
        own, order = found
        ours = parse_record(own.status_wire, self._terms.network) if own.status_wire else None
        known = [ours] if ours is not None and is_a(ours, Status) else []
        state = order_state(order, [*known, status], now)
        event = {
            MakerState.FILLED: MakerEvent.FILL,
            MakerState.CANCELED: MakerEvent.CANCEL,
            MakerState.REPLACED: MakerEvent.REPLACE,
            MakerState.DISPUTED: MakerEvent.CONTRADICT,
        }[state.state]
        if advance(MAKER, MakerState(own.state), event) is None or state.status is None:
            return []
        wire, seq = state.status.wire, state.status.body.seq
        if not self._journal.adopt_status(order.id, state.state, seq, wire):
            return []
        return [Ended(order.id, state.state), *self.order_closed(order.id, now)]

    # --- the three answers ------------------------------------------------------------------------------------------

    def _fill(
        self, own: OwnOrder, order: Record[Order], accept: Record[Accept], reply: str, now: float
    ) -> list[Effect] | None:
        text = reply or self._terms.contact
        sealed = seal_text(text, accept.body.encryption_key, self._entropy.randbytes(32)) or b""
        status = seal_record(fill_status(order, own.seq + 1, accept, sealed, now), self._identity.sign)
        trade = self._trade(order, accept, TakerState.CONFIRMED, "", status.wire, text if sealed else "")
        if not self._journal.decide_fill(order.id, accept.id, status.wire, trade):
            return None
        return [
            self._publish(order, accept.id, status.wire),
            Changed(trade),
            Ended(order.id, MakerState.FILLED),
            *self.order_closed(order.id, now),
        ]

    def _refuse(self, order: Record[Order], accept: Record[Accept], code: Code, now: float) -> list[Effect]:
        no = seal_record(refusal(order, accept, code, now), self._identity.sign)
        trade = self._trade(order, accept, TakerState.REFUSED, code, no.wire, "")
        if not self._journal.decide_refusal(order.id, accept.id, no.wire, trade):
            return []
        return [self._publish(order, accept.id, no.wire), Changed(trade)]

    def _ask(self, order: Record[Order], accept: Record[Accept], now: float) -> list[Effect]:
        trade = self._trade(order, accept, TakerState.PENDING, "", b"", "")
        if not self._journal.add_pending(Pending(accept.id, order.id, accept.wire, now), trade):
            return []
        return [Changed(trade), Wait(accept.id, accept.body.deadline)]

    def _trade(
        self, order: Record[Order], accept: Record[Accept], state: str, code: str, answer: bytes, reply: str
    ) -> Trade:
        return Trade(
            accept_id=accept.id,
            order_id=order.id,
            role=Role.MAKER,
            state=state,
            code=code,
            order_wire=order.wire,
            accept_wire=accept.wire,
            answer_wire=answer,
            message=open_text(self._identity, accept.body.sealed),
            reply=reply,
            created=accept.body.created,
            deadline=accept.body.deadline,
        )

    def _publish(self, order: Record[Order], accept_id: RecordId, wire: bytes) -> Publish:
        answer = parse_record(wire, self._terms.network)
        assert not isinstance(answer, str), "an answer is a record"
        # A refusal nobody waits for any more is of no use; a certificate is, for as long as it can be held.
        certificate = is_a(answer, Status)
        until = keep_until(answer) if certificate else keep_until(answer) - limits.TOMBSTONE_S + limits.ACCEPT_GRACE_S
        return Publish(order, accept_id, wire, certificate, until)
