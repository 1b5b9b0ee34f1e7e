"""The live book and what ends a stream: whole nodes, real UDP on loopback, and the command line behind pipes."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise

import msgspec
import pytest

from dhtex import limits
from dhtex.node import Node
from dhtex.views import BookView
from tests.integration.conftest import Network
from tests.integration.test_nodes import DRAFT, until
from tests.integration.test_nodes import network as nodes

READER_GONE = 141


async def follow(node: Node, books: list[BookView]) -> None:
    async for event in node.follow_book("BTC/USD", 5):
        assert event.book is not None
        assert event.sequence == len(books) + 1
        books.append(event.book)


def best_ask(books: list[BookView]) -> str | None:
    return books[-1].asks[0].price if books and books[-1].asks else None


async def test_a_followed_book_is_shown_whole_and_again_when_it_has_changed() -> None:
    async with nodes(3) as (maker, other, reader):
        first = (await maker.add_order(DRAFT)).order.id
        books: list[BookView] = []
        following = asyncio.create_task(follow(reader, books))
        await until(lambda: best_ask(books) == "50000")
        assert books[0].coverage.complete
        await other.add_order(msgspec.structs.replace(DRAFT, price="49000"))
        await until(lambda: best_ask(books) == "49000")
        await maker.cancel_order(first)
        await until(lambda: len(books[-1].asks) == 1)
        for before, after in pairwise(books):
            assert (before.asks, before.bids) != (after.asks, after.bids) or before.coverage != after.coverage
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        assert reader.status().watches == 0


async def test_a_burst_is_one_picture() -> None:
    async with nodes(2) as (maker, reader):
        books: list[BookView] = []
        following = asyncio.create_task(follow(reader, books))
        await until(lambda: bool(books))
        drafts = [msgspec.structs.replace(DRAFT, price=f"{50_000 + n}") for n in range(40)]
        await asyncio.gather(*map(maker.add_order, drafts))
        await until(lambda: bool(books[-1].asks) and sum(each.orders for each in books[-1].asks) == 5)
        await until(lambda: best_ask(books) == "50000")
        assert len(books) < 20
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def test_a_snapshot_is_never_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "EVENTS_BUFFERED_MAX", 5)
    async with nodes(2) as (maker, reader):
        await asyncio.gather(*(maker.add_order(msgspec.structs.replace(DRAFT, price=f"{n + 1}")) for n in range(12)))
        async with asyncio.timeout(15):
            stream = reader.watch("BTC/USD")
            events = [await anext(stream) for _ in range(12)]
        assert {event.type for event in events} == {"order"}
        assert len({event.order.id for event in events if event.order is not None}) == 12


@pytest.mark.parametrize("words", [("order", "watch", "BTC/USD"), ("book", "BTC/USD", "--follow"), ("logs", "-f")])
def test_a_stream_ends_when_its_reader_goes(lab: Network, words: tuple[str, ...]) -> None:
    pair = "PIPE/USD"
    node = lab.ports[0]
    lab.offer(pair, node)
    with lab.popen(*(pair if word == "BTC/USD" else word for word in words), node=node) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.stdout.close()  # no event comes any more
        started = time.monotonic()
        assert process.wait(10) == READER_GONE
        assert time.monotonic() - started < 5
        assert process.stderr is not None
        assert process.stderr.read() == (f"following {pair} until Ctrl-C\n" if "watch" in words else "")


def test_a_followed_book_is_one_object_a_line_and_ends_with_ctrl_c(lab: Network) -> None:
    pair, node = "LIVE/USD", lab.ports[1]
    with lab.popen("book", pair, "--follow", "--json", node=node) as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        assert (first["symbol"], first["asks"], first["nonce"]) == (pair, [], 1)
        lab.offer(pair, lab.ports[0])
        second = json.loads(process.stdout.readline())
        assert ([level["price"] for level in second["asks"]], second["nonce"]) == (["50000"], 2)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0


def test_on_a_terminal_the_book_is_drawn_in_place(lab: Network) -> None:
    pair, node = "PLACE/USD", lab.ports[2]
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "dhtex", "--node", str(node), "book", pair, "--follow"]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=lab.environment) as process:
        os.close(theirs)
        lab.offer(pair, node)
        seen = b""
        while b"50000" not in seen:
            seen += os.read(ours, 4096)
        assert b"\x1b[H\x1b[J" in seen
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
    os.close(ours)
