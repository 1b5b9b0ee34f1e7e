"""Requests and answers of the control interface, through real sockets and the real client."""

import asyncio
import http.client
import json
import socket
import stat
from typing import Any

import pytest

from dhtex import errors, limits
from dhtex.control import api, client
from dhtex.control.client import Client, error_from
from dhtex.marketviews import QuoteQuery, StatsQuery, TakeRequest
from dhtex.views import AcceptRequest, Amendment, OrderDraft, OrderQuery, TradeQuery
from tests.unit.control.conftest import TOKEN, Served
from tests.unit.control.fakes import until

DRAFT = {"side": "sell", "amount": "1", "pair": "BTC/USD", "price": "50000"}


async def ask(served: Served, method: str, path: str, body: Any = None, client: Client | None = None) -> Any:
    return await asyncio.to_thread((client or served.unix_client).call, method, path, body)


async def raw(served: Served, message: bytes, tcp: bool = False) -> tuple[int, dict[str, Any]]:
    """Send bytes as they are; the status and the JSON body of the answer."""

    def exchange() -> bytes:
        link = socket.create_connection(served.tcp[:2], 5) if tcp else socket.socket(socket.AF_UNIX)
        with link:
            link.settimeout(5)
            if not tcp:
                link.connect(str(served.socket))
            link.sendall(message)
            return b"".join(iter(lambda: link.recv(65536), b""))

    head, _, body = (await asyncio.to_thread(exchange)).partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def post(path: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Connection: close", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def test_every_route_reaches_its_method(served: Served) -> None:
    assert (await ask(served, "GET", "/v1/status"))["network"] == "lab"
    (peer,) = await ask(served, "GET", "/v1/peers")
    assert (peer["kind"], peer["failures"]) == ("dhtex", 2)
    assert await ask(served, "POST", "/v1/connect", {"address": "[::1]:3002"}) == {
        "address": "[::1]:3002",
        "connected": True,
    }
    assert (await ask(served, "POST", "/v1/orders", DRAFT))["holders"] == 3
    listing = await ask(served, "GET", "/v1/orders?pair=BTC/EUR&limit=7&mine=true&min_price=1.50")
    assert listing["orders"][0]["symbol"] == "BTC/EUR"
    assert listing["hidden"] == {}
    assert (await ask(served, "GET", "/v1/book?pair=BTC/USD&limit=5"))["bids"] == []
    assert (await ask(served, "GET", "/v1/orders/abcdef"))["status"] == "open"
    assert (await ask(served, "POST", "/v1/orders/abcdef/cancel"))["status"] == "canceled"
    assert (await ask(served, "POST", "/v1/orders/renew"))[0]["status"] == "open"
    best = {"pair": "BTC/USD", "side": "buy", "amount": "1"}
    assert (await ask(served, "POST", "/v1/orders/accept", best))["tries"][0]["code"] == "taken"
    assert (await ask(served, "GET", "/v1/quote?pair=BTC/USD&side=sell&amount=2&min_price=9"))["filled"] == "0"
    assert (await ask(served, "POST", "/v1/take", best))["tries"][0]["code"] == "taken"
    assert (await ask(served, "GET", "/v1/pairs"))["pairs"] == []
    assert (await ask(served, "GET", "/v1/stats?pair=BTC/USD&limit=5"))["timeframe"] == "1h"
    assert (await ask(served, "GET", "/v1/export?pair=BTC/USD"))["records"] == []
    assert (await ask(served, "POST", "/v1/import", {"records": ["eA=="]}))["results"][0]["state"] == "invalid"
    assert len((await ask(served, "POST", "/v1/orders/cancel", {"pair": "BTC/USD"}))["canceled"]) == 1
    await ask(served, "POST", "/v1/orders/abcdef/amend", {"price": "2"})
    assert (await ask(served, "POST", "/v1/orders/abcdef/accept"))["state"] == "confirmed"
    await ask(served, "POST", "/v1/orders/abcdef/confirm", {"accept": "123456", "reply": "yes"})
    assert (await ask(served, "POST", "/v1/orders/abcdef/decline", {}))["code"] == "declined"
    assert (await ask(served, "GET", "/v1/trades?limit=9&after=efefef"))["next"] is None
    assert (await ask(served, "GET", "/v1/trades/efefef"))["role"] == "taker"
    assert served.node.calls == [
        ("connect", "::1", 3002),
        ("add_order", OrderDraft(**DRAFT)),  # type: ignore[arg-type]
        ("list_orders", OrderQuery(pair="BTC/EUR", limit=7, mine=True, min_price="1.50")),
        ("book", "BTC/USD", 5),
        ("show_order", "abcdef"),
        ("cancel_order", "abcdef"),
        ("renew_orders",),
        ("accept_best", TakeRequest(pair="BTC/USD", side="buy", amount="1")),
        ("quote", QuoteQuery(pair="BTC/USD", side="sell", amount="2", min_price="9")),
        ("take", TakeRequest(pair="BTC/USD", side="buy", amount="1")),
        ("pairs",),
        ("stats", StatsQuery(pair="BTC/USD", limit=5)),
        ("export_orders", "BTC/USD"),
        ("import_records", ["eA=="]),
        ("cancel_orders", "BTC/USD"),
        ("amend_order", "abcdef", Amendment(price="2")),
        ("accept_order", "abcdef", AcceptRequest()),
        ("confirm_order", "abcdef", "123456", "yes"),
        ("decline_order", "abcdef", ""),
        ("list_trades", TradeQuery(limit=9, after="efefef")),
        ("trade", "efefef"),
    ]


async def test_stop_answers_and_then_tells_the_daemon(served: Served) -> None:
    assert await ask(served, "POST", "/v1/stop") == {"stopping": True}
    assert served.stops == [True]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/orders", b"{"),
        ("/v1/orders", b"[1]"),
        ("/v1/orders", b""),
        ("/v1/orders", b"\xff\xfe"),
        ("/v1/orders", b'{"side":"\xff"}'),
        ("/v1/orders", b'{"side": 5, "amount": "1", "pair": "x", "price": "1"}'),
        ("/v1/orders", json.dumps({**DRAFT, "odd\n\u001b[31m": 1}).encode()),
        ("/v1/orders", b"[" * 100_000),
        ("/v1/orders/abcdef/cancel", b'{"now": true}'),
        ("/v1/orders/abcdef/accept", b'{"wait_s": -1}'),
        ("/v1/orders/abcdef/accept", b'{"wait_s": 1e308}'),
        ("/v1/connect", b'{"address": "nowhere"}'),
        ("/v1/connect", b'{"address": "::1:3001"}'),
    ],
)
async def test_a_bad_body_is_a_usage_error_in_one_line(served: Served, path: str, body: bytes) -> None:
    status, answer = await raw(served, post(path, body))
    assert (status, answer["error"]["code"], answer["error"]["exit_status"]) == (400, "usage", 2)
    assert answer["error"]["message"].isprintable()
    assert len(answer["error"]["message"]) <= 400
    assert served.node.calls == []


