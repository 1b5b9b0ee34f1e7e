"""Answers that take their time, as server-sent events.

Every stream ends in one of four ways: its source ends, its source fails (an `error` event), its reader goes, or the
node stops. Whichever it is, the source is closed, which unsubscribes it or cancels the operation behind it.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any, Final

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from dhtex import limits
from dhtex.control import api
from dhtex.control.answers import HEADERS, describe
from dhtex.errors import DhtexError, RefusedError
from dhtex.views import EventView

Event = tuple[str, bytes]
"""The type of an event, and its data as JSON."""

Farewell = Callable[[], DhtexError]
"""What a reader is told when the node stops."""

MEDIA_TYPE: Final = "text/event-stream"


class Streams:
    """All open streams of a control server: how many there are, and the signal that ends them."""

    def __init__(self) -> None:
        self.closing = asyncio.Event()
        self.open = 0


class EventStream(Response):
    """An answer of server-sent events. Made by `begin`."""

    media_type = MEDIA_TYPE

    def __init__(self, streams: Streams, source: AsyncGenerator[Event, None], farewell: Farewell) -> None:
        super().__init__(headers=HEADERS)
        del self.headers["content-length"]
        self._streams = streams
        self._farewell = farewell
        self._source = source
        self._step = asyncio.create_task(_next(source))

    @classmethod
    async def begin(
        cls, streams: Streams, source: Callable[[], AsyncGenerator[Event, None]], farewell: Farewell
    ) -> "EventStream":
        """Open the source and take the first step: what fails at once can still be answered with a plain error.

        `farewell` makes what the reader is told when the node stops, once the source is closed.
        Raises RefusedError when too many streams are open.
        """
        if streams.open >= limits.CONTROL_STREAMS_MAX:
            raise RefusedError("too many open event streams", reason="rate_limited", hint="close one of them first")
        stream = cls(streams, source(), farewell)
        await asyncio.sleep(0)
        if stream._step.done():
            stream._step.result()
        streams.open += 1
        return stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.create_task(_disconnect(receive))
        closing = asyncio.create_task(self._streams.closing.wait())
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await self._relay(send, gone, closing)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._streams.open -= 1
            for task in (gone, closing):
                task.cancel()
            await asyncio.gather(gone, closing, return_exceptions=True)
            await self._close()

    async def _close(self) -> None:
        self._step.cancel()
        await asyncio.gather(self._step, return_exceptions=True)
        await self._source.aclose()

    async def _relay(self, send: Send, gone: "asyncio.Task[None]", closing: "asyncio.Task[bool]") -> None:
        while True:
            done, _ = await asyncio.wait(
                {self._step, gone, closing},
                timeout=limits.CONTROL_HEARTBEAT_S,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if self._step in done:
                event, is_last = self._outcome()
                await send(_chunk(event))
                if is_last:
                    return
                self._step = asyncio.create_task(_next(self._source))
            elif gone in done:
                return
            elif closing in done:
                await self._close()
                await send(_chunk(_error_event(self._farewell())))
                return
            else:
                await send({"type": "http.response.body", "body": b":\n\n", "more_body": True})

    def _outcome(self) -> tuple[Event | None, bool]:
        error = self._step.exception()
        if error is not None:
            return _error_event(error), True
        event = self._step.result()
        return event, event is None


async def views(source: AsyncIterator[EventView]) -> AsyncGenerator[Event, None]:
    """The node's own events."""
    try:
        async for event in source:
            yield event.type, msgspec.json.encode(event)
    finally:
        if isinstance(source, AsyncGenerator):
            await source.aclose()


async def steps(
    run: Callable[[api.Call], Awaitable[Any]], call: api.Call, said: set[str]
) -> AsyncGenerator[Event, None]:
    """An operation: `progress` events and others that it tells of, then its `result`. Closing this cancels it. `said`
    takes the names of the steps that were reached."""
    told: asyncio.Queue[tuple[str, Any] | None] = asyncio.Queue()

    def progress(fraction: float) -> None:
        tell("progress", api.ProgressView(fraction=fraction))

    def tell(step: str, view: Any) -> None:
        said.add(step)
        told.put_nowait((step, view))

    operation = asyncio.ensure_future(run(replace(call, progress=progress, tell=tell)))
    operation.add_done_callback(lambda _: told.put_nowait(None))
    try:
        while (event := await told.get()) is not None:
            yield event[0], msgspec.json.encode(event[1])
        yield "result", msgspec.json.encode(operation.result())
    finally:
        operation.cancel()
        await asyncio.gather(operation, return_exceptions=True)


async def _next(source: AsyncGenerator[Event, None]) -> Event | None:
    try:
        return await anext(source)
    except StopAsyncIteration:
        return None


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _error_event(error: BaseException) -> Event:
    return "error", msgspec.json.encode(describe(error)[1])


def _chunk(event: Event | None) -> dict[str, Any]:
    body = b"" if event is None else b"event: %b\ndata: %b\n\n" % (event[0].encode(), event[1])
    return {"type": "http.response.body", "body": body, "more_body": True}
