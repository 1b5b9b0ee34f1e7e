"""How a node of the price tree divides: to which sub-prefixes it delegates, and how these are spelled on the wire.

Theory of operation. A node holds the orders of its prefix until more than TREE_NODE_ORDERS_MAX of them are *loose*,
that is, belong to none of its branches. Then it branches: the loose paths are cut behind their longest common prefix,
and each part that is still large once more behind its own. A part that is worth a node becomes a branch; small remains
stay loose where they are, because each node costs its readers a lookup. At least half of the loose orders are branched
off, so a node that branches once for each so many orders never does it for fewer.

Holders of one node hold nearly the same, and so branch alike; where they do not, readers and publishers use the union.
Branches may overlap: an order belongs to the longest that its path begins with. On the wire each is one byte of length
in bits and the bits, padded with zeros.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from dhtex import limits
from dhtex.market.pricebits import PATH_BITS

_LARGE: Final = limits.TREE_NODE_ORDERS_MAX * 3 // 4
_SMALL: Final = limits.TREE_NODE_ORDERS_MAX // 8


def divide(paths: Iterable[str]) -> list[str]:
    """The prefixes to which a node delegates that has these loose paths; none if they cannot be told apart."""
    parts, branches = _cut(list(paths)), list[str]()
    while parts:
        name, part = parts.pop()
        if len(part) > _LARGE and (smaller := _cut(part)):
            parts += smaller
        elif len(part) >= _SMALL:
            branches.append(name)
    return sorted(branches)


def _cut(paths: list[str]) -> list[tuple[str, list[str]]]:
    """Two parts by the first bit in which paths differ, each with its prefix; none if they do not."""
    low, high = min(paths, default=""), max(paths, default="")
    place = next((place for place in range(len(low)) if low[place] != high[place]), PATH_BITS)
    if place >= PATH_BITS:
        return []
    return [(low[:place] + bit, [path for path in paths if path[place] == bit]) for bit in "01"]


class Branches:
    """The branches of one node, at most TREE_BRANCHES_MAX."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._rows: dict[str, None] = {}
        self._lengths: list[int] = []
        self.packed = b""

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._rows))

    def __contains__(self, branch: str) -> bool:
        return branch in self._rows

    def of(self, path: str) -> str | None:
        """The longest branch that a path begins with."""
        return next((path[:length] for length in self._lengths if path[:length] in self._rows), None)

    def add(self, branches: Iterable[str]) -> None:
        """Delegate to these too, as far as there is room."""
        for branch in branches:
            if len(self._rows) < limits.TREE_BRANCHES_MAX and is_below(branch, self._prefix):
                self._rows[branch] = None
        self._changed()

    def drop(self, branch: str) -> None:
        """Delegate to this one no more."""
        self._rows.pop(branch, None)
        self._changed()

    def _changed(self) -> None:
        self._lengths = sorted({len(branch) for branch in self._rows}, reverse=True)
        self.packed = pack(sorted(self._rows))


def is_below(branch: str, prefix: str) -> bool:
    """Whether a node may delegate to a branch: it is longer, and no longer than a path."""
    return len(prefix) < len(branch) <= PATH_BITS and branch.startswith(prefix)


def pack(branches: Iterable[str]) -> bytes:
    """Branches as they travel."""
    return b"".join(
        bytes((len(branch),)) + int(branch.ljust(-(-len(branch) // 8) * 8, "0"), 2).to_bytes(-(-len(branch) // 8))
        for branch in branches
    )


def unpack(packed: bytes, prefix: str) -> list[str] | None:
    """The branches that a holder of the node at `prefix` names; None if it names what cannot be one, or too many."""
    branches: dict[str, None] = {}
    place = 0
    while place < len(packed):
        length, end = packed[place], place + 1 + -(-packed[place] // 8)
        if end > len(packed) or len(branches) >= limits.TREE_BRANCHES_MAX:
            return None
        branch = "".join(f"{byte:08b}" for byte in packed[place + 1 : end])[:length]
        if not is_below(branch, prefix):
            return None
        branches[branch] = None
        place = end
    return list(branches)
