"""The adapter against the real ccxt package and real nodes: what a program written for ccxt does works here."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import ccxt.async_support
import msgspec
import pytest
from ccxt.base import errors

import dhtex.ccxt
from dhtex import errors as ours
from dhtex import limits
from dhtex.ccxt.following import Follower
from dhtex.ccxt.mistakes import translated
from dhtex.ccxt.shapes import market_of, order_of
from dhtex.market.money import Pair
from tests.integration.conftest import Network, free_ports
from tests.unit.control.fakes import order_view
from tests.unit.overlay.fakes import until

PAIR = "BTC/USD"


@pytest.fixture
def ports(network: Network) -> list[int]:
    """Two nodes that know each other."""
    maker, taker = free_ports(2)
    network.started(maker)
    network.started(taker, maker)
    return [maker, taker]


@asynccontextmanager
async def exchange(network: Network, port: int, **more: Any) -> AsyncIterator[Any]:
    made = dhtex.ccxt.dhtex({"options": {"node": str(port), "home": str(network.home)}, **more})
    try:
        yield made
    finally:
        await made.close()


async def test_it_is_an_exchange_of_ccxt_that_says_what_it_can(network: Network, ports: list[int]) -> None:
    async with exchange(network, ports[0]) as maker:
        assert isinstance(maker, ccxt.async_support.Exchange)
        for name, has in maker.has.items():
            if has is True and name not in ("spot", "ws", "publicAPI"):
                assert callable(getattr(maker, name)), name
        assert not maker.requiredCredentials["apiKey"]
        assert await maker.load_markets() == {}
        market = maker.market("xmr/btc")
        assert (market["symbol"], market["precision"]) == ("XMR/BTC", {"amount": 1e-12, "price": 1e-8})
        with pytest.raises(errors.BadSymbol):
            maker.market("nonsense")


async def test_an_order_is_published_found_changed_and_withdrawn(network: Network, ports: list[int]) -> None:
    async with exchange(network, ports[0]) as maker, exchange(network, ports[1]) as other:
        terms = {"clientOrderId": "mine-1", "minimum": 0.25, "payment": ["SEPA"], "expires": 3600}
        made = await maker.create_order(PAIR, "limit", "sell", 1.5, 50000.25, terms)
        assert (made["symbol"], made["side"], made["type"], made["status"]) == (PAIR, "sell", "limit", "open")
        assert (made["price"], made["amount"], made["filled"], made["remaining"]) == (50000.25, 1.5, 0.0, 1.5)
        assert (made["clientOrderId"], made["info"]["minimum"]) == ("mine-1", "0.25")
        assert list(await other.load_markets()) == [PAIR]
        book = await other.fetch_order_book(PAIR, 5)
        assert (book["asks"], book["bids"], book["symbol"]) == ([[50000.25, 1.5]], [], PAIR)
        assert [each["id"] for each in await maker.fetch_open_orders(PAIR)] == [made["id"]]
        assert (await other.fetch_open_orders(), (await other.fetch_order(made["id"]))["price"]) == ([], 50000.25)
        changed = await maker.edit_order(made["id"], PAIR, "limit", "sell", None, "49000")
        assert (changed["price"], changed["amount"]) == (49000.0, 1.5)
        assert (await maker.cancel_order(changed["id"]))["status"] == "canceled"
        assert await maker.fetch_open_orders() == []


async def test_a_market_order_takes_and_both_sides_see_the_trade(
    network: Network, ports: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with exchange(network, ports[0]) as maker, exchange(network, ports[1]) as taker:
        order = await maker.create_limit_sell_order(PAIR, 2, 50000, {"minimum": "0.5"})
        taken = await taker.create_market_buy_order(PAIR, 0.5)
        assert (taken["status"], taken["filled"], taken["average"], taken["cost"]) == ("closed", 0.5, 50000.0, 25000.0)
        (bought,), (sold,) = await taker.fetch_my_trades(PAIR), await maker.fetch_my_trades()
        assert [bought[name] for name in ("side", "price", "amount", "cost")] == ["buy", 50000.0, 0.5, 25000.0]
        assert (sold["side"], bought["takerOrMaker"], sold["takerOrMaker"]) == ("sell", "taker", "maker")
        assert (await maker.fetch_order(order["id"]))["status"] == "closed"
        assert await taker.fetch_my_trades("XMR/USD") == []
        part = await taker.create_order(PAIR, "limit", "buy", 5, 50000, {"timeInForce": "IOC"})
        assert (part["status"], part["filled"], part["remaining"]) == ("canceled", 1.5, 3.5)
        monkeypatch.setattr(limits, "TRADES_LISTED_MAX", 1)  # more trades than a page has
        assert [trade["amount"] for trade in await taker.fetch_my_trades()] == [0.5, 1.5]
        assert [trade["amount"] for trade in await taker.fetch_my_trades(limit=1)] == [1.5]
        assert [trade["amount"] for trade in await taker.fetch_my_trades(since=bought["timestamp"], limit=1)] == [0.5]


async def test_a_watched_book_is_whole_and_comes_again_when_it_differs(network: Network, ports: list[int]) -> None:
    async with exchange(network, ports[0]) as maker, exchange(network, ports[1]) as other:
        first = await other.watch_order_book(PAIR)
        assert (first["asks"], first["nonce"]) == ([], 1)
        again = asyncio.ensure_future(other.watch_order_book(PAIR))
        await maker.create_order(PAIR, "limit", "buy", "1", "40000")
        async with asyncio.timeout(15):
            assert (await again)["bids"] == [[40000.0, 1.0]]


class Stream:
    """Stands in for a stream of the node: nothing happens in it until it ends."""

    opened: ClassVar[list["Stream"]] = []
    waiting: ClassVar[int] = 0

    def __init__(self, address: Any, path: str) -> None:
        self.over = asyncio.Event()
        self.opened.append(self)

    async def next(self) -> Any:
        Stream.waiting += 1
        await self.over.wait()
        raise ours.NotRunningError("x")

    async def close(self) -> None:
        self.over.set()


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> list[Stream]:
    """All streams that were opened."""
    monkeypatch.setattr(dhtex.ccxt, "Follower", Stream)
    monkeypatch.setattr(Stream, "opened", [])
    monkeypatch.setattr(Stream, "waiting", 0)
    return Stream.opened


@pytest.fixture
async def watching(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    """An exchange that needs no node to watch a book."""
    made: Any = dhtex.ccxt.dhtex({"markets": {}})
    monkeypatch.setattr(made, "_address", lambda: "nowhere")
    made.set_markets([market_of(Pair.parse(PAIR))])
    yield made
    await made.close()


async def test_who_begins_to_watch_a_book_twice_at_once_opens_one_stream(watching: Any, streams: list[Stream]) -> None:
    both = [asyncio.ensure_future(watching.watch_order_book(PAIR)) for _ in range(2)]
    await until(lambda: Stream.waiting == 2)
    assert len(streams) == 1
    await watching.close()
    await asyncio.gather(*both, return_exceptions=True)


async def test_all_who_wait_hear_of_the_end_of_a_stream(watching: Any, streams: list[Stream]) -> None:
    both = []
    for number in (1, 2):
        both.append(asyncio.ensure_future(watching.watch_order_book(PAIR)))
        await until(lambda wanted=number: Stream.waiting == wanted)  # type: ignore[misc]
    streams[0].over.set()
    heard = await asyncio.gather(*both, return_exceptions=True)
    assert [type(error) for error in heard] == [errors.ExchangeNotAvailable] * 2
    again = asyncio.ensure_future(watching.watch_order_book(PAIR))
    await until(lambda: len(streams) == 2)
    again.cancel()


async def test_who_waits_hears_that_a_stream_was_closed() -> None:
    stream = Follower(lambda: "nowhere", "/")
    waiting = asyncio.ensure_future(stream.next())
    await stream.close()
    async with asyncio.timeout(15):
        with pytest.raises(ours.NotRunningError):
            await waiting


@pytest.mark.parametrize("number", [float, str])
async def test_numbers_are_what_the_caller_wants(network: Network, ports: list[int], number: type) -> None:
    async with exchange(network, ports[0], number=number) as maker:
        made = await maker.create_order(PAIR, "limit", "buy", number("0.1"), number("40000.5"))
        assert (made["amount"], made["price"]) == (number("0.1"), number("40000.5"))


async def test_long_numbers_are_not_rounded(watching: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    watching.number = str
    amount, filled, price = "900000000000.000000000000000001", "3", "100000000000.00000000000000001"
    view = order_view(symbol="ETH/DAI", price=price, amount=amount, filled=filled)
    made = order_of(watching, msgspec.to_builtins(view))
    assert made["cost"] == "300000000000.00000000000000003"
    taken = {
        "amount": amount,
        "filled": filled,
        "outstanding": "0",
        "average": price,
        "cost": made["cost"],
        "tries": [],
    }

    async def answer(*_: Any) -> Any:
        return taken

    monkeypatch.setattr(watching, "_ask", answer)
    assert (await watching.create_order(PAIR, "market", "buy", amount))[
        "remaining"
    ] == "899999999997.000000000000000001"


async def test_errors_are_those_of_ccxt(network: Network, ports: list[int]) -> None:
    async with (
        exchange(network, ports[0]) as maker,
        exchange(network, ports[1]) as taker,
        exchange(network, 9) as nobody,
    ):
        with pytest.raises(errors.ExchangeNotAvailable):
            await nobody.load_markets()
        with pytest.raises(errors.ExchangeNotAvailable):
            await nobody.watch_order_book(PAIR)
        for amount, price in ((1, 0.001), (0, 5), (1e-9, 5), (-1, 5)):
            with pytest.raises(errors.InvalidOrder):
                await maker.create_order(PAIR, "limit", "sell", amount, price)
        with pytest.raises(errors.InvalidOrder):
            await maker.create_order(PAIR, "limit", "sell", 1)
        with pytest.raises(errors.InvalidOrder):
            await maker.create_order(PAIR, "limit", "sell", 1, 5, {"odd": 1})
        for wrong in ("ab" * 32, "../status", ""):
            with pytest.raises(errors.OrderNotFound):
                await maker.fetch_order(wrong)
        made = await maker.create_order(PAIR, "limit", "sell", 1, 50000)
        await maker.cancel_order(made["id"])
        with pytest.raises(errors.OrderNotFound):
            await maker.cancel_order(made["id"])
        with pytest.raises(errors.OrderNotFound):
            await taker.create_market_buy_order(PAIR, 1)


async def test_a_book_that_could_not_be_read_whole_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    gap = {"symbol": PAIR, "side": "sell", "low": "50000", "high": "60000"}
    view: dict[str, Any] = {"symbol": PAIR, "asks": [], "bids": [], "timestamp": 1, "datetime": "x"}
    made: Any = dhtex.ccxt.dhtex()

    async def answer(method: str, path: str) -> Any:
        return {"pairs": []} if path == "/v1/pairs" else view

    monkeypatch.setattr(made, "_ask", answer)
    try:
        view["coverage"] = {"missing": []}
        assert (await made.fetch_order_book(PAIR))["info"]["coverage"]["missing"] == []
        view["coverage"] = {"missing": [gap]}
        with pytest.warns(RuntimeWarning, match="could not read a part of the book of BTC/USD"):
            assert (await made.fetch_order_book(PAIR))["info"]["coverage"]["missing"] == [gap]
    finally:
        await made.close()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ours.NotFoundError("x"), errors.OrderNotFound),
        (ours.NotRunningError("x"), errors.ExchangeNotAvailable),
        (ours.NoPeerError("x"), errors.NetworkError),
        (ours.IncompleteError("x"), errors.NetworkError),
        (ours.OutcomeUnknownError("x"), errors.RequestTimeout),
        (ours.VerificationError("x"), errors.AuthenticationError),
        (ours.UsageError("x"), errors.BadRequest),
        (ours.StateError("x"), errors.ExchangeError),
        (ours.PortInUseError("x"), errors.ExchangeError),
        (ours.DhtexError("x"), errors.ExchangeError),
        (ours.RefusedError("x", reason="rate_limited"), errors.RateLimitExceeded),
        (ours.RefusedError("x", reason="amount_out_of_range"), errors.InvalidOrder),
        (ours.RefusedError("x", reason="self_trade"), errors.InvalidOrder),
        (ours.RefusedError("x", reason="stamp_too_low"), errors.InvalidOrder),
        (ours.RefusedError("x", reason="not_live"), errors.OrderNotFillable),
        (ours.RefusedError("x", reason="declined"), errors.OrderNotFillable),
        (ours.RefusedError("x", reason="taken"), errors.OrderNotFound),
        (ours.RefusedError("x", reason="of a newer node"), errors.OrderNotFound),
    ],
)
def test_each_error_is_one_of_ccxt(error: ours.DhtexError, kind: type[Exception]) -> None:
    found = translated(error)
    assert type(found) is kind
    assert str(found) == "dhtex x"
    is_usage = isinstance(error, ours.UsageError)
    assert type(translated(error, errors.InvalidOrder)) is (errors.InvalidOrder if is_usage else kind)


def test_every_error_of_ours_is_known_to_the_test_above() -> None:
    (mark,) = test_each_error_is_one_of_ccxt.pytestmark  # type: ignore[attr-defined]
    tried = {type(error) for error, _ in mark.args[1]}
    named = {value for value in vars(ours).values() if isinstance(value, type) and issubclass(value, ours.DhtexError)}
    assert tried == named
