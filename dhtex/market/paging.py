"""A page of a listing, and where the next one begins. Pure.

Keyset paging: a cursor names the last order shown by what it is sorted by, so the next page begins behind it whether or
not it is still there, and orders that come or go before it shift nothing. It needs one line to stand in: the orders
of one side and pair, or all by one of `WORDS`.
"""

import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Final

from dhtex.errors import UsageError
from dhtex.market.book import best
from dhtex.market.money import canonical
from dhtex.market.records import Side
from dhtex.views import OrderQuery, OrderView

_CURSOR: Final = re.compile(r"([a-z]{1,12})~([0-9]{1,30}(?:\.[0-9]{1,30})?)~([0-9]{1,16})~([0-9a-f]{64})")
_SORTS: Final[dict[str, tuple[Callable[[OrderView], Decimal], bool]]] = {
    "cheapest": (lambda view: Decimal(view.price), False),
    "dearest": (lambda view: Decimal(view.price), True),
    "smallest": (lambda view: Decimal(view.amount), False),
    "largest": (lambda view: Decimal(view.amount), True),
    "oldest": (lambda view: Decimal(view.timestamp), False),
    "newest": (lambda view: Decimal(view.timestamp), True),
    "soonest": (lambda view: Decimal(view.expires), False),
    "latest": (lambda view: Decimal(view.expires), True),
}
_BOOKS: Final[dict[str, str]] = {Side.BUY: "dearest", Side.SELL: "cheapest"}
WORDS: Final = tuple(_SORTS)

Key = tuple[Decimal, int, str]


def page(orders: Sequence[OrderView], query: OrderQuery) -> tuple[list[OrderView], int, str | None]:
    """The orders to show of those that `arrange` gave, how many are left behind them, and the cursor of the next page.

    Raises UsageError for an unknown sort, and for a cursor that is none or of another sort.
    """
    word, start = beginning(query)
    word = word or _line(orders)
    if not word:
        return best(orders, query.limit), max(0, len(orders) - query.limit), None
    keyed = sorted(((_key(view, word), view) for view in orders), key=lambda row: row[0])
    behind = [row for row in keyed if start is None or row[0] > start]
    shown, left = behind[: query.limit], max(0, len(behind) - query.limit)
    return [view for _, view in shown], left, _cursor(shown[-1][1], word) if left else None


def _line(orders: Sequence[OrderView]) -> str:
    """The sort that gives the usual order of these, if they are of one side and pair; else empty."""
    if len({(view.symbol, view.side) for view in orders}) != 1:
        return ""
    return _BOOKS[orders[0].side]


def is_as_in_the_book(query: OrderQuery) -> bool:
    """Whether the orders of each side stand in the list as they do in the book, so that the best of them are enough."""
    word, _ = beginning(query)
    return not word or word == _BOOKS.get(query.side)


def is_behind(view: OrderView, query: OrderQuery) -> bool:
    """Whether an order stands behind the place where a query begins."""
    word, start = beginning(query)
    return start is None or _key(view, word) > start


def beginning(query: OrderQuery) -> tuple[str, Key | None]:
    """The sort that a query asks for (empty: none), and the key behind which it begins. Raises UsageError as `page`."""
    if query.sort and query.sort not in _SORTS:
        raise UsageError(f"'{query.sort[:20]}' is no way to sort", hint=", ".join(WORDS))
    if not query.after:
        return query.sort, None
    match = _CURSOR.fullmatch(query.after.strip())
    if match is None or match[1] not in _SORTS:
        raise UsageError(f"'{query.after[:40]}' is no place in a list", hint="give what the list before ended with")
    if query.sort not in ("", match[1]):
        raise UsageError(f"this place is in a list sorted by {match[1]}", hint=f"--sort {match[1]}, or none")
    value = Decimal(match[2])
    return match[1], (value.copy_negate() if _SORTS[match[1]][1] else value, int(match[3]), match[4])


def _key(view: OrderView, word: str) -> Key:
    value, falling = _SORTS[word][0](view), _SORTS[word][1]
    return value.copy_negate() if falling else value, view.timestamp, view.id


def _cursor(view: OrderView, word: str) -> str:
    return f"{word}~{canonical(_SORTS[word][0](view))}~{view.timestamp}~{view.id}"
