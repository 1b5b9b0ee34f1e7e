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
from dhtex.market.ids import RecordId
from dhtex.market.keyring import Keyring
from dhtex.market.merge import order_state
from dhtex.market.records import Accept, Closing, Code, Order, Record, Refusal, Status, is_a, parse_record, seal_record
from dhtex.market.trade import MAKER, MakerEvent, MakerState, TakerState, advance
from dhtex.store.journal import Journal
from dhtex.store.rows import Closed, OwnOrder, Pending, Role, Sequel, Trade
from dhtex.trading.effects import Changed, Effect, Ended, Publish, Wait
from dhtex.trading.letters import open_text, seal_text
from dhtex.trading.maker import (
    ENDED,
    NOTHING,
    Ask,
    Fill,
    GoodSignature,
    ReadBack,
    Refuse,
    Repeat,
    Rules,
    Standing,
    closing_status,
    decide,
    objection,
    refusal,
    remainder,
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

    def records(self, trade: Trade) -> tuple[Record[Order], Record[Accept]]:
        """The signed records of a trade of the journal."""
        order, accept = parse_record(trade.order_wire, self.network), parse_record(trade.accept_wire, self.network)
        assert is_a(order, Order), "the journal holds what was once valid"
        assert is_a(accept, Accept), "the journal holds what was once valid"
        return order, accept


class Selling:
    """Decides on accepts of this node's orders. Methods raise StateError when the journal cannot be written."""

    def __init__(self, journal: Journal, keys: Keyring, terms: Terms, entropy: random.Random) -> None:
        self._journal = journal
        self._keys = keys
        self._terms = terms
        self._entropy = entropy
        self._rules = Rules(keys.publics, terms.epoch, terms.pow_bits, terms.good)

    def order(self, order_id: RecordId) -> tuple[OwnOrder, Record[Order]] | None:
        """One of our orders, as kept and as signed."""
        own = self._journal.order(order_id)
        order = None if own is None else parse_record(own.wire, self._terms.network)
        return (own, order) if own is not None and order is not None and is_a(order, Order) else None

    def open_orders(self) -> list[OwnOrder]:
        """Our orders that may still be filled, or whose expiry was not yet noted."""
        states = [row.state for row in MAKER if row.event is MakerEvent.FILL]
        return [own for state in states for own in self._journal.orders(state)]

    def unanswered(self) -> list[RecordId]:
        """The orders that have ended, for which accepts wait that cannot be refused before they were read back."""
        found = {row.order_id: self._journal.order(row.order_id) for row in self._journal.pending()}
        return [one for one, own in found.items() if own and MakerState(own.state) in ENDED and self.fenced(one)]

    def fenced(self, order_id: RecordId) -> list[RecordId]:
        """The orders of an older epoch that an answer about this one concerns: those of its group that a fill would
        close, then itself. Another copy of this node may have closed them already, and answered accepts."""
        if (found := self.order(order_id)) is None:
            return []
        others = [] if MakerState(found[0].state) in ENDED else self._journal.others_open(found[0])
        orders = [parse_record(own.wire, self._terms.network) for own in others]
        return [o.id for o in [*orders, found[1]] if is_a(o, Order) and o.body.epoch < self._terms.epoch]

    def consider(self, accept: Record[Accept], now: float, read_back: ReadBack = NOTHING) -> list[Effect]:
        """Answer an accept that somebody sent, or leave it. `read_back`: orders whose key was read just now."""
        found = self.order(RecordId(accept.body.order_id))
        if found is None:
            return []
        own, order = found
        if self._named(own, accept.id) and self._journal.answer(accept.id) is None:
            return self._adopt(own, order, accept)
        waiting = self._journal.pending(order.id)
        standing = Standing(
            order=order,
            state=own.state,
            answered=self._journal.answer(accept.id) or b"",
            waiting=any(row.accept_id == accept.id for row in waiting),
            accepts=self._journal.accepts_count(order.id),
            waiting_count=len(waiting),
            fenced=not read_back.issuperset(self.fenced(order.id)),
        )
        match decide(accept, standing, self._rules, now):
            case Repeat(wire):
                return [self._publish(order, accept.id, wire)]
            case Refuse(code):
                return self._refuse(order, accept, code, now)
            case Fill():
                filled = self._fill(own, order, accept, own.reply_text, now, read_back)
                # Somebody else has filled or closed it since it was read: what is true now decides.
                return filled if filled is not None else self.consider(accept, now, read_back)
            case Ask():
                return self._ask(order, accept, now)
        return []

    # --- what a person says ---------------------------------------------------------------------------------------

    def confirm(
        self,
        order_id: RecordId,
        accept_id: RecordId | None,
        reply: str,
        now: float,
        read_back: ReadBack = NOTHING,
    ) -> list[Effect]:
        """Give an order to an accept that waits; None means the only one. Raises NotFoundError, or UsageError when
        several wait, or RefusedError when it can no longer be, or not before it was read back."""
        check_reply(reply)
        own, order, accept = self._waiting(order_id, accept_id)
        code = objection(accept, order, own.state, self._rules, now)
        if code is None and not read_back.issuperset(self.fenced(order_id)):
            code = Code.WRONG_EPOCH
        filled = None if code is not None else self._fill(own, order, accept, reply or own.reply_text, now, read_back)
        if filled is None:
            raise _too_late(code or Code.TAKEN)
        return filled

    def decline(
        self,
        order_id: RecordId,
        accept_id: RecordId | None,
        now: float,
        read_back: ReadBack = NOTHING,
    ) -> list[Effect]:
        """Refuse an accept that waits. Raises as `confirm`."""
        _, order, accept = self._waiting(order_id, accept_id)
        if not read_back.issuperset(self.fenced(order_id)):
            raise _too_late(Code.WRONG_EPOCH)
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

    def order_closed(self, order_id: RecordId, now: float, read_back: ReadBack = NOTHING) -> list[Effect]:
        """Refuse all that wait for an order that has ended; nothing while it is open, or before it was read back."""
        found = self.order(order_id)
        if found is None or MakerState(found[0].state) not in ENDED:
            return []
        effects: list[Effect] = []
        may_refuse = read_back.issuperset(self.fenced(order_id))
        for row in self._journal.pending(order_id):
            accept = parse_record(row.wire, self._terms.network)
            assert is_a(accept, Accept), "the journal holds what was once valid"
            if self._named(found[0], accept.id):
                effects += self._adopt(found[0], found[1], accept)
            elif may_refuse:
                effects += self._refuse(found[1], accept, ENDED[MakerState(found[0].state)], now)
        return effects

    def _named(self, own: OwnOrder, accept_id: RecordId) -> bool:
        """Whether an order's certificate names an accept: if this node did not sign it, a copy of it did."""
        status = parse_record(own.status_wire, self._terms.network) if own.state == MakerState.FILLED else None
        return status is not None and is_a(status, Status) and status.body.accept_id == accept_id

    def _adopt(self, own: OwnOrder, order: Record[Order], accept: Record[Accept]) -> list[Effect]:
        """Take over a trade that a copy of this node has made; its answer is the copy's certificate."""
        trade = self._trade(order, accept, TakerState.CONFIRMED, "", own.status_wire, "")
        if not self._journal.keep_answer(order.id, accept.id, own.status_wire, trade):
            return []
        return [self._publish(order, accept.id, own.status_wire), Changed(trade)]

    def expire(self, order_id: RecordId, now: float, read_back: ReadBack = NOTHING) -> list[Effect]:
        """End an order whose time is over; one of an older epoch when it was read back, or nobody can know better."""
        own = self._journal.order(order_id)
        if own is None or now < own.expires:
            return []
        may_be_filled = now < own.expires + limits.TOMBSTONE_S and not read_back.issuperset(self.fenced(order_id))
        if may_be_filled or not self._journal.close_order(order_id, MakerState.EXPIRED, b""):
            return []
        return [Ended(order_id, MakerState.EXPIRED), *self.order_closed(order_id, now, read_back)]

    def lapse(self, accept_id: RecordId, now: float) -> list[Effect]:
        """Stop waiting for a person whose time to decide is over."""
        trade = self._journal.trade(accept_id)
        void = None if trade is None or now <= trade.deadline else replace(trade, state=TakerState.VOID)
        return [Changed(void)] if void is not None and self._journal.drop_pending(accept_id, void) else []

    def recall(self, refusal: Record[Refusal]) -> list[Effect]:
        """Hear a Refusal. One of our key that is not in our journal was signed by a copy of this node: it is ours."""
        body = refusal.body
        order_id, accept_id = RecordId(body.order_id), RecordId(body.accept_id)
        found = self.order(order_id) if self._journal.answer(accept_id) is None else None
        if found is None or body.maker != found[1].body.maker or not self._terms.good(refusal):
            return []
        known = self._journal.trade(accept_id)
        trade = known and replace(known, state=TakerState.REFUSED, code=body.code, answer_wire=refusal.wire)
        if not self._journal.keep_answer(order_id, accept_id, refusal.wire, trade):
            return []
        publish = self._publish(found[1], accept_id, refusal.wire)
        return [publish] if trade is None else [publish, Changed(trade)]

    def reconcile(self, status: Record[Status], now: float) -> list[Effect]:
        """Hear a Status about one of our orders. One of our key that is not in our journal was signed elsewhere: by a
        copy of this node. It closes an open order; one that contradicts ours leaves the order disputed."""
        found = self.order(RecordId(status.body.order_id))
        if found is None or status.body.maker != found[1].body.maker or not self._terms.good(status):
            return []
        own, order = found
        ours = parse_record(own.status_wire, self._terms.network)
        known = [ours] if is_a(ours, Status) else []
        state = order_state(order, [*known, status], now)
        event = {
            MakerState.FILLED: MakerEvent.FILL,
            MakerState.CANCELED: MakerEvent.CANCEL,
            MakerState.REPLACED: MakerEvent.REPLACE,
            MakerState.DISPUTED: MakerEvent.CONTRADICT,
        }[state.state]
        named = own.state == state.state and not own.status_wire  # it ended with its group, and is told how only now
        if state.status is None or not (named or advance(MAKER, MakerState(own.state), event)):
            return []
        filled = any(s.body.closing is Closing.FILLED for s in (*known, status))
        # Who filled it has signed the ends of its group too; ours beside them would contradict them.
        others = [Closed(other.order_id, b"") for other in self._journal.others_open(own)] if filled else []
        if not self._journal.adopt_status(order.id, state.state, state.status.body.seq, state.status.wire, others):
            return []
        ended: list[Effect] = [Ended(order.id, state.state), *self.order_closed(order.id, now)]
        return ended + self._group_closed(others, now)

    # --- the three answers ------------------------------------------------------------------------------------------

    def _fill(
        self,
        own: OwnOrder,
        order: Record[Order],
        accept: Record[Accept],
        reply: str,
        now: float,
        read_back: ReadBack,
    ) -> list[Effect] | None:
        text = reply or self._terms.contact
        sealed = seal_text(text, accept.body.encryption_key, self._entropy.randbytes(32)) or b""
        end = closing_status(order, own.seq + 1, Closing.FILLED, b"", now, accept=accept, sealed=sealed)
        status = seal_record(end, self._keys.signer(order.body).sign)
        trade = self._trade(order, accept, TakerState.CONFIRMED, "", status.wire, text if sealed else "")
        others = self._close_group(own, now)
        sequel = Sequel(tuple(others), self._child(own, order, accept.body, now))
        if not self._journal.decide_fill(order.id, accept.id, status.wire, trade, sequel):
            return None
        return [
            self._publish(order, accept.id, status.wire),
            Changed(trade),
            Ended(order.id, MakerState.FILLED),
            *self.order_closed(order.id, now, read_back),
            *self._group_closed(others, now, read_back),
        ]

    def _child(self, own: OwnOrder, order: Record[Order], accept: Accept, now: float) -> OwnOrder | None:
        """The order of what is left: signed now, so that it has its id; the stamp stands outside and comes later."""
        body = remainder(order, accept, self._terms.epoch, now)
        if body is None:
            return None
        child = seal_record(body, self._keys.signer(order.body).sign)
        return OwnOrder(
            order_id=child.id,
            wire=child.wire,
            state=MakerState.PUBLISHING,
            seq=0,
            status_wire=b"",
            reply_text=own.reply_text,
            created=body.created,
            expires=body.expires,
            group_id=body.group,
            parent=order.id,
            cancel_after=own.cancel_after,
            cancel_at=own.cancel_at,
        )

    def _close_group(self, own: OwnOrder, now: float) -> list[Closed]:
        """Sign the ends of the other open orders of a group; the journal closes them with the fill, or none at all."""
        closed = []
        for other in self._journal.others_open(own):
            order = parse_record(other.wire, self._terms.network)
            assert is_a(order, Order), "the journal holds what was once valid"
            status = closing_status(order, other.seq + 1, Closing.CANCELED, b"", now)
            closed.append(Closed(order.id, seal_record(status, self._keys.signer(order.body).sign).wire))
        return closed

    def _group_closed(self, others: list[Closed], now: float, read_back: ReadBack = NOTHING) -> list[Effect]:
        effects: list[Effect] = []
        for other in others:
            effects += [Ended(other.order_id, MakerState.CANCELED), *self.order_closed(other.order_id, now, read_back)]
        return effects

    def _refuse(self, order: Record[Order], accept: Record[Accept], code: Code, now: float) -> list[Effect]:
        no = seal_record(refusal(order, accept, code, now), self._keys.signer(order.body).sign)
        trade = self._trade(order, accept, TakerState.REFUSED, code, no.wire, "")
        if not self._journal.keep_answer(order.id, accept.id, no.wire, trade):
            return []
        return [self._publish(order, accept.id, no.wire), Changed(trade)]

    def _ask(self, order: Record[Order], accept: Record[Accept], now: float) -> list[Effect]:
        row = Pending(accept.id, order.id, accept.wire, now)
        trade = self._trade(order, accept, TakerState.PENDING, "", b"", "")
        if self._journal.trade(accept.id) or not self._journal.add_pending(row, trade):  # a clock may be set back
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
            message=open_text(self._keys.signer(order.body), accept.body.sealed),
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


def _too_late(reason: Code) -> RefusedError:
    return RefusedError("the order cannot be confirmed any more", reason=reason, hint=f"reason: {reason}")
