"""How far a search goes: the longest chain of who named whom that ends at the nearest node found."""

import asyncio
from dataclasses import dataclass

from dhtex import limits
from dhtex.market.ids import DhtKey
from dhtex.overlay.protocol import Protocol
from dhtex.overlay.tracing import OWN_TABLE, Hop, Tracing


@dataclass(frozen=True, slots=True)
class Path:
    """One search. A node of our own table is one hop away, whom it names two; all but one of `asked` were detours."""

    hops: int
    asked: int
    took_s: float


async def trace(protocol: Protocol, key: DhtKey) -> Path:
    """Search for a key from one node."""
    ended: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    tracing = Tracing(protocol, key, lambda it: None if ended.done() else ended.set_result(it.took_s))
    timer = asyncio.get_running_loop().call_later(limits.LOOKUP_S_MAX, tracing.expire)
    tracing.start()
    took_s = await ended
    timer.cancel()
    by_id = {hop.contact.id.hex(): hop for hop in tracing.hops.values()}
    nearest = tracing.holders()[0]
    return Path(depth(by_id, tracing.hops[nearest.address]), len(tracing.hops), took_s)


def depth(by_id: dict[str, Hop], hop: Hop) -> int:
    """How many nodes were asked one after the other until this one was."""
    count = 1
    while hop.named_by != OWN_TABLE:
        hop = by_id[hop.named_by]
        count += 1
    return count
