"""Ids that follow from addresses: the vectors of BEP 42, and what follows for the routing table."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dhtex.overlay.bep42 import crc32c, follows, node_id_for

# As printed in BEP 42: address, last byte, id.
VECTORS = [
    ("124.31.75.21", 1, "5fbfbff10c5d6a4ec8a88e4c6ab4c28b95eee401"),
    ("21.75.31.124", 86, "5a3ce9c14e7a08645677bbd1cfe7d8f956d53256"),
    ("65.23.51.170", 22, "a5d43220bc8f112a3d426c84764f8c2a1150e616"),
    ("84.124.73.14", 65, "1b0321dd1bb1fe518101ceef99462b947a01ff41"),
    ("43.213.53.83", 90, "e56f6cbf5b7c4be0237986d5243b87aa6d51305a"),
]


@pytest.mark.parametrize(("ip", "last", "text"), VECTORS)
def test_the_vectors_of_the_specification(ip: str, last: int, text: str) -> None:
    node_id = bytes.fromhex(text)
    assert node_id[-1] == last
    assert follows(node_id, ip)
    noise = bytes(2) + node_id[2:]
    assert node_id_for(ip, noise) == node_id
    assert not follows(bytes([node_id[0] ^ 1]) + node_id[1:], ip)


def test_the_checksum_is_castagnolis() -> None:
    assert crc32c(b"123456789") == 0xE3069283


@given(st.ip_addresses().map(str), st.binary(min_size=20, max_size=20))
def test_an_id_made_for_an_address_follows_from_it(ip: str, noise: bytes) -> None:
    assert follows(node_id_for(ip, noise), ip)


def test_chance_gives_an_id_that_follows_hardly_ever() -> None:
    chance = random.Random(1)
    assert sum(follows(chance.randbytes(20), "8.8.8.8") for _ in range(20_000)) <= 2


def test_local_addresses_have_no_rule() -> None:
    for ip in ("127.0.0.1", "10.1.2.3", "192.168.0.9", "::1", "fe80::1", "fd00::1"):
        assert follows(bytes(20), ip)


def test_one_address_gives_few_places() -> None:
    chance = random.Random(2)
    assert len({node_id_for("8.8.8.8", chance.randbytes(20))[:2] for _ in range(300)}) <= 8
