"""What one run of the command line shares: which node it talks to, and in which form its answers are printed.

A command parses its words, asks the node through `Session.call` and hands the answer to `Session.show` together with
a function that turns it into lines. With `--json` the very same answer is printed as it came, so people and programs
always see the same values.
"""

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, TextIO
from urllib.parse import quote, urlencode

import typer

from dhtex.cli.coverage import gaps
from dhtex.cli.text import Page, clean
from dhtex.clock import SystemClock
from dhtex.errors import DhtexError, IncompleteError, went_away

if TYPE_CHECKING:
    from dhtex.cli.progress import Progress

ERASE_LINE: Final = "\r\x1b[2K"
Lines = Callable[[Any, Page], Iterable[str]]


class ReaderGone(BaseException):
    """Nobody reads the output any more."""


class Interrupted(DhtexError):
    """Stopped by Ctrl-C. What was signed by then counts all the same."""

    code = "interrupted"
    exit_status = 130


class OutputError(DhtexError):
    """The output cannot be written: it is closed, or there is no room for it."""

    code = "output"
    exit_status = 141


class Api(Protocol):
    """The part of `dhtex.control.client.Client` that the command line needs."""

    def call(self, method: str, path: str, body: Any = None, progress: Callable[[float], None] | None = None) -> Any:
        """One answer; `progress` is told a fraction from time to time. Raises DhtexError."""
        ...

    def stream(self, method: str, path: str, body: Any = None) -> Iterator[tuple[str, Any]]:
        """Named events until the node ends the stream. Raises DhtexError."""
        ...


def connect(node: str | None) -> Api:
    """A client of the node that the user means. Raises NotRunningError, or UsageError when several are running."""
    from dhtex import config, nodefiles
    from dhtex.control.client import Client

    return Client(nodefiles.choose_socket(config.home_folder(), node))


@dataclass(slots=True)
class Session:
    """The global options, and everything that is printed. `connect` is replaced in tests."""

    node: str | None = None
    json: bool = False
    connect: Callable[[str | None], Api] = connect

    def call(self, method: str, path: str, body: Any = None, query: Mapping[str, Any] | None = None) -> Any:
        """Ask the node. Raises DhtexError."""
        return self.connect(self.node).call(method, with_query(path, query), body)

    def work(self, path: str, body: Any, doing: str) -> Any:
        """Ask for something that takes a while; somebody who sits at a terminal sees how far it is. Raises
        Interrupted, which says what was reached by then."""
        reached = None
        try:
            for event, value in self.steps(path, body, doing):
                if event == "result":
                    return value
                reached = event, value
        except KeyboardInterrupt:
            raise interrupted(reached) from None
        raise went_away()

    def look(self, path: str, query: Mapping[str, Any] | None, doing: str) -> Any:
        """Ask for what may take a while to read; who sits at a terminal for more than a second sees how far it is."""
        for event, value in self.steps(with_query(path, query), None, doing, method="GET", quiet_s=1.0):
            if event == "result":
                return value
        raise went_away()

    def steps(
        self, path: str, body: Any, doing: str, *, method: str = "POST", quiet_s: float = 0.0
    ) -> Iterator[tuple[str, Any]]:
        """What happens while something takes a while, at last its `result`; at a terminal, how far it is between."""
        with self._progress(doing, quiet_s) as progress:
            for event, value in self.connect(self.node).stream(method, path, body):
                if event != "progress":
                    yield event, value
                elif progress is not None:
                    progress.advance(value["fraction"])

    def _progress(self, doing: str, quiet_s: float) -> "AbstractContextManager[Progress | None]":
        if self.json or not is_terminal(sys.stderr):
            return nullcontext()
        from dhtex.cli.progress import Progress

        return Progress(doing, sys.stderr, quiet_s)

    def events(self, path: str, query: Mapping[str, Any] | None = None) -> Iterator[tuple[str, Any]]:
        """Follow a stream of the node. Raises DhtexError."""
        return self.connect(self.node).stream("GET", with_query(path, query))

    def show(self, value: Any, lines: Lines) -> None:
        """Print an answer: as text made by `lines`, or as one line of JSON."""
        if self.json:
            print(to_json(value), flush=True)
            return
        for line in lines(value, page_of(sys.stdout)):
            print(line)
        sys.stdout.flush()

    def note(self, text: str) -> None:
        """Tell people something beside the answer. Programs read it from the answer."""
        if not self.json:
            _say(clean(text))

    def complain(self, error: DhtexError, line: int | None = None) -> None:
        """Print an error on one line of stderr: what is wrong and what to do next."""
        where = {} if line is None else {"line": line}
        if self.json:
            fields = {
                "code": error.code,
                "message": error.message,
                "hint": error.hint,
                "exit_status": error.exit_status,
            }
            reason = getattr(error, "reason", None)
            text = to_json({"error": {**where, **fields, **({"reason": reason} if reason else {})}})
        else:
            place = "" if line is None else f"line {line}: "
            text = f"error: {place}{clean(str(error))}"
        _say(text)


