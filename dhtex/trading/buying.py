"""The taker's desk: our accepts, from the wish to the outcome. Steps return what is left to do (`Effect`)."""

import random
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from dhtex import limits
from dhtex.errors import RefusedError, UsageError
from dhtex.market.drafts import accepted_amount, check_reply
from dhtex.market.ids import RecordId
from dhtex.market.keyring import Keyring
from dhtex.market.merge import order_state
from dhtex.market.money import canonical
from dhtex.market.records import (
    VERSION,
    Accept,
    AnyRecord,
    Code,
    Confirm,
    Liveness,
    Order,
    Record,
    Status,
    is_a,
    seal_record,
)
from dhtex.market.stamp import bits_of, bits_to_mint
from dhtex.market.trade import TAKER, MakerState, TakerEvent, TakerState, advance
from dhtex.store.journal import Journal
from dhtex.store.rows import Role, Trade
from dhtex.trading.effects import Changed, Effect
from dhtex.trading.letters import open_text, seal_text
from dhtex.trading.maker import ENDED
from dhtex.trading.selling import Terms
from dhtex.trading.taker import DISPUTED, UNHEARD, outcome
from dhtex.views import AcceptRequest

_RUNNING: Final = (TakerState.SENT, TakerState.PENDING)


class Buying:
    """Sends accepts and follows them. Methods raise StateError when the journal cannot be written."""

    def __init__(self, journal: Journal, keys: Keyring, terms: Terms, entropy: random.Random) -> None:
        self._journal = journal
        self._keys = keys
        self._identity = keys.main
        self._terms = terms
        self._entropy = entropy

    def draft(self, order: Record[Order], request: AcceptRequest, now: float) -> Accept:
        """The accept of an order, to be stamped and signed. Raises UsageError for the request, RefusedError for the
        order: our own, or over."""
        body = order.body
        check_reply(request.message)
        amount = accepted_amount(body, request.amount)
        if self._keys.is_own_trade(body):
            raise RefusedError("this is an order of your own", reason=Code.SELF_TRADE)
        created = int(now)
        if created >= body.expires:
            raise RefusedError("the order has expired", reason=Code.EXPIRED)
        patient = body.confirm is Confirm.ASK or body.liveness is Liveness.MAILBOX
        life = limits.ACCEPT_DEADLINE_S_MAX if patient else limits.ACCEPT_DEADLINE_S_DEFAULT
        sealed = seal_text(request.message, body.encryption_key, self._entropy.randbytes(32))
        if sealed is None:
            raise UsageError("the maker's key cannot receive a message", hint="accept without --message")
        return Accept(
            version=VERSION,
            network=self._terms.network,
            order_id=order.id,
            taker=self._identity.public,
            amount=canonical(amount),
            created=created,
            deadline=min(created + life, body.expires),
            encryption_key=self._identity.encryption_public,
            salt=self._entropy.randbytes(8),
            sealed=sealed,
        )

    def check_open(self, order: Record[Order], records: Iterable[AnyRecord], now: float) -> None:
        """Raise RefusedError when what is known of an order says that it cannot be taken any more."""
        statuses = [r for r in records if is_a(r, Status) and r.body.order_id == order.id and self._terms.good(r)]
        state = order_state(order, statuses, now).state
        if state is MakerState.DISPUTED:
            raise RefusedError("the maker has signed contradicting statuses for this order", reason=DISPUTED)
        if state is not MakerState.OPEN:
            in_part = any(status.body.amount not in ("", order.body.amount) for status in statuses)
            hint = f"what is left of it: dhtex order show {order.id.hex()[:10]}" if in_part else ""
            raise RefusedError(f"the order is {state} already", reason=ENDED[state], hint=hint)

    def same_wish(self, body: Accept, message: str, before: list[Trade]) -> Trade | None:
        """Our accept of the same amount that still waits for its outcome, of which there is at most one, or that was
        not there before. Raises RefusedError when one of another amount waits, or with another message."""
        known = {trade.accept_id for trade in before}
        for trade in self.sent(RecordId(body.order_id)):
            if _is_running(trade) or trade.accept_id not in known:
                said = message in ("", trade.message)
                if said and self._terms.records(trade)[1].body.amount == body.amount:
                    return trade
                if _is_running(trade):
                    raise RefusedError(
                        f"an accept of this order is already on its way{'' if said else ', with another message'}",
                        reason=Code.RATE_LIMITED,
                        hint=f"see: dhtex trade show {trade.accept_id.hex()[:10]}",
                    )
        return None

    def sent(self, order_id: RecordId) -> list[Trade]:
        """Our accepts of an order, oldest first."""
        return [trade for trade in self._journal.trades_of(order_id) if trade.role == Role.TAKER]

    def send(self, order: Record[Order], body: Accept, stamp: bytes, message: str) -> tuple[Trade, list[Effect]]:
        """Sign an accept and keep it, on disk before it is sent."""
        accept = seal_record(body, self._identity.sign, stamp)
        trade = Trade(
            accept_id=accept.id,
            order_id=order.id,
            role=Role.TAKER,
            state=TakerState.SENT,
            code="",
            order_wire=order.wire,
            accept_wire=accept.wire,
            answer_wire=b"",
            message=message,
            reply="",
            created=body.created,
            deadline=body.deadline,
        )
        self._journal.add_trade(trade)
        return trade, [Changed(trade)]

    def unfinished(self, now: float) -> list[Trade]:
        """Our accepts of which something may still be heard: those that wait, and void ones while a Status may come."""
        return [
            trade
            for trade in self._journal.trades()
            if _is_running(trade)
            or (trade.role == Role.TAKER and trade.state == TakerState.VOID and now <= self.until(trade))
        ]

    def until(self, trade: Trade) -> float:
        """When nothing about a trade can be heard any more, Unix seconds."""
        order, _ = self._terms.records(trade)
        return max(order.body.expires + limits.TOMBSTONE_S, trade.deadline + limits.ACCEPT_GRACE_S)

    def judge(self, accept_id: RecordId, records: Iterable[AnyRecord], now: float) -> list[Effect]:
        """See whether records of the order's key, their signatures checked, decide an accept."""
        trade = self._journal.trade(accept_id)
        if trade is None or trade.role != Role.TAKER:
            return []
        order, accept = self._terms.records(trade)
        found = outcome(order, accept, records, now)
        if found is None:
            return []
        if trade.state == TakerState.CONFIRMED and found.code == DISPUTED and not trade.code:
            return self._write(trade, replace(trade, code=DISPUTED))
        answered = replace(trade, code=str(found.code), answer_wire=found.answer.wire)
        if is_a(found.answer, Status) and found.event is TakerEvent.CONFIRM:
            answered = replace(answered, reply=open_text(self._identity, found.answer.body.sealed))
        return self._advance(answered, found.event)

    def defer(self, accept_id: RecordId) -> list[Effect]:
        """Note that an accept which a person has to decide has reached the network."""
        trade = self._journal.trade(accept_id)
        if trade is None or self._terms.records(trade)[0].body.confirm is not Confirm.ASK:
            return []
        return self._advance(trade, TakerEvent.DEFER)

    def bits_to_mint(self, trade: Trade, asked: int) -> int:
        """How many bits to stamp an accept with again, if holders ask for so many; 0: it stays as it is."""
        return bits_to_mint(asked, bits_of(self._terms.records(trade)[1].stamp), self._terms.pow_bits)

    def stamp_again(self, accept_id: RecordId, stamp: bytes) -> list[Effect]:
        """Put another stamp on an accept that still waits: the same accept, with the same id."""
        trade = self._journal.trade(accept_id)
        if trade is not None and _is_running(trade):
            wire = seal_record(self._terms.records(trade)[1].body, self._identity.sign, stamp).wire
            self._journal.update_trade(accept_id, trade.state, replace(trade, accept_wire=wire))
        return []

    def lapse(self, accept_id: RecordId, begun: float) -> list[Effect]:
        """Note that a read which began at this time found no answer. That proves nothing when holders may have let one
        go."""
        trade = self._journal.trade(accept_id)
        if trade is None:
            return []
        unheard = begun >= self.until(trade) - limits.CLOCK_SKEW_S_MAX
        return self._advance(replace(trade, code=UNHEARD) if unheard else trade, TakerEvent.LAPSE)

    def _advance(self, trade: Trade, event: TakerEvent) -> list[Effect]:
        state = advance(TAKER, TakerState(trade.state), event)
        return [] if state is None else self._write(trade, replace(trade, state=state))

    def _write(self, before: Trade, after: Trade) -> list[Effect]:
        return [Changed(after)] if self._journal.update_trade(before.accept_id, before.state, after) else []


def _is_running(trade: Trade) -> bool:
    return trade.role == Role.TAKER and trade.state in _RUNNING
