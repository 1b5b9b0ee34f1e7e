"""The control interface as data: every route, what it takes, what it answers, and the method of the node behind it.

The server walks this table, and so does the OpenAPI document, so the two cannot disagree.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from dhtex import limits
from dhtex.config import split_endpoint
from dhtex.control.client import check_wait
from dhtex.control.face import NodeFace, Progress, Tell
from dhtex.errors import UsageError
from dhtex.marketviews import (
    BestView,
    ExportView,
    ImportRequest,
    ImportView,
    PairsView,
    PlannedView,
    QuoteQuery,
    QuoteView,
    StatsQuery,
    StatsView,
    TakeRequest,
    TakeView,
    TryView,
)
from dhtex.views import (
    AcceptRequest,
    AcceptView,
    Amendment,
    BookView,
    CancelView,
    DoctorView,
    EventView,
    HealthView,
    ListingView,
    OrderDraft,
    OrderQuery,
    OrderView,
    PeerView,
    PublishView,
    ReceiptRequest,
    StatusView,
    TradeQuery,
    TradesView,
    TradeView,
    WhyView,
)


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """No query, or no body."""


class ConnectRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A peer to meet: "host:port" or "[v6]:port"."""

    address: str


class ConnectView(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the peer answered."""

    address: str
    connected: bool


class ConfirmRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which pending accept wins (empty: the only one), and the text sealed to its taker (empty: the configured one)."""

    accept: str = ""
    reply: str = ""


class DeclineRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which pending accept is turned down (empty: the only one)."""

    accept: str = ""


class CancelRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which own open orders are withdrawn: those of a pair, or all (empty)."""

    pair: str = ""


class BookQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A pair, and how many price levels of each side."""

    pair: str
    limit: int = 20


class PairQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A pair."""

    pair: str


class StopView(msgspec.Struct, frozen=True, kw_only=True):
    """The node is stopping: its lock is free when it is done."""

    stopping: bool = True


class ProgressView(msgspec.Struct, frozen=True, kw_only=True):
    """How far the minting of a stamp or the reading of many pairs is, 0 to 1."""

    fraction: float


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What went wrong. `exit_status` is what the command line exits with, `reason` the refusal code if there is one."""

    code: str
    message: str
    hint: str
    exit_status: int
    reason: str | None = None


class ErrorView(msgspec.Struct, frozen=True, kw_only=True):
    """The body of every answer that is not a success."""

    error: Problem


@dataclass(frozen=True, slots=True)
class Call:
    """One request, decoded: `query` and `body` have the types that the route names."""

    node: NodeFace
    stop: Callable[[], None]
    id: str
    query: Any
    body: Any
    progress: Progress | None = None
    tell: Tell = lambda step, view: None


@dataclass(frozen=True, slots=True)
class Route:
    """One row of the table. `run` answers once, `stream` answers with events; a row has one of them.

    `plain`: the answer is text. `steps`: with `Accept: text/event-stream` the answer comes as events: `progress`, those
    that the operation tells of (views of the types `told`), and at last `result`.
    """

    method: str
    path: str
    summary: str
    answer: Any
    run: Callable[[Call], Awaitable[Any]] | None = None
    stream: Callable[[Call], AsyncIterator[EventView]] | None = None
    query: type[msgspec.Struct] = Nothing
    body: type[msgspec.Struct] = Nothing
    steps: bool = False
    plain: bool = False
    told: tuple[type[msgspec.Struct], ...] = ()


async def _status(call: Call) -> StatusView:
    return call.node.status()


async def _peers(call: Call) -> list[PeerView]:
    return call.node.peers()


async def _why(call: Call) -> WhyView:
    return await call.node.why(call.id)


async def _doctor(call: Call) -> DoctorView:
    return await call.node.doctor()


async def _health(call: Call) -> HealthView:
    return call.node.health()


async def _metrics(call: Call) -> str:
    return call.node.metrics()


async def _connect(call: Call) -> ConnectView:
    host, port = split_endpoint(call.body.address)
    return ConnectView(address=call.body.address, connected=await call.node.connect(host, port))


async def _add(call: Call) -> PublishView:
    return await call.node.add_order(call.body, call.progress, call.tell)


async def _list(call: Call) -> ListingView:
    _check_limit(call.query.limit, limits.LISTING_ORDERS_MAX)
    return await call.node.list_orders(call.query, call.progress)


async def _book(call: Call) -> BookView:
    _check_limit(call.query.limit, limits.LISTING_ORDERS_MAX)
    return await call.node.book(call.query.pair, call.query.limit)


async def _show(call: Call) -> OrderView:
    return await call.node.show_order(call.id)


async def _cancel(call: Call) -> OrderView:
    return await call.node.cancel_order(call.id)


async def _cancel_many(call: Call) -> CancelView:
    return await call.node.cancel_orders(call.body.pair)


async def _renew(call: Call) -> list[OrderView]:
    return call.node.renew_orders()


async def _amend(call: Call) -> PublishView:
    return await call.node.amend_order(call.id, call.body, call.progress, call.tell)


async def _accept(call: Call) -> AcceptView:
    check_wait(call.body.wait_s)
    return await call.node.accept_order(call.id, call.body, call.progress, call.tell)


async def _accept_best(call: Call) -> BestView:
    check_wait(call.body.wait_s)
    return await call.node.accept_best(call.body, call.progress, call.tell)


async def _quote(call: Call) -> QuoteView:
    return await call.node.quote(call.query)


async def _take(call: Call) -> TakeView:
    check_wait(call.body.wait_s)
    return await call.node.take(call.body, call.progress, call.tell)


async def _pairs(call: Call) -> PairsView:
    return await call.node.pairs(call.progress)


async def _stats(call: Call) -> StatsView:
    _check_limit(call.query.limit, limits.FILLS_READ_MAX)
    return await call.node.stats(call.query)


async def _export(call: Call) -> ExportView:
    return await call.node.export_orders(call.query.pair)


async def _import(call: Call) -> ImportView:
    if len(call.body.records) > limits.IMPORT_RECORDS_MAX:
        raise UsageError("too many records in one request", hint=f"at most {limits.IMPORT_RECORDS_MAX}")
    return await call.node.import_records(call.body.records)


async def _confirm(call: Call) -> TradeView:
    return await call.node.confirm_order(call.id, call.body.accept, call.body.reply)


async def _decline(call: Call) -> TradeView:
    return await call.node.decline_order(call.id, call.body.accept)


async def _trades(call: Call) -> TradesView:
    _check_limit(call.query.limit, limits.TRADES_LISTED_MAX)
    return call.node.list_trades(call.query)


async def _trade(call: Call) -> TradeView:
    return call.node.trade(call.id)


async def _settle(call: Call) -> TradeView:
    return call.node.settle_trade(call.id, call.body)


async def _stop(call: Call) -> StopView:
    call.stop()
    return StopView()


def _events(call: Call) -> AsyncIterator[EventView]:
    return call.node.events()


def _watch(call: Call) -> AsyncIterator[EventView]:
    return call.node.watch(call.query.pair)


def _follow(call: Call) -> AsyncIterator[EventView]:
    _check_limit(call.query.limit, limits.LISTING_ORDERS_MAX)
    return call.node.follow_book(call.query.pair, call.query.limit)


def _check_limit(limit: int, limit_max: int) -> None:
    if not 1 <= limit <= limit_max:
        raise UsageError(f"a limit of {limit} is out of range", hint=f"1 to {limit_max}")


STEPS_TOLD: Final = (QuoteView, PlannedView, TryView)
ROUTES: Final = (
    Route("GET", "/v1/status", "The node in one page", StatusView, _status),
    Route("GET", "/v1/peers", "The contacts of the routing table", list[PeerView], _peers),
    Route("GET", "/v1/why/{id}", "A search for a key or an order, hop by hop", WhyView, _why),
    Route("POST", "/v1/doctor", "Check the node", DoctorView, _doctor),
    Route("POST", "/v1/connect", "Meet a peer", ConnectView, _connect, body=ConnectRequest),
    Route("POST", "/v1/orders", "Publish an order", PublishView, _add, body=OrderDraft, steps=True, told=(OrderView,)),
    Route("GET", "/v1/orders", "List orders", ListingView, _list, query=OrderQuery, steps=True),
    Route("POST", "/v1/orders/cancel", "Withdraw own open orders", CancelView, _cancel_many, body=CancelRequest),
    Route("POST", "/v1/orders/renew", "Put off all dead man's switches", list[OrderView], _renew),
    Route(
        "POST",
        "/v1/orders/accept",
        "Take the best",
        BestView,
        _accept_best,
        body=TakeRequest,
        steps=True,
        told=(PlannedView, TryView),
    ),
    Route("GET", "/v1/quote", "What an amount would cost", QuoteView, _quote, query=QuoteQuery),
    Route(
        "POST", "/v1/take", "Take orders for an amount", TakeView, _take, body=TakeRequest, steps=True, told=STEPS_TOLD
    ),
    Route("GET", "/v1/pairs", "The pairs that this node knows", PairsView, _pairs, steps=True),
    Route("GET", "/v1/stats", "A pair in figures", StatsView, _stats, query=StatsQuery),
    Route("GET", "/v1/export", "The signed orders of a pair", ExportView, _export, query=PairQuery),
    Route("POST", "/v1/import", "Check and put signed records", ImportView, _import, body=ImportRequest),
    Route("GET", "/v1/book", "The ladder of a pair", BookView, _book, query=BookQuery),
    Route("GET", "/v1/orders/{id}", "Show an order", OrderView, _show),
    Route("POST", "/v1/orders/{id}/cancel", "Withdraw an own order", OrderView, _cancel),
    Route(
        "POST",
        "/v1/orders/{id}/amend",
        "Replace an own order",
        PublishView,
        _amend,
        body=Amendment,
        steps=True,
        told=(OrderView,),
    ),
    Route(
        "POST",
        "/v1/orders/{id}/accept",
        "Take an order",
        AcceptView,
        _accept,
        body=AcceptRequest,
        steps=True,
        told=(TradeView,),
    ),
    Route("POST", "/v1/orders/{id}/confirm", "Let an accept win", TradeView, _confirm, body=ConfirmRequest),
    Route("POST", "/v1/orders/{id}/decline", "Turn an accept down", TradeView, _decline, body=DeclineRequest),
    Route("GET", "/v1/trades", "The trades of this node", TradesView, _trades, query=TradeQuery),
    Route("GET", "/v1/trades/{id}", "Show a trade", TradeView, _trade),
    Route("POST", "/v1/trades/{id}/receipt", "Say what became of a trade", TradeView, _settle, body=ReceiptRequest),
    Route("GET", "/v1/events", "Everything that happens here", EventView, stream=_events),
    Route("GET", "/v1/watch", "What happens to a pair", EventView, stream=_watch, query=PairQuery),
    Route("GET", "/v1/book/follow", "The ladder of a pair, live", EventView, stream=_follow, query=BookQuery),
    Route("POST", "/v1/stop", "Stop the node", StopView, _stop),
    Route("GET", "/healthz", "200 when the node is ready, else 503", HealthView, _health),
    Route("GET", "/metrics", "Numbers in the text format of Prometheus", str, _metrics, plain=True),
)
