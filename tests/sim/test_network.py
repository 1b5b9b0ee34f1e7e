"""The network in memory: each fault does what it is called."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from dhtex.overlay.addresses import Address
from dhtex.sim.history import History
from dhtex.sim.loop import Life, VirtualLoop, play
from dhtex.sim.network import NOBODY, Network, SimEndpoint, Weather

HERE, THERE = "10.0.0.1", "10.0.0.2"
Story = Callable[[Network, SimEndpoint, SimEndpoint, list[bytes]], Awaitable[None]]


class Inbox:
    def __init__(self, heard: list[bytes]) -> None:
        self.heard = heard

    def datagram_received(self, data: bytes, addr: Address) -> None:
        self.heard.append(data)

    def count(self, what: str) -> None:
        raise AssertionError(what)


def between_two(story: Story, **weather: float) -> History:
    history = History()

    async def run() -> None:
        network, heard = Network(history, random.Random(1), Weather(**weather)), list[bytes]()
        ends: list[SimEndpoint] = []
        for ip in (HERE, THERE):
            end = await network.opener(Life(ip))(Inbox(heard), ip, 4000)
            assert isinstance(end, SimEndpoint)
            ends.append(end)
        await story(network, ends[0], ends[1], heard)

    play(run())
    return history


def test_a_cut_one_way_lets_the_other_way_pass_until_it_heals() -> None:
    async def story(network: Network, here: SimEndpoint, there: SimEndpoint, heard: list[bytes]) -> None:
        network.cut([HERE], [THERE])
        network.cut([HERE], [THERE])
        here.sendto(b"a", there.address)
        there.sendto(b"b", here.address)
        await asyncio.sleep(1.0)
        assert heard == [b"b"]
        network.cut([HERE], [THERE], -1)
        here.sendto(b"c", there.address)
        await asyncio.sleep(1.0)
        assert heard == [b"b"]
        network.heal()
        here.sendto(b"d", there.address)
        await asyncio.sleep(1.0)
        assert heard == [b"b", b"d"]

    assert between_two(story).counts["cut_off"] == 2


def test_what_meets_a_clogged_line_waits_until_it_is_free() -> None:
    async def story(network: Network, here: SimEndpoint, there: SimEndpoint, heard: list[bytes]) -> None:
        network.clog(THERE)
        here.sendto(b"a", there.address)
        there.sendto(b"b", here.address)
        await asyncio.sleep(60.0)
        assert heard == []
        assert not network.is_whole
        network.clog(THERE, -1)
        assert sorted(heard) == [b"a", b"b"]
        assert network.is_whole

    assert between_two(story).counts["clogged"] == 2


def test_some_datagrams_come_again_in_the_name_of_others() -> None:
    sources: set[str] = set()

    async def run() -> None:
        network = Network(History(), random.Random(1), Weather(spoof=0.5))

        class Ear(Inbox):
            def datagram_received(self, data: bytes, addr: Address) -> None:
                sources.add(addr[0])

        here = await network.opener(Life(HERE))(Ear([]), HERE, 4000)
        await network.opener(Life(THERE))(Ear([]), THERE, 4000)
        for _ in range(100):
            here.sendto(b"a", (THERE, 4000))
        await asyncio.sleep(5.0)

    play(run())
    assert sources == {HERE, THERE, NOBODY[0]}


@pytest.mark.parametrize("fault", ["loss", "doubling", "replay", "garble"])
def test_each_fault_shows(fault: str) -> None:
    async def story(network: Network, here: SimEndpoint, there: SimEndpoint, heard: list[bytes]) -> None:
        sent = [number.to_bytes(2) for number in range(400)]
        for data in sent:
            here.sendto(data, there.address)
            await asyncio.sleep(0.01)
        await asyncio.sleep(10.0)
        strange = [data for data in heard if data not in set(sent)]
        assert (len(heard) < len(sent)) == (fault == "loss")
        assert (len(heard) > len(sent)) == (fault != "loss")
        assert heard != sorted(heard), "neighbours overtake each other"
        if fault == "garble":
            assert len(heard) - len(sent) >= len(strange) > 0 or len(set(heard)) <= len(sent)

    between_two(story, **{fault: 0.3})


def test_what_a_dead_machine_sends_does_not_leave_it() -> None:
    async def story(network: Network, here: SimEndpoint, there: SimEndpoint, heard: list[bytes]) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        here.sendto(b"before", there.address)
        network.vanish(here.life)
        loop.end(here.life)
        here.sendto(b"after", there.address)
        there.sendto(b"to nobody", here.address)
        await asyncio.sleep(1.0)
        assert heard == [b"before"]

    between_two(story)
