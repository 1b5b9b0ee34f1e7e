"""A datagram network in memory that does to datagrams what real ones do, by chance from a seed.

Theory of operation. A datagram sent may be lost, doubled, delayed (each copy by its own draw, so copies and neighbours
overtake each other; now and then by seconds), kept and sent again much later, arrive with bits turned over, or come
again from an address that is not its sender's. Links may be cut, one way or both; machines may be slow; and their lines
may be *clogged*: what is sent through such a line waits until it is free. What arrives is handed to whoever has the
address then, within that one's life; what a dead machine sends does not leave it.
"""

import asyncio
import copy
import math
import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

from dhtex import limits
from dhtex.errors import PortInUseError
from dhtex.overlay.addresses import Address
from dhtex.overlay.transport import Endpoint, OpenEndpoint, Receiver
from dhtex.sim.history import History
from dhtex.sim.loop import Crash, Life

KEPT_DATAGRAMS: Final = 512  # of which some come again
TAIL_S: Final = (0.2, 4.0)
CLOGGED_DATAGRAMS_MAX: Final = 2000  # of all lines together; more are lost
FIRST_PORT: Final = 20_000
FRESH_PORT: Final = 50_000
NOBODY: Final = ("10.99.0.1", 4000)


@dataclass(frozen=True, slots=True)
class Weather:
    """What the network is like: chances of each fault for one datagram, and the usual delay."""

    loss: float = 0.0
    doubling: float = 0.0
    tail: float = 0.0
    replay: float = 0.0
    garble: float = 0.0
    spoof: float = 0.0
    delay_s: float = 0.02


class SimEndpoint:
    """One port of one machine."""

    def __init__(self, network: "Network", receiver: Receiver, address: Address, life: Life) -> None:
        self.port = address[1]
        self.address = address
        self.life = life
        self._network = network
        self._received = receiver.datagram_received

    def sendto(self, data: bytes, addr: Address) -> None:
        if self.life.alive:
            self._network.send(self, data, addr)

    def send_afresh(self, data: bytes, addr: Address) -> None:
        afresh = copy.copy(self)
        afresh.address = (self.address[0], FRESH_PORT)
        afresh.sendto(data, addr)

    def receive(self, data: bytes, addr: Address) -> None:
        """Hand a datagram over, within the machine's life."""
        try:
            self.life.context.run(self._received, data, addr)
        except Crash:
            return

    def close(self) -> None:
        self._network.closed(self)


