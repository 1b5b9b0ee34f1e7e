"""Receipts: both sides of a confirmed trade say what became of it, nobody else can, and no crash loses their word."""

import random
from typing import Any

import pytest

from dhtex import limits
from dhtex.errors import RefusedError, UsageError
from dhtex.market.ids import RecordId
from dhtex.market.records import Kind, Order, Outcome, Receipt, Record, is_a, parse_record
from dhtex.market.trade import RECEIPT, ReceiptEvent, ReceiptState, advance
from dhtex.store.rows import KeptReceipt, Trade
from dhtex.trading.receipts import Receipts
from dhtex.trading.settling import Settling
from tests.builders import NETWORK, NOW, identity, make_accept, make_order, make_receipt
from tests.unit.trading.world import Access, Network, Party, VirtualClock, new_network, parties, play, stop, until


class Side:
    """A party with what carries its receipts, wired as a node does it."""

    def __init__(self, party: Party) -> None:
        self.party = party
        self.changed: list[Trade] = []
        self.settling = self._build()

    def _build(self) -> Settling:
        party = self.party
        receipts = Receipts(party.journal, party.keys, party.terms, random.Random(7))
        settling = Settling(receipts, Ears(self, party.network), VirtualClock(), random.Random(8))
        settling.on_change = self.changed.append
        return settling

    async def start(self) -> None:
        await self.settling.start()
        for trade in self.party.journal.trades():
            self.settling.follow(trade)

    async def restart(self) -> None:
        await self.settling.stop()
        self.party.network.watchers.clear()
        self.settling = self._build()
        await self.start()

    def said(self, accept_id: RecordId) -> list[tuple[str, str, str]]:
        return [(row.role, row.outcome, row.reason) for row in self.party.journal.receipts_of(accept_id)]

    def say(self, accept_id: RecordId, outcome: Outcome, reason: str = "") -> Trade:
        return self.settling.say(accept_id, outcome, reason)


class Ears(Access):
    """The network as it comes to `Settling`."""

    def __init__(self, side: Side, network: Network) -> None:
        super().__init__(network)
        self._side = side

    def push(self, record: Any) -> None:
        self._side.settling.on_record(record)


async def traded(network: Network, **fields: Any) -> tuple[Side, Side, Record[Order], RecordId]:
    """A confirmed trade, both sides of which listen."""
    maker, taker = await parties(network, 2)
    order = maker.publish(**fields)
    trade = await taker.accept(order, wait_s=30)
    assert trade.state == "confirmed"
    sides = Side(maker), Side(taker)
    for side in sides:
        await side.start()
    return *sides, order, trade.accept_id


async def end(*sides: Side) -> None:
    for side in sides:
        await side.settling.stop()
    await stop(*(side.party for side in sides))


def test_each_side_sees_what_the_other_says_and_only_it_can_read_why() -> None:
    async def story() -> None:
        maker, taker, order, accept_id = await traded(new_network())
        maker.say(accept_id, Outcome.SETTLED)
        taker.say(accept_id, Outcome.FAILED, "no coins came")
        both = [("maker", "settled", ""), ("taker", "failed", "no coins came")]
        await until(lambda: maker.said(accept_id) == both == taker.said(accept_id))
        assert [trade.accept_id for trade in maker.changed] == [accept_id, accept_id]
        public = [r for r in maker.party.network.at_order[order.id].values() if is_a(r, Receipt)]
        assert {r.body.outcome for r in public} == {"settled", "failed"}
        assert b"no coins came" not in b"".join(r.wire for r in public)
        await end(maker, taker)

    play(story())


def test_what_one_says_while_the_other_is_away_is_found_later() -> None:
    async def story() -> None:
        network = new_network()
        maker, taker, _, accept_id = await traded(network)
        await maker.settling.stop()
        network.watchers.clear()
        taker.say(accept_id, Outcome.SETTLED)
        await until(lambda: bool(network.puts))
        await maker.restart()
        await until(lambda: maker.said(accept_id) == [("taker", "settled", "")])
        await end(maker, taker)

    play(story())


def test_a_receipt_outlives_a_crash_before_anybody_holds_it() -> None:
    async def story() -> None:
        network = new_network()
        maker, taker, _, accept_id = await traded(network)
        network.down = True
        taker.say(accept_id, Outcome.FAILED, "gone")
        before = taker.party.journal.receipt(accept_id, "taker")
        assert before is not None
        assert not before.published
        await taker.restart()
        network.down = False
        await maker.restart()
        await until(lambda: maker.said(accept_id) == [("taker", "failed", "gone")], 7200.0)
        after = taker.party.journal.receipt(accept_id, "taker")
        assert after is not None
        assert (after.wire, after.published) == (before.wire, 1)
        await end(maker, taker)

    play(story())


def test_the_same_word_again_is_the_same_receipt_and_another_counts_more() -> None:
    async def story() -> None:
        maker, taker, order, accept_id = await traded(new_network())
        for _ in range(3):
            maker.say(accept_id, Outcome.FAILED, "late")
        await until(lambda: taker.said(accept_id) == [("maker", "failed", "late")])
        maker.say(accept_id, Outcome.SETTLED)
        await until(lambda: taker.said(accept_id) == [("maker", "settled", "")])
        row = maker.party.journal.receipt(accept_id, "maker")
        assert row is not None
        assert row.seq == 2
        public = [r for r in maker.party.network.at_order[order.id].values() if r.kind is Kind.RECEIPT]
        assert len(public) == 2  # the holders of this test keep everything
        for old in public:
            taker.settling.on_record(old)  # an older word comes again, and changes nothing
        assert taker.said(accept_id) == [("maker", "settled", "")]
        await end(maker, taker)

    play(story())


