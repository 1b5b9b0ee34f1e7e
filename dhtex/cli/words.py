"""Words that many commands share: ids, lengths of time, policies. Only their form is checked."""

import re
from typing import Final

from dhtex import limits
from dhtex.errors import UsageError

_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION: Final = re.compile(r"(?:[0-9]{1,9}[smhdw])+")
_PART: Final = re.compile(r"([0-9]+)([smhdw])")
SEALED: Final = f"at most {limits.MESSAGE_BYTES_MAX} bytes of UTF-8"
"""How long a text to the other side may be."""
_ID: Final = re.compile(rf"[0-9a-f]{{{limits.ID_PREFIX_DIGITS_MIN},64}}")


def duration(text: str) -> int:
    """Seconds of `90s`, `30m`, `24h`, `7d`, `1d12h`. Raises UsageError."""
    plain = text.strip().lower()
    if _DURATION.fullmatch(plain) is None:
        raise UsageError(f"'{text[:40]}' is not a length of time", hint="write it like 30m, 24h or 7d")
    return sum(int(number) * _UNITS_S[unit] for number, unit in _PART.findall(plain))


def record_id(text: str) -> str:
    """The id of an order, trade or accept, or its beginning. Raises UsageError."""
    plain = text.strip().lower()
    if _ID.fullmatch(plain) is None:
        raise UsageError(
            f"'{text[:70]}' is not an id",
            hint=f"give its first {limits.ID_PREFIX_DIGITS_MIN} or more digits (0-9, a-f), as the lists show them",
        )
    return plain


def optional_id(text: str) -> str:
    """As `record_id`, but nothing stays nothing."""
    return record_id(text) if text else ""


def side(text: str) -> str:
    """A side in whichever case it was typed; what it means is the node's to judge."""
    return text.strip().lower()


def liveness(mailbox: bool) -> str:
    """The liveness policy that `--mailbox` means."""
    return "mailbox" if mailbox else "beat"


def confirm(ask: bool) -> str:
    """The confirm policy that `--ask` means."""
    return "ask" if ask else "auto"
