"""Names for byte strings that must not be mixed up, and the one place where keys of the network are made.

order key   SHA-1(hex of the order id)                      = `kademlia.utils.digest`, so that a stock client's
                                                               `Server.get("<order id>")` finds the order
index key   SHA-1("dhtex/index/1" 0 network 0 pair 0 side 0 prefix)
"""

import hashlib
import re
from functools import lru_cache
from typing import Final, NewType

RecordId = NewType("RecordId", bytes)  # 32 bytes, SHA-256 of a record's tag and body
PublicKey = NewType("PublicKey", bytes)  # 32 bytes, Ed25519
DhtKey = NewType("DhtKey", bytes)  # 20 bytes, a point of the overlay's key space
NodeId = NewType("NodeId", bytes)  # 20 bytes, likewise

ID_DIGITS: Final = 64  # hex, of a record's id

_PREFIX: Final = re.compile(r"[01]{0,128}")


def order_key(order_id: RecordId) -> DhtKey:
    """The key that holds an order, its statuses, accepts and refusals."""
    return DhtKey(hashlib.sha1(order_id.hex().encode()).digest())


@lru_cache(maxsize=4096)
def index_key(network: str, pair: str, side: str, prefix: str) -> DhtKey:
    """The key of one node of the price tree; `prefix` is a string of '0' and '1', empty for the root."""
    if _PREFIX.fullmatch(prefix) is None:
        raise ValueError("an index prefix is at most 128 characters of 0 and 1")
    text = "\0".join(("dhtex/index/1", network, pair, side, prefix))
    return DhtKey(hashlib.sha1(text.encode()).digest())
