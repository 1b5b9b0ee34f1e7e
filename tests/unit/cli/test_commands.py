"""Words become one request, its answer becomes text or JSON, and every outcome has its exit code."""

import json
import re
from typing import Any

import pytest

from dhtex.cli import render
from dhtex.cli.coverage import coverage_line
from dhtex.errors import (
    NoPeerError,
    NotFoundError,
    NotRunningError,
    OutcomeUnknownError,
    RefusedError,
    UsageError,
    VerificationError,
)
from dhtex.market.records import Code
from tests.unit.cli.conftest import COVERAGE, EMPTY_LISTING, ORDER, TRADE, Dhtex, FakeNode, accept_view

DRAFT = {
    **{"side": "sell", "amount": "1", "pair": "BTC/USD", "price": "50000", "minimum": "", "payment": [], "note": ""},
    **{
        "expires_s": 86_400,
        "liveness": "beat",
        "confirm": "auto",
        "reference": "",
        "reply": "",
        "group": "",
        "cancel_after_s": None,
        "fresh_key": False,
    },
}
PUBLISHED = {"order": ORDER, "holders": 3}
CHANGE = dict.fromkeys(("price", "amount", "minimum", "payment", "note", "expires_s"))
ID = ORDER["id"][:10]


@pytest.mark.parametrize(
    ("command", "method", "path", "body"),
    [
        ("order list", "GET", "/v1/orders?limit=100", None),
        ("order list --limit 0", "GET", "/v1/orders?limit=0", None),
        ("order list BTC/USD --all", "GET", "/v1/orders?pair=BTC%2FUSD&limit=100&all=true", None),
        (f"order show {ID}", "GET", f"/v1/orders/{ID}", None),
        (f"order cancel {ID}", "POST", f"/v1/orders/{ID}/cancel", {}),
        ("order cancel --all", "POST", "/v1/orders/cancel", {"pair": ""}),
        ("order cancel --pair btc/usd", "POST", "/v1/orders/cancel", {"pair": "btc/usd"}),
        (f"order confirm {ID}", "POST", f"/v1/orders/{ID}/confirm", {"accept": "", "reply": ""}),
        (f"order confirm {ID} 777777 --reply hi", "POST", None, {"accept": "777777", "reply": "hi"}),
        (f"order decline {ID} 777777", "POST", f"/v1/orders/{ID}/decline", {"accept": "777777"}),
        ("order add sell 1 BTC/USD --price 50000", "POST", "/v1/orders", DRAFT),
        ("order add sell 1 BTC/USD --price 50000 --json", "POST", "/v1/orders", DRAFT),
        (
            "order add sell 1 BTC/USD --price 50000 --min .5 --pay SEPA --pay cash --expires 7d --mailbox --ask",
            "POST",
            "/v1/orders",
            {
                **DRAFT,
                **{"minimum": ".5", "payment": ["SEPA", "cash"], "expires_s": 604_800, "liveness": "mailbox"},
                **{"confirm": "ask"},
            },
        ),
        (f"order amend {ID} --price 7", "POST", f"/v1/orders/{ID}/amend", {**CHANGE, "price": "7"}),
        (
            f"order amend {ID} --note= --expires 1h",
            "POST",
            f"/v1/orders/{ID}/amend",
            {**CHANGE, "note": "", "expires_s": 3600},
        ),
        (
            f"order accept {ID} --amount 1 --message hi --wait 2.5",
            "POST",
            f"/v1/orders/{ID}/accept",
            {"amount": "1", "message": "hi", "wait_s": 2.5},
        ),
        ("book BTC/USD", "GET", "/v1/book?pair=BTC%2FUSD&limit=10", None),
        ("trade list", "GET", "/v1/trades?limit=100", None),
        (f"trade list --limit 5 --after {ID}", "GET", f"/v1/trades?limit=5&after={ID}", None),
        ("trade show 777777", "GET", "/v1/trades/777777", None),
        ("status", "GET", "/v1/status", None),
        ("peers", "GET", "/v1/peers", None),
        ("connect [::1]:3001", "POST", "/v1/connect", {"address": "[::1]:3001"}),
    ],
)
def test_words_become_one_request(
    dhtex: Dhtex, node: FakeNode, command: str, method: str, path: str | None, body: Any
) -> None:
    node.answer = NotFoundError("nothing")
    assert dhtex(command).status == 3
    ((called, where, with_body),) = node.calls
    assert (called, with_body) == (method, body)
    assert path is None or where == path


