"""Answers of the control interface: values and errors as JSON."""

import logging
from typing import Any, Final

import msgspec
from starlette.responses import Response

from dhtex.control import api
from dhtex.errors import (
    DhtexError,
    IncompleteError,
    NoPeerError,
    NotFoundError,
    NotRunningError,
    OutcomeUnknownError,
    PortInUseError,
    RefusedError,
    StateError,
    UsageError,
    VerificationError,
)

log = logging.getLogger(__name__)

HEADERS: Final = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
STATUS: Final[dict[type[DhtexError], int]] = {
    UsageError: 400,
    VerificationError: 403,
    NotFoundError: 404,
    RefusedError: 409,
    PortInUseError: 409,
    StateError: 500,
    NotRunningError: 503,
    NoPeerError: 503,
    IncompleteError: 503,
    OutcomeUnknownError: 504,
}
MESSAGE_CHARS_MAX: Final = 400


def describe(error: BaseException) -> tuple[int, api.ErrorView]:
    """The status and body that tell a caller about an error; one of ours that has no name is logged."""
    if not isinstance(error, DhtexError):
        log.error("a control request failed", exc_info=error)
        error = DhtexError("the node made a mistake", hint="its log says more: dhtex logs")
    problem = api.Problem(
        code=error.code,
        message=_one_line(error.message),
        hint=_one_line(error.hint),
        exit_status=error.exit_status,
        reason=error.reason if isinstance(error, RefusedError) else None,
    )
    status = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)
    return status, api.ErrorView(error=problem)


def _one_line(text: str) -> str:
    clean = "".join(character if character.isprintable() else " " for character in text)
    return clean if len(clean) <= MESSAGE_CHARS_MAX else clean[: MESSAGE_CHARS_MAX - 1] + "…"


def json_answer(status: int, value: Any) -> Response:
    """A value of `dhtex.views` or `dhtex.control.api`, as it goes out."""
    return Response(msgspec.json.encode(value), status, HEADERS, "application/json")


def plain_answer(text: str) -> Response:
    """Text, as monitors read it."""
    return Response(text, 200, HEADERS, "text/plain; version=0.0.4; charset=utf-8")


def failure(error: BaseException) -> Response:
    """The answer that tells about an error."""
    return json_answer(*describe(error))
