"""How complete an answer is, and who stood in the way: a part of the public structures of `dhtex.views`."""

import msgspec


class GapView(msgspec.Struct, frozen=True, kw_only=True):
    """A range of prices, both included, of which nobody could be asked, or not enough answered."""

    symbol: str
    side: str
    low: str
    high: str


class HolderView(msgspec.Struct, frozen=True, kw_only=True):
    """A holder of one index node (`prefix`) that said something else than the others: orders of others' that it did not
    give, closed ones that it still gave, records that are none, branches of the tree that nobody has, or pages without
    an end. `address` is empty for this node itself."""

    holder: str
    address: str
    symbol: str
    side: str
    prefix: str
    hidden: int
    revived: int
    invented: int
    branches: int
    unfinished: bool


class Coverage(msgspec.Struct, frozen=True, kw_only=True):
    """How complete an answer is: index nodes read and, at the one that is covered worst, how many holders were asked,
    answered, and gave the same answer. `missing` are the prices of which it says nothing, `disagreed` the holders that
    said something else than most. `complete`: nothing is missing, and somebody else was asked; a node that knows no
    peer answers with all that it has itself."""

    nodes: int
    asked: int
    answered: int
    agreed: int
    complete: bool
    missing: list[GapView] = []
    disagreed: list[HolderView] = []
