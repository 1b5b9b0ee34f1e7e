"""A thousand watchers of one pair: what an event costs, and when they have heard of it."""

import asyncio
import os
import statistics
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from bench.market import HOST, PAIR, draft, sent, settle, start_nodes, until
from bench.measure import percentile, table
from dhtex import limits
from dhtex.market.ids import DhtKey, NodeId, index_key
from dhtex.market.records import Kind
from dhtex.node import Node
from dhtex.overlay import wire
from dhtex.overlay.addresses import Address
from dhtex.overlay.trailer import network_tag

NODES = 8
WATCHERS = (1, 10, 100, 1000)
EVENTS = 10
TOGETHER = 50
LEASE_S = 120
PATIENCE_S = 30.0
HEARD_S_MAX = 5.0
INTRO = """## Watchers

{nodes} whole nodes hold the pair. So many watchers, small programs beside them in the same process, have a lease at
the {leases} nearest of them, as nodes have, and acknowledge what they are pushed. An event is a new order: its cost are
the datagrams that nodes and watchers send until all have heard and a third of a second more, searches and puts
included. The time counts from the call that publishes until a watcher has the first push of it; whoever hears nothing
within {patience:.0f} s is not told, and would read what it missed when its lease is renewed. The CPU is that of the
whole process. Medians of {events} events. One push more is {each:.0f} µs of CPU, its acknowledgement and both ends
included.

{rows}
"""


