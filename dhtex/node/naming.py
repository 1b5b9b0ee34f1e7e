"""From the first digits of an id to the thing that is meant."""

import re
from collections.abc import Iterable
from typing import Final, TypeVar

from dhtex import limits
from dhtex.errors import NotFoundError, UsageError
from dhtex.market.ids import ID_DIGITS, RecordId

_HEX: Final = re.compile(r"[0-9a-f]+")
Thing = TypeVar("Thing")


def digits_of(prefix: str) -> str:
    """The digits that a person gave, lower case. Raises UsageError unless they are 6 to 64 hex digits."""
    digits = prefix.strip().lower()
    if _HEX.fullmatch(digits) is None or len(digits) > ID_DIGITS:
        raise UsageError(f"'{prefix[:70]}' is not an id", hint=f"an id is up to {ID_DIGITS} hex digits")
    if len(digits) < limits.ID_PREFIX_DIGITS_MIN:
        raise UsageError(f"the id '{digits}' is too short", hint=f"give at least {limits.ID_PREFIX_DIGITS_MIN} digits")
    return digits


def whole(digits: str) -> RecordId | None:
    """The id, if all its digits were given."""
    return RecordId(bytes.fromhex(digits)) if len(digits) == ID_DIGITS else None


def only(digits: str, things: Iterable[tuple[RecordId, Thing]], what: str, hint: str) -> Thing:
    """The one thing whose id begins with these digits. Raises NotFoundError or, for several, UsageError."""
    found = {thing_id: thing for thing_id, thing in things if thing_id.hex().startswith(digits)}
    if len(found) > 1:
        raise UsageError(f"'{digits}' fits {len(found)} {what}s", hint="give more digits of the id")
    if not found:
        raise NotFoundError(f"no {what} {digits[:12]} is known here", hint=hint)
    return found.popitem()[1]
