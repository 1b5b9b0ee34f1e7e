"""dhtex as an exchange of the ccxt library.

    import dhtex.ccxt
    exchange = dhtex.ccxt.dhtex({"options": {"node": "3001"}})

Needs the extra: `pip install dhtex[ccxt]`. It speaks to a running node of this machine; a key or a secret is not asked
for, because whoever may open the node's socket is its owner. Options: `node` (the port of the node; needed only if
several run) and `home` (in the place of `DHTEX_HOME`).

A limit order is published, and may be filled whole or in part by one taker. A market order, or a limit order with
`timeInForce: IOC`, takes what others offer, order by order (`dhtex take`). Numbers go in as they are printed and are
never rounded: one with too many decimals is an InvalidOrder.

A book of which a range of prices could not be read is given as far as it was, with a RuntimeWarning; the ranges are in
its `info["coverage"]["missing"]`. While the node knows no peer a book is what it has itself, and
`info["coverage"]["complete"]` is false.
"""

import asyncio
import warnings
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

try:
    from ccxt.async_support.base.exchange import Exchange
    from ccxt.base.decimal_to_precision import TICK_SIZE
    from ccxt.base.errors import BadSymbol, InvalidOrder, OrderNotFound
except ModuleNotFoundError as error:
    raise ImportError("this needs the package ccxt, which is not installed: pip install 'dhtex[ccxt]'") from error

from dhtex import limits
from dhtex.ccxt.following import Follower
from dhtex.ccxt.mistakes import translated
from dhtex.ccxt.shapes import OPEN_STATES, draft_of, market_of, order_of, text_of, trade_of
from dhtex.config import home_folder
from dhtex.control.client import Client
from dhtex.errors import DhtexError, UsageError
from dhtex.market.money import EXACT, Pair, canonical
from dhtex.nodefiles import choose_node

ORDERS_MAX: Final = 10_000
METHODS: Final = (  # what exists beside those that every exchange has
    *("fetchMarkets", "fetchOrderBook", "fetchOpenOrders", "fetchOrder", "fetchMyTrades", "createOrder"),
    *("createLimitOrder", "createMarketOrder", "cancelOrder", "editOrder", "watchOrderBook"),
)
MISSING: Final = ("fetchCurrencies", "fetchCurrenciesWs", "fetchTicker")  # that the base class claims


