"""Pairs in figures: which ones this node knows, how deep they are, and what was traded."""

import asyncio
from itertools import groupby
from typing import Final

from dhtex import limits
from dhtex.clock import Clock
from dhtex.market import book
from dhtex.market.fills import belongs, candles, depth, fill_view, sums, timeframe_s
from dhtex.market.ids import RecordId
from dhtex.market.money import Pair
from dhtex.market.present import iso_time, milliseconds
from dhtex.market.records import Record, Side, Status
from dhtex.marketviews import FillView, PairsView, PairView, StatsQuery, StatsView
from dhtex.node.counter import Progress
from dhtex.node.market import Market
from dhtex.views import OrderQuery, OrderView

ORDERS_READ_PARALLEL: Final = 16  # of fills, to be compared with them


async def pairs(market: Market, progress: Progress | None) -> PairsView:
    """All pairs that this node knows, each read from its holders."""
    known = market.known_pairs()
    listing = await market.listing(OrderQuery(limit=limits.LISTING_ORDERS_MAX), progress)
    orders: dict[str, list[OrderView]] = {}
    for symbol, group in groupby(listing.orders, key=lambda order: order.symbol):
        orders[symbol] = list(group)
    views = [_pair_view(symbol, known.get(symbol, []), orders.get(symbol, [])) for symbol in sorted({*known, *orders})]
    return PairsView(pairs=views, coverage=listing.coverage, hidden=listing.hidden)


def _pair_view(symbol: str, known: list[str], orders: list[OrderView]) -> PairView:
    bids, asks = _side(orders, Side.BUY), _side(orders, Side.SELL)
    bid, ask = bids[0].price if bids else None, asks[0].price if asks else None
    return PairView(
        symbol=symbol,
        known=known,
        bids=len(bids),
        asks=len(asks),
        bid=bid,
        ask=ask,
        spread=None if bid is None or ask is None else book.middle(bid, ask)[0],
    )


async def stats(market: Market, clock: Clock, query: StatsQuery) -> StatsView:
    """The spread, the depth and the latest fills of a pair. Raises UsageError."""
    pair, width_s = Pair.parse(query.pair), timeframe_s(query.timeframe)
    listing, statuses = await asyncio.gather(
        market.listing(OrderQuery(pair=str(pair), limit=limits.LISTING_ORDERS_MAX)), market.fills(str(pair))
    )
    latest = sorted(statuses, key=lambda status: (status.body.at, status.id))[-query.limit :]
    fills = await _verified(market, latest)
    now = clock.now()
    bids, asks = _side(listing.orders, Side.BUY), _side(listing.orders, Side.SELL)
    spread, mid = book.middle(bids[0].price, asks[0].price) if bids and asks else (None, None)
    traded = sums(fills, pair)
    return StatsView(
        symbol=str(pair),
        timestamp=milliseconds(now),
        datetime=iso_time(now),
        bid=bids[0].price if bids else None,
        ask=asks[0].price if asks else None,
        spread=spread,
        mid=mid,
        bids=depth(bids),
        asks=depth(asks),
        open=traded.open,
        high=traded.high,
        low=traded.low,
        close=traded.close,
        vwap=traded.vwap,
        baseVolume=traded.base_volume,
        quoteVolume=traded.quote_volume,
        timeframe=query.timeframe,
        ohlcv=candles(fills, width_s),
        fills=fills,
        unverified=len(latest) - len(fills),
        coverage=listing.coverage,
        hidden=listing.hidden,
    )


def _side(orders: list[OrderView], side: Side) -> list[OrderView]:
    return [order for order in orders if order.side == side]


async def _verified(market: Market, statuses: list[Record[Status]]) -> list[FillView]:
    """The fills whose order could be read, and fits."""
    gate = asyncio.Semaphore(ORDERS_READ_PARALLEL)

    async def is_true(status: Record[Status]) -> bool:
        async with gate:
            return belongs(status, await market.order(RecordId(status.body.order_id)))

    found = await asyncio.gather(*map(is_true, statuses))
    return [fill_view(status) for status, true in zip(statuses, found, strict=True) if true]
