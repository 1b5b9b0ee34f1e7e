"""Signing, verifying and sealing."""

import hashlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.public import PrivateKey, PublicKey, SealedBox
from nacl.signing import SigningKey

from dhtex.market.identity import SEAL_BYTES_MORE, Identity, seal, verify
from tests.builders import identity

# The eight points of small order (RFC 7748, section 7; their Ed25519 forms are in libsodium's blocklist).
SMALL_ORDER_ED25519 = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
]
GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493


def test_the_seed_is_the_ed25519_seed_of_rfc_8032() -> None:
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    signer = Identity.from_seed(seed)
    assert signer.public.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert signer.sign(b"").hex().startswith("e5564300c360ac729086e2cc806e828a84877f1eb8e5d974")


def test_the_sealing_key_is_derived_and_not_the_signing_key_converted() -> None:
    seed = bytes(range(32))
    secret = PrivateKey(hashlib.sha256(b"dhtex/x25519/1\0" + seed).digest())
    assert Identity.from_seed(seed).encryption_public == bytes(secret.public_key)
    assert Identity.from_seed(seed).encryption_public != bytes(SigningKey(seed).to_curve25519_private_key().public_key)


def test_repr_keeps_the_secrets() -> None:
    seed = bytes(range(32))
    shown = repr(Identity.from_seed(seed))
    assert repr(seed)[2:-1] not in shown
    assert "secret" not in shown


@given(message=st.binary(max_size=200), bit=st.integers(0, 511))
def test_a_signature_holds_for_its_message_and_no_other(message: bytes, bit: int) -> None:
    signer = identity(1)
    signature = signer.sign(message)
    assert verify(signer.public, message, signature)
    assert not verify(signer.public, message + b"x", signature)
    assert not verify(identity(2).public, message, signature)
    flipped = (int.from_bytes(signature) ^ 1 << bit).to_bytes(64)
    assert not verify(signer.public, message, flipped)


@given(public=st.binary(max_size=40), message=st.binary(max_size=40), signature=st.binary(max_size=80))
def test_verify_never_raises(public: bytes, message: bytes, signature: bytes) -> None:
    assert not verify(public, message, signature)


@pytest.mark.parametrize("public", SMALL_ORDER_ED25519)
def test_keys_of_small_order_verify_nothing(public: str) -> None:
    identity_point = bytes([1]) + bytes(31)
    for number in range(64):
        assert not verify(bytes.fromhex(public), b"message %d" % number, identity_point + bytes(32))


def test_the_border_between_signature_and_message_does_not_move() -> None:
    signature = identity(1).sign(b"m")
    assert not verify(identity(1).public, signature[60:] + b"m", signature[:60])
    assert not verify(identity(1).public, b"", signature + b"m")


def test_a_signature_has_one_scalar() -> None:
    signature = identity(1).sign(b"m")
    scalar = int.from_bytes(signature[32:], "little") + GROUP_ORDER
    assert not verify(identity(1).public, b"m", signature[:32] + scalar.to_bytes(32, "little"))


@given(clear=st.binary(max_size=300), entropy=st.binary(min_size=32, max_size=32))
def test_what_is_sealed_is_opened_by_the_recipient_only(clear: bytes, entropy: bytes) -> None:
    recipient = identity(1)
    sealed = seal(recipient.encryption_public, clear, entropy)
    assert sealed is not None
    assert len(sealed) == len(clear) + SEAL_BYTES_MORE
    assert sealed == seal(recipient.encryption_public, clear, entropy), "the same entropy gives the same bytes"
    assert recipient.open(sealed) == clear
    assert identity(2).open(sealed) is None
    assert recipient.open(sealed[:-1] + bytes([sealed[-1] ^ 1])) is None


def test_sealing_is_libsodium_s_sealed_box_both_ways() -> None:
    seed = bytes(range(32))
    secret = PrivateKey(hashlib.sha256(b"dhtex/x25519/1\0" + seed).digest())
    recipient = Identity.from_seed(seed)
    sealed = seal(recipient.encryption_public, b"pay to DE00", random.Random(1).randbytes(32))
    assert sealed is not None
    assert SealedBox(secret).decrypt(sealed) == b"pay to DE00"
    assert recipient.open(SealedBox(PublicKey(recipient.encryption_public)).encrypt(b"thanks")) == b"thanks"


@given(garbage=st.binary(max_size=400))
def test_open_never_raises(garbage: bytes) -> None:
    assert identity(1).open(garbage) is None


@pytest.mark.parametrize(
    "recipient",
    [
        b"",
        bytes(31),
        bytes(33),
        bytes(32),
        bytes([1]) + bytes(31),
        bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
        bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    ],
)
def test_nothing_is_sealed_to_a_bad_key(recipient: bytes) -> None:
    assert seal(recipient, b"clear", bytes(range(32))) is None