def test_filters_travel_in_the_query(dhtex: Dhtex, node: FakeNode) -> None:
    node.answer = EMPTY_LISTING
    command = (
        "order list btc/usd --side sell --limit 5 --min-price 1 --max-price 2 --amount 0.1 --pay SEPA --mine --live"
    )
    command += " --sort newest --after newest~1~1~ab --not-mine"
    assert dhtex(command).status == 0
    query = node.calls[0][1].partition("?")[2].split("&")
    assert sorted(query) == sorted(
        [
            "pair=btc%2Fusd",
            "side=sell",
            "limit=5",
            "min_price=1",
            "max_price=2",
            "amount=0.1",
            "payment=SEPA",
            "mine=true",
            "live=true",
            "not_mine=true",
            "sort=newest",
            "after=newest~1~1~ab",
        ]
    )


def test_order_in_json_is_published_and_answered_in_json(dhtex: Dhtex, node: FakeNode) -> None:
    node.answer = PUBLISHED
    result = dhtex("order", "add", "--json", '{"buy":"BTC","sell":"USD","price":50000,"amount":1}')
    assert result.status == 0
    assert node.calls == [
        ("POST", "/v1/orders", {"side": "buy", "pair": "BTC/USD", "price": "50000", "amount": "1"}),
    ]
    assert json.loads(result.out) == PUBLISHED
    assert result.err == ""


@pytest.mark.parametrize("command", ["--json order list", "order list --json", "order --node 3001 list --json"])
def test_json_is_the_answer_as_it_came(dhtex: Dhtex, node: FakeNode, command: str) -> None:
    node.answer = {**EMPTY_LISTING, "orders": [{**ORDER, "note": "\x7f\x9b\u202e"}]}
    result = dhtex(command.replace("order --node 3001 list", "order list --node 3001"))
    assert json.loads(result.out) == node.answer
    assert result.out.isascii()
    assert result.out.count("\n") == 1
    assert result.out.strip().isprintable()


@pytest.mark.parametrize(("command", "path"), [("order list", "/v1/orders?limit=100"), ("pairs", "/v1/pairs")])
def test_what_may_take_long_to_read_is_followed(dhtex: Dhtex, node: FakeNode, command: str, path: str) -> None:
    view = {**EMPTY_LISTING, "pairs": [], "hidden": {"pairs": 7}}
    node.events = [("progress", {"fraction": 0.5}), ("result", view)]
    result = dhtex(command)
    assert (result.status, result.err, node.calls) == (0, "", [("GET", path, None)])
    assert result.out.endswith("8 of 8 holders answered and agree; hidden: 7 pairs not read\n")
    node.events = [("progress", {"fraction": 0.5}), ("result", KeyboardInterrupt())]
    assert dhtex(command).status == 130


def test_an_empty_list_says_so_and_keeps_its_shape(dhtex: Dhtex, node: FakeNode) -> None:
    node.answer = {**EMPTY_LISTING, "hidden": {"expired": 2, "silent": 1}}
    assert dhtex("order list").out == ("no orders\n8 of 8 holders answered and agree; hidden: 2 expired, 1 silent\n")
    assert json.loads(dhtex("order list --json").out)["orders"] == []
    node.answer = {"trades": [], "next": None}
    assert dhtex("trade list").out == "no trades\n"
    assert json.loads(dhtex("trade list --json").out) == node.answer
    node.answer = []
    assert dhtex("peers").out == "no peers\n"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UsageError("no"), 2),
        (NotFoundError("no"), 3),
        (RefusedError("no", reason="taken"), 4),
        (OutcomeUnknownError("no"), 5),
        (NotRunningError("no"), 6),
        (NoPeerError("no"), 7),
        (VerificationError("no"), 8),
    ],
)
def test_every_error_has_its_exit_code_and_one_line(dhtex: Dhtex, node: FakeNode, error: Any, status: int) -> None:
    error.hint = "do this"
    node.answer = error
    result = dhtex(f"order show {ID}")
    assert (result.status, result.out, result.err) == (status, "", "error: no (do this)\n")
    result = dhtex(f"order show {ID} --json")
    told = json.loads(result.err)["error"]
    assert (result.status, result.out) == (status, "")
    assert (told["code"], told["message"], told["hint"], told["exit_status"]) == (error.code, "no", "do this", status)
    assert told.get("reason") == getattr(error, "reason", None)


