"""The state tables, exhaustively: what is not allowed here is refused."""

from itertools import product
from typing import Any

import pytest

from dhtex.market.trade import MAKER, TAKER, MakerEvent, MakerState, TakerEvent, TakerState, advance, mermaid

MAKER_ALLOWED = {
    ("publishing", "held"): "open",
    ("publishing", "fill"): "filled",
    ("publishing", "cancel"): "canceled",
    ("publishing", "replace"): "replaced",
    ("publishing", "expire"): "expired",
    ("publishing", "contradict"): "disputed",
    ("open", "fill"): "filled",
    ("open", "cancel"): "canceled",
    ("open", "replace"): "replaced",
    ("open", "expire"): "expired",
    ("open", "contradict"): "disputed",
    ("filled", "contradict"): "disputed",
    ("canceled", "contradict"): "disputed",
    ("replaced", "contradict"): "disputed",
    ("expired", "contradict"): "disputed",
}
TAKER_ALLOWED = {
    ("sent", "defer"): "pending",
    ("sent", "confirm"): "confirmed",
    ("sent", "refuse"): "refused",
    ("sent", "lapse"): "void",
    ("pending", "confirm"): "confirmed",
    ("pending", "refuse"): "refused",
    ("pending", "lapse"): "void",
    ("void", "confirm"): "confirmed",
    ("void", "refuse"): "refused",
}
TABLES: list[Any] = [(MAKER, MakerState, MakerEvent, MAKER_ALLOWED), (TAKER, TakerState, TakerEvent, TAKER_ALLOWED)]


@pytest.mark.parametrize(("table", "states", "events", "allowed"), TABLES)
def test_exactly_the_allowed_transitions_exist(table: Any, states: Any, events: Any, allowed: Any) -> None:
    for state, event in product(states, events):
        assert advance(table, state, event) == allowed.get((state.value, event.value)), f"{state} {event}"


@pytest.mark.parametrize("table", [MAKER, TAKER])
def test_no_transition_is_given_twice_and_each_says_why(table: Any) -> None:
    assert len({(row.state, row.event) for row in table}) == len(table)
    assert all(row.why for row in table)


def test_nothing_leads_back_to_open_and_nothing_undoes_a_confirmation() -> None:
    assert {row.state for row in MAKER if row.to is MakerState.OPEN} == {MakerState.PUBLISHING}
    assert not [row for row in MAKER if row.to is MakerState.PUBLISHING]
    assert not [row for row in TAKER if row.state in (TakerState.CONFIRMED, TakerState.REFUSED)]


def test_the_diagram_has_every_row() -> None:
    lines = mermaid(TAKER).splitlines()
    assert lines[:2] == ["stateDiagram-v2", "    [*] --> sent"]
    assert lines[2:-2] == [f"    {row.state.value} --> {row.to.value}: {row.event.value}" for row in TAKER]
    assert lines[-2:] == ["    confirmed --> [*]", "    refused --> [*]"]
