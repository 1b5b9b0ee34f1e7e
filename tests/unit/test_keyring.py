"""A node's keys: one for each order that asks for it, found again from the seed alone; and the mark of a shared tag."""

import random

from hypothesis import given
from hypothesis import strategies as st

from dhtex.market.keyring import Keyring
from tests.builders import make_order

TAG = "a secret of several words"


def test_the_key_of_an_order_follows_from_seed_and_salt_and_from_nothing_else() -> None:
    one, again, other = Keyring(bytes(32)), Keyring(bytes(32)), Keyring(bytes([1]) * 32)
    assert one.fresh(b"saltsalt").public == again.fresh(b"saltsalt").public
    publics = {keys.fresh(salt).public for keys in (one, other) for salt in (b"saltsalt", b"saltsal!")}
    assert len(publics | {one.main.public, other.main.public}) == 6


def test_all_own_keys_are_known_after_a_restart_and_strangers_are_not() -> None:
    keys = Keyring(bytes(32))
    signer = keys.fresh(b"saltsalt")
    order = make_order(by=signer, salt=b"saltsalt")
    assert keys.publics == {keys.main.public, signer.public}
    later = Keyring(bytes(32))  # which has not heard of the order, as after a restore
    assert signer.public not in later.publics
    assert later.is_own_trade(order.body)
    assert later.of(order.body) == signer
    assert signer.public in later.publics
    stranger = Keyring(bytes([2]) * 32)
    assert stranger.of(order.body) is None
    assert not stranger.is_own_trade(order.body)
    assert stranger.publics == {stranger.main.public}


def test_a_salt_is_of_one_order_only() -> None:
    keys = Keyring(bytes(32))
    copied = make_order(by=Keyring(bytes([3]) * 32).main, salt=b"saltsalt")  # a stranger takes over our salt
    keys.fresh(b"saltsalt")
    assert not keys.is_own_trade(copied.body)


@given(st.binary(min_size=32, max_size=32), st.integers(1, 1 << 39))
def test_nodes_of_one_tag_recognise_each_other_s_orders(seed: bytes, created: int) -> None:
    one, sibling = Keyring(seed, TAG), Keyring(bytes(32), TAG)
    salt = one.salt(random.Random(created))
    assert len(salt) == 8
    for signer in (one.main, one.fresh(salt)):
        assert sibling.is_own_trade(make_order(by=signer, salt=salt).body)


def test_and_nobody_else_does() -> None:
    one = Keyring(bytes([4]) * 32, TAG)
    orders = [make_order(by=one.main, salt=one.salt(random.Random(number))).body for number in range(50)]
    for other in (Keyring(bytes(32), TAG + "!"), Keyring(bytes(32))):
        assert not any(other.is_own_trade(order) for order in orders)
    assert len({order.salt for order in orders} | {order.salt[4:] for order in orders}) == 100


def test_without_a_tag_no_order_is_marked() -> None:
    keys, sibling = Keyring(bytes([5]) * 32), Keyring(bytes(32))
    assert not sibling.is_own_trade(make_order(by=keys.main, salt=keys.salt(random.Random(1))).body)
