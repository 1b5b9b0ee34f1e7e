"""A network of libtorrent sessions in this process: a contestant in C++, each node with threads of its own. Needs the
package `libtorrent`.

A value is an immutable item (BEP 44), kept at its SHA-1. A put ends when all eight holders have answered, as ours does.
"""

import functools
import importlib
import random
import threading
import time
from collections.abc import Callable
from typing import Any

HOST = "127.0.0.1"
FIRST_PORT = 20_000
HOLDERS = 8
WAIT_S_MAX = 30.0
_LIBTORRENT: Any = importlib.import_module("libtorrent")
_NO_LIMIT = 1_000_000_000
_SETTINGS = {
    "dht_bootstrap_nodes": "",
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "dht_restrict_routing_ips": False,
    "dht_restrict_search_ips": False,
    "dht_ignore_dark_internet": False,
    "dht_prefer_verified_node_ids": False,
    "dht_upload_rate_limit": _NO_LIMIT,
    "dht_block_ratelimit": _NO_LIMIT,
    "dht_max_dht_items": 1_000_000,
    "alert_mask": _LIBTORRENT.alert.category_t.dht_notification,
}


class LibtorrentNetwork:
    """`size` sessions on loopback without limits, each told of the first and another one."""

    def __init__(self, size: int, values: list[bytes], chance: random.Random) -> None:
        self._chance = chance
        self._values = values
        self._keys: dict[int, Any] = {}
        self._nodes: list[_Node] = []
        self.verbs: dict[str, Callable[[int], Callable[[], None]]] = {"put": self._put, "get": self._get}
        for number in range(size):
            node = _Node(FIRST_PORT + number)
            for other in {0, chance.randrange(number)} if number else ():
                node.session.add_dht_node((HOST, FIRST_PORT + other))
            self._nodes.append(node)

    def _put(self, index: int) -> Callable[[], None]:
        return functools.partial(self._put_from, self._chance.sample(self._nodes, len(self._nodes)), index)

    def _get(self, index: int) -> Callable[[], None]:
        goal = int(str(self._keys[index]), 16)
        others = sorted(self._nodes, key=lambda node: node.id ^ goal)[HOLDERS:]
        return functools.partial(_get, self._chance.sample(others, len(others)), self._keys[index])

    def _put_from(self, nodes: "list[_Node]", index: int) -> None:
        with _Free(nodes) as node:
            self._keys[index] = node.session.dht_put_immutable_item(self._values[index])
            assert node.wait_for(_LIBTORRENT.dht_put_alert).num_success >= HOLDERS - 1


class _Node:
    """One session. Its alerts do not say whose they are, so it does one thing at a time."""

    def __init__(self, port: int) -> None:
        self.session = _LIBTORRENT.session({**_SETTINGS, "listen_interfaces": f"{HOST}:{port}"})
        self.lock = threading.Lock()

    @functools.cached_property
    def id(self) -> int:
        """Chosen at random, some time after the session has begun."""
        ids = self.session.save_state()[b"dht state"][b"node-id"]
        return int.from_bytes(ids[0][:20])

    def wait_for(self, kind: Any) -> Any:
        """The next alert of a kind."""
        until = time.monotonic() + WAIT_S_MAX
        while time.monotonic() < until:
            self.session.wait_for_alert(1000)
            for alert in self.session.pop_alerts():
                if isinstance(alert, kind):
                    return alert
        raise AssertionError("an operation does not end")


class _Free:
    """The first of some nodes that is free, or the very first when it becomes so."""

    def __init__(self, nodes: list[_Node]) -> None:
        self._nodes = nodes

    def __enter__(self) -> _Node:
        for node in self._nodes:
            if node.lock.acquire(blocking=False):
                self._mine = node
                return node
        self._mine = self._nodes[0]
        self._mine.lock.acquire()
        return self._mine

    def __exit__(self, *_: object) -> None:
        self._mine.lock.release()


def _get(nodes: list[_Node], key: Any) -> None:
    with _Free(nodes) as node:
        node.session.dht_get_immutable_item(key)
        assert node.wait_for(_LIBTORRENT.dht_immutable_item_alert).item, "the network lost a value"
