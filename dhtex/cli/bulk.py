"""Many orders from a file: several at once, because stamps are minted on all cores, but answered in their order."""

import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from typing import Any, BinaryIO, Final, Self

from dhtex.cli import render
from dhtex.cli.drafts import drafts_from_lines
from dhtex.cli.progress import Progress
from dhtex.cli.session import Interrupted, Session, is_terminal, path_of
from dhtex.cli.text import plural
from dhtex.errors import DhtexError, NotRunningError, OutcomeUnknownError, UsageError

PARALLEL: Final = 4
FAILURES_NAMED_MAX: Final = 20  # a file of another kind would fill the screen; programs are told of each


def publish_all(session: Session, source: str) -> int:
    """Publish every line of a file, or of the input (`-`). Returns the exit code of the first failure, or 0. Raises
    Interrupted, once it is told what became of the lines that were under way."""
    shows_progress = is_terminal(sys.stderr) and not is_terminal(sys.stdout)
    with (
        opened(source) as file,
        Progress("publishing", sys.stderr) if shows_progress else nullcontext() as progress,
        Batch(session, progress) as batch,
    ):
        try:
            batch.send(file)
        except KeyboardInterrupt:
            ending = batch.give_up()
            session.note(batch.summary())
            raise Interrupted(ending, hint="see: dhtex order list --mine") from None
    if batch.failures:
        session.note(batch.summary())
        return batch.failures[0].exit_status
    if not batch.published:
        raise UsageError(f"there is no order in {_name(source)}", hint="one JSON object a line")
    return 0


class Batch:
    """Lines on their way: a few at once, each told in its place."""

    def __init__(self, session: Session, progress: Progress | None) -> None:
        self.published = 0
        self.failures: list[DhtexError] = []
        self._session = session
        self._progress = progress
        self._last_told = 0
        self._waiting: deque[tuple[int, Future[Any]]] = deque()
        self._pool = ThreadPoolExecutor(PARALLEL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def send(self, file: BinaryIO) -> None:
        """Publish line by line. Ends early, and says so, when there is no node any more."""
        for number, draft in drafts_from_lines(file):
            sent: Future[Any] = Future()
            self._waiting.append((number, sent))  # before it is sent: Ctrl-C may come between the two
            if isinstance(draft, UsageError):
                sent.set_result(draft)
            else:
                self._pool.submit(self._publish, draft, sent)
            if len(self._waiting) > PARALLEL and isinstance(self._tell_first(), NotRunningError):
                self._session.complain(NotRunningError(self.give_up(), hint="start the node again, and send the rest"))
                return
        while self._waiting:
            self._tell_first()

    def give_up(self) -> str:
        """Send nothing more, wait for what is under way, and say where it ended. After a second Ctrl-C it is said at
        once, though the process ends when the node has answered or was silent for too long."""
        for _, sent in reversed(self._waiting):  # from the end, so that none begins behind one that is called off
            sent.cancel()
        with suppress(KeyboardInterrupt):
            while self._waiting and _came_to_nothing(self._waiting[-1][1]):
                self._waiting.pop()
            while self._waiting:
                self._tell_first()
        if self._waiting:
            first, last = self._waiting[0][0], self._waiting[-1][0]
            return f"lines {first} to {last} are under way, nothing behind them was published"
        return f"nothing behind line {self._last_told} was published" if self._last_told else "nothing was published"

    def summary(self) -> str:
        """How many lines came to what."""
        unknown = sum(isinstance(error, OutcomeUnknownError) for error in self.failures)
        failed = len(self.failures)
        text = f"{plural(self.published, 'order')} published, {plural(failed - unknown, 'line')} not"
        text += f", {plural(unknown, 'line')} perhaps (see: dhtex order list --mine)" if unknown else ""
        return text + (f"; only the first {FAILURES_NAMED_MAX} are named" if failed > FAILURES_NAMED_MAX else "")

    def _publish(self, draft: dict[str, Any], sent: Future[Any]) -> None:
        if not sent.set_running_or_notify_cancel():
            return
        try:
            sent.set_result(self._session.call("POST", path_of("orders"), draft))
        except DhtexError as error:
            sent.set_result(error)
        except BaseException as error:
            sent.set_exception(error)
            raise

    def _tell_first(self) -> Any:
        """Wait for the first line that is on its way, and tell what became of it."""
        number, sent = self._waiting[0]
        outcome = sent.result()
        if isinstance(outcome, DhtexError):
            self.failures.append(outcome)
            named = len(self.failures) <= FAILURES_NAMED_MAX or isinstance(outcome, OutcomeUnknownError)
            if self._session.json or named:
                self._session.complain(outcome, number)
        else:
            self.published += 1
            self._session.show({"line": number, **outcome} if self._session.json else outcome, render.published)
        if self._progress is not None:
            self._progress.doing = f"published {plural(self.published, 'order')}"
        self._last_told = number
        self._waiting.popleft()
        return outcome


def _came_to_nothing(sent: Future[Any]) -> bool:
    return sent.cancelled() or isinstance(sent.result(), UsageError | NotRunningError)


@contextmanager
def opened(source: str) -> Iterator[BinaryIO]:
    """A file to read, or the input (`-`). Raises UsageError."""
    if source == "-":
        if sys.stdin is None:
            raise UsageError("the input is closed", hint="give a file with one object a line")
        yield sys.stdin.buffer
        return
    try:
        file = open(source, "rb")  # noqa: SIM115 (closed below; only the opening is guarded)
    except OSError as error:
        raise UsageError(
            f"cannot read {source[:200]}: {error.strerror}", hint="give a file with one object a line"
        ) from error
    with file:
        yield file


def _name(source: str) -> str:
    return "the input" if source == "-" else source[:200]
