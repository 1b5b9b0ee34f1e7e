"""What an amount costs, what was taken, what a pair is doing: as lines for people. Pure."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from dhtex.cli.coverage import coverage_lines
from dhtex.cli.render import refusal_words
from dhtex.cli.text import Column, Page, clean, fields, id_digits, plural, table

View = Mapping[str, Any]

PLAN_COLUMNS: Final = (
    Column("ID"),
    Column("TAKE", "."),
    Column("OF", ".", spare=True),
    Column("PRICE", "."),
    Column("COST", ".", spare=True),
    Column("MAKER", spare=True),
)
PAIR_COLUMNS: Final = (
    Column("PAIR"),
    Column("BUY", ">"),
    Column("SELL", ">"),
    Column("BEST BUY", "."),
    Column("BEST SELL", "."),
    Column("SPREAD", ".", spare=True),
    Column("KNOWN AS", spare=True),
)
CANDLE_COLUMNS: Final = (
    Column("SINCE"),
    Column("OPEN", "."),
    Column("HIGH", "."),
    Column("LOW", "."),
    Column("CLOSE", "."),
    Column("VOLUME", "."),
)
CANDLES_SHOWN: Final = 24
_LEFT_OUT: Final = {
    "mine": "of your own",
    "ask": "confirmed by hand",
    "whole": "only for a larger amount",
}


def quote(view: View, page: Page) -> list[str]:
    """A plan as a table, then what it comes to."""
    plan: Sequence[View] = view["plan"]
    digits = id_digits(step["order"]["id"] for step in plan)
    rows = [
        (
            step["order"]["id"][:digits],
            step["amount"],
            "" if step["order"]["remaining"] == step["amount"] else step["order"]["remaining"],
            step["order"]["price"],
            step["cost"],
            step["order"]["maker"][:8],
        )
        for step in plan
    ]
    lines = table(PLAN_COLUMNS, rows, page) if rows else []
    if left_out := ", ".join(f"{n} {_LEFT_OUT.get(why, why)}" for why, n in sorted(view["left_out"].items())):
        lines.append(clean(f"passed over: {left_out}"))
    return [*lines, planned(view), *coverage_lines(view, page)]


def planned(view: View) -> str:
    """What a plan comes to, in one line."""
    base, _, quote = view["symbol"].partition("/")
    if not view["plan"]:
        return clean(f"nothing can be had at once: {view['side']} {view['amount']} {base}")
    orders, makers = plural(len(view["plan"]), "order"), plural(len(view["makers"]), "maker")
    prices = f"{view['average']} on average, {view['worst']} at worst"
    return clean(f"{view['side']} {view['filled']} {base} for {view['cost']} {quote}: {prices}; {orders}, {makers}")


def shortage(view: View) -> str:
    """That a book has less than is wanted, and how much."""
    base = view["symbol"].partition("/")[0]
    text = f"{view['filled']} of {view['amount']} {base} can be had"
    if view["depth"] != view["filled"]:
        text += f"; the orders of {view['depth']} {base} cannot be taken in parts that make up more"
    return clean(text)


def trying(step: View) -> str:
    """An order that is asked for now."""
    order = step["order"]
    base, _, quote = order["symbol"].partition("/")
    return clean(f"asking   {order['id'][:10]}: {step['amount']} {base} at {order['price']} {quote}")


def tried(attempt: View) -> list[str]:
    """What an order that was tried came to."""
    order, state = attempt["order"], attempt["state"]
    base, _, quote = order["symbol"].partition("/")
    words = {"sent": "unanswered", "pending": "unanswered"}.get(state, state)
    why = f" ({refusal_words(attempt['code'])[0]})" if attempt["code"] else ""
    lines = [f"{words:<8} {order['id'][:10]}: {attempt['amount']} {base} at {order['price']} {quote}{why}"]
    reply = (attempt["trade"] or {}).get("reply")
    return [clean(line) for line in [*lines, *([f"the maker says: {reply}"] if reply else [])]]


def unanswered(tries: Sequence[View]) -> dict[str, str]:
    """The amounts of accepts without an answer, by what has become of them."""
    from dhtex.market.money import total

    amounts: dict[str, list[Decimal]] = {}
    for attempt in tries:
        words = {
            "confirmed": "",
            "refused": "",
            "void": "void: the deadline is over, and only an answer given before it would count",
        }.get(attempt["state"], "on the way without an answer")
        if words:
            amounts.setdefault(words, []).append(Decimal(attempt["amount"]))
    return {words: f"{total(found):f}" for words, found in amounts.items()}


def taken(view: View, page: Page) -> list[str]:
    """What a wish came to, in one line."""
    base, _, quote = view["symbol"].partition("/")
    text = f"{'bought' if view['side'] == 'buy' else 'sold'} {view['filled']} of {view['amount']} {base}"
    if view["cost"] is not None:
        text += f" for {view['cost']} {quote}, {view['average']} on average"
    text += "".join(f"; {amount} {base} {words}" for words, amount in unanswered(view["tries"]).items())
    if view["remaining"] != "0":
        text += f"; {view['remaining']} {base} not taken"
    return [page.paint(clean(text), "green" if view["filled"] == view["amount"] else "yellow")]


def pairs(view: View, page: Page) -> list[str]:
    """A table of pairs."""
    rows = [
        (
            row["symbol"],
            str(row["bids"]),
            str(row["asks"]),
            row["bid"] or "",
            row["ask"] or "",
            row["spread"] or "",
            ", ".join(row["known"]),
        )
        for row in view["pairs"]
    ]
    lines = table(PAIR_COLUMNS, rows, page) if rows else ["no pairs are known: list one, such as dhtex book BTC/USD"]
    return [*lines, *coverage_lines(view, page)]


def stats(view: View, page: Page) -> list[str]:
    """A pair in figures, then its candles, the latest last."""
    base, _, quote = view["symbol"].partition("/")
    fills = plural(len(view["fills"]), "fill")
    if view["unverified"]:
        fills += f", {view['unverified']} more whose order is not to be had"
    volume = f"{view['baseVolume']} {base} for {view['quoteVolume']} {quote}"
    prices = f"last {view['close']}, high {view['high']}, low {view['low']}, on average {view['vwap']}"
    lines = fields(
        (
            ("pair", view["symbol"]),
            ("best buy", view["bid"] or ""),
            ("best sell", view["ask"] or ""),
            ("spread", "" if view["spread"] is None else f"{view['spread']} {quote}, middle {view['mid']}"),
            ("wanted", _depth(view["bids"], base, quote)),
            ("for sale", _depth(view["asks"], base, quote)),
            ("traded", fills),
            ("volume", volume if view["fills"] else ""),
            ("prices", prices if view["fills"] else ""),
        ),
        page,
    )
    rows = [(_minute(when), *numbers) for when, *numbers in view["ohlcv"][-CANDLES_SHOWN:]]
    candles = ["", *table(CANDLE_COLUMNS, rows, page)] if rows else []
    return [*lines, *candles, *coverage_lines(view, page)]


def _depth(side: View, base: str, quote: str) -> str:
    return f"{side['amount']} {base} for {side['cost']} {quote}, {plural(side['orders'], 'order')}"


def _minute(milliseconds: int) -> str:
    """Where a candle begins, in UTC."""
    from datetime import UTC, datetime

    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%dT%H:%MZ}"
