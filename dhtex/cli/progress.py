"""One line on a terminal that shows that something is going on, and how far it is."""

import threading
from typing import Final, Self, TextIO

from dhtex.cli.session import ERASE_LINE

BAR_CHARS: Final = 24
FRAME_S: Final = 0.1
_WHEEL: Final = "|/-\\"


class Progress:
    """Repaints itself until it is left: a bar while a fraction below 1 is known, else a turning wheel. Nothing in the
    first `quiet_s`."""

    def __init__(self, doing: str, stream: TextIO, quiet_s: float = 0.0) -> None:
        self._fraction: float | None = None
        self.doing = doing
        self._stream = stream
        self._quiet_s = quiet_s
        self._done = threading.Event()
        self._painter = threading.Thread(target=self._paint, daemon=True)

    def __enter__(self) -> Self:
        self._painter.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._painter.join()
        self._write(ERASE_LINE)

    def advance(self, fraction: float) -> None:
        """Say how far it is; from 1 on it is only waiting."""
        self._fraction = fraction if fraction < 1 else None

    def _paint(self) -> None:
        turn = 0
        self._done.wait(self._quiet_s)
        while not self._done.wait(FRAME_S):
            self._write(ERASE_LINE + frame(self.doing, self._fraction, turn))
            turn += 1

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:
            self._done.set()


def frame(doing: str, fraction: float | None, turn: int) -> str:
    """One picture: `signing [#####     ] 21%`, or a wheel."""
    if fraction is None:
        return f"{doing} {_WHEEL[turn % len(_WHEEL)]}"
    within = min(1.0, max(0.0, fraction))
    filled = int(within * BAR_CHARS)
    return f"{doing} [{'#' * filled}{' ' * (BAR_CHARS - filled)}] {within:4.0%}"
