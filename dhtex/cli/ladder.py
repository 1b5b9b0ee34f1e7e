"""The book of a pair as a ladder with a depth chart. Pure.

Asks stand above bids, the best ones meeting at the spread. The bar of a level shows how much is for sale, or wanted,
from the best price down to there, in proportion to the deepest level shown.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from dhtex.cli.coverage import coverage_lines
from dhtex.cli.text import Column, Page, clean, table

View = Mapping[str, Any]

BAR_CHARS: Final = 24
COLUMNS: Final = (
    Column("SIDE"),
    Column("PRICE", "."),
    Column("AMOUNT", "."),
    Column("TOTAL", ".", spare=True),
    Column("ORDERS", ">", spare=True),
    Column("DEPTH", least=6, spare=True),
)
_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"


def book(view: View, page: Page) -> list[str]:
    """The ladder of a pair: worst ask first, worst bid last, the spread between."""
    asks, bids = list(reversed(view["asks"])), view["bids"]
    if not asks and not bids:
        return [f"no orders in {clean(view['symbol'])}", *coverage_lines(view, page)]
    deepest = max(float(level["total"]) for level in (*asks, *bids))
    rows = [*_rows("sell", asks, deepest, page), *_rows("buy", bids, deepest, page)]
    head, *lines = table(COLUMNS, rows, page, ["red"] * len(asks) + ["green"] * len(bids))
    lines.insert(len(asks), page.paint(_spread(view), "dim"))
    return [head, *lines, *coverage_lines(view, page)]


def _rows(side: str, levels: Sequence[View], deepest: float, page: Page) -> list[tuple[str, ...]]:
    return [
        (
            side,
            level["price"],
            level["amount"],
            level["total"],
            str(level["orders"]),
            bar(float(level["total"]) / deepest, page.unicode),
        )
        for level in levels
    ]


def _spread(view: View) -> str:
    base, _, quote = view["symbol"].partition("/")
    if view["spread"] is None:
        return f"  {base} in {quote}: one side is empty"
    return f"  spread {view['spread']} {quote}, middle {view['mid']}"


def bar(share: float, unicode: bool) -> str:
    """A bar for a share from 0 to 1; never empty, because something is there."""
    if not unicode:
        return "#" * max(1, round(share * BAR_CHARS))
    eighths = max(1, round(share * BAR_CHARS * 8))
    return _EIGHTHS[8] * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