def test_a_side_cannot_go_on_for_ever() -> None:
    async def story() -> None:
        maker, taker, _, accept_id = await traded(new_network())
        for number in range(limits.RECEIPT_SEQ_MAX):
            maker.say(accept_id, Outcome.FAILED, f"reason {number}")
        with pytest.raises(RefusedError, match="too much"):
            maker.say(accept_id, Outcome.SETTLED)
        await end(maker, taker)

    play(story())


def test_nobody_else_can_speak_about_a_trade() -> None:
    async def story() -> None:
        maker, taker, order, accept_id = await traded(new_network())
        accept = parse_record(maker.party.journal.trades()[0].accept_wire, NETWORK)
        assert isinstance(accept, Record)
        other = make_accept(order, by=identity(3))
        strangers = [
            make_receipt(order, accept, by=identity(3)),  # type: ignore[arg-type]
            make_receipt(order, other, by=identity(3)),
            make_receipt(order, other),
            make_receipt(order, accept, expires=order.body.expires - 1),  # type: ignore[arg-type]
            make_receipt(make_order(number=77), accept),  # type: ignore[arg-type]
        ]
        genuine = make_receipt(order, accept)  # type: ignore[arg-type]
        forged = parse_record(genuine.wire.replace(genuine.signature, bytes(64)), NETWORK)
        assert isinstance(forged, Record)
        for record in (*strangers, forged):
            taker.settling.on_record(record)
            maker.settling.on_record(record)
        assert maker.said(accept_id) == taker.said(accept_id) == []
        taker.settling.on_record(genuine)
        assert taker.said(accept_id) == [("maker", "settled", "")]
        await end(maker, taker)

    play(story())


def test_a_copy_of_this_node_has_spoken_already() -> None:
    async def story() -> None:
        maker, taker, order, accept_id = await traded(new_network())
        accept = parse_record(maker.party.journal.trades()[0].accept_wire, NETWORK)
        maker.settling.on_record(make_receipt(order, accept, seq=3))  # type: ignore[arg-type]
        assert maker.said(accept_id) == [("maker", "settled", "")]
        maker.say(accept_id, Outcome.FAILED)
        row = maker.party.journal.receipt(accept_id, "maker")
        assert row is not None
        assert row.seq == 4
        await end(maker, taker)

    play(story())


def test_only_a_confirmed_trade_settles_and_only_while_it_can_be_held() -> None:
    async def story() -> None:
        network = new_network()
        maker, taker, order, accept_id = await traded(network, expires=NOW + 3600)
        loser = await Party(network, 3).start()
        taker.party.desk.on_record(make_accept(order))
        late = make_accept(order, by=loser.identity)
        maker.party.desk.on_record(late)
        with pytest.raises(RefusedError, match="refused"):
            maker.say(late.id, Outcome.SETTLED)
        with pytest.raises(RefusedError, match="unknown"):
            maker.say(RecordId(bytes(32)), Outcome.SETTLED)
        with pytest.raises(UsageError, match="message"):
            maker.say(accept_id, Outcome.FAILED, "x" * (limits.MESSAGE_BYTES_MAX + 1))
        window_s = 3600 + limits.TOMBSTONE_S
        receipts = Receipts(maker.party.journal, maker.party.keys, maker.party.terms, random.Random(1))
        assert receipts.say(accept_id, Outcome.SETTLED, "", NOW + window_s - 1)
        with pytest.raises(RefusedError, match="nobody holds"):
            receipts.say(accept_id, Outcome.FAILED, "", NOW + window_s)
        assert receipts.open(NOW + window_s) == []
        await end(maker, taker)
        await stop(loser)

    play(story())


def test_only_so_many_trades_are_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TRADES_FOLLOWED_MAX", 2)

    async def story() -> None:
        network = new_network()
        maker, taker = await parties(network, 2)
        side = Side(maker)
        orders = [maker.publish(number=number) for number in range(3)]
        for order in orders:
            trade = await taker.accept(order, wait_s=30)
            side.settling.follow(maker.journal.trade(trade.accept_id) or trade)
        assert len(side.settling._followed) == 2
        await side.settling.stop()
        await stop(maker, taker)

    play(story())


ALLOWED = {("unsaid", "settle"), ("unsaid", "fail"), ("failed", "settle"), ("settled", "fail"), ("failed", "fail")}


@pytest.mark.parametrize("state", ReceiptState)
@pytest.mark.parametrize("event", ReceiptEvent)
def test_exactly_the_allowed_words_may_follow_each_other(state: ReceiptState, event: ReceiptEvent) -> None:
    allowed = (state.value, event.value) in ALLOWED
    assert (advance(RECEIPT, state, event) is not None) == allowed


def test_the_journal_swaps_only_what_was_read() -> None:
    async def story() -> None:
        maker = await Party(new_network(), 1).start()
        rows = [KeptReceipt(RecordId(bytes(32)), "maker", "settled", seq, NOW, "", bytes([seq]), 0) for seq in (1, 2)]
        assert maker.journal.keep_receipt(rows[0], None)
        assert not maker.journal.keep_receipt(rows[1], None)
        assert not maker.journal.keep_receipt(rows[0], rows[1])
        assert maker.journal.keep_receipt(rows[1], rows[0])
        assert maker.journal.receipts_of(RecordId(bytes(32))) == [rows[1]]
        await stop(maker)

    play(story())
