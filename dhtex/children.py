"""How this package starts Python processes of its own: the background node and the workers that mint stamps."""

import os
import sys


def command(module: str) -> list[str]:
    """What runs a module of this package; `-P` keeps the current folder from shadowing any module."""
    return [sys.executable, "-P", "-m", module]


def environment() -> dict[str, str]:
    """The environment in which a child finds this very package, even if it is not installed."""
    found = dict(os.environ)
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if os.path.basename(root) not in ("site-packages", "dist-packages"):
        found["PYTHONPATH"] = os.pathsep.join(filter(None, (root, found.get("PYTHONPATH"))))
    return found
