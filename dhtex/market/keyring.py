"""The keys that one node signs with: its main key, and one of its own for each order that asks for a fresh one.

    seed of an order's key = HMAC-SHA-256(seed of the node, "dhtex/order-key/1\\0" ‖ salt of the order)

The salt stands in the order, so the seed and the order are all that is needed to find the key again: after a restart,
after a restore, and for an order that a copy of this node has made since. Nobody without the seed can tell which keys
belong together.

The *tag* is a secret that the nodes of one person share, so that they do not trade with each other. It shows in nothing
but the salt of their orders, which to all others is a random number as ever:

    salt = r (4 random bytes) ‖ first 4 bytes of HMAC-SHA-256(SHA-256(tag), "dhtex/self-trade/1\\0" ‖ r)

A taker with the same tag recognises the order and does not accept it; nothing is sent, so nobody else learns of it. An
order of a stranger looks like one of its own once in 2^32.
"""

import hashlib
import hmac
import random
from collections.abc import Set
from typing import Final

from dhtex.market.identity import SEED_BYTES, Identity
from dhtex.market.ids import PublicKey
from dhtex.market.records import Order

_ORDER_KEY_TAG: Final = b"dhtex/order-key/1\0"
_SELF_TRADE_TAG: Final = b"dhtex/self-trade/1\0"
_MARK_BYTES: Final = 4


class Keyring:
    """All keys of one node. `tag` is what its orders are marked with; empty: with nothing."""

    def __init__(self, seed: bytes, tag: str = "") -> None:
        assert len(seed) == SEED_BYTES, "a seed has 32 bytes"
        self.main: Final = Identity.from_seed(seed)
        self._seed = seed
        self._tag = hashlib.sha256(tag.encode()).digest() if tag else b""
        self._known: dict[PublicKey, Identity] = {self.main.public: self.main}

    @property
    def publics(self) -> Set[PublicKey]:
        """The public keys known to be ours: the main one, and those of the orders that were asked about."""
        return self._known.keys()

    def fresh(self, salt: bytes) -> Identity:
        """The key of the order that bears a salt, used for nothing else."""
        identity = Identity.from_seed(hmac.digest(self._seed, _ORDER_KEY_TAG + salt, "sha256"))
        return self._known.setdefault(identity.public, identity)

    def of(self, order: Order) -> Identity | None:
        """What signs about an order, and opens what is sealed to it; None when the order is not ours."""
        known = self._known.get(order.author)
        if known is not None:
            return known
        derived = Identity.from_seed(hmac.digest(self._seed, _ORDER_KEY_TAG + order.salt, "sha256"))
        return self._known.setdefault(derived.public, derived) if derived.public == order.maker else None

    def signer(self, order: Order) -> Identity:
        """The same for an order that is ours for sure, such as one of the journal."""
        own = self.of(order)
        assert own is not None, "an order of this node has a key of this node"
        return own

    def salt(self, entropy: random.Random) -> bytes:
        """The salt of a new order: random, or with the mark of the tag."""
        if not self._tag:
            return entropy.randbytes(2 * _MARK_BYTES)
        drawn = entropy.randbytes(_MARK_BYTES)
        return drawn + self._mark(drawn)

    def is_own_trade(self, order: Order) -> bool:
        """Whether to accept an order would be to trade with oneself: it is ours, or bears our tag."""
        return self.of(order) is not None or self.is_tagged(order)

    def is_tagged(self, order: Order) -> bool:
        """Whether an order bears our tag: it is of this node or another one of the same person."""
        drawn, mark = order.salt[:_MARK_BYTES], order.salt[_MARK_BYTES:]
        return bool(self._tag) and hmac.compare_digest(mark, self._mark(drawn))

    def _mark(self, drawn: bytes) -> bytes:
        return hmac.digest(self._tag, _SELF_TRADE_TAG + drawn, "sha256")[:_MARK_BYTES]