class Watcher(asyncio.DatagramProtocol):
    """As much of a node as a lease needs."""

    def __init__(self, net: bytes, key: DhtKey, holders: list[Address], heard: Callable[[bytes], None]) -> None:
        self._net = net
        self._key = key
        self._holders = holders
        self._heard = heard
        self._own_id = NodeId(os.urandom(20))
        self._transport: asyncio.DatagramTransport
        self._tokens: dict[Address, bytes] = {}
        self.leases = 0
        self.sent = 0

    def connection_made(self, transport: Any) -> None:
        """Begin."""
        self._transport = transport

    def renew(self) -> None:
        """Ask each holder for a lease, or for a longer one."""
        self.leases = 0
        for address in self._holders:
            self._ask(self._tokens.get(address, b""), address)

    def _ask(self, token: bytes, address: Address) -> None:
        args = wire.WatchArgs(self._net, self._own_id, token, LEASE_S, [self._key], [], self._key[:8])
        self._send(b"\0" + os.urandom(20) + wire.WATCH.head + wire.encode(args), address)

    def _send(self, data: bytes, address: Address) -> None:
        self.sent += 1
        self._transport.sendto(data, address)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Take a lease, or a push."""
        if data[0] == wire.REPLY:
            answer = wire.WATCH.reply.decode(data[wire.FRAME_BYTES :])
            if answer.ok == wire.TOKEN_NEEDED:
                self._tokens[addr] = answer.token
                self._ask(answer.token, addr)
            else:
                self.leases += answer.granted_s > 0
        elif (found := wire.verb_of(data)) is not None and found[0] is wire.PUSH:
            self._send(b"\1" + data[1:21] + wire.encode(wire.PushReply(self._own_id)), addr)
            self._heard(wire.PUSH.args.decode(data[found[1] :]).wire)


def _same(watcher: Watcher) -> Watcher:
    return watcher


def _have_leases(watchers: list[Watcher]) -> bool:
    return all(watcher.leases >= limits.WATCH_HOLDERS for watcher in watchers)


class Crowd:
    """Watchers, and when each of them heard what."""

    def __init__(self, nodes: list[Node]) -> None:
        self._key = index_key("bench", PAIR, "sell", "")
        goal = int.from_bytes(self._key)
        near = sorted(nodes, key=lambda node: int.from_bytes(node._running.overlay.protocol.own_id) ^ goal)
        self._holders = [(HOST, node.status().port) for node in near[: limits.WATCH_HOLDERS]]
        self.watchers: list[Watcher] = []
        self.times: dict[bytes, list[float]] = {}
        self.pushes = 0

    async def grow(self, stack: AsyncExitStack, count: int) -> None:
        """Have so many watchers."""
        loop, net = asyncio.get_running_loop(), network_tag("bench")
        while len(self.watchers) < count:
            watcher = Watcher(net, self._key, self._holders, self._hearing())
            transport, _ = await loop.create_datagram_endpoint(partial(_same, watcher), local_addr=(HOST, 0))
            stack.callback(transport.close)
            self.watchers.append(watcher)

    async def renew(self) -> None:
        """See to it that each has all of its leases."""
        for start in range(0, len(self.watchers), TOGETHER):
            part = self.watchers[start : start + TOGETHER]
            for watcher in part:
                watcher.renew()
            await until(partial(_have_leases, part), "leases are granted", PATIENCE_S)

    def _hearing(self) -> Callable[[bytes], None]:
        known: set[bytes] = set()

        def heard(record: bytes) -> None:
            self.pushes += 1
            if record[1] == Kind.ORDER and record not in known:  # Beats are pushed too
                known.add(record)
                self.times.setdefault(record, []).append(time.perf_counter())

        return heard

    def sent(self) -> int:
        """How many datagrams all of them have sent."""
        return sum(watcher.sent for watcher in self.watchers)

    def heard(self) -> list[float]:
        """When each watcher that has heard of the newest order did."""
        return next(reversed(self.times.values()), [])

    async def everyone(self) -> None:
        """Wait until all have heard of it, but not for ever: a push is a hint, and a gap is noticed later."""
        deadline = time.monotonic() + HEARD_S_MAX
        while len(self.heard()) < len(self.watchers) and time.monotonic() < deadline:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


async def run(quick: bool) -> str:
    """Measure; the report's section."""
    rows = []
    async with AsyncExitStack() as stack:
        nodes = await start_nodes(stack, NODES)
        await settle(nodes)
        crowd = Crowd(nodes)
        for count in WATCHERS[:3] if quick else WATCHERS:
            await crowd.grow(stack, count)
            rows.append((count, *await _measure(nodes, crowd, 5 if quick else EVENTS)))
    head = [
        "watchers",
        "datagrams of an event",
        "of these pushes",
        "of one holder",
        "ms, median",
        "ms, 99th percentile",
    ]
    each_us = 1000 * (rows[-1][-1] - rows[0][-1]) / (rows[-1][2] - rows[0][2])
    return INTRO.format(
        nodes=NODES,
        leases=limits.WATCH_HOLDERS,
        events=EVENTS,
        patience=HEARD_S_MAX,
        each=each_us,
        rows=table([*head, "told, %", "CPU ms"], rows),
    )


async def _measure(nodes: list[Node], crowd: Crowd, events: int) -> tuple[float, ...]:
    costs, pushes, waited, cpu = [], [], [], []
    for number in range(events):
        await crowd.renew()
        crowd.times.clear()
        before, pushed_before, used = sent(nodes) + crowd.sent(), crowd.pushes, time.process_time()
        started = time.perf_counter()
        await nodes[number % NODES].add_order(draft(50_000 + number))
        await crowd.everyone()
        waited += [at - started for at in crowd.heard()]
        await asyncio.sleep(0.3)
        costs.append(sent(nodes) + crowd.sent() - before)
        pushes.append(crowd.pushes - pushed_before)
        cpu.append(time.process_time() - used)
    told = 100 * len(waited) / (events * len(crowd.watchers))
    pushed, milliseconds = statistics.median(pushes), [1000 * wait for wait in waited]
    return (
        statistics.median(costs),
        pushed,
        pushed / limits.WATCH_HOLDERS,
        statistics.median(milliseconds),
        percentile(milliseconds, 0.99),
        told,
        statistics.median(cpu) * 1000,
    )
