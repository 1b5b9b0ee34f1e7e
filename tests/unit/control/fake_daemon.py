"""The real background process around a fake node, for tests: `FAKE_NODE` says how the node misbehaves."""

import os

from dhtex import daemon, limits
from dhtex.config import NodeConfig
from dhtex.control.face import NodeFace
from dhtex.errors import PortInUseError, StateError
from tests.unit.control.fakes import FakeNode

HANGING_STOP_S = 0.5


def make_node(settings: NodeConfig, fresh: bool) -> NodeFace:
    node = FakeNode(settings)
    mood = os.environ.get("FAKE_NODE", "")
    assert settings.home is not None
    if mood == "port":
        node.start_error = PortInUseError(
            f"UDP port {settings.port} is in use by another program", hint="choose another"
        )
    elif mood == "corrupt" and not fresh:
        node.start_error = StateError("the state is corrupt", hint="start with --force")
    elif mood == "corrupt":
        node.aside = settings.home / "node.db.corrupt"
    elif mood == "defect":
        raise RuntimeError("a defect while the node was built")
    elif mood == "hangs long":
        node.stop_hangs = True
    elif mood == "hangs":
        node.stop_hangs = True
        limits.STOP_S_MAX = HANGING_STOP_S  # type: ignore[misc]
    elif mood == "chatty":
        print("what a library prints", flush=True)
    elif mood == "greets":
        node.greeting = "hello"
    elif mood == "silent":
        node.bootstrap_state = "silent"
    return node


if __name__ == "__main__":
    daemon.main(make_node)
