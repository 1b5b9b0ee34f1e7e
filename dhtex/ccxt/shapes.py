"""The node's views in the shapes of ccxt, and its orders as drafts. Numbers stay text until ccxt makes what it wants of
them (`number` of an exchange: float unless told otherwise)."""

from decimal import Decimal
from typing import Any, Final

from dhtex.market.money import EXACT, Pair, canonical, decimals

OPEN_STATES: Final = frozenset({"open", "publishing"})
_STATUS: Final = {
    "publishing": "open",
    "open": "open",
    "filled": "closed",
    "canceled": "canceled",
    "replaced": "canceled",
    "expired": "expired",
    "disputed": "rejected",
}


def market_of(pair: Pair) -> dict[str, Any]:
    """A pair as a spot market; the smallest step of a number is that of its currency."""
    steps = {"amount": 10.0 ** -decimals(pair.base), "price": 10.0 ** -decimals(pair.quote)}
    nothing = {"min": None, "max": None}
    return {
        **{"id": str(pair), "symbol": str(pair), "base": pair.base, "quote": pair.quote},
        **{"baseId": pair.base, "quoteId": pair.quote, "settle": None, "settleId": None},
        **{"type": "spot", "spot": True, "margin": False, "swap": False, "future": False, "option": False},
        **{"active": True, "contract": False, "maker": 0.0, "taker": 0.0, "precision": steps},
        "limits": {name: dict(nothing) for name in ("amount", "price", "cost", "leverage")},
        "info": {},
    }


def text_of(number: Any) -> str:
    """A number as plain digits, the way it is printed: nothing is rounded."""
    return format(Decimal(str(number)), "f")


def draft_of(symbol: str, side: str, amount: str, price: str, params: dict[str, Any]) -> dict[str, Any]:
    """The draft of a limit order. What is unknown in `params` goes along, and is refused by the node."""
    given = dict(params)
    draft = {"pair": symbol, "side": side, "amount": amount, "price": price}
    if "clientOrderId" in given:
        draft["reference"] = str(given.pop("clientOrderId"))
    if "minimum" in given:
        draft["minimum"] = text_of(given.pop("minimum"))
    if "expires" in given:
        given["expires_s"] = int(given.pop("expires"))
    if given.pop("mailbox", False):
        draft["liveness"] = "mailbox"
    if given.pop("ask", False):
        draft["confirm"] = "ask"
    given.pop("timeInForce", None)
    return {**draft, **given}


def order_of(exchange: Any, view: dict[str, Any]) -> Any:
    """An order."""
    filled = view["filled"]
    return exchange.safe_order(
        {
            **{"id": view["id"], "clientOrderId": view["clientOrderId"] or None, "symbol": view["symbol"]},
            **{"timestamp": view["timestamp"], "datetime": view["datetime"], "lastTradeTimestamp": None},
            **{"type": "limit", "timeInForce": "GTC", "side": view["side"], "price": view["price"]},
            **{"amount": view["amount"], "filled": filled, "remaining": view["remaining"]},
            **{"average": view["price"] if Decimal(filled) else None, "status": _STATUS[view["status"]]},
            **{
                "cost": canonical(EXACT.multiply(Decimal(filled), Decimal(view["price"]))),
                "trades": [],
                "fee": None,
                "info": view,
            },
        }
    )


def trade_of(exchange: Any, view: dict[str, Any]) -> Any:
    """A confirmed trade; there are no fees."""
    return exchange.safe_trade(
        {
            **{"id": view["id"], "order": view["order"], "symbol": view["symbol"], "side": view["side"]},
            **{"timestamp": view["timestamp"], "datetime": view["datetime"], "type": "limit"},
            **{"takerOrMaker": view["role"], "price": view["price"], "amount": view["amount"], "cost": view["cost"]},
            **{"fee": {"cost": "0", "currency": view["symbol"].partition("/")[2]}, "info": view},
        }
    )
