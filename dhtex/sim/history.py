"""What happened in a run, as a running hash and as counts: two runs are the same history if the hashes are equal."""

import hashlib
from collections import Counter
from collections.abc import Callable
from typing import Final

_SEPARATOR: Final = b"\0"


class History:
    """Everything that is told to it, in order. `trace` hears each line, for whoever looks for a difference."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self.counts: Counter[str] = Counter()
        self.violations: list[str] = []
        self.trace: Callable[[str], None] | None = None

    def note(self, now: float, what: str, data: bytes = b"") -> None:
        """Something happened at a virtual time."""
        line = f"{now:.9f} {what} "
        self._hash.update(line.encode() + len(data).to_bytes(4) + data + _SEPARATOR)
        if self.trace is not None:
            self.trace(line + data.hex())

    def violation(self, now: float, which: str, text: str) -> None:
        """An invariant does not hold."""
        line = f"[{which}] at {now:.3f} s: {text}"
        self.note(now, line)
        if line not in self.violations:
            self.violations.append(line)

    @property
    def digest(self) -> str:
        """The hash of all so far, in hex."""
        return self._hash.hexdigest()
