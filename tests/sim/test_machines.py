"""Machines in the simulator: they end before any step, come back old, and one of them may lie."""

import asyncio
import random
from collections import Counter
from types import SimpleNamespace
from typing import Any, cast

import pytest

from dhtex.market.holding import NO_DIGEST, Taken
from dhtex.market.ids import DhtKey, NodeId
from dhtex.overlay import wire
from dhtex.overlay.pages import digest_of
from dhtex.sim import host as hosts
from dhtex.sim.liar import Liar
from dhtex.sim.loop import Life, VirtualLoop, play
from dhtex.sim.run import play_history
from dhtex.sim.world import Settings

KEY = DhtKey(bytes(20))
ORDER, STATUS = b"\x94\x01an order", b"\x94\x02its end"


def test_a_machine_ends_before_any_step(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: Counter[str] = Counter()
    burn = hosts.Host.burn

    def watched(self: hosts.Host, fuse: str) -> bool:
        burnt = burn(self, fuse)
        ended[fuse] += burnt
        return burnt

    monkeypatch.setattr(hosts.Host, "burn", watched)
    for seed in range(4):
        assert not play_history(Settings(seed=seed, nodes=3, hours=0.05, faults="crashes,power")).violations
    assert ended["step"] > 0
    assert ended["decision_done"] + ended["decision"] + ended["decision_unsynced"] > 0


def test_nothing_of_a_life_runs_once_a_step_has_ended_it() -> None:
    ran: list[str] = []

    async def story() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        life = Life("machine")

        def end(stepping: Life) -> None:
            loop.end(stepping)

        async def works() -> None:
            ran.append("step")

        life.spawn(works())
        loop.on_step = end
        await asyncio.sleep(1.0)

    play(story())
    assert ran == []


class Honest:
    """What a liar stands before."""

    def get(self, args: wire.GetArgs, token: bytes, address: Any, room_bytes: int) -> wire.GetReply:
        return wire.GetReply(NodeId(bytes(20)), token, wire.OK, [], 1, digest_of([STATUS]), [STATUS])

    def store(self, record: bytes, prefix: str | None, source: Any) -> Any:
        return SimpleNamespace(taken=Taken.STORED, key=KEY)

    def put(self, args: wire.PutArgs, token: bytes, address: Any) -> wire.PutReply:
        return wire.PutReply(NodeId(bytes(20)), token, wire.OK, Taken.STORED, "", 0, b"")

    stock_value = stock_store = None


def test_a_liar_hides_shows_what_has_ended_and_talks_nonsense() -> None:
    liar = Liar(cast(Any, Honest()), NodeId(bytes(20)), random.Random(1))
    liar.store(ORDER, None, None)
    liar.store(STATUS, None, None)
    asked = wire.GetArgs(b"", NodeId(bytes(20)), b"", KEY, 0, 0, True)
    answers = [liar.get(asked, b"", ("10.0.0.1", 4000)) for _ in range(60)]
    assert any(answer.wires == [STATUS] for answer in answers)
    assert any(answer.digest == NO_DIGEST and not answer.wires for answer in answers)
    assert any(answer.wires == [ORDER] for answer in answers), "the order without its end"
    assert any(answer.total > len(answer.wires) > 0 for answer in answers), "more is promised than comes"
    assert any(len(answer.wires[0]) == 60 for answer in answers if answer.wires)
    said = {str(liar.put(wire.PutArgs(b"", NodeId(bytes(20)), b"", None, b""), b"", ("a", 1)).taken) for _ in range(40)}
    assert said == {"stored", "refused", "superseded"}
