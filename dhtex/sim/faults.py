"""What goes wrong in a history, and when: drawn from the seed."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, Protocol

from dhtex.market.ids import RecordId
from dhtex.sim.host import Host
from dhtex.sim.network import Network, Weather, rough

KINDS: Final = (
    "loss",
    "tail",
    "doubling",
    "replay",
    "garble",
    "cuts",
    "crashes",
    "power",
    "clocks",
    "slow",
    "disk_full",
    "spoof",
    "clogging",
    "stale",
    "restore",
    "liar",
    "two_faced",
    "flood",
    "day",
)
RARE: Final = {"restore", "liar", "two_faced", "flood", "stale"}  # drawn less often than the others
DAY: Final = 0.02  # of the histories: a day is long, even an idle one
SKEW_S: Final = 50.0  # two machines differ by less than what the protocol bears
FUSES: Final = {
    "decision": 3, "decision_unsynced": 3, "decision_done": 3, "batch": 6, "batch_done": 6, "send": 300, "answer": 1,
    "step": 400,
}  # fmt: skip
FUSE_S_MAX: Final = 60
USUAL_S: Final = 900.0  # of trouble; in a shorter one everything goes wrong sooner
OFF_S: Final = ((0.5, 20.0), (60.0, 300.0))


@dataclass(frozen=True, slots=True)
class Plan:
    """The faults of one history."""

    kinds: frozenset[str]
    weather: Weather

    @classmethod
    def drawn(cls, seed: int, wanted: str) -> "Plan":
        """By name, separated by commas ("none" for none); or by chance: one history in eight has none."""
        chosen = random.Random(f"{seed}/kinds")
        entropy = random.Random(f"{seed}/weather")
        if wanted:
            kinds = frozenset(wanted.split(",")) - {"none"}
            assert kinds <= set(KINDS), f"faults are {', '.join(KINDS)}"
        elif chosen.random() < 0.125:
            kinds = frozenset()
        else:
            chances = {kind: DAY if kind == "day" else 0.3 if kind in RARE else 0.5 for kind in KINDS}
            kinds = frozenset(kind for kind in KINDS if chosen.random() < chances[kind])
        strengths = {kind: entropy.uniform(0.2, 1.0) for kind in KINDS}
        weather = Weather(
            loss=0.2 * strengths["loss"] if "loss" in kinds else 0.0,
            doubling=0.2 * strengths["doubling"] if "doubling" in kinds else 0.0,
            tail=0.05 * strengths["tail"] if "tail" in kinds else 0.0,
            replay=0.02 * strengths["replay"] if "replay" in kinds else 0.0,
            garble=0.02 * strengths["garble"] if "garble" in kinds else 0.0,
            spoof=0.05 * strengths["spoof"] if "spoof" in kinds else 0.0,
            delay_s=entropy.choice((0.002, 0.02, 0.08)),
        )
        return cls(kinds, weather)

    @property
    def calm(self) -> bool:
        """Whether nothing goes wrong."""
        return not self.kinds

    @property
    def disk_full(self) -> bool:
        return "disk_full" in self.kinds


class Span(Protocol):
    """Which history it is, and how long its trouble lasts."""

    @property
    def seed(self) -> int: ...
    @property
    def hours(self) -> float: ...


class Troubles:
    """Makes a plan come true. `boot` starts a machine that is off."""

    def __init__(
        self,
        hosts: list[Host],
        network: Network,
        plan: Plan,
        settings: Span,
        boot: Callable[[Host], Awaitable[None]],
        on_restored: Callable[[Host], None],
        counts: Counter[str],
    ) -> None:
        self._hosts = hosts
        self._network = network
        self._plan = plan
        self._entropy = random.Random(f"{settings.seed}/troubles")
        self._haste = min(1.0, settings.hours * 3600 / USUAL_S)
        self._boot = boot
        self._on_restored = on_restored
        self._counts = counts
        self._told: dict[Host, list[tuple[RecordId, bytes]]] = {}  # what restored machines had signed, and may not know

    def routines(self) -> list[Coroutine[Any, Any, None]]:
        """One for each kind of fault, to be cancelled when the trouble ends."""
        kinds = self._plan.kinds
        chosen = [
            ({"loss", "tail", "replay", "garble", "spoof"}, self._weather),
            ({"cuts"}, self._cuts),
            ({"crashes", "power"}, self._crashes),
            ({"clocks"}, self._clocks),
            ({"slow"}, self._slow),
            ({"disk_full"}, self._disk_full),
            ({"clogging"}, self._clogging),
            ({"stale"}, self._stale),
            ({"restore"}, self._restore),
        ]
        twice = [self._crashes] if self._plan.kinds & {"crashes", "power"} and len(self._hosts) > 3 else []
        return [routine() for routine in [*(r for names, r in chosen if names & kinds), *twice]]

    def end(self) -> None:
        """Nothing goes wrong from now on; clocks are set, roughly."""
        self._network.heal()
        for host in self._hosts:
            host.fuses.clear()
            host.disk_full = False
            host.set_clock(self._entropy.uniform(-2.0, 2.0) if self._plan.kinds else 0.0)

    async def _pause(self, mean_s: float) -> None:
        mean_s *= self._haste
        await asyncio.sleep(min(self._entropy.expovariate(1 / mean_s), 5 * mean_s))

    def _some(self) -> list[str]:
        count = self._entropy.randint(1, max(1, len(self._hosts) // 2))
        return [host.ip for host in self._entropy.sample(self._hosts, count)]

    async def _weather(self) -> None:
        usual = self._network.weather
        while True:
            await self._pause(120.0)
            self._network.weather = rough(usual, self._entropy.choice((0.0, 0.5, 1.0, 2.0)))

    async def _cuts(self) -> None:
        while True:
            await self._pause(150.0)
            some = self._some()
            others = [host.ip for host in self._hosts if host.ip not in some]
            ways = [[(some, others)], [(others, some)], [(some, others), (others, some)]]
            way = self._entropy.choice([*ways, ways[2]])
            for sources, targets in way:
                self._network.cut(sources, targets)
            await self._pause(90.0)
            for sources, targets in way:  # by link, in any order
                links = [(source, target) for source in sources for target in targets]
                self._entropy.shuffle(links)
                for source, target in links:
                    self._network.cut([source], [target], -1)
                    await asyncio.sleep(self._entropy.uniform(0.0, 1.0))

    async def _crashes(self) -> None:
        while True:
            await self._pause(20.0)
            host = self._entropy.choice(self._hosts)
            power = "power" in self._plan.kinds and ("crashes" not in self._plan.kinds or self._entropy.random() < 0.5)
            if host.life is None:
                continue
            host.power = power
            if self._entropy.random() < 0.3:
                host.crash(power)
            else:
                fuse = self._entropy.choice([*FUSES, "decision_done", "decision_done", "answer"])
                host.fuses[fuse] = self._entropy.randint(1, FUSES[fuse])
                life = host.life
                for _ in range(FUSE_S_MAX):
                    await asyncio.sleep(1.0)
                    if host.life is not life:
                        break
                host.fuses.clear()
            if host.life is None:
                await asyncio.sleep(self._entropy.uniform(*self._entropy.choice(OFF_S)) * self._haste)
                await self._boot(host)

    async def _clocks(self) -> None:
        while True:
            await self._pause(100.0)
            self._entropy.choice(self._hosts).set_clock(self._entropy.uniform(-SKEW_S, SKEW_S))

    async def _slow(self) -> None:
        while True:
            await self._pause(120.0)
            for ip in self._some():
                self._network.slow_s[ip] = self._entropy.choice((0.0, 0.1, 0.5, 1.5))

    async def _clogging(self) -> None:
        """Lines are clogged one after the other, and get free again in another order."""
        while True:
            await self._pause(100.0)
            some = self._some()
            for step in (1, -1):
                self._entropy.shuffle(some)
                for ip in some:
                    self._network.clog(ip, step)
                    await asyncio.sleep(self._entropy.uniform(0.0, 4.0))

    async def _stale(self) -> None:
        """One machine was off for so long that what it holds for others is old. One: what nobody holds is gone."""
        host = self._entropy.choice(self._hosts)
        while True:
            if host.up:
                host.remember_held()
            await self._pause(90.0)
            if host.life is not None:
                needed = self._is_needed(host)
                host.crash(power=False)
                if not needed and host.forget_since():
                    self._counts["stale_returns"] += 1
                await asyncio.sleep(self._entropy.uniform(1.0, 20.0))
                await self._boot(host)

    async def _restore(self) -> None:
        """A machine's state is put back as it was. Not while it decides, or is cut off: see the fence's reach."""
        honest = [host for host in self._hosts if not host.lies]
        while True:
            await self._pause(40.0)
            host = self._entropy.choice(honest[:2])
            if not host.up:
                continue
            if not host.backed_up or self._entropy.random() < 0.5:
                host.back_up()
            elif self._is_quiet(host):
                self._told[host] = list({*self._told.get(host, ()), *host.said()})
                host.restore()
                self._counts["restores"] += 1
                self._on_restored(host)
                await asyncio.sleep(self._entropy.uniform(0.5, 5.0))
                await self._boot(host)

    def _is_quiet(self, host: Host) -> bool:
        """Whether everything that it has signed is known to others, and it knows what they know. What others were told
        they may have lost again, with a disk as it once was; and it must not be the last who could tell another."""
        others = [other for other in self._hosts if other is not host and not other.lies]
        return (
            self._network.is_whole
            and all(other.up for other in self._hosts)
            and not host.parts.journal.unpublished()
            and host.up_for_s > 15.0
            and all(any(other.holds(*each) for other in others) for each in host.said())
            and not self._is_needed(host)
        )

    def _is_needed(self, host: Host) -> bool:
        """Whether it alone holds what a restored machine had signed, and does not know again yet."""
        for owner, told in self._told.items():
            if owner is host or not host.up:
                continue
            others = [other for other in self._hosts if other not in (owner, host) and other.up and not other.lies]
            if owner.up:  # of an order that it has forgotten it will sign nothing more
                known, order = set(owner.said()), owner.parts.journal.order
                self._told[owner] = told = [each for each in told if each not in known and order(each[0]) is not None]
            if any(host.holds(*each) and not any(other.holds(*each) for other in others) for each in told):
                return True
        return False

    async def _disk_full(self) -> None:
        while True:
            await self._pause(200.0)
            host = self._entropy.choice(self._hosts)
            host.disk_full = True
            await self._pause(20.0)
            host.disk_full = False