@pytest.mark.parametrize(
    ("state", "code", "status", "says"),
    [
        ("confirmed", None, 0, ""),
        ("refused", "taken", 4, "another accept was quicker: the order is taken (see what is left: dhtex order list"),
        ("refused", "self_trade", 4, f"withdraw it instead: dhtex order cancel {ID}"),
        ("refused", "from_the_future", 4, "refused: from_the_future"),
        ("void", None, 5, "the accept is void"),
        ("sent", None, 5, "see later: dhtex trade show 7777777777"),
        ("pending", None, 5, "the maker decides by hand"),
    ],
)
def test_accept_tells_its_outcome(
    dhtex: Dhtex, node: FakeNode, state: str, code: str | None, status: int, says: str
) -> None:
    node.answer = accept_view(state, code)
    result = dhtex(f"order accept {ID}")
    assert result.status == status
    assert says in result.err
    assert result.out == ("confirmed 7777777777: you buy 1 BTC at 50000 USD, 50000 USD in all\n" if not status else "")
    result = dhtex(f"order accept {ID} --json")
    assert (result.status, json.loads(result.out)) == (status, node.answer)
    assert (json.loads(result.err)["error"]["exit_status"] if status else 0) == status


@pytest.mark.parametrize(
    ("words", "events", "says"),
    [
        (
            f"order accept {ID}",
            [("sent", TRADE)],
            "the accept stays on its way (see later: dhtex trade show 7777777777)",
        ),
        (f"order accept {ID}", [], "stopped before anything was said to be signed"),
        ("order accept --best BTC/USD --side buy --amount 1", [("sent", {"order": ORDER})], f"trade show {ID}"),
        ("order add sell 1 BTC/USD --price 5", [("signed", ORDER)], f"order {ID} is published (see: dhtex order show"),
        (f"order amend {ID} --price 5", [], "stopped before anything was said to be signed"),
    ],
)
def test_a_command_that_is_stopped_says_what_counts_all_the_same(
    dhtex: Dhtex, node: FakeNode, words: str, events: list[Any], says: str
) -> None:
    node.events = [*events, ("x", KeyboardInterrupt())]
    result = dhtex(words)
    assert (result.status, says in result.err, result.err.count("\n")) == (130, True, 1), result
    assert json.loads(dhtex(f"{words} --json").err)["error"]["exit_status"] == 130


def test_every_refusal_code_has_words_and_a_next_step() -> None:
    assert set(render.REFUSALS) == {code.value for code in Code}
    for code in Code:
        text, hint = render.refusal_words(code, ORDER["id"], "BTC/USD")
        assert text
        assert hint
        assert "{" not in text + hint


def test_the_messages_of_the_other_side_are_shown_but_harmless(dhtex: Dhtex, node: FakeNode) -> None:
    node.answer = accept_view("confirmed")
    node.answer["trade"]["reply"] = "meet me\x1b]0;title\x07"
    assert dhtex(f"order accept {ID}").out.splitlines()[1] == "the maker says: meet me\\x1b]0;title\\x07"
    node.answer = {**TRADE, "role": "maker", "message": "hello\r"}
    assert "the taker says: hello\\r" in dhtex(f"order confirm {ID}").out


def test_publishing_says_who_holds_the_order(dhtex: Dhtex, node: FakeNode) -> None:
    node.answer = PUBLISHED
    command = "order add sell 1 BTC/USD --price 50000"
    assert dhtex(command).out.startswith(f"published {ID}: sell 1 BTC at 50000 USD (held by 3 other nodes; expires in")
    node.answer = {"order": ORDER, "holders": 0}
    assert "(0 other holders: it is published as soon as there is a peer; expires in" in dhtex(command).out
    node.answer = {"order": ORDER, "holders": 0, "refusals": {"stamp_too_low": 2}}
    unwanted = dhtex(command)
    assert "(0 other holders; 2 refused it as stamp_too_low; expires in" in unwanted.out
    assert unwanted.status == 4
    assert unwanted.err.startswith(
        "error: no other node took the order: stamp_too_low (this network asks for more work"
    )
    node.answer = {**PUBLISHED, "refusals": {"full": 2}}
    assert "(held by 3 other nodes; 2 refused it as full; expires in" in dhtex(command).out
    ends = {"minimum": "0.1", "expires": 4_000_086_400_000, "cancelAt": 4_000_000_000_000}
    node.answer = {"order": {**ORDER, **ends}, "holders": 3}
    assert re.search(
        r"USD \(minimum 0\.1; held by 3 other nodes; expires in \d+d; canceled in \d+d unless renewed\)",
        dhtex(command).out,
    )
    node.answer = {"order": {**ORDER, "replaces": "ee" * 32}, "holders": 1}
    assert f"replaced eeeeeeeeee by {ID}: " in dhtex(f"order amend {ID} --price 1").out


