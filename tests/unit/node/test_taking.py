"""What a wish to take comes to when nobody could be asked about a part of the book."""

import asyncio
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from dhtex.coverage import GapView
from dhtex.directory.reading import add_coverage
from dhtex.errors import IncompleteError, NotFoundError
from dhtex.marketviews import TakeRequest
from dhtex.node.taking import Taking, told_nobody
from dhtex.views import ListingView

WISH = TakeRequest(pair="BTC/USD", side="buy", amount="1")
GAP = GapView(symbol="BTC/USD", side="sell", low="50000", high="60000")


@pytest.mark.parametrize(("missing", "error"), [([], NotFoundError), ([GAP], IncompleteError)])
def test_that_nothing_fits_is_only_said_of_a_book_that_was_read(missing: list[GapView], error: type[Exception]) -> None:
    coverage = msgspec.structs.replace(add_coverage([]), missing=missing)

    async def listing(_query: object) -> ListingView:
        return ListingView(orders=[], coverage=coverage, hidden={})

    market: Any = SimpleNamespace(listing=listing, is_own=None)
    desk: Any = None
    for ask in (Taking.best, lambda taking: taking.all(0)):
        with pytest.raises(error):
            asyncio.run(ask(Taking(market, desk, WISH, None, told_nobody)))
