"""Loss, doubling and crashes at random: one winner, and both sides agree."""

import asyncio

import pytest

from dhtex.errors import NoPeerError, RefusedError
from dhtex.market.ids import RecordId
from dhtex.market.merge import order_state
from dhtex.market.records import Liveness, Status, is_a
from tests.builders import NOW
from tests.unit.trading.world import Party, VirtualClock, new_network, parties, play, states, stop, until


@pytest.mark.parametrize("seed", range(40))
def test_whatever_is_lost_doubled_or_killed_there_is_one_winner_and_both_sides_agree(seed: int) -> None:
    async def story() -> None:
        network = new_network(seed, loss=0.3, doubling=0.2)
        chance = network.entropy
        everyone = await parties(network, 5)
        maker, takers = everyone[0], everyone[1:]
        mailbox = Liveness.MAILBOX if chance.random() < 0.5 else Liveness.BEAT
        order = maker.publish(liveness=mailbox, expires=NOW + 7200)
        accepts: dict[Party, RecordId] = {}
        for taker in takers:
            try:
                accepts[taker] = (await taker.accept(order)).accept_id
            except (NoPeerError, RefusedError):
                continue
            if chance.random() < 0.4:
                await chance.choice(everyone).restart()
            if chance.random() < 0.2:
                await maker.kill()
                await asyncio.sleep(chance.uniform(0, 100))
                await maker.restart()
        await until(lambda: VirtualClock().now() > NOW + 9000, 20_000)
        statuses = [record for record in network.at_order[order.id].values() if is_a(record, Status)]
        assert len(statuses) <= 1
        confirmed = [taker for taker in accepts if states(taker)[0][0] == "confirmed"]
        sold = [trade for trade in maker.journal.trades() if trade.state == "confirmed"]
        assert len(sold) == len(statuses) == len(confirmed) == (maker.state(order) == "filled")
        assert [trade.accept_id for trade in sold] == [accepts[taker] for taker in confirmed]
        for taker in accepts:
            assert states(taker)[0][0] in ("confirmed", "refused", "void")
        assert order_state(order, statuses, VirtualClock().now()).state == maker.state(order)
        await stop(*everyone)

    play(story())
