"""Orders with keys of their own, and nodes that share a tag: decided, sealed and read with the right key throughout."""

from typing import Any

import msgspec
import pytest

from dhtex.errors import RefusedError
from dhtex.market.keyring import Keyring
from dhtex.market.records import Closing, Order, Record, Refusal, Status, is_a, parse_record, seal_record
from dhtex.store.rows import OwnOrder
from dhtex.trading.maker import closing_status
from tests.builders import NETWORK, make_accept, make_order
from tests.unit.trading.world import Party, VirtualClock, new_network, parties, play, states, stop, until

TAG = "a secret of several words"


def publish(maker: Party, salt: bytes = b"freshkey", **fields: Any) -> Record[Order]:
    """An order under a key of its own."""
    order = make_order(by=maker.keys.fresh(salt), salt=salt, **fields)
    row = OwnOrder(order.id, order.wire, "open", 0, b"", "ring me", order.body.created, order.body.expires)
    maker.journal.add_order(row)
    maker.network.store(order.id, order)
    maker.desk.order_opened(order.id)
    return order


def test_a_trade_under_a_fresh_key_says_nothing_of_the_main_one() -> None:
    async def story() -> None:
        network = new_network()
        maker, taker, late = await parties(network)
        order = publish(maker)
        trade = await taker.accept(order, message="my address", wait_s=30)
        assert (trade.state, trade.reply) == ("confirmed", "ring me")
        assert [(t.state, t.message) for t in maker.journal.trades()] == [("confirmed", "my address")]
        other = make_accept(order, by=late.identity)
        maker.desk.on_record(other)
        await until(lambda: any(is_a(r, Refusal) for r in network.at_order[order.id].values()))
        said = [r for r in network.at_order[order.id].values() if is_a(r, Status) or is_a(r, Refusal)]
        assert {bytes(r.body.author) for r in said} == {bytes(order.body.maker)} != {bytes(maker.identity.public)}
        assert all(bytes(maker.identity.public) not in r.wire for r in network.at_order[order.id].values())
        await stop(maker, taker, late)

    play(story())


def test_what_a_part_fill_leaves_has_the_key_of_its_order() -> None:
    async def story() -> None:
        maker, taker = await parties(new_network(), 2)
        order = publish(maker, minimum="0.1")
        assert (await taker.accept(order, amount="0.4", wait_s=30)).state == "confirmed"
        row = maker.journal.child(order.id)
        assert row is not None
        child = parse_record(row.wire, NETWORK)
        assert is_a(child, Order)
        assert child.body.author == order.body.author  # else nobody could tell that it is the remainder
        assert Keyring(bytes([*bytes(31), 1])).of(child.body) is not None  # and it is found again from seed and salt
        plain = maker.publish(minimum="0.1")
        await taker.accept(plain, amount="0.4", wait_s=30)
        row = maker.journal.child(plain.id)
        assert row is not None
        child = parse_record(row.wire, NETWORK)
        assert is_a(child, Order)
        assert child.body.maker == maker.identity.public
        await stop(maker, taker)

    play(story())


def test_no_own_key_trades_with_another() -> None:
    async def story() -> None:
        network = new_network()
        maker, copy = await Party(network, 1).start(), await Party(network, 1).start()
        order = publish(maker)
        for party in (maker, copy):  # the second has never heard of this key
            with pytest.raises(RefusedError) as error:
                await party.accept(order)
            assert error.value.reason == "self_trade"
        plain = maker.publish(number=5)
        for signer in (maker.identity, maker.keys.fresh(b"freshkey")):
            maker.desk.on_record(make_accept(plain, by=signer))
            maker.desk.on_record(make_accept(order, by=signer))
        assert states(maker) == [("refused", "self_trade")] * 4
        await stop(maker, copy)

    play(story())


def test_nodes_with_one_tag_do_not_trade_and_nothing_of_it_is_sent() -> None:
    async def story() -> None:
        network = new_network()
        maker = await Party(network, 1, tag=TAG).start()
        sibling, stranger = await Party(network, 2, tag=TAG).start(), await Party(network, 3, tag=TAG + "?").start()
        salt = maker.keys.salt(network.entropy)
        order = maker.publish(salt=salt)
        before = len(network.puts)
        with pytest.raises(RefusedError) as error:
            await sibling.accept(order)
        assert error.value.reason == "self_trade"
        assert (len(network.puts), sibling.journal.trades()) == (before, [])
        assert (await stranger.accept(order, wait_s=30)).state == "confirmed"
        await stop(maker, sibling, stranger)

    play(story())


def test_a_status_under_another_own_key_does_not_end_an_order() -> None:
    async def story() -> None:
        maker, taker = await parties(new_network(), 2)
        order = publish(maker)
        end = closing_status(order, 1, Closing.CANCELED, b"", VirtualClock().now())
        forged = seal_record(msgspec.structs.replace(end, maker=maker.identity.public), maker.identity.sign)
        maker.desk.on_record(forged)
        assert maker.state(order) == "open"
        maker.desk.on_record(seal_record(end, maker.keys.fresh(b"freshkey").sign))  # by a copy of this node
        assert maker.state(order) == "canceled"
        await stop(maker, taker)

    play(story())
