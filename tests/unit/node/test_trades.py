"""Pages of a node's trades: each trade once, newest first, whatever comes between two pages."""

from collections.abc import Iterable

import pytest

from dhtex.errors import NotFoundError, UsageError
from dhtex.node.trades import full_view, trades_page
from dhtex.store.database import Database
from dhtex.store.journal import Journal
from dhtex.store.rows import Role, Trade
from dhtex.views import TradeQuery
from tests.builders import NOW, identity, make_accept, make_order

MANY = 11


def journal_of(numbers: Iterable[int]) -> Journal:
    journal = Journal(Database.open(None))
    for number in numbers:
        journal.add_trade(trade(number))
    return journal


def trade(number: int) -> Trade:
    """A trade; three in each second."""
    order = make_order(number=number)
    accept = make_accept(order, by=identity(5))
    wires = (order.wire, accept.wire, b"")
    return Trade(accept.id, order.id, Role.TAKER, "sent", "", *wires, "", "", int(NOW) + number // 3, int(NOW))


@pytest.mark.parametrize("limit", [1, 2, MANY - 1, MANY, MANY + 1])
def test_pages_together_are_all_trades_newest_first(limit: int) -> None:
    journal = journal_of(range(MANY))
    shown, query = [], TradeQuery(limit=limit)
    while True:
        page = trades_page(journal, query)
        shown += page.trades
        assert (len(page.trades) == limit) or page.next is None
        assert (page.next is None) == (len(shown) == MANY)
        if page.next is None:
            break
        query = TradeQuery(limit=limit, after=page.next)
    assert shown == [full_view(journal, trade) for trade in reversed(journal.trades())]


def test_a_new_trade_moves_no_other_into_or_out_of_the_next_page() -> None:
    journal = journal_of(range(MANY))
    whole = trades_page(journal, TradeQuery()).trades
    goes_on = trades_page(journal, TradeQuery(limit=4)).next
    assert goes_on == whole[3].id
    journal.add_trade(trade(MANY))
    assert trades_page(journal, TradeQuery(after=goes_on[:10])).trades == whole[4:]
    assert trades_page(journal, TradeQuery(after=whole[-1].id)).trades == []


def test_a_place_that_is_none_is_named() -> None:
    with pytest.raises(NotFoundError):
        trades_page(journal_of(range(2)), TradeQuery(after="ab" * 32))
    with pytest.raises(UsageError):
        trades_page(journal_of(range(2)), TradeQuery(after="newest~1~1~ab"))
