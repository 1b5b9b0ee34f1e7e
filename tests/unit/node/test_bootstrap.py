"""The peers to join through: each is tried, whatever is wrong with another."""

import random
from typing import cast

from dhtex.node.bootstrap import CONNECTED, UNKNOWN_NAME, Bootstrap
from dhtex.overlay.addresses import Address
from dhtex.overlay.server import Overlay


class Answering:
    """An overlay in which every address answers."""

    async def connect(self, address: Address) -> bool:
        return True


async def test_a_name_that_no_resolver_takes_is_unknown_and_the_others_are_tried() -> None:
    strange, good = "[fe80::1%a..b]:3001", "127.0.0.1:3002"
    bootstrap = Bootstrap(cast(Overlay, Answering()), (strange, good), random.Random(1))
    await bootstrap.first_round()
    assert bootstrap.state == {strange: UNKNOWN_NAME, good: CONNECTED}
