"""dhtex: a decentralised order directory.

    async with dhtex.Node(dhtex.NodeConfig(network="lab")) as node: ...

Importing the package loads nothing else, so that the command line starts quickly; `Node` loads what it needs.
"""

from typing import TYPE_CHECKING, Any

from dhtex.version import __version__

if TYPE_CHECKING:
    from dhtex.config import NodeConfig
    from dhtex.node import Node

__all__ = ["Node", "NodeConfig", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "Node":
        from dhtex.node import Node

        return Node
    if name == "NodeConfig":
        from dhtex.config import NodeConfig

        return NodeConfig
    raise AttributeError(f"module 'dhtex' has no attribute '{name}'")
