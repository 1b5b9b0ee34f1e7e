"""`accept --best`: the best order that fits, then the next when it is refused; whole nodes, real UDP on loopback."""

import asyncio

import msgspec
import pytest

from dhtex import limits
from dhtex.errors import NotFoundError, UsageError
from dhtex.market.records import Code
from dhtex.marketviews import TakeRequest
from dhtex.node import Node
from dhtex.trading.maker import Refuse
from dhtex.views import AcceptRequest
from tests.integration.test_nodes import DRAFT, lists, network, until

WISH = TakeRequest(pair="BTC/USD", side="buy", amount="1", max_price="50300")


async def offers(maker: Node, *prices: str) -> list[str]:
    return [(await maker.add_order(msgspec.structs.replace(DRAFT, price=price))).order.id for price in prices]


async def test_the_best_order_that_fits_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    async with network(3) as (maker, taker, other):
        dear, cheap = await offers(maker, "50200", "50100")
        asked = await maker.add_order(msgspec.structs.replace(DRAFT, price="49000", confirm="ask"))
        small = await maker.add_order(msgspec.structs.replace(DRAFT, price="49500", amount="0.5"))
        (own,) = await offers(taker, "49900")
        view = await taker.accept_best(WISH)
        assert view.outcome is not None
        assert ([attempt.order.id for attempt in view.tries], view.outcome.state) == ([cheap], "confirmed")
        with pytest.raises(NotFoundError):
            await taker.accept_best(msgspec.structs.replace(WISH, max_price="50199"))
        assert {dear, own, asked.order.id, small.order.id} <= await lists(other)
        for change in ({"side": "both"}, {"amount": ""}, {"min_price": "1"}, {"side": "sell"}, {"pair": "BTC"}):
            with pytest.raises(UsageError):
                await taker.accept_best(msgspec.structs.replace(WISH, **change))


async def test_takers_who_all_want_the_best_get_one_order_each() -> None:
    async with network(5) as (maker, *takers):
        orders = await offers(maker, "50000", "50100", "50200", "50300")
        views = await asyncio.gather(*(taker.accept_best(WISH) for taker in takers))
        outcomes = [view.outcome for view in views]
        assert [outcome.state for outcome in outcomes if outcome is not None] == ["confirmed"] * 4
        assert {outcome.order for outcome in outcomes if outcome is not None} == set(orders)
        assert sum(len(view.tries) for view in views) > 4
        for view in views:
            prices = [attempt.order.price for attempt in view.tries]
            assert prices == sorted(prices)


async def test_the_search_ends_after_a_few_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    async with network(2) as (maker, taker):
        orders = await offers(maker, *(f"{50_000 + n}" for n in range(limits.ACCEPT_TRIES_MAX + 2)))
        with monkeypatch.context() as patched:
            patched.setattr("dhtex.trading.selling.decide", lambda *_: Refuse(Code.DECLINED))
            view = await taker.accept_best(WISH)
        assert view.outcome is None
        assert [attempt.order.id for attempt in view.tries] == orders[: limits.ACCEPT_TRIES_MAX]
        assert {attempt.code for attempt in view.tries} == {"declined"}


async def test_an_accept_without_an_answer_ends_the_search() -> None:
    async with network(3) as (maker, taker, other):
        best, second = await offers(maker, "50000", "50100")
        assert (await other.accept_order(best, AcceptRequest())).state == "confirmed"
        (best,) = await offers(maker, "49999")
        await until_listed(taker, {best, second})
        maker._running.desk.on_record = lambda record: None  # type: ignore[method-assign]
        view = await taker.accept_best(msgspec.structs.replace(WISH, wait_s=0.3))
        assert view.outcome is not None
        assert ([attempt.order.id for attempt in view.tries], view.outcome.state) == ([best], "sent")
        assert len(taker.trades()) == 1


async def until_listed(node: Node, orders: set[str]) -> None:
    async def listed() -> bool:
        return await lists(node) == orders

    await until(listed)
