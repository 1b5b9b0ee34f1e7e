"""The router that this machine's way out leads through, and what it grants."""

import ipaddress
from pathlib import Path
from typing import Final, NamedTuple

_GATEWAY_FLAG: Final = 2


class Granted(NamedTuple):
    """A mapping: the port of the router that strangers reach us at, and for how long."""

    external: int
    lifetime_s: int


def default_gateway(routes: str) -> str | None:
    """The IPv4 gateway with the lowest metric in the text of Linux's /proc/net/route."""
    found: list[tuple[int, str]] = []
    for line in routes.splitlines()[1:]:
        fields = line.split()
        if len(fields) >= 8 and int(fields[3], 16) & _GATEWAY_FLAG and int(fields[1], 16) == int(fields[7], 16) == 0:
            packed = int(fields[2], 16).to_bytes(4, "little")
            found.append((int(fields[6]), str(ipaddress.IPv4Address(packed))))
    return min(found)[1] if found else None


def find_gateway() -> str | None:
    """That of this machine; None if there is none, or the system does not tell."""
    try:
        return default_gateway(Path("/proc/net/route").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
