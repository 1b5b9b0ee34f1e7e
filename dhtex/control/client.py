"""A client of the control interface made of sockets and json alone, because every command line call loads it.

One connection per request. The node sends a comment every 15 seconds where it has nothing else to say, so a silence
of a minute means that it hangs.
"""

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, BinaryIO, Final

from dhtex import limits
from dhtex.errors import (
    DhtexError,
    NotRunningError,
    OutcomeUnknownError,
    RefusedError,
    UsageError,
    VerificationError,
    went_away,
)

CONNECT_S_MAX: Final = 5.0
SILENCE_S_MAX: Final = 60.0
READY_ANSWERS: Final = ("/v1/status", "/v1/peers", "/v1/trades")  # the node has these at hand
READY_SILENCE_S: Final = 5.0
LINE_BYTES_MAX: Final = 1 << 16
HEADER_LINES_MAX: Final = 100

Address = str | os.PathLike[str] | tuple[str, int, str]
"""The path of a Unix socket; or host, port and token."""


class Client:
    """Talks to one running node; after `silence_s` without a word from it, it is given up."""

    def __init__(self, address: Address, *, silence_s: float = SILENCE_S_MAX) -> None:
        self._address = address
        self._silence_s = silence_s

    def call(self, method: str, path: str, body: Any = None, progress: Callable[[float], None] | None = None) -> Any:
        """The answer to one request, as JSON reads it; `progress` is told how far it is.

        Raises the error that the node names; NotRunningError if there is no node, OutcomeUnknownError if it goes
        or is silent before it has answered, and may have done what was asked for.
        """
        for event, value in self._exchange(method, path, body):
            if event in ("", "result"):
                return value
            if event == "progress" and progress is not None:
                progress(value["fraction"])
        raise went_away()

    def stream(self, method: str, path: str, body: Any = None) -> Iterator[tuple[str, Any]]:
        """Events as they come, each a type and a value, until the node ends them. Raises as `call` does."""
        for event, value in self._exchange(method, path, body):
            yield event or "result", value

    def _silence_of(self, path: str) -> float:
        is_ready = path.partition("?")[0] in READY_ANSWERS
        return min(self._silence_s, READY_SILENCE_S) if is_ready else self._silence_s

    def _exchange(self, method: str, path: str, body: Any) -> Iterator[tuple[str, Any]]:
        """The events of a stream, or one event without a name."""
        try:
            yield from self._talk(method, path, body)
        except OutcomeUnknownError as error:
            if method != "GET" and path != "/v1/doctor":
                raise
            raise NotRunningError(error.message, hint=error.hint) from None  # nothing was to be done

    def _talk(self, method: str, path: str, body: Any) -> Iterator[tuple[str, Any]]:
        silence_s = self._silence_of(path)
        with self._connect() as link:
            link.settimeout(silence_s)
            try:
                self._send(link, method, path, body)
                with link.makefile("rb") as reader:
                    status, headers = _head(reader)
                    pieces = _pieces(reader, headers)
                    if not headers.get("content-type", "").startswith("text/event-stream"):
                        yield "", _value(status, b"".join(pieces))
                        return
                    for event, value in _events(pieces):
                        if event == "error":
                            raise error_from(value)
                        yield event, value
            except TimeoutError:
                raise OutcomeUnknownError(
                    f"the node has been silent for {silence_s:.0f} seconds", hint="see what it says: dhtex logs"
                ) from None
            except OSError:
                raise went_away() from None
            except DhtexError:
                raise
            except ValueError:
                raise _foreign() from None

    def _connect(self) -> socket.socket:
        try:
            if isinstance(self._address, tuple):
                return socket.create_connection(self._address[:2], CONNECT_S_MAX)
            link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            link.settimeout(CONNECT_S_MAX)
            try:
                _check_owner(self._address)
                link.connect(os.fspath(self._address))
            except BaseException:
                link.close()
                raise
            return link
        except OSError as error:
            raise NotRunningError(
                f"no node answers: {error.strerror or 'it took too long'}", hint="see which run: dhtex nodes"
            ) from None

    def _send(self, link: socket.socket, method: str, path: str, body: Any) -> None:
        if not path.isascii() or any(character <= " " for character in path):
            raise UsageError("a path of the control interface must be quoted")
        content = b"" if body is None else _encoded(body)
        lines = [f"{method} {path} HTTP/1.1", "Accept: text/event-stream", "Connection: close"]
        if isinstance(self._address, tuple):
            host, port, token = self._address
            lines += [f"Host: {host}:{port}", f"Authorization: Bearer {token}"]
        else:
            lines.append("Host: localhost")
        if body is not None or method == "POST":
            lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
        message = "\r\n".join([*lines, "", ""]).encode() + content
        with suppress(BrokenPipeError, ConnectionResetError):  # a long body may be refused early: the answer says why
            link.sendall(message)


