"""Quotes and takes: amounts made of several orders; whole nodes, real UDP on loopback."""

import asyncio
from typing import Any

import msgspec
import pytest

from dhtex.errors import NotFoundError, UsageError
from dhtex.market.records import Accept, Code, Record
from dhtex.marketviews import QuoteQuery, TakeRequest
from dhtex.node import Node
from dhtex.trading.maker import Refuse, decide
from tests.integration.test_nodes import DRAFT, network

WISH = TakeRequest(pair="BTC/USD", side="buy", amount="2.5", max_price="50300", wait_s=5)
QUOTE = QuoteQuery(pair="BTC/USD", side="buy", amount="2.5", max_price="50300")


async def offer(maker: Node, price: str, amount: str = "1", **terms: str) -> str:
    return (await maker.add_order(msgspec.structs.replace(DRAFT, price=price, amount=amount, **terms))).order.id


async def test_a_quote_takes_the_best_orders_and_says_what_is_missing() -> None:
    async with network(3) as (maker, taker, other):
        second = await offer(maker, "50100", minimum="0.5")
        first = await offer(other, "50000")
        await offer(maker, "50200", "9")  # whole only: too large
        await offer(taker, "49000")  # the taker's own
        await offer(maker, "49000", confirm="ask")
        await offer(maker, "50301")  # above the limit
        view = await taker.quote(msgspec.structs.replace(QUOTE, amount="1.5"))
        assert [(step.order.id, step.amount, step.cost) for step in view.plan] == [
            (first, "1", "50000"),
            (second, "0.5", "25050"),
        ]
        assert (view.filled, view.remaining, view.cost, view.average, view.worst) == (
            *("1.5", "0", "75050", "50033.34", "50100"),
        )
        assert (len(view.makers), view.left_out, view.coverage.complete) == (2, {"mine": 1, "ask": 1}, True)
        short = await taker.quote(QUOTE)
        assert (short.filled, short.remaining, short.depth) == ("2", "0.5", "11")
        assert short.left_out == {"mine": 1, "ask": 1, "whole": 1}
        nothing = await taker.quote(msgspec.structs.replace(QUOTE, max_price="1"))
        assert (nothing.plan, nothing.average, nothing.cost, nothing.remaining) == ([], None, None, "2.5")
        assert {trade.state for node in (maker, taker, other) for trade in node.trades()} == set()
        for change in ({"side": "both"}, {"amount": "0"}, {"amount": "1.000000001"}, {"min_price": "1"}, {"pair": "X"}):
            with pytest.raises(UsageError):
                await taker.quote(msgspec.structs.replace(QUOTE, **change))


async def test_an_amount_is_taken_from_several_orders_and_told_step_by_step() -> None:
    async with network(3) as (maker, taker, other):
        orders = [await offer(maker, "50000"), await offer(other, "50100", "2", minimum="0.5")]
        steps: list[tuple[str, Any]] = []
        view = await taker.take(WISH, tell=lambda step, value: steps.append((step, value)))
        assert (view.filled, view.remaining, view.outstanding, view.cost) == ("2.5", "0", "0", "125150")
        assert [(t.order.id, t.amount, t.state) for t in view.tries] == [
            (orders[0], "1", "confirmed"),
            (orders[1], "1.5", "confirmed"),
        ]
        assert [step for step, _ in steps] == ["plan", *["trying", "sent", "tried"] * 2]
        assert sum(1 for trade in taker.trades() if trade.state == "confirmed") == 2
        rest = await taker.take(msgspec.structs.replace(WISH, amount="0.6"))
        assert (rest.filled, rest.remaining) == ("0.5", "0.1")  # what the part fill left of the second
        with pytest.raises(NotFoundError):
            await taker.take(WISH)


async def test_a_refused_order_is_replaced_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    async with network(3) as (maker, taker, other):
        refusing, fine = await offer(maker, "50000"), await offer(other, "50100")

        def decline(accept: Record[Accept], *rest: Any) -> Any:
            return Refuse(Code.DECLINED) if accept.body.order_id.hex() == refusing else decide(accept, *rest)

        monkeypatch.setattr("dhtex.trading.selling.decide", decline)
        view = await taker.take(msgspec.structs.replace(WISH, amount="1"))
        assert [(t.order.id, t.state, t.code) for t in view.tries] == [
            (refusing, "refused", "declined"),
            (fine, "confirmed", None),
        ]
        assert (view.filled, view.remaining, view.average) == ("1", "0", "50100")


async def test_what_is_not_answered_is_not_bought_again() -> None:
    async with network(3) as (maker, taker, other):
        silent, second, third = await offer(maker, "50000"), await offer(other, "50100"), await offer(other, "50200")
        maker._running.desk.on_record = lambda record: None  # type: ignore[method-assign]
        view = await taker.take(msgspec.structs.replace(WISH, amount="2", wait_s=0.3))
        assert [(t.order.id, t.state) for t in view.tries] == [(silent, "sent"), (second, "confirmed")]
        assert (view.filled, view.outstanding, view.remaining) == ("1", "1", "0")
        assert third not in {trade.order for trade in taker.trades()}


async def test_a_take_that_is_broken_off_sends_no_further_accept() -> None:
    async with network(3) as (maker, taker, other):
        first, second = await offer(maker, "50000"), await offer(other, "50100")
        maker._running.desk.on_record = lambda record: None  # type: ignore[method-assign]
        sent = asyncio.Event()
        wish = msgspec.structs.replace(WISH, amount="2")
        take = asyncio.create_task(taker.take(wish, tell=lambda step, _: sent.set() if step == "sent" else None))
        await asyncio.wait_for(sent.wait(), 15)
        take.cancel()
        await asyncio.gather(take, return_exceptions=True)
        assert [(trade.order, trade.state) for trade in taker.trades()] == [(first, "sent")]
        assert (await other.show_order(second)).status == "open"
