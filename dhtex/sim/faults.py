"""What goes wrong in a history, and when: drawn from the seed."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

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
)
SKEW_S: Final = 50.0  # two machines differ by less than what the protocol bears
FUSES: Final = {"decision": 3, "decision_done": 3, "batch": 6, "batch_done": 6, "send": 300, "answer": 1}
FUSE_S_MAX: Final = 60
OFF_S: Final = ((0.5, 20.0), (60.0, 300.0))


@dataclass(frozen=True, slots=True)
class Plan:
    """The faults of one history."""

    kinds: frozenset[str]
    weather: Weather

    @classmethod
    def drawn(cls, entropy: random.Random, wanted: str) -> "Plan":
        """By name, separated by commas ("none" for none); or by chance: one history in eight has none."""
        if wanted:
            kinds = frozenset(wanted.split(",")) - {"none"}
            assert kinds <= set(KINDS), f"faults are {', '.join(KINDS)}"
        elif entropy.random() < 0.125:
            kinds = frozenset()
        else:
            kinds = frozenset(kind for kind in KINDS if entropy.random() < 0.5)
        chances = {kind: entropy.uniform(0.2, 1.0) for kind in KINDS}
        weather = Weather(
            loss=0.2 * chances["loss"] if "loss" in kinds else 0.0,
            doubling=0.2 * chances["doubling"] if "doubling" in kinds else 0.0,
            tail=0.05 * chances["tail"] if "tail" in kinds else 0.0,
            replay=0.02 * chances["replay"] if "replay" in kinds else 0.0,
            garble=0.02 * chances["garble"] if "garble" in kinds else 0.0,
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


class Troubles:
    """Makes a plan come true. `boot` starts a machine that is off."""

    def __init__(
        self,
        hosts: list[Host],
        network: Network,
        plan: Plan,
        seed: int,
        boot: Callable[[Host], Awaitable[None]],
    ) -> None:
        self._hosts = hosts
        self._network = network
        self._plan = plan
        self._entropy = random.Random(f"{seed}/troubles")
        self._boot = boot

    def routines(self) -> list[Coroutine[Any, Any, None]]:
        """One for each kind of fault, to be cancelled when the trouble ends."""
        kinds = self._plan.kinds
        chosen = [
            ({"loss", "tail", "replay", "garble"}, self._weather),
            ({"cuts"}, self._cuts),
            ({"crashes", "power"}, self._crashes),
            ({"clocks"}, self._clocks),
            ({"slow"}, self._slow),
            ({"disk_full"}, self._disk_full),
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
                await asyncio.sleep(self._entropy.uniform(*self._entropy.choice(OFF_S)))
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

    async def _disk_full(self) -> None:
        while True:
            await self._pause(200.0)
            host = self._entropy.choice(self._hosts)
            host.disk_full = True
            await self._pause(20.0)
            host.disk_full = False