def check_wait(wait_s: float) -> None:
    """Raise UsageError for a time that nobody may wait. The node asks this too, but JSON has no word for `inf`."""
    if not 0 <= wait_s <= limits.ACCEPT_DEADLINE_S_MAX:
        raise UsageError("the time to wait is out of range", hint=f"0 to {limits.ACCEPT_DEADLINE_S_MAX} seconds")


def _encoded(body: Any) -> bytes:
    if isinstance(body, dict) and "wait_s" in body:
        check_wait(body["wait_s"])
    try:
        return json.dumps(body, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        named = [name for name, value in body.items() if isinstance(value, str) and not _is_text(value)]
        raise UsageError(f"the {named[0] if named else 'text'} is not valid text", hint="write it in UTF-8") from error


def _is_text(value: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _check_owner(path: str | os.PathLike[str]) -> None:
    """A socket of somebody else in our place would read what we say."""
    if os.stat(path).st_uid not in (os.getuid(), 0):
        raise VerificationError(f"the control socket {os.fspath(path)} belongs to somebody else")


def _foreign() -> DhtexError:
    return DhtexError("what answers is no dhtex node")


def _line(reader: BinaryIO) -> bytes:
    line = reader.readline(LINE_BYTES_MAX)
    if not line.endswith(b"\n"):
        raise went_away()
    return line.rstrip(b"\r\n")


def _head(reader: BinaryIO) -> tuple[int, dict[str, str]]:
    version, _, rest = _line(reader).partition(b" ")
    digits = rest[:3]
    if not version.startswith(b"HTTP/1.") or not digits.isdigit():
        raise _foreign()
    headers: dict[str, str] = {}
    for _ in range(HEADER_LINES_MAX):
        line = _line(reader).decode("latin-1")
        if not line:
            return int(digits), headers
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    raise _foreign()


def _pieces(reader: BinaryIO, headers: dict[str, str]) -> Iterator[bytes]:
    """The body, as it arrives: chunked, of a known length, or up to the end of the connection."""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        while size := int(_line(reader).partition(b";")[0], 16):
            yield _exactly(reader, size)
            _line(reader)
    elif "content-length" in headers:
        yield _exactly(reader, int(headers["content-length"]))
    else:
        yield reader.read()


def _exactly(reader: BinaryIO, size: int) -> bytes:
    data = reader.read(size)
    if len(data) < size:
        raise went_away()
    return data


def _value(status: int, body: bytes) -> Any:
    try:
        value = json.loads(body)
    except ValueError:
        raise DhtexError(f"the node answered {status} with something that is no JSON") from None
    if status >= 400:
        raise error_from(value)
    return value


def _events(pieces: Iterator[bytes]) -> Iterator[tuple[str, Any]]:
    """Split a text/event-stream. Each field stands on one line, as the node writes it."""
    rest = b""
    event, data = "message", b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            name, _, text = line.rstrip(b"\r").partition(b":")
            text = text.removeprefix(b" ")
            if name == b"event":
                event = text.decode()
            elif name == b"data":
                data = text
            elif not line and data:
                yield event, json.loads(data)
                event, data = "message", b""


def error_from(value: Any) -> DhtexError:
    """The error that a node described; one of a newer node keeps its code and exit status."""
    try:
        problem = value["error"]
        code, status = str(problem["code"]), int(problem["exit_status"])
        message, hint, reason = str(problem["message"]), str(problem.get("hint", "")), str(problem.get("reason", ""))
    except (TypeError, KeyError, ValueError, AttributeError):
        return DhtexError("the node answered with an error that cannot be read")
    if code == RefusedError.code:
        return RefusedError(message, reason=reason, hint=hint)
    known: dict[str, type[DhtexError]] = {kind.code: kind for kind in DhtexError.__subclasses__()}
    if code in known:
        return known[code](message, hint=hint)
    foreign: type[DhtexError] = type("ForeignError", (DhtexError,), {"code": code, "exit_status": status})
    return foreign(message, hint=hint)
