"""A network of OpenDHT nodes in this process: a contestant in C++, with threads of its own. Needs `opendht`.

A put ends when the first node has said that it keeps the value; a get ends with the first value.
"""

import functools
import importlib
import random
import threading
from collections.abc import Callable
from typing import Any

from bench.place import HOST, SEEN, port_of

HOLDERS = 8
WAIT_S_MAX = 30.0
_OPENDHT: Any = importlib.import_module("opendht")


class OpenDhtNetwork:
    """`size` nodes on loopback without rate limits, each joined through the first and another one."""

    def __init__(self, size: int, values: list[bytes], chance: random.Random) -> None:
        self._chance = chance
        self._values = [_OPENDHT.Value(value) for value in values]
        self._keys = [_OPENDHT.InfoHash.get(f"value {number}") for number in range(len(values))]
        self._writers: dict[int, Any] = {}
        self._nodes: list[Any] = []
        self._ids: dict[Any, int] = {}
        self.verbs: dict[str, Callable[[int], Callable[[], None]]] = {"put": self._put, "get": self._get}
        self._start(size)

    def _start(self, size: int) -> None:
        ports: list[int] = []
        for number in range(size):
            config = _OPENDHT.DhtConfig()
            config.setRateLimit(-1, -1)
            node = _OPENDHT.DhtRunner()
            node.run(port=port_of(number), ipv4=HOST, ipv6="", config=config)
            for port in {ports[0], self._chance.choice(ports)} if ports else ():
                node.bootstrap(SEEN, str(port))
            ports.append(node.getBound().getPort())
            self._nodes.append(node)
            self._ids[node] = _number(node.getNodeId())

    def _put(self, index: int) -> Callable[[], None]:
        node = self._writers[index] = self._chance.choice(self._nodes)
        return functools.partial(_put, node, self._keys[index], self._values[index])

    def _get(self, index: int) -> Callable[[], None]:
        goal = _number(self._keys[index])
        nearest = sorted(self._nodes, key=lambda node: self._ids[node] ^ goal)
        others = [node for node in nearest[HOLDERS:] if node is not self._writers[index]]
        return functools.partial(_get, self._chance.choice(others), self._keys[index])


def _number(info_hash: Any) -> int:
    return int(info_hash.toString(), 16)


def _put(node: Any, key: Any, value: Any) -> None:
    ended = threading.Event()
    held: list[bool] = []

    def done(ok: bool, _nodes: object) -> None:
        held.append(ok)
        ended.set()

    node.put(key, value, done)
    assert ended.wait(WAIT_S_MAX), "a put does not end"
    assert held[0], "nobody keeps the value"


def _get(node: Any, key: Any) -> None:
    ended = threading.Event()
    found: list[Any] = []

    def came(value: Any) -> bool:
        found.append(value)
        ended.set()
        return False

    node.get(key, came, lambda _ok, _nodes: ended.set())
    assert ended.wait(WAIT_S_MAX), "a get does not end"
    assert found, "the network lost a value"
