"""Answers as people see them."""

import io
from typing import Any

import pytest

from dhtex.cli import ladder, render
from dhtex.cli.progress import FRAME_S, Progress, frame
from dhtex.cli.session import page_of
from dhtex.cli.text import Page, width_of
from tests.unit.cli.conftest import COVERAGE, ORDER, TRADE

NOW = Page(now=1_700_000_000)
ASKS = [
    {"price": "50010", "amount": "1", "total": "1", "orders": 1},
    {"price": "50020.5", "amount": "3", "total": "4", "orders": 2},
]
BIDS = [{"price": "49990", "amount": "0.5", "total": "0.5", "orders": 1}]
BOOK: dict[str, Any] = {
    **{"symbol": "BTC/USD", "asks": ASKS, "bids": BIDS, "spread": "20", "mid": "50000", "timestamp": 0, "datetime": ""},
    **{"coverage": COVERAGE, "hidden": {}},
}


def test_a_listing_is_a_table_with_its_coverage() -> None:
    orders = [
        ORDER,
        {**ORDER, "id": "99" * 32, "side": "buy", "price": "49000.5", "mine": True, "note": "n", "minimum": ".1"},
    ]
    assert render.listing({"orders": orders, "coverage": COVERAGE, "hidden": {"silent": 2}}, NOW) == [
        "ID          SIDE  AMOUNT  MIN    PRICE  PAIR     EXPIRES  MAKER     PAYMENT  FLAGS  NOTE",
        "3f2a9c1b04  sell       1       50000    BTC/USD      24h  abababab  SEPA",
        "9999999999  buy        1   .1  49000.5  BTC/USD      24h  abababab  SEPA     mine   n",
        "8 of 8 holders answered and agree; hidden: 2 silent",
    ]


def disagreeing(number: int, **faults: int) -> dict[str, Any]:
    holder = {"holder": f"{number:02d}" * 32, "address": f"10.0.0.{number}:3001", "symbol": "BTC/USD", "side": "sell"}
    none = {"hidden": 0, "revived": 0, "invented": 0, "branches": 0, "unfinished": False}
    return {**holder, "prefix": "", **none, **faults}


def test_holders_that_disagreed_are_named_under_a_book_each_once() -> None:
    rows = [
        disagreeing(1, hidden=2, invented=3),
        disagreeing(1, hidden=1, revived=1),
        {**disagreeing(2, branches=4, unfinished=True), "address": ""},
    ]
    said = (
        "disagreed: 0101010101 (10.0.0.1:3001) hides 3, revives 1, invents 3; "
        "0202020202 (this node) makes up branches: 4, has no end"
    )
    seen = {"coverage": {**COVERAGE, "disagreed": rows}, "hidden": {}}
    for lines in (
        render.listing({"orders": [ORDER], **seen}, NOW),
        ladder.book({**BOOK, **seen}, NOW),
        ladder.book({**BOOK, "asks": [], "bids": [], **seen}, NOW),
    ):
        assert lines[-1] == said
    many = {**COVERAGE, "disagreed": [disagreeing(number, hidden=1) for number in range(5)]}
    assert render.listing({"orders": [], "coverage": many, "hidden": {}}, NOW)[-1].endswith("hides 1; and 2 more")


def test_a_status_column_appears_when_it_says_something() -> None:
    head, line = render.order_table([{**ORDER, "status": "filled"}], NOW)
    assert "STATUS" in head
    assert "filled" in line


def test_a_hostile_order_cannot_leave_its_cell() -> None:
    nasty = "\x1b[2J\r\n\u202e" + "A" * 200
    hostile = {**ORDER, "note": nasty, "payment": [nasty], "symbol": nasty, "clientOrderId": nasty, "price": nasty}
    page = Page(now=0, width=80)
    views = {"orders": [hostile], "coverage": COVERAGE, "hidden": {nasty: 1}}
    for lines in (render.listing(views, page), render.order(hostile, page), render.canceled(hostile, page)):
        assert all(line.isprintable() for line in lines)


def test_everything_about_an_order() -> None:
    lines = render.order({**ORDER, "holders": 1, "replacedBy": "ee" * 32, "status": "replaced"}, NOW)
    assert f"id           {ORDER['id']}" in lines
    assert "offer        sell 1 BTC at 50000 USD" in lines
    assert "expires      2023-11-15T22:13:20.000Z (in 24h)" in lines
    assert "end held by  1 other node" in lines
    assert f"replaced by  {'ee' * 32}" in lines


def test_everything_about_a_trade() -> None:
    lines = render.trade({**TRADE, "state": "refused", "code": "taken", "message": "a", "reply": "b"}, NOW)
    assert "refused     another accept was quicker: the order is taken" in lines
    assert "in all      50000 USD" in lines
    assert lines[-2:] == ["taker says  a", "maker says  b"]
    lines = render.trade({**TRADE, "state": "void", "code": "unheard"}, NOW)
    assert any(line.startswith("unheard ") and line.endswith("ask the maker whether there was one") for line in lines)
    assert not any(line.startswith("refused") for line in lines)
    page = {"trades": [TRADE], "next": TRADE["id"]}
    assert render.trades(page, NOW)[2:] == [f"more: --after {TRADE['id']}"]
    head, line = render.trades({**page, "next": None}, NOW)
    assert head.split() == ["ID", "STATE", "ROLE", "SIDE", "AMOUNT", "PRICE", "PAIR", "AGE", "ORDER"]
    assert line.split()[:4] == ["7777777777", "confirmed", "taker", "buy"]


