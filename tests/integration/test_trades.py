"""Trades between three background nodes: one winner, answers of a person, and what others see of it."""

import json
import threading
from typing import Any

import pytest

from tests.integration.conftest import Network, Result

pytestmark = pytest.mark.processes


def test_of_two_accepts_at_once_one_wins_and_the_other_is_told_taken(lab: Network) -> None:
    maker, *takers = lab.ports
    order = lab.offer("BTC/USD", maker, "--reply", "pay to DE00")
    for taker in takers:
        lab.sees(order, "BTC/USD", taker)
    words = ("order", "accept", order, "--message", "hello", "--json")
    runs = [lab.popen(*words, node=taker) for taker in takers]
    results = [Result(run.wait(45), *run.communicate()) for run in runs]
    assert sorted(result.code for result in results) == [0, 4], results
    winner, loser = sorted(takers, key=lambda taker: results[takers.index(taker)].code)
    assert results[takers.index(loser)].refusal == "taken"

    assert lab.trade(order, maker, "confirmed")["message"] == "hello"
    assert lab.trade(order, winner, "confirmed")["reply"] == "pay to DE00"
    assert [row for row in lab.json("trade", "list", node=loser)["trades"] if row["state"] == "confirmed"] == []
    for node in lab.ports:
        assert order not in [row["id"] for row in lab.orders("BTC/USD", node)]


def test_a_person_confirms_or_declines_what_was_published_with_ask(lab: Network) -> None:
    maker, taker, _ = lab.ports
    orders = [lab.offer("ETH/EUR", maker, "--ask") for _ in range(2)]
    for order in orders:
        lab.sees(order, "ETH/EUR", taker)
        assert lab.run("order", "accept", order, "--wait", "0.2", node=taker).code == 5
        lab.trade(order, maker, "pending")
    lab.json("order", "confirm", orders[0], "--reply", "meet at noon", node=maker)
    lab.json("order", "decline", orders[1], node=maker)
    assert lab.trade(orders[0], taker, "confirmed")["reply"] == "meet at noon"
    assert lab.trade(orders[1], taker, "refused")["code"] == "declined"


def test_amend_and_cancel_are_seen_by_others(lab: Network) -> None:
    maker, taker, reader = lab.ports
    seen: list[dict[str, Any]] = []
    with lab.popen("order", "watch", "LTC/USD", "--json", node=reader) as watch:
        assert watch.stdout is not None
        lines = watch.stdout
        follower = threading.Thread(target=lambda: seen.extend(map(json.loads, lines)))
        follower.start()
        old = lab.offer("LTC/USD", maker)
        lab.sees(old, "LTC/USD", taker)
        new = str(lab.json("order", "amend", old, "--price", "51000", node=maker)["order"]["id"])
        assert lab.sees(new, "LTC/USD", taker)["price"] == "51000"
        assert lab.refused(old, taker) == "replaced"
        lab.json("order", "cancel", new, node=maker)
        assert lab.refused(new, taker) == "canceled"
        assert lab.orders("LTC/USD", taker) == []
        watch.terminate()
        follower.join(10)
    shown = {(event["order"]["id"], event["order"]["status"]) for event in seen if event["type"] == "order"}
    assert {(old, "replaced"), (new, "open"), (new, "canceled")} <= shown


def test_an_own_order_cannot_be_accepted(lab: Network) -> None:
    maker = lab.ports[0]
    order = lab.offer("XMR/BTC", maker, "--price", "0.005")
    assert lab.refused(order, maker) == "self_trade"
    assert lab.sees(order, "XMR/BTC", lab.ports[1])["status"] == "open"


def test_the_book_adds_up_what_is_offered(lab: Network) -> None:
    maker, reader, _ = lab.ports
    for price in ("100", "101", "101"):
        lab.sees(lab.offer("DOGE/USD", maker, "--price", price), "DOGE/USD", reader)
    book = lab.json("book", "DOGE/USD", node=reader)
    assert [(level["price"], level["amount"], level["total"]) for level in book["asks"]] == [
        ("100", "1", "1"),
        ("101", "2", "3"),
    ]
    assert book["bids"] == []
    assert "101" in lab.run("book", "DOGE/USD", node=reader).out
