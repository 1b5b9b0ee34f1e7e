"""All records of a kind that some holders of a key have, without comparing them: for what proves itself and only adds.

Each holder is asked for its pages side by side; what one does not give another may. Bounded like a reading.
"""

import asyncio
from collections.abc import Callable

from dhtex import limits
from dhtex.market.ids import DhtKey
from dhtex.overlay import wire
from dhtex.overlay.contact import contact_at
from dhtex.overlay.crawl import Network
from dhtex.overlay.pages import PagePlan
from dhtex.overlay.requests import Request
from dhtex.overlay.results import Holder


async def sweep(network: Network, key: DhtKey, kind: int, holders: list[Holder]) -> list[bytes]:
    """The different records of a kind that other holders of a key have."""
    loop = asyncio.get_running_loop()
    came: asyncio.Future[list[bytes]] = loop.create_future()
    work = Sweep(network, key, kind, lambda wires: None if came.done() else came.set_result(wires))
    timer = loop.call_later(limits.READ_S_MAX, work.expire)
    try:
        work.start([holder for holder in holders if holder.address is not None])
        return await came
    finally:
        timer.cancel()


class Sweep:
    """One sweep; `done` is called once, with the different records."""

    def __init__(self, network: Network, key: DhtKey, kind: int, done: Callable[[list[bytes]], None]) -> None:
        self._network = network
        self._key = key
        self._kind = kind
        self._done = done
        self._found: dict[bytes, None] = {}
        self._open = 0
        self._finished = False

    def start(self, holders: list[Holder]) -> None:
        """Ask all of them at once."""
        self._open = len(holders)
        for holder in holders:
            self._ask(holder, PagePlan(1), 0)
        if not holders:
            self.expire()

    def expire(self) -> None:
        """End now with what there is."""
        if not self._finished:
            self._finished = True
            self._done(list(self._found))

    def _ask(self, holder: Holder, plan: PagePlan, rank: int) -> None:
        network = self._network
        assert holder.address is not None
        args = wire.GetArgs(network.net, network.own_id, b"", self._key, self._kind, rank, False)
        peer = network.peer_at(holder.address, contact_at(holder.id, *holder.address))
        network.ask(peer, wire.GET, args, self._got, context=(holder, plan, rank))

    def _got(self, request: Request, answer: wire.GetReply | None) -> None:
        holder, plan, rank = request.context
        if self._finished:
            return
        if answer is None:
            plan.on_lost(rank)
        else:
            self._found.update(dict.fromkeys(answer.wires))
            if rank == 0 and answer.total > len(answer.wires):
                plan = PagePlan(answer.total)
            plan.on_page(rank, answer.wires)
        while plan.in_flight < limits.LOOKUP_PARALLEL and (rank := plan.next()) is not None:
            self._ask(holder, plan, rank)
        if not plan.in_flight:
            self._open -= 1
            if not self._open:
                self.expire()