def test_a_peer_that_does_not_answer_is_exit_7(dhtex: Dhtex, node: FakeNode) -> None:
    node.answer = {"address": "127.0.0.1:9", "connected": False}
    result = dhtex("connect 127.0.0.1:9")
    assert result.status == 7
    assert result.err.startswith("error: 127.0.0.1:9 does not answer (")
    node.answer = {"address": "127.0.0.1:9", "connected": True}
    assert dhtex("connect 127.0.0.1:9").out == "connected to 127.0.0.1:9\n"


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("order add", "SIDE is missing"),
        ("order add sell", "AMOUNT is missing"),
        ("order add sell 1 BTC/USD", "--price is missing"),
        ("order add sell 1 BTC/USD --price 1 --expires soon", "not a length of time"),
        ("order add sell 1 BTC/USD --price 1 --file -", "more than one way"),
        ("order add --file /nowhere/at/all", "cannot read /nowhere/at/all"),
        ("order add --file /dev/null --note hi", "--note is not for orders in JSON"),
        (f"order amend {ID}", "nothing is to change"),
        ("order show abc", "not an id"),
        (f"order accept {ID} --wait long", "not a valid float"),
        ("order list --limit many", "not a valid int"),
        ("order list A/B C/D", "unexpected extra argument"),
        ("order lst", "Did you mean 'list'"),
        ("ordr", "Did you mean 'order'"),
        ("order list --colour red", "no such option"),
        ("book", "missing argument"),
        ("start --node 3001", "no such option"),
        ("start --port x", "not a valid int"),
        ("start --port 70000", "70000 is not a port"),
        ("start --bootstrap nonsense", "'nonsense' is not an address"),
        ("start --network=", "the network's name is empty"),
        ("start --network main --pow-bits 0", "cannot be changed"),
        ("logs -n -1", "cannot be negative"),
    ],
)
def test_misuse_is_one_line_and_exit_2(dhtex: Dhtex, node: FakeNode, command: str, says: str) -> None:
    result = dhtex(command)
    assert (result.status, result.out, node.calls) == (2, "", [])
    assert result.err.startswith("error: ")
    assert says in result.err
    assert result.err.count("\n") == 1


def test_misuse_is_json_where_json_is_asked_for(dhtex: Dhtex) -> None:
    for command in (
        "order add --json {",
        "order add --json {} --mailbox",
        "order add --json - --expires 1h",
        "order list --limit many --json",
        "--json order list --limit many",
        "order show --json",
    ):
        result = dhtex(command)
        assert (result.status, json.loads(result.err)["error"]["code"]) == (2, "usage")


def test_watching_prints_events_as_they_come(dhtex: Dhtex, node: FakeNode) -> None:
    moment = {"sequence": 1, "timestamp": ORDER["timestamp"], "datetime": ORDER["datetime"]}
    nothing = {"order": None, "trade": None, "text": None, "fraction": None}
    seen = [
        {**moment, **nothing, "type": "order", "order": ORDER},
        {**moment, **nothing, "type": "trade", "trade": TRADE},
        {**moment, **nothing, "type": "lost", "text": "2 events were dropped\x07"},
    ]
    node.events = [(str(event["type"]), event) for event in seen] + [("", KeyboardInterrupt())]
    result = dhtex("order watch BTC/USD")
    assert (result.status, result.err) == (0, "following BTC/USD until Ctrl-C\n")
    assert dhtex("order watch BTC/USD --json").err == ""
    assert result.out.splitlines() == [
        f"22:13:20  open      {ID}  sell 1 BTC at 50000 USD",
        "22:13:20  confirmed 7777777777  1 BTC/USD at 50000",
        "22:13:20  2 events were dropped\\x07",
    ]
    result = dhtex("order watch BTC/USD --json")
    assert [json.loads(line) for line in result.out.splitlines()] == seen
    assert node.calls[0] == ("GET", "/v1/watch?pair=BTC%2FUSD", None)


def test_a_stream_that_the_node_ends_is_exit_6(dhtex: Dhtex) -> None:
    result = dhtex("order watch BTC/USD")
    assert result.status == 6
    assert "ended the stream" in result.err


def test_listing_with_gaps_names_them() -> None:
    line = coverage_line
    assert line({**COVERAGE, "answered": 7, "agreed": 6, "complete": False}, {}) == (
        "7 of 8 holders answered, 6 agree; the answer may be incomplete"
    )
    for alone in (0, 1):
        assert line({**COVERAGE, "asked": alone, "answered": alone, "agreed": alone, "complete": False}, {}) == (
            "no other node was asked: this node knows no peer; the answer may be incomplete"
        )
    nothing = dict.fromkeys(COVERAGE, 0) | {"complete": False}
    assert line(nothing, {}) == "this node knows no pair yet: name one; the answer may be incomplete"
    assert line(COVERAGE, {"limit": 3}) == "8 of 8 holders answered and agree; hidden: 3 beyond the limit"
