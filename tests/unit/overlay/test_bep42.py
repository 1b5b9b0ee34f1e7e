"""Ids that follow from addresses: the vectors of BEP 42, and what follows for the routing table."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dhtex import limits
from dhtex.market.ids import NodeId
from dhtex.node.parts import settled_id
from dhtex.overlay.bep42 import crc32c, follows, node_id_for
from dhtex.overlay.selfview import SelfView
from dhtex.overlay.table import Offer, Table
from dhtex.overlay.trailer import View
from dhtex.sim.clock import NodeClock
from dhtex.store.database import Database
from dhtex.store.journal import Journal
from tests.unit.overlay.test_table import OWN, far, peer

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


def test_in_a_full_bucket_an_id_that_follows_replaces_the_youngest_that_does_not() -> None:
    table = Table(OWN, bucket_size=3)
    odd = [peer(far(n), ip=f"8.8.{n}.8") for n in range(2)]
    local = peer(far(5), ip="10.0.0.1")
    for one in (*odd, local):
        assert table.offer(one) is Offer.ADDED
    assert table.offer(peer(far(6), ip="8.8.77.8")) is Offer.SPARE
    assert table.offer(peer(far(7), ip="10.0.0.2")) is Offer.SPARE
    chance = random.Random(1)
    number, ip = next(
        (number, f"9.9.{number}.9")
        for number in range(256)
        if node_id_for(f"9.9.{number}.9", bytes(20))[0] >> 4 == far(0)[0] >> 4
    )
    sound = peer(node_id_for(ip, bytes(2) + chance.randbytes(17) + bytes(1)), ip=ip)
    assert sound.contact is not None
    assert table.wants(sound.contact)
    assert table.offer(sound) is Offer.ADDED
    assert odd[0].in_table
    assert local.in_table
    assert not odd[1].in_table
    assert number >= 0


def vote(view: SelfView, number: int, seen: str) -> None:
    view.heard((f"8.8.{number}.8", 4000), View(False, 0, (seen, 4000)), 0.0)


def test_one_network_of_voters_does_not_choose_our_address() -> None:
    view = SelfView(NodeClock(lambda: 0.0, 0.0))
    for port in range(4000, 4020):
        view.heard(("8.8.8.8", port), View(False, 0, ("1.2.3.4", 4000)), 0.0)
    assert view.address == ("1.2.3.4", 4000)
    assert view.public_ip() is None
    for number in range(limits.PUBLIC_VOTERS_MIN):
        vote(view, 100 + number, "1.2.3.4")
    assert view.public_ip() == "1.2.3.4"
    local = SelfView(NodeClock(lambda: 0.0, 0.0))
    for number in range(20):
        vote(local, number, "192.168.1.5")
    assert local.public_ip() is None


def test_a_node_takes_an_id_that_follows_from_its_address_in_its_next_life() -> None:
    journal, entropy = Journal(Database.open(None)), random.Random(1)
    _, node_id, _ = journal.identity(entropy)
    assert settled_id(journal, node_id, entropy) == node_id
    journal.set_public_ip("no address")  # a damaged file
    assert settled_id(journal, node_id, entropy) == node_id
    journal.set_public_ip("8.8.4.4")
    changed = settled_id(journal, NodeId(node_id), entropy)
    assert changed != node_id
    assert follows(changed, "8.8.4.4")
    assert journal.identity(entropy).node_id == changed
    assert settled_id(journal, changed, entropy) == changed  # and keeps it
