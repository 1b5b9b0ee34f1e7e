"""What the judge may ask about two-faced makers: ends that went with the last machine that had them, and no others."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from dhtex.market.holding import Taken
from dhtex.market.ids import order_key
from dhtex.market.records import Closing
from dhtex.sim.checks import Judge
from dhtex.sim.clock import EPOCH_S
from dhtex.sim.history import History
from dhtex.sim.host import NETWORK, Host
from dhtex.sim.proofs import Proofs
from dhtex.sim.run import play_history
from dhtex.sim.world import Settings
from dhtex.store.database import Database
from dhtex.store.holdings import Holdings
from tests.builders import make_order, make_status

NOW = int(EPOCH_S)
ORDER = make_order(network=NETWORK, created=NOW, expires=NOW + 3600)
CANCELED = make_status(ORDER, Closing.CANCELED, network=NETWORK)
REPLACED = make_status(ORDER, Closing.REPLACED, network=NETWORK, replaced_by=bytes(32))
ENDS = [CANCELED.wire, REPLACED.wire]


class Machine:
    """What the judge sees of one: what it holds, whether it runs, and what it says of the order."""

    holds = Host.holds

    def __init__(self, index: int) -> None:
        self.index = index
        self.ip = f"10.0.0.{index + 1}"
        self.up = True
        self.lies = False
        self.says = "open"
        self.parts: Any = None
        self.start(ENDS)

    def start(self, ends: list[bytes]) -> None:
        """Run, with these ends on the disk."""
        holdings = Holdings(Database.open(None), NETWORK, 0)
        for wire in [ORDER.wire, *ends]:
            assert holdings.put(wire, None, NOW, "").taken is Taken.STORED
        self.parts, self.up = SimpleNamespace(holdings=holdings), True

    def forget(self) -> None:
        """Let the node drop what it holds, though nothing happened to its machine."""
        self.parts.holdings.release(order_key(ORDER.id), CANCELED.id)
        self.parts.holdings.release(order_key(ORDER.id), REPLACED.id)

    async def ask(self, _call: Callable[[Any], Any]) -> Any:
        return SimpleNamespace(status=self.says)


class Trial:
    """Two machines that have both ends, and a judge who knows them."""

    def __init__(self) -> None:
        self.machines = [Machine(0), Machine(1)]
        self._history = History()
        self.judge = Judge(self._history, cast(list[Host], self.machines), lambda: 0.0, 0.0)
        self.judge.ledger.orders[ORDER.id] = ORDER
        self.judge.proofs.follow(ORDER.id, ENDS)
        self.judge.two_faced.append(ORDER.id)

    def end(self, machine: Machine, *, loses: bool) -> None:
        """Switch a machine off, and let its disk lose something or not."""
        self.judge.proofs.ended(cast(Host, machine))
        machine.up = False
        if loses:
            self.judge.proofs.lost(cast(Host, machine))

    def verdict(self, says: str = "open") -> list[str]:
        """What the judge has to say when all machines run and show the order so."""
        for machine in self.machines:
            machine.says = says
        asyncio.run(self.judge.look_everywhere(()))
        return self._history.violations


@pytest.fixture
def trial(monkeypatch: pytest.MonkeyPatch) -> Trial:
    monkeypatch.setattr(Judge, "look", lambda self: None)  # there are no journals here
    return Trial()


def test_an_end_that_went_with_the_last_machine_that_had_it_is_not_asked_for(trial: Trial) -> None:
    for machine in trial.machines:
        trial.end(machine, loses=True)
        machine.start([])
    assert trial.verdict() == []


def test_an_order_of_which_one_end_is_left_must_not_be_open(trial: Trial) -> None:
    for machine in trial.machines:
        trial.end(machine, loses=True)
        machine.start(ENDS[:1])
    assert trial.verdict("canceled") == []
    assert len(trial.verdict("open")) == 2


def test_what_a_machine_that_is_off_has_on_its_disk_is_not_lost(trial: Trial) -> None:
    off, other = trial.machines
    trial.end(off, loses=False)
    trial.end(other, loses=True)
    other.start([])
    off.start([])  # and the node did not bring it back
    assert len(trial.verdict()) == 2


def test_what_nodes_let_go_of_is_asked_for(trial: Trial) -> None:
    one, other = trial.machines
    trial.end(one, loses=True)
    one.start([])
    other.forget()
    trial.end(other, loses=True)
    other.start([])
    assert len(trial.verdict()) == 2


def test_what_turns_up_again_is_asked_for(trial: Trial) -> None:
    for machine in trial.machines:
        trial.end(machine, loses=True)
    one, other = trial.machines
    one.start(ENDS)  # its disk had it after all
    other.start([])
    assert len(trial.verdict()) == 2
    trial.end(one, loses=False)
    one.start([])
    assert len(trial.verdict("canceled")) == 4


def test_a_holder_that_lies_keeps_nothing_for_others(trial: Trial) -> None:
    honest, liar = trial.machines
    liar.lies = True
    trial.end(honest, loses=True)
    honest.start([])
    assert trial.verdict() == []


def test_each_fault_that_takes_something_from_a_disk_is_heard_of(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[int] = []
    monkeypatch.setattr(Proofs, "lost", lambda self, host: heard.append(host.index))
    faults = "power,stale,restore,two_faced"
    counts = play_history(Settings(seed=4, nodes=3, hours=0.1, faults=faults, judged=False)).counts
    each = [counts["power_losses"], counts["stale_returns"], counts["restores"]]
    assert min(each) > 0
    assert len(heard) == sum(each)
