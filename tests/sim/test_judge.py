"""What the judge says of a journal that has lost a trade: only what strangers did not get may go, and not early."""

from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest

from dhtex import limits
from dhtex.market.trade import TakerState
from dhtex.sim.checks import Judge
from dhtex.sim.clock import EPOCH_S
from dhtex.sim.faults import SKEW_S
from dhtex.sim.history import History
from dhtex.sim.host import NETWORK, Host
from dhtex.store.database import Database
from dhtex.store.journal import Journal
from dhtex.store.rows import OwnOrder, Role
from tests.builders import make_accept, make_order
from tests.unit.store.samples import trade

LIFE_S = 600
FORGOTTEN_S = LIFE_S + limits.TOMBSTONE_S  # when holders let go of what was said about the order
CAME_TO_NOTHING = (TakerState.REFUSED, TakerState.VOID)


class Watched:
    """A journal with one trade, and a judge who has seen it at the beginning of virtual time."""

    def __init__(self, role: Role, state: TakerState) -> None:
        self.database = Database.open(None)
        self.journal = Journal(self.database)
        self.now_s = 0.0
        self._host = cast(Host, SimpleNamespace(index=0, ip="", up=True, lies=False, parts=self))
        self._history = History()
        self._judge = Judge(self._history, [self._host], lambda: self.now_s, 0.0)
        created = int(EPOCH_S)
        order = make_order(network=NETWORK, created=created, expires=created + LIFE_S)
        accept = make_accept(order, network=NETWORK)
        self.journal.add_order(OwnOrder(order.id, order.wire, "open", 0, b"", "", created, order.body.expires))
        row = trade(accept_id=accept.id, order_id=order.id, role=role, state=state)
        self.journal.add_trade(replace(row, order_wire=order.wire, accept_wire=accept.wire))
        assert self.look(0.0) == []

    def look(self, now_s: float) -> list[str]:
        """What the judge has to say at a time."""
        self.now_s = now_s
        self._judge.look_at(self._host)
        return self._history.violations

    def lose(self) -> None:
        """Let the journal forget the trade, whatever it is."""
        with self.database.decision() as connection:
            connection.execute("DELETE FROM trades")


@pytest.mark.parametrize("state", CAME_TO_NOTHING)
def test_a_maker_may_forget_what_a_stranger_did_not_get(state: TakerState) -> None:
    watched = Watched(Role.MAKER, state)
    watched.journal.prune(EPOCH_S + FORGOTTEN_S + 1)
    assert watched.journal.trades() == []
    assert watched.look(FORGOTTEN_S + 1 - SKEW_S) == []  # by a clock that is ahead
    assert watched.look(10 * FORGOTTEN_S) == []


@pytest.mark.parametrize("state", CAME_TO_NOTHING)
def test_it_must_not_forget_it_while_holders_remember(state: TakerState) -> None:
    watched = Watched(Role.MAKER, state)
    watched.lose()
    [violation] = watched.look(FORGOTTEN_S - SKEW_S - 1)
    assert "[no_lost_outcome]" in violation
    assert "is gone from the journal" in violation


@pytest.mark.parametrize(
    ("role", "state"),
    [
        *((Role.TAKER, state) for state in TakerState),
        *((Role.MAKER, state) for state in TakerState if state not in CAME_TO_NOTHING),
    ],
)
def test_any_other_trade_stays_for_ever(role: Role, state: TakerState) -> None:
    watched = Watched(role, state)
    watched.journal.prune(EPOCH_S + 10 * FORGOTTEN_S)
    assert watched.look(10 * FORGOTTEN_S) == []
    watched.lose()
    [violation] = watched.look(10 * FORGOTTEN_S)
    assert f"{role}'s trade" in violation
    assert "is gone from the journal" in violation
