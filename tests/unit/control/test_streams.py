"""Server-sent events: in order, closed when nobody reads, bounded in number, and never in the way of a stop."""

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from dhtex import errors, limits
from dhtex.control.client import Client
from tests.unit.control.conftest import Served
from tests.unit.control.fakes import until

DRAFT = {"side": "sell", "amount": "1", "pair": "BTC/USD", "price": "50000"}


async def following(stream: Iterator[tuple[str, Any]]) -> tuple[str, Any] | None:
    return await asyncio.to_thread(next, stream, None)


async def open_raw(served: Served, request: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_unix_connection(str(served.socket))
    writer.write(request)
    await writer.drain()
    return reader, writer


async def finish(writer: asyncio.StreamWriter) -> None:
    writer.close()
    await writer.wait_closed()


GET_EVENTS = b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("path", ["/v1/events", "/v1/watch?pair=BTC/USD"])
async def test_events_arrive_in_order(served: Served, path: str) -> None:
    stream = served.unix_client.stream("GET", path)
    first = asyncio.create_task(following(stream))
    await until(lambda: served.node.queues)
    for text in ("one", "two\nlines", "drei — ü"):
        served.node.tell(text)
    found = [await first, await following(stream), await following(stream)]
    assert [(event, value["text"]) for event, value in filter(None, found)] == [
        ("network", "one"),
        ("network", "two\nlines"),
        ("network", "drei — ü"),
    ]
    stream.close()  # type: ignore[attr-defined]
    await until(lambda: not served.node.queues)


async def test_a_reader_that_goes_is_unsubscribed(served: Served) -> None:
    _, writer = await open_raw(served, GET_EVENTS)
    await until(lambda: served.node.queues)
    await finish(writer)
    await until(lambda: not served.node.queues)


async def test_a_source_that_ends_ends_the_stream(served: Served) -> None:
    stream = served.unix_client.stream("GET", "/v1/events")
    first = asyncio.create_task(following(stream))
    await until(lambda: served.node.queues)
    served.node.queues[0].put_nowait(None)
    assert await first is None


async def test_a_source_that_fails_at_once_is_a_plain_error(served: Served) -> None:
    served.node.error = errors.UsageError("no such pair")
    reader, writer = await open_raw(served, b"GET /v1/watch?pair=x HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 400")
    await finish(writer)
    with pytest.raises(errors.UsageError, match="no such pair"):
        await following(served.unix_client.stream("GET", "/v1/watch?pair=x"))


async def test_quiet_streams_have_a_heartbeat(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CONTROL_HEARTBEAT_S", 0.02)
    client = Client(served.socket, silence_s=1.0)
    stream = client.stream("GET", "/v1/events")
    first = asyncio.create_task(following(stream))
    await until(lambda: served.node.queues)
    reader, writer = await open_raw(served, GET_EVENTS)
    for _ in range(3):
        await asyncio.wait_for(reader.readuntil(b":\n\n"), 5)
    await finish(writer)
    served.node.tell("after the comments")
    assert (await first or ("", {}))[1]["text"] == "after the comments"
    stream.close()  # type: ignore[attr-defined]


async def test_streams_are_bounded(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CONTROL_STREAMS_MAX", 2)
    kept = [await open_raw(served, GET_EVENTS) for _ in range(2)]
    await until(lambda: len(served.node.queues) == 2)
    with pytest.raises(errors.RefusedError) as caught:
        await following(served.unix_client.stream("GET", "/v1/events"))
    assert caught.value.reason == "rate_limited"
    assert len(served.node.queues) == 2
    await finish(kept[0][1])
    await until(lambda: len(served.node.queues) == 1)
    again = await open_raw(served, GET_EVENTS)
    await until(lambda: len(served.node.queues) == 2)
    for _, writer in (kept[1], again):
        await finish(writer)


async def test_an_operation_streams_progress_and_result(served: Served) -> None:
    served.node.fractions = [0.1, 0.9]
    stream = served.unix_client.stream("POST", "/v1/orders", DRAFT)
    found = [await following(stream) for _ in range(4)]
    assert found[:2] == [("progress", {"fraction": 0.1}), ("progress", {"fraction": 0.9})]
    assert found[2] is not None
    assert (found[2][0], found[2][1]["holders"]) == ("result", 3)
    assert found[3] is None


@pytest.mark.parametrize("path", ["/v1/orders", "/v1/pairs"])
async def test_who_reads_many_pairs_is_told_how_far_it_is(served: Served, path: str) -> None:
    served.node.fractions = [0.1, 0.9]
    told: list[float] = []
    view = await asyncio.to_thread(served.unix_client.call, "GET", path, None, told.append)
    assert (told, view["hidden"]) == ([0.1, 0.9], {})


@pytest.mark.parametrize("path", ["/v1/orders", "/v1/pairs"])
async def test_a_long_reading_is_not_taken_for_silence_and_ends_with_its_reader(
    served: Served, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(limits, "CONTROL_HEARTBEAT_S", 0.02)
    served.node.wait = asyncio.Event()
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n"
    reader, writer = await open_raw(served, request.encode())
    for _ in range(3):
        await asyncio.wait_for(reader.readuntil(b":\n\n"), 5)
    await finish(writer)
    await asyncio.wait_for(served.node.cancelled.wait(), 5)


async def test_an_operation_that_fails_ends_with_its_error(served: Served) -> None:
    served.node.fractions = [0.1]
    served.node.error = errors.RefusedError("too late", reason="taken")
    stream = served.unix_client.stream("POST", "/v1/orders/abcdef/accept", {"wait_s": 1})
    assert await following(stream) == ("progress", {"fraction": 0.1})
    with pytest.raises(errors.RefusedError) as caught:
        await following(stream)
    assert caught.value.reason == "taken"


async def test_a_caller_that_goes_cancels_its_operation(served: Served) -> None:
    served.node.wait = asyncio.Event()
    body = b'{"side":"sell","amount":"1","pair":"BTC/USD","price":"1"}'
    request = b"POST /v1/orders HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nContent-Length: %d\r\n\r\n" % len(
        body
    )
    _, writer = await open_raw(served, request + body)
    await until(lambda: served.node.calls)
    await finish(writer)
    await asyncio.wait_for(served.node.cancelled.wait(), 5)


async def test_closing_ends_streams_and_operations_at_once(served: Served) -> None:
    served.node.wait, served.node.signs_first = asyncio.Event(), True
    stream = served.unix_client.stream("GET", "/v1/events")
    waiting = asyncio.create_task(following(stream))
    operation = asyncio.create_task(
        asyncio.to_thread(served.unix_client.call, "POST", "/v1/orders/abcdef/accept", {"wait_s": 30})
    )
    await until(lambda: served.node.queues and served.node.calls)
    async with asyncio.timeout(2.5):
        await served.server.close()
    with pytest.raises(errors.NotRunningError, match="stopped"):
        await waiting
    with pytest.raises(errors.OutcomeUnknownError, match="stopped") as unknown:
        await operation
    assert "dhtex trade list" in unknown.value.hint
    assert served.node.cancelled.is_set()
    assert served.node.queues == []


@pytest.mark.parametrize("goes_on", [True, False])
@pytest.mark.parametrize("path", ["orders", "orders/abcdef/accept"])
async def test_closing_says_whether_an_operation_goes_on(served: Served, path: str, goes_on: bool) -> None:
    served.node.wait, served.node.signs_first = asyncio.Event(), goes_on
    body = DRAFT if path == "orders" else {}
    operation = asyncio.create_task(asyncio.to_thread(served.unix_client.call, "POST", f"/v1/{path}", body))
    await until(lambda: served.node.calls)
    await served.server.close()
    with pytest.raises(errors.OutcomeUnknownError if goes_on else errors.NotRunningError) as caught:
        await operation
    assert ("goes on where it was" if goes_on else "repeat the command") in caught.value.hint


async def test_closing_does_not_wait_for_a_reader_that_reads_nothing(served: Served) -> None:
    link = socket.socket(socket.AF_UNIX)
    link.connect(str(served.socket))
    link.sendall(GET_EVENTS)
    await until(lambda: served.node.queues)
    for _ in range(200):
        served.node.tell("x" * 20_000)
    async with asyncio.timeout(2.5):
        await served.server.close()
    link.close()
    await until(lambda: not served.node.queues)


async def test_each_order_that_is_tried_is_told_before_the_result(served: Served) -> None:
    wish = {"pair": "BTC/USD", "side": "buy", "amount": "1"}
    stream = served.unix_client.stream("POST", "/v1/orders/accept", wish)
    found = [await following(stream) for _ in range(2)]
    assert [event and event[0] for event in found] == ["tried", "result"]
    assert found[0] is not None
    assert found[0][1]["code"] == "taken"
