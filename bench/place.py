"""Where the nodes of a network are: all on loopback, or as far apart as `distance` makes them."""

import os
from typing import Final

FAR: Final = "DHTEX_BENCH_FAR"  # set in the environment of a process whose nodes are far apart
IS_FAR: Final = FAR in os.environ
HOST: Final = "10.9.0.1" if IS_FAR else "127.0.0.1"  # where a node listens
SEEN: Final = "10.9.0.2" if IS_FAR else HOST  # where all others reach it, and see it
_FIRST_PORT: Final = 20_000


def port_of(number: int) -> int:
    """Where a node of a network listens; 0 is anywhere. Who is far apart is so by the ports (see `distance`)."""
    return _FIRST_PORT + number if IS_FAR else 0
