"""A line that loses datagrams, so that real processes can be tried on a bad network: an aid for tests.

`DHTEX_TEST_LOSS=0.3` in the environment of a node makes it lose three in ten of the datagrams that it sends;
`0.3:7` draws them from the seed 7. Nothing else of the node knows of it, and without the variable it does not exist.
"""

import random
from typing import Final

from dhtex.errors import UsageError
from dhtex.overlay.addresses import Address
from dhtex.overlay.transport import Endpoint, OpenEndpoint, Receiver, open_endpoint

VARIABLE: Final = "DHTEX_TEST_LOSS"


class LossyEndpoint:
    """An endpoint some of whose datagrams never leave."""

    def __init__(self, inner: Endpoint, loss: float, chance: random.Random) -> None:
        self.port = inner.port
        self._inner = inner
        self._loss = loss
        self._chance = chance

    def sendto(self, data: bytes, addr: Address) -> None:
        if self._chance.random() >= self._loss:
            self._inner.sendto(data, addr)

    def send_afresh(self, data: bytes, addr: Address) -> None:
        if self._chance.random() >= self._loss:
            self._inner.send_afresh(data, addr)

    def close(self) -> None:
        self._inner.close()


def opener(setting: str) -> OpenEndpoint:
    """What opens a node's endpoint, given the value of the variable; empty: one that loses nothing on purpose."""
    if not setting:
        return open_endpoint
    share, _, seed = setting.partition(":")
    try:
        loss = float(share)
    except ValueError:
        loss = -1.0
    if not 0 <= loss < 1:
        raise UsageError(f"{VARIABLE}='{setting[:20]}' is not a share of datagrams", hint="such as 0.3 or 0.3:7")

    async def open_lossy(receiver: Receiver, host: str | None, port: int) -> Endpoint:
        inner = await open_endpoint(receiver, host, port)
        return LossyEndpoint(inner, loss, random.Random(f"{seed}/{inner.port}"))

    return open_lossy
