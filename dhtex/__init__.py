"""dhtex: a decentralised order directory.

    async with dhtex.Node(dhtex.NodeConfig(network="lab")) as node: ...

Importing the package loads nothing else, so that the command line starts quickly; each name loads what it needs.
"""

from typing import TYPE_CHECKING, Any, Final

from dhtex.version import __version__

if TYPE_CHECKING:
    from dhtex.config import NodeConfig
    from dhtex.errors import DhtexError
    from dhtex.marketviews import QuoteQuery, StatsQuery, TakeRequest
    from dhtex.node import Node
    from dhtex.views import AcceptRequest, Amendment, OrderDraft, OrderQuery

__all__ = [
    "AcceptRequest",
    "Amendment",
    "DhtexError",
    "Node",
    "NodeConfig",
    "OrderDraft",
    "OrderQuery",
    "QuoteQuery",
    "StatsQuery",
    "TakeRequest",
    "__version__",
]

_HOMES: Final = {
    "AcceptRequest": "dhtex.views",
    "Amendment": "dhtex.views",
    "DhtexError": "dhtex.errors",
    "Node": "dhtex.node",
    "NodeConfig": "dhtex.config",
    "OrderDraft": "dhtex.views",
    "OrderQuery": "dhtex.views",
    "QuoteQuery": "dhtex.marketviews",
    "StatsQuery": "dhtex.marketviews",
    "TakeRequest": "dhtex.marketviews",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'dhtex' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
