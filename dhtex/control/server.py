"""The control server: one Starlette application in the node's own event loop, made from the table of routes.

Who may use it is decided at its doors (`dhtex.control.doors`) before a request gets here.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route as StarletteRoute

from dhtex import limits
from dhtex.control import api, openapi
from dhtex.control.answers import describe, failure, json_answer, plain_answer
from dhtex.control.doors import Door, Guard
from dhtex.control.face import NodeFace
from dhtex.control.streams import MEDIA_TYPE, EventStream, Streams, steps, views
from dhtex.errors import DhtexError, NotFoundError, NotRunningError, OutcomeUnknownError, UsageError
from dhtex.views import HealthView

STOPPED: Final = "the node stopped"
RESTART: Final = "start it again: it goes on where it was; see dhtex trade list and dhtex order list --mine"

LASTING: Final = frozenset({"signed", "sent"})  # the steps of an operation after which a restarted node goes on with it


def farewell(goes_on: bool) -> DhtexError:
    """What is told to whoever waits for an operation when the node stops."""
    if goes_on:
        return OutcomeUnknownError(STOPPED, hint=RESTART)
    return NotRunningError(f"{STOPPED} before anything was signed", hint="start it again, and repeat the command")


class ControlServer:
    """Serves a node's control interface until closed."""

    def __init__(self, node: NodeFace, stop: Callable[[], None]) -> None:
        self._node = node
        self._stop = stop
        self._streams = Streams()
        self._doors: list[Door] = []
        self._app = self._build()

    async def open(self, unix: socket.socket, tcp: socket.socket | None = None, token: str = "") -> None:
        """Answer on these bound sockets; returns when both listen."""
        self._doors.append(Door(self._app, unix))
        if tcp is not None:
            self._doors.append(Door(Guard(self._app, tcp.getsockname()[1], token), tcp))
        for door in self._doors:
            await door.open()

    async def close(self) -> None:
        """End all streams, finish the answers under way, close the sockets; takes about a second at most."""
        self._streams.closing.set()
        await asyncio.gather(*(door.close() for door in self._doors))
        self._doors.clear()

    def _build(self) -> Starlette:
        routes = [
            StarletteRoute(route.path, self._endpoint(route), methods=[route.method], name=f"{route.method}{number}")
            for number, route in enumerate(api.ROUTES)
        ]
        routes.append(StarletteRoute(openapi.PATH, _openapi, methods=["GET"]))
        app = Starlette(routes=routes, exception_handlers={HTTPException: _no_route})
        app.router.redirect_slashes = False
        return app

    def _endpoint(self, route: api.Route) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            try:
                return await self._answer(route, request)
            except ClientDisconnect:
                return Response(status_code=400)
            except Exception as error:  # the border: whatever went wrong, the caller is told and the node lives on
                return failure(error)

        return endpoint

    async def _answer(self, route: api.Route, request: Request) -> Response:
        call = api.Call(
            node=self._node,
            stop=self._stop,
            id=request.path_params.get("id", ""),
            query=decode_query(request, route.query),
            body=decode_body(await read_body(request), route.body),
        )
        stream, run = route.stream, route.run
        if stream is not None:
            return await EventStream.begin(
                self._streams, lambda: views(stream(call)), lambda: NotRunningError(STOPPED, hint=RESTART)
            )
        assert run is not None, "a route answers once or streams"
        if route.steps and MEDIA_TYPE in request.headers.get("accept", ""):
            said: set[str] = set()
            return await EventStream.begin(
                self._streams, lambda: steps(run, call, said), lambda: farewell(bool(said & LASTING))
            )
        value = await run(call)
        if route.plain:
            return plain_answer(value)
        return json_answer(503 if isinstance(value, HealthView) and not value.ready else 200, value)


async def read_body(request: Request) -> bytes:
    """The body of a request. Raises UsageError when it is too long."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limits.CONTROL_BODY_BYTES_MAX:
            raise UsageError(f"the request has more than {limits.CONTROL_BODY_BYTES_MAX} bytes")
    return bytes(body)


def decode_body(body: bytes, kind: type[msgspec.Struct]) -> msgspec.Struct:
    """The body as the type of its route; an empty one stands for {}. Raises UsageError."""
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"the request's body is wrong: {error}") from error


def decode_query(request: Request, kind: type[msgspec.Struct]) -> msgspec.Struct:
    """The query as the type of its route. Raises UsageError for what is unknown, repeated or malformed."""
    pairs = request.query_params.multi_items()
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise UsageError("a query parameter is given twice")
    try:
        return msgspec.convert(fields, kind, strict=False)
    except msgspec.MsgspecError as error:
        raise UsageError(f"the request's query is wrong: {error}") from error


async def _openapi(_request: Request) -> Response:
    return json_answer(200, openapi.document())


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.scope["path"]  # `request.url` decodes the query as well, and that may be no text
    if error.status_code == 404:
        return failure(NotFoundError(f"there is no {path}", hint=f"see {openapi.PATH}"))
    _, view = describe(UsageError(f"{request.method} {path}: {error.detail}", hint=f"see {openapi.PATH}"))
    return json_answer(error.status_code, view)
