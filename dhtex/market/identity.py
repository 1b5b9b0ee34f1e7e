"""The keys of a node: Ed25519 signs records, X25519 opens what is sealed to their author.

One 32-byte seed is the whole secret. It is the Ed25519 seed itself; the X25519 private key is

    SHA-256("dhtex/x25519/1\\0" ‖ seed)

so that the two never share a scalar. Sealed messages have the format of libsodium's `crypto_box_seal`, put together
here by hand because libsodium draws the ephemeral key itself, and a run with injected randomness must be repeatable:

    ephemeral public key (32) ‖ crypto_box(clear, nonce = BLAKE2b-24(ephemeral public ‖ recipient))

PyNaCl rather than another library: it refuses the small-order public keys under which anyone can forge signatures.
"""

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import Final

from nacl import bindings
from nacl.exceptions import CryptoError

from dhtex.market.ids import PublicKey

_SEALING_TAG: Final = b"dhtex/x25519/1\0"
_GROUP_TAG: Final = b"dhtex/group/1\0"
SEED_BYTES: Final = 32
SEAL_BYTES_MORE: Final = 48  # what sealing adds: an ephemeral key and an authenticator
_NONCE_BYTES: Final = 24


@dataclass(frozen=True, slots=True)
class Identity:
    """A key pair for signing and one for sealing. `repr` shows only what is public."""

    public: PublicKey
    encryption_public: bytes
    _signing_secret: bytes = field(repr=False)
    _sealing_secret: bytes = field(repr=False)

    @classmethod
    def from_seed(cls, seed: bytes) -> "Identity":
        """The identity that belongs to a secret seed of 32 bytes."""
        assert len(seed) == SEED_BYTES, "a seed has 32 bytes"
        public, signing_secret = bindings.crypto_sign_seed_keypair(seed)
        sealing_secret = hashlib.sha256(_SEALING_TAG + seed).digest()
        return cls(PublicKey(public), bindings.crypto_scalarmult_base(sealing_secret), signing_secret, sealing_secret)

    def sign(self, message: bytes) -> bytes:
        """The 64-byte Ed25519 signature (RFC 8032) of a message."""
        return bindings.crypto_sign(message, self._signing_secret)[: bindings.crypto_sign_BYTES]

    def group(self, name: str) -> bytes:
        """The 32 bytes that stand for a group of orders in public: HMAC-SHA-256(seed, "dhtex/group/1\\0" ‖ name).

        Without the seed nobody can tell the name, nor whether two makers use the same.
        """
        return hmac.digest(self._signing_secret[:SEED_BYTES], _GROUP_TAG + name.encode(), "sha256")

    def open(self, sealed: bytes) -> bytes | None:
        """The clear text of what was sealed to `encryption_public`; None when it was not, or was tampered with."""
        if len(sealed) < SEAL_BYTES_MORE:
            return None
        try:
            return bindings.crypto_box_seal_open(sealed, self.encryption_public, self._sealing_secret)
        except CryptoError:
            return None


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` is the one of `public` over `message`. False for keys and signatures of any wrong form."""
    if len(public) != bindings.crypto_sign_PUBLICKEYBYTES or len(signature) != bindings.crypto_sign_BYTES:
        return False
    try:
        bindings.crypto_sign_open(signature + message, public)
    except CryptoError:
        return False
    return True


def seal(recipient: bytes, clear: bytes, entropy32: bytes) -> bytes | None:
    """Seal a message to a recipient's `encryption_public`, with 32 secret random bytes used for nothing else.

    48 bytes longer than `clear`. None when the recipient's key is no usable point. libsodium's sealed box opens it.
    """
    assert len(entropy32) == bindings.crypto_box_SECRETKEYBYTES, "sealing takes 32 random bytes"
    if len(recipient) != bindings.crypto_box_PUBLICKEYBYTES:
        return None
    ephemeral = bindings.crypto_scalarmult_base(entropy32)
    nonce = hashlib.blake2b(ephemeral + recipient, digest_size=_NONCE_BYTES).digest()
    try:
        return ephemeral + bindings.crypto_box(clear, nonce, recipient, entropy32)
    except CryptoError:
        return None
