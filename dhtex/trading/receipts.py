"""What both sides say about a trade once it is confirmed: settled, or failed. Steps return what is left to do.

Each side signs for itself and may change its mind; the newest word of each side counts, by number and not by the clock.
Nothing else follows from it: no order opens or closes because of a receipt.
"""

import random
from collections.abc import Iterable

from dhtex import limits
from dhtex.errors import RefusedError, UsageError
from dhtex.market.admission import keep_until
from dhtex.market.drafts import check_reply
from dhtex.market.ids import RecordId
from dhtex.market.keyring import Keyring
from dhtex.market.merge import Meeting, may_sign_receipt, meet
from dhtex.market.records import (
    VERSION,
    AnyRecord,
    Code,
    Outcome,
    Receipt,
    Record,
    Status,
    is_a,
    parse_record,
    seal_record,
)
from dhtex.market.trade import RECEIPT, ReceiptEvent, ReceiptState, TakerState, advance
from dhtex.store.journal import Journal
from dhtex.store.rows import KeptReceipt, Role, Trade
from dhtex.trading.effects import Changed, Effect, Publish
from dhtex.trading.letters import open_text, seal_text
from dhtex.trading.selling import Terms

_EVENTS = {Outcome.SETTLED: ReceiptEvent.SETTLE, Outcome.FAILED: ReceiptEvent.FAIL}


class Receipts:
    """Signs, takes in and keeps receipts. Methods raise StateError when the journal cannot be written."""

    def __init__(self, journal: Journal, keys: Keyring, terms: Terms, entropy: random.Random) -> None:
        self._journal = journal
        self._keys = keys
        self._terms = terms
        self._entropy = entropy

    def open(self, now: float) -> list[Trade]:
        """The newest confirmed trades about which something may still be said, newest first."""
        found: list[Trade] = []
        for trade in reversed(self._journal.trades()):
            if len(found) < limits.TRADES_FOLLOWED_MAX and now < self.until(trade):
                found.append(trade)
        return found

    def until(self, trade: Trade) -> float:
        """When the holders drop what was said about a trade, Unix seconds; 0: it was not confirmed."""
        certificate = parse_record(trade.answer_wire, self._terms.network) if trade.answer_wire else None
        if trade.state != TakerState.CONFIRMED or certificate is None or not is_a(certificate, Status):
            return 0.0
        return float(keep_until(certificate))

    def say(self, accept_id: RecordId, outcome: Outcome, reason: str, now: float) -> list[Effect]:
        """Sign what became of a trade of ours, on disk before it is sent. The same again changes nothing.

        Raises UsageError for the reason, RefusedError when the trade was not confirmed, nobody would hold the receipt
        any more, or too much was said already.
        """
        check_reply(reason)
        trade = self._journal.trade(accept_id)
        if trade is None or trade.state != TakerState.CONFIRMED:
            state = "unknown" if trade is None else trade.state
            raise RefusedError(f"the trade is {state}: only a confirmed one settles or fails", reason=state)
        if now >= self.until(trade):
            raise RefusedError("nobody holds receipts of this trade any more", reason=Code.EXPIRED)
        before = self._journal.receipt(accept_id, trade.role)
        if before is not None and (before.outcome, before.reason) == (outcome, reason):
            return [Changed(trade)] if before.published else [self._publish(trade, before), Changed(trade)]
        state = ReceiptState(before.outcome) if before is not None else ReceiptState.UNSAID
        seq = before.seq + 1 if before is not None else 1
        if advance(RECEIPT, state, _EVENTS[outcome]) is None or seq > limits.RECEIPT_SEQ_MAX:
            raise RefusedError("too much was said about this trade already", reason=Code.RATE_LIMITED)
        row = self._signed(trade, outcome, reason, seq, now)
        kept = self._journal.keep_receipt(row, before)
        assert kept, "nothing comes between reading and writing"
        return [self._publish(trade, row), Changed(trade)]

    def _signed(self, trade: Trade, outcome: Outcome, reason: str, seq: int, now: float) -> KeptReceipt:
        order, accept = self._terms.records(trade)
        maker = trade.role == Role.MAKER
        signer = self._keys.signer(order.body) if maker else self._keys.main
        recipient = accept.body.encryption_key if maker else order.body.encryption_key
        sealed = seal_text(reason, recipient, self._entropy.randbytes(32))
        if sealed is None:
            raise UsageError("the other side's key cannot receive a message", hint="leave the reason out")
        body = Receipt(
            version=VERSION,
            network=self._terms.network,
            order_id=order.id,
            accept_id=accept.id,
            signer=signer.public,
            outcome=outcome,
            seq=seq,
            at=int(now),
            expires=order.body.expires,
            sealed=sealed,
        )
        wire = seal_record(body, signer.sign).wire
        return KeptReceipt(accept.id, trade.role, outcome, seq, int(now), reason, wire, published=0)

    def hear(self, receipt: Record[Receipt], now: float) -> list[Effect]:
        """Take in a receipt about one of our trades: by the other side, or by a copy of this node."""
        trade = self._journal.trade(RecordId(receipt.body.accept_id))
        if trade is None or now >= self.until(trade) or not self._terms.good(receipt):
            return []
        certificate = parse_record(trade.answer_wire, self._terms.network)
        if not is_a(certificate, Status) or not may_sign_receipt(receipt.body, [certificate]):
            return []
        order, _ = self._terms.records(trade)
        role = Role.MAKER if receipt.body.signer == order.body.maker else Role.TAKER
        before = self._journal.receipt(trade.accept_id, role)
        known = None if before is None else parse_record(before.wire, self._terms.network)
        if isinstance(known, Record) and meet(receipt, known, now) is not Meeting.NEW_WINS:
            return []
        reader = self._keys.signer(order.body) if trade.role == Role.MAKER else self._keys.main
        body = receipt.body
        reason = open_text(reader, body.sealed) if role != trade.role else ""
        row = KeptReceipt(trade.accept_id, role, body.outcome, body.seq, body.at, reason, receipt.wire, published=1)
        return [Changed(trade)] if self._journal.keep_receipt(row, before) else []

    def missing(self, trade: Trade, records: Iterable[AnyRecord]) -> list[Effect]:
        """Publish our own word on a trade again if a reading of its order's key lacks it."""
        row = self._journal.receipt(trade.accept_id, trade.role)
        if row is None or (row.published and any(record.wire == row.wire for record in records)):
            return []
        return [self._publish(trade, row)]

    def published(self, accept_id: RecordId, wire: bytes) -> None:
        """Note that another node holds our receipt."""
        self._journal.mark_receipt_published(accept_id, wire)

    def _publish(self, trade: Trade, row: KeptReceipt) -> Publish:
        order, _ = self._terms.records(trade)
        return Publish(order, trade.accept_id, row.wire, certificate=False, until=self.until(trade))
