"""A node that answers what a test tells it to, behind the real control server and the real daemon."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from dhtex.config import NodeConfig
from dhtex.control.face import Progress, Tell
from dhtex.coverage import Coverage
from dhtex.marketviews import (
    BestView,
    DepthView,
    ExportView,
    ImportedView,
    ImportView,
    PairsView,
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
    CheckView,
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
    ReceiptView,
    StatusView,
    TradeQuery,
    TradesView,
    TradeView,
    WhyView,
)

MOMENT = {"timestamp": 1_700_000_000_000, "datetime": "2023-11-14T22:13:20.000Z"}
COVERAGE = Coverage(nodes=1, asked=3, answered=3, agreed=3, complete=True)


def order_view(**changes: Any) -> OrderView:
    fields: dict[str, Any] = {
        **MOMENT,
        **{"id": "ab" * 32, "clientOrderId": "", "symbol": "BTC/USD", "side": "sell", "price": "50000"},
        **{"amount": "1", "minimum": "1", "filled": "0", "remaining": "1", "status": "open"},
        **{"expires": 1_700_086_400_000, "expiresDatetime": "2023-11-15T22:13:20.000Z", "maker": "cd" * 32},
        **{"payment": [], "note": "", "liveness": "beat", "confirm": "auto", "live": True, "mine": True},
    }
    return OrderView(**{**fields, **changes})


def trade_view(**changes: Any) -> TradeView:
    fields: dict[str, Any] = {
        **MOMENT,
        **{"id": "ef" * 32, "accept": "ef" * 32, "order": "ab" * 32, "role": "taker", "state": "confirmed"},
        **{"code": None, "retryable": False, "symbol": "BTC/USD", "side": "sell", "price": "50000", "amount": "1"},
        **{"cost": "50000", "deadline": 1, "deadlineDatetime": "x", "counterparty": "cd" * 32},
        **{"message": "", "reply": ""},
    }
    return TradeView(**{**fields, **changes})


class FakeNode:
    """Notes every call; raises `error` from operations when it is set; `wait` holds them back."""

    def __init__(self, settings: NodeConfig | None = None) -> None:
        self.settings = settings or NodeConfig(network="lab", pow_bits=0)
        self.calls: list[tuple[Any, ...]] = []
        self.error: Exception | None = None
        self.start_error: Exception | None = None
        self.wait: asyncio.Event | None = None
        self.cancelled = asyncio.Event()
        self.fractions: list[float] = []
        self.queues: list[asyncio.Queue[EventView | None]] = []
        self.stopped = False
        self.ready = True
        self.stop_hangs = False
        self.aside: Path | None = None
        self.bootstrap_state = "connected"
        self.node_name = "12" * 20
        self.greeting = ""
        self.signs_first = False

    @property
    def set_aside(self) -> Path | None:
        return self.aside

    async def start(self) -> None:
        if self.start_error is not None:
            raise self.start_error

    async def stop(self) -> None:
        while self.stop_hangs:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                continue
        self.stopped = True

    async def _work(self, *call: Any) -> None:
        self.calls.append(call)
        if self.wait is not None:
            try:
                await self.wait.wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        if self.error is not None:
            raise self.error

    def _report(self, progress: Progress | None) -> None:
        for fraction in self.fractions:
            if progress is not None:
                progress(fraction)

    async def connect(self, host: str, port: int) -> bool:
        await self._work("connect", host, port)
        return True

    def status(self) -> StatusView:
        return StatusView(
            version="0",
            state="alone",
            pid=1,
            port=self.settings.port,
            host="",
            network=self.settings.network,
            pow_bits=self.settings.pow_bits,
            node=self.node_name,
            maker="34" * 32,
            epoch=1,
            uptime_s=1.5,
            peers=0,
            network_nodes=1,
            address="",
            client=False,
            bootstrap=dict.fromkeys(self.settings.bootstrap, self.bootstrap_state),
            orders_open=0,
            records_held=0,
            watches=0,
            home="",
            counters={"datagrams_in": 1},
        )

    def health(self) -> HealthView:
        return HealthView(
            ready=self.ready, state="ready" if self.ready else "joining", canary_asked=2, canary_returned=2
        )

    def metrics(self) -> str:
        return "dhtex_peers 0\n"

    async def why(self, name: str) -> WhyView:
        await self._work("why", name)
        return WhyView(key=name, took_ms=1.0, hops=[], holders=0, agreed=0, local=None, verdict="nobody")

    async def doctor(self) -> DoctorView:
        await self._work("doctor")
        return DoctorView(healthy=True, checks=[CheckView(name="port", state="ok", finding="listens")])

    def peers(self) -> list[PeerView]:
        peer = PeerView(
            id="56" * 20, address="127.0.0.1:1", kind="dhtex", rtt_ms=None, age_s=1.0, silent_s=0.5, failures=2
        )
        return [peer]

    async def add_order(self, draft: OrderDraft, progress: Progress | None = None, tell: Tell = print) -> PublishView:
        self._report(progress)
        if self.signs_first:
            tell("signed", order_view(side=draft.side))
        await self._work("add_order", draft)
        return PublishView(order=order_view(side=draft.side), holders=3)

    async def list_orders(self, query: OrderQuery, progress: Progress | None = None) -> ListingView:
        self._report(progress)
        await self._work("list_orders", query)
        return ListingView(orders=[order_view(symbol=query.pair or "BTC/USD")], coverage=COVERAGE, hidden={})

    async def book(self, pair: str, limit: int) -> BookView:
        await self._work("book", pair, limit)
        return BookView(
            symbol=pair,
            bids=[],
            asks=[],
            spread=None,
            mid=None,
            coverage=COVERAGE,
            hidden={},
            **MOMENT,  # type: ignore[arg-type]
        )

    async def show_order(self, id_prefix: str) -> OrderView:
        await self._work("show_order", id_prefix)
        return order_view()

    async def cancel_order(self, id_prefix: str) -> OrderView:
        await self._work("cancel_order", id_prefix)
        return order_view(status="canceled")

    async def cancel_orders(self, pair: str) -> CancelView:
        await self._work("cancel_orders", pair)
        return CancelView(canceled=[order_view(status="canceled")], failed=[])

    def renew_orders(self) -> list[OrderView]:
        self.calls.append(("renew_orders",))
        return [order_view()]

    async def amend_order(
        self, id_prefix: str, amendment: Amendment, progress: Progress | None = None, tell: Tell = print
    ) -> PublishView:
        self._report(progress)
        await self._work("amend_order", id_prefix, amendment)
        return PublishView(order=order_view(), holders=0)

    async def accept_order(
        self, id_prefix: str, request: AcceptRequest, progress: Progress | None = None, tell: Tell = print
    ) -> AcceptView:
        self._report(progress)
        trade = trade_view()
        if self.signs_first:
            tell("sent", trade)
        await self._work("accept_order", id_prefix, request)
        return AcceptView(
            accept=trade.accept, order=trade.order, state=trade.state, code=None, retryable=False, trade=trade
        )

    async def accept_best(self, request: TakeRequest, progress: Progress | None = None, tell: Tell = print) -> BestView:
        self._report(progress)
        await self._work("accept_best", request)
        attempt = TryView(order=order_view(), amount="1", state="refused", code="taken")
        tell("tried", attempt)
        return BestView(tries=[attempt], outcome=None, coverage=COVERAGE)

    async def quote(self, query: QuoteQuery) -> QuoteView:
        await self._work("quote", query)
        amounts: dict[str, Any] = {"amount": query.amount, "filled": "0", "remaining": query.amount, "depth": "0"}
        nothing: dict[str, Any] = {"average": None, "worst": None, "cost": None, "makers": [], "plan": []}
        beside: dict[str, Any] = {"left_out": {}, "coverage": COVERAGE, "hidden": {}, **MOMENT}
        return QuoteView(symbol=query.pair, side=query.side, **amounts, **nothing, **beside)

    async def take(self, request: TakeRequest, progress: Progress | None = None, tell: Tell = print) -> TakeView:
        self._report(progress)
        tried = TryView(order=order_view(), amount="1", state="refused", code="taken")
        tell("tried", tried)
        await self._work("take", request)
        amounts: dict[str, Any] = {"amount": "1", "filled": "0", "outstanding": "0", "remaining": "1"}
        amounts |= {"average": None, "cost": None}
        return TakeView(symbol=request.pair, side=request.side, **amounts, tries=[tried], coverage=COVERAGE)

    async def pairs(self, progress: Progress | None = None) -> PairsView:
        self._report(progress)
        await self._work("pairs")
        return PairsView(pairs=[], coverage=COVERAGE, hidden={})

    async def stats(self, query: StatsQuery) -> StatsView:
        await self._work("stats", query)
        empty = DepthView(orders=0, amount="0", cost="0")
        nothing: dict[str, Any] = dict.fromkeys(("bid", "ask", "spread", "mid", "open", "high", "low", "close", "vwap"))
        rows: dict[str, Any] = {"timeframe": query.timeframe, "ohlcv": [], "fills": [], "unverified": 0}
        beside: dict[str, Any] = {"baseVolume": "0", "quoteVolume": "0", "coverage": COVERAGE, "hidden": {}, **MOMENT}
        return StatsView(symbol=query.pair, bids=empty, asks=empty, **nothing, **rows, **beside)

    async def export_orders(self, pair: str) -> ExportView:
        await self._work("export_orders", pair)
        return ExportView(records=[], coverage=COVERAGE, hidden={})

    async def import_records(self, records: list[str]) -> ImportView:
        await self._work("import_records", records)
        return ImportView(results=[ImportedView(state="invalid", code="malformed") for _ in records])

    async def confirm_order(self, id_prefix: str, accept_prefix: str, reply: str) -> TradeView:
        await self._work("confirm_order", id_prefix, accept_prefix, reply)
        return trade_view(role="maker")

    async def decline_order(self, id_prefix: str, accept_prefix: str) -> TradeView:
        await self._work("decline_order", id_prefix, accept_prefix)
        return trade_view(role="maker", state="refused", code="declined")

    def list_trades(self, query: TradeQuery) -> TradesView:
        self.calls.append(("list_trades", query))
        return TradesView(trades=[trade_view()])

    def trade(self, id_prefix: str) -> TradeView:
        self.calls.append(("trade", id_prefix))
        if self.error is not None:
            raise self.error
        return trade_view()

    def settle_trade(self, id_prefix: str, request: ReceiptRequest) -> TradeView:
        self.calls.append(("settle_trade", id_prefix, request))
        if self.error is not None:
            raise self.error
        moment: dict[str, Any] = MOMENT
        said = ReceiptView(by="taker", outcome=request.outcome, reason=request.reason, **moment)
        return trade_view(receipts=[said])

    def events(self) -> AsyncIterator[EventView]:
        return self._read()

    def watch(self, pair: str) -> AsyncIterator[EventView]:
        self.calls.append(("watch", pair))
        return self._read()

    def follow_book(self, pair: str, limit: int) -> AsyncIterator[EventView]:
        self.calls.append(("follow_book", pair, limit))
        return self._read()

    async def _read(self) -> AsyncIterator[EventView]:
        if self.error is not None:
            raise self.error
        queue: asyncio.Queue[EventView | None] = asyncio.Queue()
        self.queues.append(queue)
        if self.greeting:
            self.tell(self.greeting)
        try:
            while (event := await queue.get()) is not None:
                yield event
        finally:
            self.queues.remove(queue)

    def tell(self, text: str) -> None:
        """Put an event into every open stream."""
        for queue in self.queues:
            queue.put_nowait(EventView(sequence=1, type="network", text=text, timestamp=1, datetime="x"))


async def until(condition: Callable[[], object], deadline_s: float = 10.0) -> None:
    """Return when the condition holds; fail at the deadline."""
    async with asyncio.timeout(deadline_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
