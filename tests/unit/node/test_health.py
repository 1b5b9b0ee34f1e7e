"""Canary, states, why and doctor, on small networks of whole nodes on loopback."""

import asyncio
import random
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from dhtex.clock import SystemClock
from dhtex.config import NodeConfig
from dhtex.errors import NotFoundError, UsageError
from dhtex.market.holding import PutVerdict, Taken
from dhtex.market.ids import RecordId, order_key
from dhtex.market.money import Pair
from dhtex.market.records import Kind
from dhtex.node import Node, canary
from dhtex.overlay.trailer import View
from dhtex.views import CheckView, OrderDraft
from tests.unit.overlay.fakes import until

DRAFT = OrderDraft(side="sell", amount="1", pair="BTC/USD", price="50000")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canary, "FIRST_S", 0.05)


@asynccontextmanager
async def lab(count: int, home: Path | None = None) -> AsyncIterator[list[Node]]:
    """So many nodes in one network; the first one keeps its state in `home`."""
    async with AsyncExitStack() as stack:
        nodes: list[Node] = []
        for number in range(count):
            bootstrap = (f"127.0.0.1:{nodes[0].port}",) if nodes else ()
            config = NodeConfig(
                port=0, host="127.0.0.1", network="lab", pow_bits=0, bootstrap=bootstrap,
                home=None if number else home,
            )  # fmt: skip
            nodes.append(
                await stack.enter_async_context(Node(config, clock=SystemClock(), entropy=random.Random(number)))
            )
        yield nodes


def checks_of(checks: list[CheckView]) -> dict[str, CheckView]:
    return {check.name: check for check in checks}


def test_the_canary_sits_at_a_pair_of_its_own() -> None:
    pairs = {canary.own_pair(bytes([number]) * 32) for number in range(200)}
    assert len(pairs) == 200
    assert all(str(Pair.parse(pair)) == pair for pair in pairs)


async def test_a_node_is_alone_then_ready_and_degraded_when_its_canary_does_not_come_back() -> None:
    async with lab(1) as (alone,):
        assert alone.status().state == "alone"
        assert not alone.health().ready
    async with lab(3) as nodes:
        await until(lambda: all(node.health().ready for node in nodes))
        await until(lambda: nodes[0].status().network_nodes == 3)
        first = nodes[0]._parts
        assert first is not None
        for other in nodes[1:]:
            assert other._parts is not None
            other._parts.overlay.protocol._closed = True  # deaf, and nothing says so
        await first.canary.try_once()
        assert first.canary.returned == 0
        assert nodes[0].status().state == "degraded"
        assert not nodes[0].health().ready
        for other in nodes[1:]:
            assert other._parts is not None
            other._parts.overlay.protocol._closed = False
        await until(lambda: len(nodes[0].peers()) == 2, within_s=10)
        await first.canary.try_once()
        assert nodes[0].status().state == "ready"


async def test_a_node_is_joining_until_it_has_read_back_its_first_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canary, "FIRST_S", 60.0)
    async with lab(2) as nodes:
        await until(lambda: all(len(node.peers()) == 1 for node in nodes))
        for node in nodes:
            assert node.status().state == "joining"
            assert not node.health().ready
            assert node._parts is not None
            await node._parts.canary.try_once()
            assert node.status().state == "ready"


async def test_why_names_who_was_asked_and_who_disagrees() -> None:
    async with lab(4) as nodes:
        await until(lambda: all(len(node.peers()) == 3 for node in nodes))
        order = (await nodes[0].add_order(DRAFT)).order
        view = await nodes[1].why(order.id)
        assert view.key == order_key(RecordId(bytes.fromhex(order.id))).hex()
        assert {hop.address for hop in view.hops} == {
            f"127.0.0.1:{node.port}" for node in nodes if node is not nodes[1]
        }
        assert (view.holders, view.agreed, view.local) == (3, 3, 1)
        assert view.verdict == "all 3 holders agree"
        assert all(hop.rtt_ms is not None and hop.answer == "page" and hop.records == 1 for hop in view.hops)
        assert nodes[2]._parts is not None
        nodes[2]._parts.holdings._shelves.clear()
        told = {hop.address: hop for hop in (await nodes[1].why(view.key)).hops}
        assert not told[f"127.0.0.1:{nodes[2].port}"].agrees
        assert told[f"127.0.0.1:{nodes[3].port}"].agrees
        with pytest.raises(UsageError):
            await nodes[1].why("zz")
        with pytest.raises(NotFoundError):
            await nodes[1].why("abcdef")


