"""`why` marks the holder that lies about a key, and nobody else."""

import asyncio
from typing import Any

import pytest

from dhtex import limits
from dhtex.market.holding import NO_DIGEST, WHOLE, Page, Span
from dhtex.market.ids import DhtKey, RecordId, index_key, order_key
from dhtex.node import Node
from dhtex.overlay.pages import digest_of
from dhtex.store.holdings import Holdings
from dhtex.views import HopView, OrderDraft, WhyView
from tests.builders import make_order
from tests.unit.node.test_health import lab
from tests.unit.overlay.fakes import until

DRAFT = OrderDraft(side="sell", amount="1", pair="BTC/USD", price="50000", liveness="mailbox")
NODES = 10
ORDERS = 6


class Liar:
    """Answers about one key in its own way, and else as a holder does."""

    def __init__(self, truth: Holdings, key: DhtKey, way: str) -> None:
        self._truth = truth
        self._key = key
        self._way = way
        self._pages = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._truth, name)

    def page(self, key: DhtKey, kind: int, rank: int, room_bytes: int, now: float, span: Span = WHOLE) -> Page:
        truth = self._truth.page(key, kind, rank, room_bytes, now, span)
        if key != self._key:
            return truth
        if self._way == "hides":
            return Page(0, NO_DIGEST, [])
        if self._way == "invents":
            made_up = make_order(number=77).wire
            digest = int.from_bytes(truth.digest) ^ int.from_bytes(digest_of([made_up]))
            return Page(truth.total + 1, digest.to_bytes(8), [made_up, *truth.wires])
        if self._way == "promises":
            return Page(truth.total + 7, truth.digest, truth.wires)
        if self._way == "repeats":
            return Page(truth.total, truth.digest, [b"junk %d" % place for place in range(len(truth.wires))])
        self._pages += 1
        return Page(limits.RECORDS_PER_INDEX_KEY_MAX, b"no end.!", [b"junk %d" % self._pages])


async def told(reader: Node, key: DhtKey) -> tuple[WhyView, dict[str, HopView]]:
    view = await reader.why(key.hex())
    return view, {hop.id: hop for hop in view.hops if hop.holder}


@pytest.mark.parametrize("place", ["order", "index"])
@pytest.mark.parametrize(
    ("way", "answer"),
    [("hides", "page"), ("invents", "page"), ("promises", "page"), ("endless", "junk"), ("repeats", "junk")],
)
async def test_why_marks_exactly_the_holder_that_lies(way: str, answer: str, place: str) -> None:
    async with lab(NODES) as nodes:
        await until(lambda: all(len(node.peers()) == NODES - 1 for node in nodes))
        order = [(await nodes[number % 3].add_order(DRAFT)).order for number in range(ORDERS)][-1]
        at_order = order_key(RecordId(bytes.fromhex(order.id)))
        key = at_order if place == "order" else index_key("lab", DRAFT.pair, "sell", "")
        reader = nodes[5]
        async with asyncio.timeout(10):
            while True:
                view, holders = await told(reader, key)
                if view.agreed == view.holders == limits.HOLDERS - (view.local is not None):
                    break
        assert {hop.answer for hop in holders.values()} == {"page"}
        liar = next(node for node in nodes if node is not reader and node._running.node_id.hex() in holders)
        serving = liar._running.overlay.protocol.stock.serving
        serving._holdings = Liar(liar._running.holdings, key, way)
        view, holders = await told(reader, key)
        doubted = [hop.id for hop in holders.values() if not hop.agrees]
        assert doubted == [liar._running.node_id.hex()]
        assert (view.agreed, holders[doubted[0]].answer) == (view.holders - 1, answer)
        assert "all" not in view.verdict