class dhtex(Exchange):
    """One node, as ccxt sees an exchange."""

    def describe(self) -> Any:
        credentials = dict.fromkeys(("apiKey", "secret"), False)
        return self.deep_extend(
            super().describe(),
            {
                "id": "dhtex",
                "name": "dhtex",
                "countries": [],
                "rateLimit": 0,
                "enableRateLimit": False,
                "has": {
                    "ws": True,
                    "privateAPI": False,
                    **dict.fromkeys(METHODS, True),
                    **dict.fromkeys(MISSING, False),
                },
                "requiredCredentials": credentials,
                "precisionMode": TICK_SIZE,
                "options": {"node": None, "home": None},
            },
        )

    # --- the node -----------------------------------------------------------------------------------------------------

    def _address(self) -> str:
        home, node = self.options.get("home"), self.options.get("node")
        folder = home_folder() if home is None else Path(home)
        return choose_node(folder, None if node is None else str(node)).socket

    async def _ask(self, method: str, path: str, body: Any = None, usage: type[Exception] | None = None) -> Any:
        """Ask the node. Raises ccxt's errors; `usage` is what a request that is wrong in itself means here."""
        try:
            return await asyncio.to_thread(lambda: Client(self._address()).call(method, path, body))
        except DhtexError as error:
            raise translated(error, usage) from error

    # --- markets ------------------------------------------------------------------------------------------------------

    async def fetch_markets(self, params: Any = None) -> Any:
        """The pairs that the node knows. Others can be named all the same, as BASE/QUOTE."""
        view = await self._ask("GET", "/v1/pairs")
        return [market_of(Pair.parse(row["symbol"])) for row in view["pairs"]]

    def market(self, symbol: Any) -> Any:
        """A market by its symbol; one that nobody has traded yet is made. Raises BadSymbol."""
        if symbol not in (self.markets or {}):
            try:
                pair = Pair.parse(str(symbol))
            except UsageError as error:
                raise BadSymbol(f"dhtex {error}") from error
            self.set_markets([*(self.markets or {}).values(), market_of(pair)])
            symbol = str(pair)
        return super().market(symbol)

    async def _symbol(self, symbol: Any) -> str:
        await self.load_markets()
        return str(self.market(symbol)["symbol"])

    # --- reading ------------------------------------------------------------------------------------------------------

    async def fetch_order_book(self, symbol: str, limit: int | None = None, params: Any = None) -> Any:
        """The ladder: prices with the amounts that remain there."""
        name = await self._symbol(symbol)
        return self._book(await self._ask("GET", f"/v1/book?pair={name}&limit={limit or ORDERS_MAX}"))

    async def watch_order_book(self, symbol: str, limit: int | None = None, params: Any = None) -> Any:
        """The ladder now, and with each further call the next one that differs. Each is whole."""
        name = await self._symbol(symbol)
        followers: dict[str, Follower] = self.options.setdefault("followers", {})
        path = f"/v1/book/follow?pair={name}&limit={limit or ORDERS_MAX}"
        if path not in followers:
            followers[path] = Follower(self._address, path)
        follower = followers[path]
        try:
            event = await follower.next()
        except DhtexError as error:
            if followers.get(path) is follower:  # others who waited for it may have begun anew
                del followers[path]
            await follower.close()
            raise translated(error) from error
        return {**self._book(event["book"]), "nonce": event["sequence"]}

    def _book(self, view: Any) -> Any:
        if view["coverage"]["missing"]:
            text = f"dhtex could not read a part of the book of {view['symbol']}: see info['coverage']['missing']"
            warnings.warn(text, RuntimeWarning, stacklevel=3)
        sides = {
            side: [[self.parse_number(level["price"]), self.parse_number(level["amount"])] for level in view[side]]
            for side in ("bids", "asks")
        }
        return {
            "symbol": view["symbol"],
            **sides,
            "timestamp": view["timestamp"],
            "datetime": view["datetime"],
            "nonce": None,
            "info": view,
        }

    async def fetch_open_orders(
        self, symbol: str | None = None, since: int | None = None, limit: int | None = None, params: Any = None
    ) -> Any:
        """Own open orders, oldest first."""
        name = "" if symbol is None else f"&pair={await self._symbol(symbol)}"
        await self.load_markets()
        listing = await self._ask("GET", f"/v1/orders?mine=true&limit={ORDERS_MAX}{name}")
        mine = [order_of(self, view) for view in listing["orders"] if view["status"] in OPEN_STATES]
        return self.filter_by_since_limit(self.sort_by(mine, "timestamp"), since, limit)

    async def fetch_order(self, id: str, symbol: str | None = None, params: Any = None) -> Any:
        """Any order by its id, or its first 6 or more digits."""
        return order_of(self, await self._ask("GET", f"/v1/orders/{_id(id)}"))

    async def fetch_my_trades(
        self, symbol: str | None = None, since: int | None = None, limit: int | None = None, params: Any = None
    ) -> Any:
        """Confirmed trades, as maker and as taker, oldest first."""
        name = None if symbol is None else await self._symbol(symbol)
        trades: list[Any] = []
        after: Any = ""
        while after is not None:
            page = await self._ask("GET", f"/v1/trades?limit={limits.TRADES_LISTED_MAX}&after={after}")
            confirmed = [view for view in page["trades"] if view["state"] == "confirmed"]
            trades += [trade_of(self, view) for view in confirmed if name in (None, view["symbol"])]
            oldest = min((view["timestamp"] for view in page["trades"]), default=0)
            enough = limit and len(trades) >= limit if since is None else oldest < since
            after = None if enough else page["next"]
        return self.filter_by_since_limit(self.sort_by(trades[::-1], "timestamp"), since, limit)

    # --- trading ------------------------------------------------------------------------------------------------------

    async def create_order(
        self, symbol: str, type: Any, side: Any, amount: Any, price: Any = None, params: Any = None
    ) -> Any:
        """Publish a limit order; or take orders: a market order, or a limit with `timeInForce: IOC`.

        Params of a limit order: clientOrderId, minimum, payment, note, expires (seconds), mailbox, ask. Of the others:
        message, wait (seconds).
        """
        name, given = await self._symbol(symbol), dict(params or {})
        if type == "market" or given.get("timeInForce") == "IOC":
            return await self._take(name, side, amount, price, given)
        if type != "limit" or price is None:
            raise InvalidOrder("dhtex knows limit orders, which have a price, and market orders")
        draft = draft_of(name, str(side), text_of(amount), text_of(price), given)
        return order_of(self, (await self._ask("POST", "/v1/orders", draft, InvalidOrder))["order"])

    async def _take(self, symbol: str, side: Any, amount: Any, price: Any, params: dict[str, Any]) -> Any:
        limit = {} if price is None else {"max_price" if side == "buy" else "min_price": text_of(price)}
        wish = {"pair": symbol, "side": side, "amount": text_of(amount), **limit}
        wish |= {"message": params.get("message", ""), "wait_s": float(params.get("wait", 30))}
        view = await self._ask("POST", "/v1/take", wish, InvalidOrder)
        trades = [trade_of(self, attempt["trade"]) for attempt in view["tries"] if attempt["state"] == "confirmed"]
        filled, outstanding = Decimal(view["filled"]), Decimal(view["outstanding"])
        return self.safe_order(
            {
                "id": next((attempt["trade"]["id"] for attempt in view["tries"] if attempt["trade"]), None),
                "symbol": symbol,
                "type": "market" if price is None else "limit",
                "timeInForce": "IOC",
                "side": side,
                "price": None if price is None else text_of(price),
                "amount": view["amount"],
                "filled": view["filled"],
                "remaining": canonical(EXACT.subtract(Decimal(view["amount"]), filled)),
                "average": view["average"],
                "cost": view["cost"] or "0",
                "status": "open" if outstanding else "closed" if filled == Decimal(view["amount"]) else "canceled",
                "trades": trades,
                "info": view,
            }
        )

    async def cancel_order(self, id: str, symbol: str | None = None, params: Any = None) -> Any:
        """Withdraw an own open order. Raises OrderNotFound if it is none, or no longer open."""
        return order_of(self, await self._ask("POST", f"/v1/orders/{_id(id)}/cancel", {}, OrderNotFound))

    async def edit_order(
        self, id: str, symbol: str, type: Any, side: Any, amount: Any = None, price: Any = None, params: Any = None
    ) -> Any:
        """Replace an own open order by a changed one, which has a new id."""
        await self.load_markets()
        change = {"amount": amount, "price": price}
        body = {name: text_of(value) for name, value in change.items() if value is not None} | dict(params or {})
        return order_of(self, (await self._ask("POST", f"/v1/orders/{_id(id)}/amend", body, InvalidOrder))["order"])

    async def close(self, clean_instance_data: bool = False) -> Any:
        """End all streams."""
        followers: dict[str, Follower] = self.options.pop("followers", {})
        for follower in followers.values():
            await follower.close()
        return await super().close(clean_instance_data)


def _id(given: str) -> str:
    """An id as a part of a path. Raises OrderNotFound for what cannot be one."""
    if not given or not all(digit in "0123456789abcdef" for digit in given.lower()):
        raise OrderNotFound(f"dhtex has no order {given!r:.80}")
    return given