async def test_the_doctor_finds_a_healthy_node_healthy(tmp_path: Path) -> None:
    async with lab(3, tmp_path) as nodes:
        await until(lambda: all(len(node.peers()) == 2 for node in nodes))
        await nodes[0].add_order(DRAFT)
        await until(lambda: nodes[0]._health.status().address != "")
        view = await nodes[0].doctor()
        found = checks_of(view.checks)
        assert list(found) == ["port", "peers", "canary", "clock", "reachability", "orders", "disk", "version"]
        assert view.healthy
        assert found["orders"].finding.endswith("is read back from 2 of 2 other holders")
        assert found["canary"].finding.startswith("2 of 2")


async def test_the_doctor_says_what_is_wrong_and_what_to_do() -> None:
    async with lab(3) as nodes:
        sick = nodes[0]
        await until(lambda: len(sick.peers()) == 2)
        assert sick._parts is not None
        mirror = sick._parts.overlay.selfview
        for number in range(40):
            told = View(False, int(SystemClock().now()) - 90, ("9.9.9.9", 1))
            mirror.heard(("10.0.0.1", number + 1), told, SystemClock().monotonic())
        mirror.unreached()
        view = await sick.doctor()
        found = checks_of(view.checks)
        assert not view.healthy
        assert found["clock"].state == "fault"
        assert "90 s ahead of" in found["clock"].finding or "89 s ahead of" in found["clock"].finding
        assert "timedatectl" in found["clock"].hint
        assert found["reachability"].state == "warning"
    async with lab(1) as (alone,):
        found = checks_of((await alone.doctor()).checks)
        assert found["peers"].state == "fault"
        assert "dhtex connect" in found["peers"].hint


@pytest.mark.parametrize(
    ("code", "step"), [("full", "order list --mine"), ("stamp_too_low", "order amend"), ("late", "why")]
)
async def test_the_doctor_names_own_orders_that_holders_refuse_and_why(
    monkeypatch: pytest.MonkeyPatch, code: str, step: str
) -> None:
    async with lab(4) as nodes:
        maker = nodes[0]
        await until(lambda: all(len(node.peers()) == 3 for node in nodes))
        fine = (await maker.add_order(DRAFT)).order.id
        for other in nodes[1:]:
            take = other._running.holdings.put

            def put(wire: bytes, prefix: str | None, *asked: Any, take: Any = take) -> PutVerdict:
                in_index = prefix is not None and wire[1] == Kind.ORDER
                return PutVerdict(Taken.REFUSED, code=code) if in_index else take(wire, prefix, *asked)

            monkeypatch.setattr(other._running.holdings, "put", put)
        ids = [(await maker.add_order(DRAFT)).order.id for _ in range(5)]
        check = checks_of((await maker.doctor()).checks)["orders"]
        assert check.state == "fault"
        assert f"; refused: {ids[0][:10]} (by 3 as {code}; 0 took it)" in check.finding
        assert check.finding.endswith(", 2 more")
        assert fine[:10] not in check.finding.partition("; refused: ")[2]
        assert step in check.hint


async def test_metrics_are_in_the_text_format_and_counters_end_in_total() -> None:
    async with lab(2) as nodes:
        await until(lambda: all(node.health().ready for node in nodes))
        text = nodes[0].metrics()
        samples = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        assert all(re.fullmatch(r'dhtex_[a-z_]+(\{event="[a-z_]+"\})?', name) for name in samples)
        assert samples["dhtex_ready"] == "1"
        assert samples["dhtex_peers"] == "1"
        kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
        assert all((kind == "counter") == name.endswith("_total") for name, kind in kinds.items())
        assert {name.partition("{")[0] for name in samples} <= set(kinds)
        await asyncio.sleep(0)
