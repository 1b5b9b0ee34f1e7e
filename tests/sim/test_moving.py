"""A machine that gets another address while it runs: it notices, its leases follow, and the others find it there."""

import asyncio
import random
from collections.abc import Callable
from typing import Final

from bench.machines import PORT, Member, World, make_order
from dhtex import limits
from dhtex.market.identity import Identity
from dhtex.market.ids import DhtKey, order_key
from dhtex.sim.loop import play
from dhtex.sim.network import SimEndpoint

NEW_IP: Final = "10.7.7.7"
HEARD_WITHIN_S: Final = limits.LEASE_S / 2  # a third of a lease until it is renewed, and the renewal
NOTICED_WITHIN_S: Final = limits.PING_IDLE_S + 2 * limits.DOUBT_S  # by the next ping that somebody answers
FOUND_WITHIN_S: Final = NOTICED_WITHIN_S + 10.0


def move(world: World, member: Member) -> None:
    """From now on the machine has NEW_IP; nothing tells it so."""
    endpoint = member.overlay.transport
    assert isinstance(endpoint, SimEndpoint)
    world.network.closed(endpoint)
    endpoint.address = member.ip, _ = NEW_IP, PORT
    world.network._endpoints[endpoint.address] = endpoint


def test_a_node_whose_address_changes_is_heard_and_found_again() -> None:
    async def story() -> None:
        chance = random.Random(5)
        world, loop = World(5, chance), asyncio.get_running_loop()
        maker = Identity.from_seed(bytes(32))
        orders = [make_order(maker, number, chance, 86_400) for number in range(3)]
        watched = [order_key(order.id) for order in orders]
        heard: list[DhtKey] = []
        try:
            for _ in range(12):
                await world.newcomer()
            mover, *others = world.members
            mover.overlay.on_record = lambda key, record: heard.append(key)
            mover.overlay.on_gap = heard.append
            for key in watched:
                mover.life.context.run(mover.overlay.watch, key)
            await asyncio.sleep(300.0)
            heard.clear()
            await others[0].do(others[0].overlay.put(watched[0], orders[0].wire, None))
            await asyncio.sleep(2.0)
            assert watched[0] in heard
            assert mover.overlay.selfview.address == (mover.ip, PORT)
            heard.clear()
            moved_at = loop.time()
            move(world, mover)
            await others[0].do(others[0].overlay.put(watched[1], orders[1].wire, None))
            steps: list[tuple[str, float, Callable[[], bool]]] = [
                ("heard", HEARD_WITHIN_S, lambda: watched[1] in heard),
                ("noticed", NOTICED_WITHIN_S, lambda: mover.overlay.selfview.address == (NEW_IP, PORT)),
                ("found", FOUND_WITHIN_S, lambda: all(known_at(other, mover) == NEW_IP for other in others)),
            ]
            for what, within_s, true in steps:
                while not true():
                    assert loop.time() - moved_at < within_s, what
                    await asyncio.sleep(0.5)
            assert mover.overlay.counters["resumed"] == 1
            heard.clear()
            await others[1].do(others[1].overlay.put(watched[2], orders[2].wire, None))
            await asyncio.sleep(1.0)
            assert watched[2] in heard
        finally:
            world.close()

    play(story())


def known_at(one: Member, other: Member) -> str | None:
    """Where one node's table has another."""
    peer = one.overlay.protocol.table.get(other.node_id)
    return None if peer is None else peer.address[0]
