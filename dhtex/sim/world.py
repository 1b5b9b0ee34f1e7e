"""A network of machines, and the course of one history: they start, trade in trouble, find peace, and are judged."""

import asyncio
import contextlib
import gc
import logging
import os
import random
import tempfile
from collections import Counter
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from dhtex.sim.checks import Judge
from dhtex.sim.faults import KINDS, Plan, Troubles
from dhtex.sim.history import History
from dhtex.sim.host import PORT, Host
from dhtex.sim.liar import PUSH_AGAIN_S, corrupt
from dhtex.sim.loop import Crash, Life, VirtualLoop, current_life
from dhtex.sim.network import Network, SimEndpoint
from dhtex.sim.strangers import Strangers
from dhtex.sim.workload import USUAL_S, Workload

YOUNG_S: Final = 120.0  # a network in which nothing goes wrong has settled after this
STEP_S: Final = 20.0  # between two looks at all journals
PATIENT_S: Final = 1260.0  # of peace, after which everyone must see the same: makers put their records again in 1,125 s
RESTARTED_S: Final = 200.0  # the same when all machines are started anew: they put their records again at once
RESTARTED: Final = 0.8  # of the histories: they take less time, so there can be more
DAY_S: Final = 25 * 3600.0  # a machine is away for this long, and the others rest
DUSK_S: Final = 60.0  # in which much ends that the one who is away does not hear of
DAWN_S: Final = 1200.0  # before it returns
AWAKE: Final = 0.2  # of the days on which the others run through
LOOKED_S: Final = 60.0  # in which all listings are looked at
AFTERMATH_S: Final = 120.0  # beyond the last order's end: grace, a last reading
MEMORY: Final = "/dev/shm" if os.path.isdir("/dev/shm") else None  # syncing costs nothing there
NODES: Final = (3, 3, 4, 4, 5, 6)
COLLECT_EVERY: Final = 15  # steps; garbage is collected at fixed moments, so that nothing depends on how much there is


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One history. `hours` of trouble; peace and the end of the last orders come on top."""

    seed: int
    nodes: int = 0  # 0: the seed chooses from NODES
    hours: float = 0.05
    faults: str = ""  # names separated by commas; empty: the seed chooses
    actions: int = 0  # of people and strangers, after which they rest; 0: no end
    emphasis: str = ""  # what they do more often, of EMPHASES, separated by commas
    stop_early: bool = False  # end with the first violation
    judged: bool = True  # to the end; else it stops with the trouble


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a history came to."""

    settings: Settings
    digest: str
    virtual_s: float
    counts: Counter[str]
    violations: list[str]


