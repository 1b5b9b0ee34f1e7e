"""From a history that breaks something to a shorter one that breaks it too.

Each step leaves something out and plays what is left; it is kept if the same invariant is broken. First things that
people and strangers do: a history of n actions begins as the whole one does, so the fewest are found by halving. Then
faults, one by one, then time, then machines, and actions once more.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

from dhtex.sim.world import Outcome, Settings

NODES_MIN: Final = 2
HOURS_MIN: Final = 0.01

Play = Callable[[Settings], Outcome]


def broken(outcome: Outcome) -> set[str]:
    """The names of the invariants that a history broke."""
    return {violation.split("]", 1)[0][1:] for violation in outcome.violations}


def shrink(outcome: Outcome, play: Play, tries_max: int = 60) -> Outcome:
    """The shortest history found within so many tries that breaks an invariant which `outcome` broke."""
    wanted, tries = broken(outcome), 0

    def still(settings: Settings) -> Outcome | None:
        nonlocal tries
        if tries >= tries_max:
            return None
        tries += 1
        found = play(settings)
        return found if broken(found) & wanted else None

    best = _fewest_actions(outcome, still)
    while True:
        shorter = next((found for one in _simpler(best.settings) if (found := still(one)) is not None), None)
        if shorter is None:
            return _fewest_actions(best, still)
        best = shorter


def _fewest_actions(best: Outcome, still: Callable[[Settings], Outcome | None]) -> Outcome:
    enough, too_few = best.counts["actions"], 0
    best = still(replace(best.settings, actions=enough)) or best  # what is left out later must not need more
    while enough - too_few > 1:
        middle = (enough + too_few) // 2
        found = still(replace(best.settings, actions=middle))
        if found is None:
            too_few = middle
        else:
            best, enough = found, middle
    return best


def _simpler(settings: Settings) -> Iterator[Settings]:
    kinds = [kind for kind in settings.faults.split(",") if kind and kind != "none"]
    for kind in kinds:
        yield replace(settings, faults=",".join(other for other in kinds if other != kind) or "none")
    if settings.hours / 2 >= HOURS_MIN:
        yield replace(settings, hours=settings.hours / 2)
    if settings.nodes > NODES_MIN:
        yield replace(settings, nodes=settings.nodes - 1)
