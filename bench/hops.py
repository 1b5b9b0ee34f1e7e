"""How far a search goes: the chain of who named whom first that ends at the nearest node found."""

import asyncio
from dataclasses import dataclass

from dhtex import limits
from dhtex.market.ids import DhtKey
from dhtex.overlay.crawl import _SEEDS
from dhtex.overlay.protocol import Protocol
from dhtex.overlay.tracing import Tracing


@dataclass(frozen=True, slots=True)
class Path:
    """One search. A node of our own table is one hop away, whom it names two. `asked` counts all that were asked."""

    hops: int
    asked: int
    took_s: float


async def trace(protocol: Protocol, key: DhtKey) -> Path:
    """Search for a key from one node."""
    ended: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    tracing = Tracing(protocol, key, lambda it: None if ended.done() else ended.set_result(it.took_s))
    known = {peer.contact for peer in protocol.table.closest(key, _SEEDS)}
    timer = asyncio.get_running_loop().call_later(limits.LOOKUP_S_MAX, tracing.expire)
    tracing.start()
    took_s = await ended
    timer.cancel()
    by_id = {hop.contact.id.hex(): hop for hop in tracing.hops.values()}
    hop, hops = tracing.hops[tracing.holders()[0].address], 1
    while hop.contact not in known:
        hop = by_id[hop.named_by]
        hops += 1
    return Path(hops, len(tracing.hops), took_s)
