"""A node that went on after its backup, and the node that is made of the backup: whole nodes, real UDP on loopback."""

import random
from pathlib import Path

import pytest

from dhtex.errors import NoPeerError, NotFoundError, RefusedError
from dhtex.node import Node
from dhtex.store.copying import back_up, put_back
from dhtex.views import AcceptRequest, Amendment
from tests.integration.test_nodes import DRAFT, config, lists, network, until


async def test_a_restored_node_does_not_sell_again_what_was_sold_since(tmp_path: Path) -> None:
    async with network(3) as (one, two, three):
        async with Node(config(one, home=tmp_path)) as maker:
            sold, withdrawn, amended, kept = [(await maker.add_order(DRAFT)).order.id for _ in range(4)]
            back_up(tmp_path / "node.db", tmp_path / "copy")
            assert (await two.accept_order(sold, AcceptRequest())).state == "confirmed"
            await maker.cancel_order(withdrawn)
            successor = (await maker.amend_order(amended, Amendment(price="49000"))).order.id
        put_back(tmp_path / "copy", prepared(tmp_path / "again"), random.Random(7))
        async with Node(config(one, home=tmp_path / "again")) as again:
            assert again.status().epoch == 2
            await until(lambda: again.status().orders_open == 1)
            states = [(await again.show_order(order)).status for order in (sold, withdrawn, amended, kept)]
            assert states == ["filled", "canceled", "replaced", "open"]
            assert await lists(three) == {kept, successor}
            for order in (sold, withdrawn, amended):
                with pytest.raises(RefusedError):
                    await again.cancel_order(order)
                assert (await three.show_order(order)).status != "disputed"
            assert (await three.accept_order(kept, AcceptRequest())).state == "confirmed"
            with pytest.raises(NotFoundError):
                await again.amend_order(successor, Amendment(price="48000"))  # it is younger than the backup
            assert (await again.cancel_order(successor)).status == "canceled"
            await until(lambda: lists_none_of(three, successor))
            fresh = (await again.add_order(DRAFT)).order.id
            assert (await three.accept_order(fresh, AcceptRequest())).state == "confirmed"


async def lists_none_of(node: Node, order: str) -> bool:
    return order not in await lists(node)


async def test_a_restored_node_signs_nothing_for_old_orders_while_it_is_alone(tmp_path: Path) -> None:
    async with Node(config(home=tmp_path)) as maker:
        order = (await maker.add_order(DRAFT)).order.id
        back_up(tmp_path / "node.db", tmp_path / "copy")
    put_back(tmp_path / "copy", prepared(tmp_path / "again"), random.Random(7))
    async with Node(config(home=tmp_path / "again")) as again:
        with pytest.raises(NoPeerError):
            await again.cancel_order(order)
        view = await again.cancel_orders()
        assert [(failure.id, failure.code) for failure in view.failed] == [(order, "no_peer")]
        async with Node(config(again)):
            await until(lambda: again.status().peers == 1)
            assert (await again.cancel_order(order)).status == "canceled"


def prepared(folder: Path) -> Path:
    folder.mkdir()
    return folder / "node.db"