@pytest.mark.parametrize("wait_s", [float("nan"), float("inf"), -float("inf"), 1e308, 86_401])
async def test_a_wait_that_nobody_can_wait_is_out_of_range(served: Served, wait_s: float) -> None:
    with pytest.raises(errors.UsageError) as caught:
        await ask(served, "POST", "/v1/orders/abcdef/accept", {"wait_s": wait_s})
    assert str(caught.value) == "the time to wait is out of range (0 to 86400 seconds)"


async def test_a_body_that_is_too_long_is_refused(served: Served) -> None:
    body = {"side": "x" * (limits.CONTROL_BODY_BYTES_MAX + 1)}
    with pytest.raises(errors.UsageError, match="more than"):
        await ask(served, "POST", "/v1/orders", body)


@pytest.mark.parametrize(
    "query",
    ["colour=red", "limit=many", "limit=0", "limit=-5", "limit=100001", "limit=1&limit=2", "mine=perhaps", "limit="],
)
async def test_a_bad_query_is_a_usage_error(served: Served, query: str) -> None:
    for path in ("/v1/orders", "/v1/trades"):
        with pytest.raises(errors.UsageError):
            await ask(served, "GET", f"{path}?{query}")


async def test_unknown_paths_and_methods_are_named(served: Served) -> None:
    with pytest.raises(errors.NotFoundError, match="/v1/nothing"):
        await ask(served, "GET", "/v1/nothing")
    with pytest.raises(errors.NotFoundError):
        await ask(served, "GET", "/v1/orders/")
    with pytest.raises(errors.UsageError, match="Method Not Allowed"):
        await ask(served, "POST", "/v1/status")


NODE_ERRORS = [
    errors.UsageError("u", hint="do this"),
    errors.StateError("s"),
    errors.PortInUseError("p"),
    errors.NotFoundError("n"),
    errors.RefusedError("r", reason="taken", hint="h"),
    errors.OutcomeUnknownError("o"),
    errors.NotRunningError("x"),
    errors.NoPeerError("y"),
    errors.VerificationError("z"),
]