def _say(line: str) -> None:
    """One line on stderr, if that can be; on a terminal it takes the place of a progress line that may stand there."""
    if sys.stderr is None:
        return
    try:
        print(f"{ERASE_LINE if is_terminal(sys.stderr) else ''}{line}", file=sys.stderr, flush=True)
    except OSError:
        silence(2)


def silence(number: int) -> None:
    """Let what is still to be written to stdout (1) or stderr (2) go nowhere: the interpreter, which tries once more
    at its end, must not fail there."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), number)


def interrupted(reached: tuple[str, Any] | None) -> Interrupted:
    """What Ctrl-C means after the last step that the node told of."""
    step, view = reached or ("", {})
    if step == "signed":
        return Interrupted(f"order {view['id'][:10]} is published", hint=f"see: dhtex order show {view['id'][:10]}")
    if step == "sent":
        named = view["id"] if "id" in view else view["order"]["id"]
        return Interrupted("the accept stays on its way", hint=f"see later: dhtex trade show {named[:10]}")
    return Interrupted(
        "stopped before anything was said to be signed", hint="see: dhtex order list --mine, dhtex trade list"
    )


def complain_of_gaps(view: Any) -> None:
    """After an answer was shown: raises IncompleteError when prices are missing from it."""
    if text := gaps(view):
        raise IncompleteError(text, hint="try again; see: dhtex peers")


def session_of(context: typer.Context) -> Session:
    """The session of a running command."""
    session = context.obj
    assert isinstance(session, Session), "the main function makes the session"
    return session


def to_json(value: Any) -> str:
    """One line of JSON in plain ASCII, so that no character of a stranger can steer a terminal."""
    return json.dumps(value, ensure_ascii=True)


def with_query(path: str, query: Mapping[str, Any] | None) -> str:
    """A path with those parameters that say something; empty ones and flags that are not set are left out."""
    said = {
        name: "true" if value is True else str(value) for name, value in (query or {}).items() if value is not False
    }
    said = {name: value for name, value in said.items() if value}
    return f"{path}?{urlencode(said)}" if said else path


def path_of(*parts: str) -> str:
    """A path of the control interface made from words, each harmless in its place."""
    return "/v1/" + "/".join(quote(part, safe="") for part in parts)


def is_terminal(stream: TextIO) -> bool:
    """Whether a person looks at this stream."""
    try:
        return stream.isatty()
    except (AttributeError, ValueError):
        return False


def page_of(stream: TextIO) -> Page:
    """What is printed on: a terminal has a width, and colours unless the user said no (https://no-color.org)."""
    terminal = is_terminal(stream)
    width = None
    if terminal:
        import shutil

        width = max(40, shutil.get_terminal_size().columns)
    colours = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    unicode = (stream.encoding or "").lower().replace("-", "").startswith("utf")
    return Page(now=SystemClock().now(), width=width, colours=colours, unicode=unicode)
