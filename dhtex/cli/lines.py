"""The lines of a file, numbered as an editor numbers them."""

from collections.abc import Iterator
from typing import BinaryIO

from dhtex.errors import UsageError


def numbered_lines(file: BinaryIO, bytes_max: int) -> Iterator[tuple[int, bytes | None]]:
    """Every line with its number; None stands for one that is longer than it may be, of which no more is kept."""
    number = 0
    while line := _read(file, bytes_max + 1):
        number += 1
        is_long = len(line) > bytes_max
        yield number, None if is_long else line
        while is_long and line and not line.endswith(b"\n"):
            line = _read(file, bytes_max)


def _read(file: BinaryIO, bytes_max: int) -> bytes:
    try:
        return file.readline(bytes_max)
    except OSError as error:
        raise UsageError(f"the input cannot be read: {error.strerror}") from error