@pytest.mark.parametrize("error", NODE_ERRORS, ids=lambda error: error.code)
@pytest.mark.parametrize("path", ["/v1/orders/abcdef/cancel", "/v1/orders/abcdef/amend"])
async def test_an_error_arrives_as_what_it_was(served: Served, error: errors.DhtexError, path: str) -> None:
    served.node.error = error
    with pytest.raises(type(error)) as caught:
        await ask(served, "POST", path)
    assert type(caught.value) is type(error)
    assert (caught.value.message, caught.value.hint) == (error.message, error.hint)
    assert getattr(caught.value, "reason", None) == getattr(error, "reason", None)


async def test_a_defect_is_told_without_its_details_and_logged(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    served.node.error = RuntimeError("secret detail")
    with pytest.raises(errors.DhtexError, match="the node made a mistake") as caught:
        await ask(served, "GET", "/v1/orders")
    assert (caught.value.code, caught.value.exit_status) == ("internal", 1)
    assert "secret detail" in caplog.text
    served.node.error = None
    await ask(served, "GET", "/v1/orders")


def test_an_error_of_a_newer_node_keeps_its_code_and_status() -> None:
    error = error_from({"error": {"code": "novel", "message": "m", "hint": "h", "exit_status": 9}})
    assert (error.code, error.exit_status, str(error)) == ("novel", 9, "m (h)")
    wrong: list[Any] = [None, [], {}, {"error": None}, {"error": {"code": "usage"}}]
    for nonsense in wrong:
        assert error_from(nonsense).exit_status == 1


async def test_the_socket_is_for_its_owner_only(served: Served) -> None:
    assert stat.S_IMODE(served.socket.stat().st_mode) == 0o600


async def test_the_tcp_port_asks_for_the_token(served: Served) -> None:
    host, port, _ = served.tcp
    assert (await ask(served, "GET", "/v1/status", client=Client(served.tcp)))["port"] == 0
    for wrong in ("", "x", TOKEN + "t", "ü"):
        with pytest.raises(errors.VerificationError) as caught:
            await ask(served, "GET", "/v1/status", client=Client((host, port, wrong)))
        assert caught.value.exit_status == 8


@pytest.mark.parametrize(
    ("host", "extra", "allowed"),
    [
        ("127.0.0.1:{port}", [], True),
        ("localhost:{port}", [], True),
        ("LOCALHOST:{port}", ["Origin: http://localhost:{port}"], True),
        ("127.0.0.1:{port}", ["Origin: http://127.0.0.1:{port}"], True),
        ("127.0.0.1", [], False),
        ("evil.example:{port}", [], False),
        ("127.0.0.1:{port}", ["Origin: http://evil.example"], False),
        ("127.0.0.1:{port}", ["Origin: null"], False),
        ("127.0.0.1:{port}", ["Origin: https://127.0.0.1:{port}"], False),
        ("127.0.0.1:{port}", ["X-Forwarded-For: 127.0.0.1", "Origin: http://127.0.0.1:1"], False),
    ],
)
async def test_the_tcp_port_checks_host_and_origin(served: Served, host: str, extra: list[str], allowed: bool) -> None:
    lines = ["POST /v1/stop HTTP/1.1", f"Host: {host}", f"Authorization: Bearer {TOKEN}", "Connection: close", *extra]
    message = "\r\n".join([*lines, "Content-Length: 0", "", ""]).format(port=served.tcp[1])
    status, answer = await raw(served, message.encode(), tcp=True)
    assert (status == 200) is allowed
    assert bool(served.stops) is allowed
    if not allowed:
        assert (status, answer["error"]["code"]) == (403, "verification")


async def test_a_caller_that_is_gone_before_it_is_seen_is_not_trusted(served: Served) -> None:
    """A connection reset early has no peer address, as one from a Unix socket has none."""

    def hit_and_run() -> None:
        for _ in range(30):
            with socket.create_connection(served.tcp[:2]) as link:
                link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                link.sendall(post("/v1/stop", b""))

    await asyncio.to_thread(hit_and_run)
    await ask(served, "GET", "/v1/status")
    assert served.stops == []


async def test_a_missing_or_dead_socket_means_not_running(served: Served) -> None:
    with pytest.raises(errors.NotRunningError) as caught:
        await ask(served, "GET", "/v1/status", client=Client(served.socket.with_name("none")))
    assert "dhtex nodes" in caught.value.hint
    await served.server.close()
    assert served.socket.exists()
    with pytest.raises(errors.NotRunningError):
        await ask(served, "GET", "/v1/status")
    with pytest.raises(errors.NotRunningError):
        await ask(served, "GET", "/v1/status", client=Client(served.tcp))


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("GET", "/v1/orders", errors.NotRunningError),
        ("POST", "/v1/doctor", errors.NotRunningError),
        ("POST", "/v1/orders/abcdef/cancel", errors.OutcomeUnknownError),
    ],
)
async def test_a_silent_node_is_given_up(served: Served, method: str, path: str, kind: type[errors.DhtexError]) -> None:
    served.node.wait = asyncio.Event()
    with pytest.raises(kind, match="silent"):
        await ask(served, method, path, client=Client(served.socket, silence_s=0.1))
    served.node.wait.set()


