"""Many orders from a file: several at once, because stamps are minted on all cores, but answered in their order."""

import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from typing import Any, BinaryIO, Final

from dhtex.cli import render
from dhtex.cli.drafts import drafts_from_lines
from dhtex.cli.progress import Progress
from dhtex.cli.session import Session, is_terminal, path_of
from dhtex.cli.text import plural
from dhtex.errors import DhtexError, NotRunningError, UsageError

PARALLEL: Final = 4
FAILURES_NAMED_MAX: Final = 20  # a file of another kind would fill the screen; programs are told of each


def publish_all(session: Session, source: str) -> int:
    """Publish every line of a file, or of the input (`-`). Returns the exit code of the first failure, or 0."""
    failures: list[DhtexError] = []
    published = 0
    shows_progress = is_terminal(sys.stderr) and not is_terminal(sys.stdout)
    with opened(source) as file, Progress("publishing", sys.stderr) if shows_progress else nullcontext() as progress:
        for number, outcome in _outcomes(session, file):
            if isinstance(outcome, DhtexError):
                failures.append(outcome)
                if session.json or len(failures) <= FAILURES_NAMED_MAX:
                    session.complain(outcome, number)
            else:
                published += 1
                session.show({"line": number, **outcome} if session.json else outcome, render.published)
            if progress is not None:
                progress.doing = f"published {plural(published, 'order')}"
    if failures:
        unnamed = f"; only the first {FAILURES_NAMED_MAX} are named" if len(failures) > FAILURES_NAMED_MAX else ""
        session.note(f"{plural(published, 'order')} published, {plural(len(failures), 'line')} not{unnamed}")
        return failures[0].exit_status
    if not published:
        raise UsageError(f"there is no order in {_name(source)}", hint="one JSON object a line")
    return 0


def _outcomes(session: Session, file: BinaryIO) -> Iterator[tuple[int, Any]]:
    """What became of each line, in order; a few are on their way at once. Ends early when there is no node."""

    def publish(draft: dict[str, Any]) -> Any:
        try:
            return session.call("POST", path_of("orders"), draft)
        except DhtexError as error:
            return error

    pool = ThreadPoolExecutor(PARALLEL)
    waiting: deque[tuple[int, Future[Any] | UsageError]] = deque()
    try:
        for number, draft in drafts_from_lines(file):
            waiting.append((number, draft if isinstance(draft, UsageError) else pool.submit(publish, draft)))
            if len(waiting) > PARALLEL:
                number, outcome = _settled(*waiting.popleft())
                yield number, outcome
                if isinstance(outcome, NotRunningError):
                    break
        while waiting:
            yield _settled(*waiting.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _settled(number: int, outcome: Future[Any] | UsageError) -> tuple[int, Any]:
    return number, outcome.result() if isinstance(outcome, Future) else outcome


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
