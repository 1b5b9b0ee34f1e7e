"""Ending with the reader of the output: `dhtex order watch BTC/USD | head -1`.

A program learns that its reader has gone when it writes, and a quiet stream may not write for hours. So while one is
followed, a thread waits for the pipe to break and interrupts whatever the main thread waits for.
"""

import os
import select
import signal
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dhtex.cli.session import ReaderGone


@contextmanager
def reader_watched() -> Iterator[None]:
    """Within this, ReaderGone is raised in the main thread as soon as nobody reads the output any more."""
    pipe = _pipe()
    if pipe is None:
        yield
        return
    before = signal.signal(signal.SIGPIPE, _leave)
    threading.Thread(target=_wait, args=(pipe, threading.get_ident()), daemon=True).start()
    try:
        yield
    finally:
        signal.signal(signal.SIGPIPE, before)  # the interpreter ignores it, so a late signal does no harm


def _pipe() -> int | None:
    """The output, if it is something that another program reads."""
    try:
        number = sys.stdout.fileno()
        mode = os.fstat(number).st_mode
    except (OSError, ValueError, AttributeError):
        return None
    return number if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) else None


def _wait(pipe: int, main: int) -> None:
    poll = select.poll()
    poll.register(pipe, 0)  # nothing but its end
    poll.poll()
    signal.pthread_kill(main, signal.SIGPIPE)


def _leave(*_: Any) -> None:
    raise ReaderGone