@pytest.mark.parametrize("path_asked", ["/v1/status", "/v1/trades?limit=9"])
async def test_what_a_node_has_at_hand_is_not_waited_for_long(
    served: Served, monkeypatch: pytest.MonkeyPatch, path_asked: str
) -> None:
    monkeypatch.setattr(client, "READY_SILENCE_S", 0.05)
    link = socket.socket(socket.AF_UNIX)
    path = served.socket.with_name("hung.sock")
    link.bind(str(path))
    link.listen()
    with pytest.raises(errors.NotRunningError, match="silent for 0 seconds"):
        await asyncio.to_thread(client.Client(path, silence_s=5).call, "GET", path_asked)
    link.close()


@pytest.mark.parametrize(("method", "kind"), [("GET", errors.NotRunningError), ("POST", errors.OutcomeUnknownError)])
async def test_a_node_that_dies_while_it_answers_may_have_done_what_was_asked(
    method: str, kind: type[errors.DhtexError]
) -> None:
    async def die(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(die, "127.0.0.1", 0)
    async with server:
        client = Client(("127.0.0.1", server.sockets[0].getsockname()[1], "x"))
        with pytest.raises(kind):
            await asyncio.to_thread(lambda: list(client.stream(method, "/v1/watch")))


async def test_what_is_no_node_is_said_so() -> None:
    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail ready\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server:
        client = Client(("127.0.0.1", server.sockets[0].getsockname()[1], "x"))
        with pytest.raises(errors.DhtexError, match="no dhtex node"):
            await asyncio.to_thread(client.call, "GET", "/v1/status")


async def test_a_path_must_be_quoted(served: Served) -> None:
    for path in ("/v1/orders?pair=BTC/USD x", "/v1/status\r\nHost: x", "/v1/ü"):
        with pytest.raises(errors.UsageError):
            await ask(served, "GET", path)


async def test_an_operation_reports_its_progress(served: Served) -> None:
    served.node.fractions = [0.25, 0.5]
    seen: list[float] = []
    answer = await asyncio.to_thread(served.unix_client.call, "POST", "/v1/orders", DRAFT, seen.append)
    assert seen == [0.25, 0.5]
    assert answer["holders"] == 3


async def test_the_table_names_no_route_twice() -> None:
    keys = [(route.method, route.path) for route in api.ROUTES]
    assert len(set(keys)) == len(keys)
    assert all((route.run is None) != (route.stream is None) for route in api.ROUTES)


@pytest.mark.parametrize("path", ["/nowhere", "/v1/why/", "/v1/status"])
async def test_a_query_that_is_no_text_is_the_callers_fault(served: Served, path: str) -> None:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"a=\xff", "headers": [], "root_path": ""}
    await served.server._app(scope, receive, send)
    assert sent[0]["status"] in (400, 404)


async def test_closing_lets_an_answer_finish(served: Served) -> None:
    served.node.wait = asyncio.Event()
    pending = asyncio.create_task(ask(served, "GET", "/v1/book?pair=BTC/USD"))
    await until(lambda: served.node.calls)
    closing = asyncio.create_task(served.server.close())
    await asyncio.sleep(0)
    served.node.wait.set()
    assert (await pending)["coverage"]["complete"] is True
    await closing


async def test_a_supervisor_sees_by_the_status_code_whether_the_node_is_ready(served: Served) -> None:
    assert (await asyncio.to_thread(served.unix_client.call, "GET", "/healthz"))["ready"] is True
    served.node.ready = False
    status, _, body = await asyncio.to_thread(fetched, served, "/healthz")
    assert status == 503
    assert b'"joining"' in body


async def test_a_monitor_reads_numbers_as_text(served: Served) -> None:
    status, kind, body = await asyncio.to_thread(fetched, served, "/metrics")
    assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert body == b"dhtex_peers 0\n"


def fetched(served: Served, path: str) -> tuple[int, str, bytes]:
    """Status, content type and body of a GET through the TCP door."""
    host, port, token = served.tcp
    link = http.client.HTTPConnection(host, port, timeout=10)
    link.request("GET", path, headers={"Authorization": f"Bearer {token}"})
    answer = link.getresponse()
    found = answer.status, answer.getheader("content-type") or "", answer.read()
    link.close()
    return found
