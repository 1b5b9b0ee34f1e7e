"""Pairs in figures, and books as files: whole nodes, real UDP on loopback, and the command line."""

import json
import time
from base64 import b64decode, b64encode
from pathlib import Path

import msgspec

from dhtex.market.records import Closing
from dhtex.marketviews import StatsQuery, TakeRequest
from tests.builders import make_order, make_status
from tests.integration.conftest import Network, free_ports
from tests.integration.test_nodes import DRAFT, lists, until
from tests.integration.test_nodes import network as nodes


async def test_pairs_are_known_for_a_reason() -> None:
    async with nodes(2) as (maker, reader):
        await maker.add_order(DRAFT)
        await maker.add_order(msgspec.structs.replace(DRAFT, side="buy", price="49000"))
        await reader.add_order(msgspec.structs.replace(DRAFT, pair="XMR/EUR", price="150"))
        view = await reader.pairs()
        rows = {row.symbol: (row.bids, row.asks, row.bid, row.ask, row.spread) for row in view.pairs}
        assert rows == {"BTC/USD": (1, 1, "49000", "50000", "1000"), "XMR/EUR": (0, 1, None, "150", None)}
        reasons = {row.symbol: row.known for row in (await reader.pairs()).pairs}
        assert reasons == {"BTC/USD": ["held", "listed"], "XMR/EUR": ["held", "own", "listed"]}


async def test_figures_are_of_fills_that_their_orders_prove() -> None:
    async with nodes(3) as (maker, taker, other):
        await maker.add_order(msgspec.structs.replace(DRAFT, amount="2", minimum="0.5"))
        await other.add_order(msgspec.structs.replace(DRAFT, price="50200"))
        await other.add_order(msgspec.structs.replace(DRAFT, price="50900", amount="3"))
        await taker.take(TakeRequest(pair="BTC/USD", side="buy", amount="2.5"))  # less of the first completes it
        nowhere = make_order(created=int(time.time()))  # its maker never paid for it
        status = make_status(nowhere, Closing.FILLED)
        await taker.import_records([b64encode(status.wire).decode()])

        async def told() -> bool:
            return len((await other.stats(StatsQuery(pair="BTC/USD"))).fills) == 2

        await until(told)
        view = await other.stats(StatsQuery(pair="btc/usd", timeframe="1d"))
        fills = {(fill.price, fill.amount, fill.side) for fill in view.fills}  # within one second they have no order
        assert fills == {("50000", "1.5", "buy"), ("50200", "1", "buy")}
        assert view.unverified == 1
        assert (view.low, view.high, view.baseVolume, view.quoteVolume) == ("50000", "50200", "2.5", "125200")
        assert (view.bid, view.ask, view.asks.orders, view.asks.amount) == (None, "50000", 2, "3.5")
        assert [candle[2:4] for candle in view.ohlcv] == [("50200", "50000")]


async def test_what_is_imported_is_verified_again() -> None:
    async with nodes(2) as (maker, _), nodes(2) as (reader, other):
        await maker.add_order(msgspec.structs.replace(DRAFT, liveness="mailbox"))
        exported = await maker.export_orders("BTC/USD")
        (record,) = exported.records
        wire = bytearray(b64decode(record.record))
        wire[-80] ^= 1  # somewhere in the signature
        bad = [b64encode(text).decode() for text in (bytes(wire), b"x" * 300)]
        view = await reader.import_records([record.record, *bad, "?"])
        assert [result.state for result in view.results] == ["stored", "invalid", "invalid", "invalid"]
        assert [result.code for result in view.results] == [None, "bad_signature", "malformed", "malformed"]
        assert (view.results[0].id, view.results[0].holders) == (record.id, 1)
        assert await lists(other) == {record.id}


def test_a_book_goes_through_a_file_into_another_network(network: Network, tmp_path: Path) -> None:
    here, there, peer = (network.started(port) for port in free_ports(3))
    network.json("connect", f"127.0.0.1:{peer}", node=there)
    ids = {network.offer("BTC/USD", here, "--mailbox", "--price", price) for price in ("50000", "50100")}
    exported = network.run("order", "export", "BTC/USD", node=here)
    lines = exported.out.splitlines()
    assert {json.loads(line)["id"] for line in lines} == ids
    assert exported.err.startswith("2 orders; ")
    book = tmp_path / "book.ndjson"
    book.write_text("\n".join([lines[0], "", "rubbish", lines[1].replace('"record": "', '"record": "AAAA')]))
    result = network.run("import", str(book), node=there)
    assert result.code == 8
    assert result.out == "1 record stored, 2 invalid\n"
    assert result.err.splitlines() == [
        "line 3: it is no signed record",
        "line 4: it is no signed record",
        "error: 2 lines could not be verified (see above)",
    ]
    book.write_text(exported.out)
    again = network.run("import", str(book), "--json", node=there)
    assert (again.code, json.loads(again.out.splitlines()[-1])) == (0, {"stored": 2, "refused": 0, "invalid": 0})
    assert {order["id"] for order in network.orders("BTC/USD", peer)} == ids
    first = network.json("order", "list", "BTC/USD", "--sort", "dearest", "--limit", "1", node=peer)
    second = network.json("order", "list", "BTC/USD", "--after", first["next"], "--not-mine", node=peer)
    assert [order["price"] for page in (first, second) for order in page["orders"]] == ["50100", "50000"]
    assert (second["next"], network.orders("BTC/USD", here, "--not-mine")) == (None, [])
    pairs = network.run("pairs", node=peer)
    assert "BTC/USD" in pairs.out
    assert "held" in pairs.out
    assert "2 orders" in network.run("stats", "BTC/USD", node=peer).out
    assert (
        network.run("quote", "BTC/USD", "--buy", "2", node=peer).out.splitlines()[-2].startswith("buy 2 BTC for 100100")
    )
    assert network.run("import", str(tmp_path / "none"), node=there).code == 2
