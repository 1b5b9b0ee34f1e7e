"""A network of libtorrent sessions in this process: a contestant in C++, each node with threads of its own. Needs the
package `libtorrent`.

A value is an item of BEP 44: an immutable one, kept at its SHA-1, which is all that is checked, or a mutable one, whose
signature each holder checks when it is put, and the reader when it has come. A put ends when all eight holders have
answered, as ours does.

Seldom, a put's search goes astray and eight nodes far from the key keep the value, where nobody will look for it. So a
get says whether it has found something.
"""

import functools
import hashlib
import importlib
import random
import threading
import time
from collections.abc import Callable
from typing import Any

from nacl.bindings import crypto_sign_seed_keypair

from bench.place import HOST, SEEN

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
    """`size` sessions on loopback without limits, each told of the first and another one. A get is true if it finds."""

    def __init__(self, size: int, values: list[bytes], chance: random.Random) -> None:
        self._chance = chance
        self._values = values
        self._keys: dict[int, Any] = {}  # where the immutable ones are
        self._nodes: list[_Node] = []
        self.verbs: dict[str, Callable[[int], Callable[[], object]]] = {"put": self._put, "get": self._get}
        for number in range(size):
            node = _Node(FIRST_PORT + number)
            for other in {0, chance.randrange(number)} if number else ():
                node.session.add_dht_node((SEEN, FIRST_PORT + other))
            self._nodes.append(node)

    def _put(self, index: int) -> Callable[[], None]:
        return functools.partial(self._put_from, self._chance.sample(self._nodes, len(self._nodes)), index)

    def _get(self, index: int) -> Callable[[], bool]:
        return functools.partial(self._get_from, self._strangers(int(str(self._keys[index]), 16)), index)

    def _strangers(self, goal: int) -> "list[_Node]":
        """Those that do not hold what is kept at a key, shuffled."""
        others = sorted(self._nodes, key=lambda node: node.id ^ goal)[HOLDERS:]
        return self._chance.sample(others, len(others))

    def _put_from(self, nodes: "list[_Node]", index: int) -> None:
        with _Free(nodes) as node:
            self._keys[index] = node.session.dht_put_immutable_item(self._values[index])
            assert node.wait_for(_LIBTORRENT.dht_put_alert).num_success >= HOLDERS - 1

    def _get_from(self, nodes: "list[_Node]", index: int) -> bool:
        with _Free(nodes) as node:
            node.session.dht_get_immutable_item(self._keys[index])
            return bool(node.wait_for(_LIBTORRENT.dht_immutable_item_alert).item)


class SignedNetwork(LibtorrentNetwork):
    """The same with mutable items, all of one author, each with a salt of its own.

    A get ends with the first value whose signature is good, as ours does, but nothing can keep its search from going on
    to all holders, one of which might have a newer version. A get of all waits for the end of that.
    """

    def __init__(self, size: int, values: list[bytes], chance: random.Random) -> None:
        super().__init__(size, values, chance)
        self._public, self._secret = _key_pair(chance.randbytes(32))
        self.verbs["get of all"] = lambda index: self._get_signed(index, True)

    def _get(self, index: int) -> Callable[[], bool]:
        return self._get_signed(index, False)

    def _get_signed(self, index: int, to_the_end: bool) -> Callable[[], bool]:
        goal = int.from_bytes(hashlib.sha1(self._public + _salt(index)).digest())
        return functools.partial(self._get_signed_from, self._strangers(goal), index, to_the_end)

    def _put_from(self, nodes: "list[_Node]", index: int) -> None:
        with _Free(nodes) as node:
            node.session.dht_put_mutable_item(self._secret, self._public, self._values[index], _salt(index))
            assert node.wait_for(_LIBTORRENT.dht_put_alert).num_success >= HOLDERS - 1

    def _get_signed_from(self, nodes: "list[_Node]", index: int, to_the_end: bool) -> bool:
        def is_it(alert: Any) -> bool:
            return bool(alert.salt == _salt(index) and (alert.authoritative or not to_the_end))

        with _Free(nodes) as node:
            node.session.pop_alerts()  # the ends of earlier gets
            node.session.dht_get_mutable_item(self._public, _salt(index))
            return bool(node.wait_for(_LIBTORRENT.dht_mutable_item_alert, is_it).item)


def _salt(index: int) -> bytes:
    return b"value %d" % index


def _key_pair(seed: bytes) -> tuple[bytes, bytes]:
    """A public key of Ed25519, and the secret one as libtorrent wants it: what the seed expands to (RFC 8032)."""
    public, _ = crypto_sign_seed_keypair(seed)
    expanded = bytearray(hashlib.sha512(seed).digest())
    expanded[0] &= 0b1111_1000
    expanded[31] = expanded[31] & 0b0111_1111 | 0b0100_0000
    return public, bytes(expanded)


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

    def wait_for(self, kind: Any, is_it: Callable[[Any], bool] = lambda _: True) -> Any:
        """The next alert of a kind that is the one."""
        until = time.monotonic() + WAIT_S_MAX
        while time.monotonic() < until:
            self.session.wait_for_alert(1000)
            for alert in self.session.pop_alerts():
                if isinstance(alert, kind) and is_it(alert):
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