class World:
    """Everything of one history. `run` plays it; the loop must be virtual."""

    def __init__(self, settings: Settings, folder: Path, history: History) -> None:
        self.seed = settings.seed
        self.folder = folder
        self.history = history
        nodes = settings.nodes or random.Random(f"{settings.seed}/nodes").choice(NODES)
        self.entropy = random.Random(f"{settings.seed}/world")
        self.plan = Plan.drawn(settings.seed, settings.faults)
        faults = ",".join(kind for kind in KINDS if kind in self.plan.kinds) or "none"
        self.settings = replace(settings, nodes=nodes, faults=faults)  # all in words, so that each can be left out
        self.network = Network(history, random.Random(f"{settings.seed}/network"), self.plan.weather)
        self.network.on_send = self._sent
        self.hosts = [Host(self, index) for index in range(nodes)]
        if "liar" in self.plan.kinds and nodes > 3:
            self.hosts[-1].lies = True
            push_again_s = PUSH_AGAIN_S / (5 if "pushes" in settings.emphasis else 1)
            self.hosts[-1].on_up = lambda host: corrupt(host, settings.seed, push_again_s)
        self._by_ip = {host.ip: host for host in self.hosts}
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(self._unhandled)
        self.restarted = self.entropy.random() < RESTARTED
        self.peace_s = RESTARTED_S if self.restarted else PATIENT_S
        self.judge = Judge(history, self.hosts, self._loop.time, self.peace_s - LOOKED_S)
        for host in self.hosts:
            host.on_decision = self.judge.look_at
            host.on_end, host.on_loss = self.judge.proofs.ended, self.judge.proofs.lost
        people = self.people = [host for host in self.hosts if not host.lies]
        seed = settings.seed
        self.workload = Workload(people, self.judge, history, settings, self._life_s_max())
        may_act, tell = self.workload.may_act, self.workload.tell
        self.strangers = Strangers(people, self.judge, history, seed, may_act, tell, self._life_s_max())
        self.strangers.crowd_s *= max(1.0, settings.hours * 3600 / USUAL_S)
        self.strangers.forge_s /= 4 if "forgery" in settings.emphasis else 1
        self.troubles = Troubles(
            self.hosts, self.network, self.plan, settings, self.boot, self.judge.restored, history.counts
        )
        if self.plan.kinds & {"crashes", "power"}:
            assert isinstance(self._loop, VirtualLoop)
            self._loop.on_step = self._step
        self._tasks: set[asyncio.Task[Any]] = set()

    def _life_s_max(self) -> int:
        """Of an order: long enough that there is something to list when peace has come."""
        day_s = DAY_S + DUSK_S if "day" in self.plan.kinds else 0.0
        return round(self.settings.hours * 3600 + day_s + self.peace_s + 2 * LOOKED_S)

    async def run(self) -> None:
        """Play the history to its end, or to the first violation."""
        whole = self._spawn(self._play())
        looking = self._spawn(self._look())
        await asyncio.wait([whole, looking], return_when=asyncio.FIRST_COMPLETED)
        for task in (whole, looking):
            if task.done():
                task.result()

    async def _play(self) -> None:
        await self._boot_all()
        trouble_s = self.settings.hours * 3600
        actors = [self._spawn(self.workload.person(host)) for host in self.people]
        actors.append(self._spawn(self.strangers.crowd()))
        harmful = [self._spawn(routine) for routine in self._harm()]
        if self.plan.calm:
            self.judge.calm_since = self._loop.time() + YOUNG_S - self.judge.settled_s
        troubles = [self._spawn(routine) for routine in self.troubles.routines()]
        await asyncio.sleep(trouble_s)
        if not self.settings.judged:
            return
        await self._end([*troubles, *harmful])
        self.troubles.end()
        if "day" in self.plan.kinds:
            await self._day()
        if self.restarted and not self.plan.calm:
            for host in self.hosts:
                host.crash(power=False)
        await self._boot_all()
        self.judge.calm_since = self._loop.time() if self.judge.calm_since is None else self.judge.calm_since
        self.workload.winding_down = True
        await asyncio.sleep(self.peace_s)
        await self._end(actors)
        await self.judge.look_everywhere(self.workload.pairs)
        rest_s = self.judge.last_end() - self._loop.time() + AFTERMATH_S
        await asyncio.sleep(max(rest_s, AFTERMATH_S))
        self.judge.look()
        self.judge.final()
        self._dump()

    async def _day(self) -> None:
        """A machine is off for a day. The others go on for a minute and then rest; mostly they are off as well until
        the day is nearly over, which says as much and is soon played."""
        await self._boot_all()
        away, *others = self.hosts
        away.crash(power=False)
        await asyncio.sleep(DUSK_S)
        self.workload.resting = True
        night_s = 0.0 if self.entropy.random() < AWAKE else DAY_S - DAWN_S
        if night_s:
            for host in others:
                host.crash(power=False)
            await asyncio.sleep(night_s)
            await self._boot_all(others)
        await asyncio.sleep(DAY_S - night_s)
        self.workload.resting = False
        self.history.counts["days"] += 1

    def _harm(self) -> list[Coroutine[Any, Any, None]]:
        strangers, kinds = self.strangers, self.plan.kinds
        routines = [strangers.forger()]
        routines += [strangers.two_faced()] if "two_faced" in kinds else []
        routines += [strangers.flood()] if "flood" in kinds else []
        return routines

    async def _boot_all(self, hosts: list[Host] | None = None) -> None:
        for host in hosts or self.hosts:
            await asyncio.sleep(self.entropy.uniform(0.0, 0.5))
            while not host.up:
                await self.boot(host)
                await asyncio.sleep(0.1)

    async def boot(self, host: Host) -> None:
        """Start a machine that is off; it knows two others to join through."""
        if host.life is None:
            others = [other.ip for other in self.hosts if other is not host]
            chosen = self.entropy.sample(others, min(2, len(others)))
            if not await host.start(tuple(f"{ip}:{PORT}" for ip in chosen)):
                await asyncio.sleep(1.0)

    async def _look(self) -> None:
        turn = 0
        while True:
            await asyncio.sleep(STEP_S)
            self.judge.look()
            turn += 1
            if self.settings.stop_early and self.history.violations:
                return
            if turn % COLLECT_EVERY == 0:
                gc.collect()

    def _step(self, life: Life) -> None:
        """Something of a machine is about to run: it may end before."""
        host = self._by_ip[life.name]
        if host.fuses and host.life is life and host.burn("step"):
            host.crash(host.power)

    def _sent(self, endpoint: SimEndpoint, data: bytes) -> None:
        host = self._by_ip[endpoint.address[0]]
        answered = self.judge.overhear(host, data)
        if (answered and host.burn("answer")) or host.burn("send"):
            host.end_here()

    def _dump(self) -> None:
        for host in self.hosts:
            journal = host.parts.journal
            for row in [*journal.orders(), *journal.trades()]:
                self.history.note(self._loop.time(), f"{host.ip} holds {row!r}")

    # --- tasks and errors ---------------------------------------------------------------------------------------------

    def _spawn(self, routine: Any) -> asyncio.Task[Any]:
        task = self._loop.create_task(routine)
        self._tasks.add(task)
        return task

    async def _end(self, tasks: list[asyncio.Task[Any]]) -> None:
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
                raise result

    async def close(self) -> None:
        """End everything, in peace with the interpreter."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for host in self.hosts:
            host.crash(power=False)

    def _unhandled(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, Crash):
            self.complain(f"{context.get('message')}: {error!r}", error)

    def complain(self, text: str, error: BaseException | None) -> None:
        """An error was logged, or nobody caught one."""
        life = current_life()
        if isinstance(error, Crash) or (life is not None and not life.alive):
            return
        if self.plan.disk_full and "cannot be written" in text and "task" not in text:  # said, and survived
            self.history.counts["write_errors"] += 1
            return
        self.history.violation(self._loop.time(), "no_exception", f"{'' if life is None else life.name} {text}")


class _Ears(logging.Handler):
    """Hears what the product logs as an error."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.ERROR)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self._world.complain(f"{record.getMessage()} {error!r}", error)


@contextlib.contextmanager
def _listening(world: World) -> Iterator[None]:
    logger = logging.getLogger("dhtex")
    ears, before = _Ears(world), logger.propagate
    logger.addHandler(ears)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(ears)
        logger.propagate = before


async def live(settings: Settings, history: History) -> Outcome:
    """One whole history, in a folder that is gone afterwards."""
    loop = asyncio.get_running_loop()
    with tempfile.TemporaryDirectory(prefix="dhtex-sim-", dir=MEMORY) as folder:
        world = World(settings, Path(folder), history)
        with _listening(world):
            try:
                await world.run()
            finally:
                ended_s, counts = loop.time(), Counter(history.counts)
                await world.close()
    return Outcome(world.settings, history.digest, ended_s, counts, list(history.violations))
