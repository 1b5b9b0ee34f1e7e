"""A node: all layers put together, and what a face may ask of them."""

from dhtex.node.core import Node

__all__ = ["Node"]