class Network:
    """All links and who is at them."""

    def __init__(self, history: History, entropy: random.Random, weather: Weather) -> None:
        self.weather = weather
        self.slow_s: dict[str, float] = {}
        self.on_send: Callable[[SimEndpoint, bytes], None] = lambda endpoint, data: None
        self._history = history
        self._entropy = entropy
        self._endpoints: dict[Address, SimEndpoint] = {}
        self._cuts: dict[tuple[str, str], int] = {}
        self._clogged: dict[str, int] = {}
        self._waiting: list[tuple[Address, Address, bytes]] = []
        self._kept: deque[tuple[Address, Address, bytes]] = deque(maxlen=KEPT_DATAGRAMS)
        self._loop = asyncio.get_running_loop()

    def opener(self, life: Life) -> OpenEndpoint:
        """What a node of this life opens its endpoint with."""

        async def open_endpoint(receiver: Receiver, host: str | None, port: int) -> Endpoint:
            assert host is not None, "a simulated machine has one address"
            port = port or next(p for p in range(FIRST_PORT, 1 << 16) if (host, p) not in self._endpoints)
            if (host, port) in self._endpoints:
                raise PortInUseError(f"port {port} is in use")
            endpoint = SimEndpoint(self, receiver, (host, port), life)
            self._endpoints[host, port] = endpoint
            return endpoint

        return open_endpoint

    def closed(self, endpoint: SimEndpoint) -> None:
        """Nobody is at this address any more."""
        if self._endpoints.get(endpoint.address) is endpoint:
            del self._endpoints[endpoint.address]

    def vanish(self, life: Life) -> None:
        """A machine is gone, and its ports with it."""
        for endpoint in [endpoint for endpoint in self._endpoints.values() if endpoint.life is life]:
            self.closed(endpoint)

    # --- faults -------------------------------------------------------------------------------------------------------

    def cut(self, sources: Iterable[str], targets: Iterable[str], step: int = 1) -> None:
        """Let nothing pass from these IPs to those; `step` -1 takes one such cut back."""
        goals = list(targets)
        for source in sources:
            for target in goals:
                count = self._cuts.get((source, target), 0) + step
                self._cuts[source, target] = count
                if not count:
                    del self._cuts[source, target]

    def clog(self, ip: str, step: int = 1) -> None:
        """Let whatever a machine sends or should get wait; `step` -1 takes one such clogging back."""
        count = self._clogged.get(ip, 0) + step
        self._clogged[ip] = count
        if count <= 0:
            del self._clogged[ip]
            waiting, self._waiting = self._waiting, []
            for source, target, data in waiting:
                self._arrive(source, target, data)

    @property
    def is_whole(self) -> bool:
        """Whether every machine reaches every other one."""
        return not self._cuts and not self._clogged

    def heal(self) -> None:
        """No cuts, no clogged lines, no slow machines, fair weather."""
        self._cuts.clear()
        self.slow_s.clear()
        for ip in list(self._clogged):
            self.clog(ip, -self._clogged[ip])
        self.weather = Weather(delay_s=self.weather.delay_s)

    # --- datagrams ----------------------------------------------------------------------------------------------------

    def send(self, sender: SimEndpoint, data: bytes, target: Address) -> None:
        """A datagram leaves a machine."""
        now, source = self._loop.time(), sender.address
        self._history.note(now, f"{source} > {target}", data)
        self._history.counts["datagrams"] += 1
        if len(data) > limits.DATAGRAM_BYTES_MAX:
            self._history.violation(now, "bounded", f"{source} sent {len(data)} bytes in one datagram")
        self._forward(source, target, data)
        chance, weather = self._entropy.random, self.weather
        if weather.replay:
            self._kept.append((source, target, data))
            if chance() < weather.replay:
                self._history.counts["replayed"] += 1
                self._forward(*self._kept[self._entropy.randrange(len(self._kept))])
        if weather.garble and chance() < weather.garble:
            self._history.counts["garbled"] += 1
            place = self._entropy.randrange(len(data))
            changed = data[:place] + bytes((data[place] ^ 1 << self._entropy.randrange(8),)) + data[place + 1 :]
            self._forward(source, target, changed)
        if weather.spoof and chance() < weather.spoof:
            self._history.counts["spoofed"] += 1
            self._forward(self._entropy.choice([*self._endpoints, NOBODY]), target, data)
        self.on_send(sender, data)  # last: the machine may end here, and the datagram is on its way

    def _forward(self, source: Address, target: Address, data: bytes) -> None:
        weather, entropy = self.weather, self._entropy
        if (source[0], target[0]) in self._cuts:
            self._history.counts["cut_off"] += 1
            return
        copies = 2 if weather.doubling and entropy.random() < weather.doubling else 1
        for _ in range(copies):
            if weather.loss and entropy.random() < weather.loss:
                self._history.counts["lost"] += 1
                continue
            delay_s = weather.delay_s * math.exp(entropy.gauss(0.0, 0.4))
            if weather.tail and entropy.random() < weather.tail:
                delay_s += entropy.uniform(*TAIL_S)
            delay_s += self.slow_s.get(source[0], 0.0) + self.slow_s.get(target[0], 0.0)
            self._loop.call_later(delay_s, self._arrive, source, target, data)

    def _arrive(self, source: Address, target: Address, data: bytes) -> None:
        if self._clogged and (source[0] in self._clogged or target[0] in self._clogged):
            if len(self._waiting) < CLOGGED_DATAGRAMS_MAX:
                self._waiting.append((source, target, data))
                self._history.counts["clogged"] += 1
            return
        endpoint = self._endpoints.get(target)
        if endpoint is not None:
            endpoint.receive(data, source)


def rough(weather: Weather, factor: float) -> Weather:
    """The same weather with all chances multiplied."""
    return replace(
        weather,
        loss=min(0.6, weather.loss * factor),
        doubling=weather.doubling * factor,
        tail=weather.tail * factor,
        replay=weather.replay * factor,
        garble=weather.garble * factor,
        spoof=weather.spoof * factor,
    )