def test_the_ladder_meets_at_the_spread() -> None:
    assert ladder.book(BOOK, NOW) == [
        "SIDE    PRICE  AMOUNT  TOTAL  ORDERS  DEPTH",
        "sell  50020.5     3      4         2  ████████████████████████",
        "sell  50010       1      1         1  ██████",
        "  spread 20 USD, middle 50000",
        "buy   49990       0.5    0.5       1  ███",
        "8 of 8 holders answered and agree",
    ]


def test_a_book_with_one_side_or_none_says_so() -> None:
    lines = ladder.book({**BOOK, "bids": [], "spread": None, "mid": None}, NOW)
    assert lines[3] == "  BTC in USD: one side is empty"
    assert ladder.book({**BOOK, "bids": [], "asks": []}, NOW)[0] == "no orders in BTC/USD"


@pytest.mark.parametrize(("share", "bar"), [(1.0, "#" * 24), (0.5, "#" * 12), (0.0001, "#")])
def test_bars_without_unicode(share: float, bar: str) -> None:
    assert ladder.bar(share, unicode=False) == bar


def test_a_bar_is_never_empty_and_never_too_long() -> None:
    lengths = [width_of(ladder.bar(step / 1000, unicode=True)) for step in range(1001)]
    assert lengths == sorted(lengths)
    assert (lengths[0], lengths[-1]) == (1, ladder.BAR_CHARS)


def test_the_status_page() -> None:
    view = {
        **{"version": "1", "state": "ready", "pid": 7, "port": 3001, "host": "", "network": "main", "pow_bits": 16},
        **{"node": "ab", "maker": "cd", "epoch": 1, "uptime_s": 61.0, "peers": 2},
        **{"bootstrap": {"a:1": "silent"}, "network_nodes": 9, "address": "9.9.9.9:1", "client": False},
        **{"orders_open": 1, "records_held": 5, "watches": 0, "home": "/h", "counters": {"datagrams_in": 9, "none": 0}},
    }
    lines = render.status(view, NOW)
    assert lines[0] == "node        port 3001, ready, 2 peers"
    assert "bootstrap   a:1 (silent)" in lines
    assert lines[-1] == "datagrams_in  9"


def test_peers_and_nodes() -> None:
    peer = {
        "id": "a" * 40,
        "address": "[::1]:3001",
        "kind": "dhtex",
        "rtt_ms": 1.25,
        "age_s": 60,
        "silent_s": 2,
        "failures": 0,
    }
    assert render.peers([peer], NOW)[1].split() == ["aaaaaaaaaa", "[::1]:3001", "dhtex", "1.2", "ms", "1m", "2s", "ago"]
    head, failing = render.peers([peer | {"failures": 2}], NOW)
    assert (head.split()[-1], failing.split()[-2:], len(failing)) == ("FAILED", ["ago", "2"], len(head))
    node = {
        "port": 3001,
        "state": "ready",
        "network": "main",
        "pid": 7,
        "started": 1_699_999_940_000,
        "version": "1",
        "http": None,
    }
    assert render.nodes([node], NOW) == ["PORT  STATE  NETWORK  PID  UP  VERSION", "3001  ready  main       7  1m  1"]


def test_colours_follow_the_terminal_and_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        encoding = "utf-8"

        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("NO_COLOR", raising=False)
    page = page_of(Terminal())
    assert (page.colours, page.width, page.unicode) == (True, 100, True)
    monkeypatch.setenv("NO_COLOR", "1")
    assert not page_of(Terminal()).colours
    assert page_of(io.StringIO()).width is None


def test_frames_of_a_progress_line() -> None:
    assert frame("stamping", 0.5, 0) == "stamping [############            ]  50%"
    assert frame("stamping", 7.0, 0).endswith("] 100%")
    assert [frame("waiting", None, turn)[-1] for turn in range(5)] == list("|/-\\|")


def test_a_progress_line_may_be_quiet_at_first() -> None:
    screen, waits = io.StringIO(), list[float]()

    class Clock:
        def wait(self, seconds: float) -> bool:
            waits.append(seconds)
            return len(waits) == 3

    progress = Progress("reading", screen, quiet_s=5)
    progress._done = Clock()  # type: ignore[assignment]
    progress._paint()
    assert waits == [5, FRAME_S, FRAME_S]
    assert screen.getvalue().count("reading") == 1


def test_a_progress_line_is_wiped_when_it_is_done() -> None:
    screen = io.StringIO()
    with Progress("stamping", screen) as progress:
        progress.advance(0.25)
    assert screen.getvalue().endswith("\r\x1b[2K")
