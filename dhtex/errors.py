"""One tree of errors: each knows its stable code, its exit status and the next step for the person who sees it.

Two kinds of blame are kept apart. What *we* or *our user* did wrong is an exception from this file. What a *peer* did
wrong is a value (`dhtex.market.records.Fault`, a refusal code, a counter): nothing a stranger sends may raise.
"""

from typing import ClassVar


class DhtexError(Exception):
    """Base of all errors that a user may see: one line saying what is wrong, and what to do next.

    `code` is stable and machine-readable; `exit_status` is the exit code of the command line (0 is success).
    """

    code: ClassVar[str] = "internal"
    exit_status: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class UsageError(DhtexError, ValueError):
    """The request itself is wrong: an unknown pair form, a negative amount, a bad option.

    A ValueError too, so that a body that fails its own checks while being decoded counts as malformed.
    """

    code = "usage"
    exit_status = 2


class StateError(DhtexError):
    """The node's state on disk cannot be used: corrupt, unwritable, or written by a newer version."""

    code = "state"
    exit_status = 2


class PortInUseError(DhtexError):
    """Another program, or another node, has the UDP port."""

    code = "port_in_use"
    exit_status = 2


class NotFoundError(DhtexError):
    """No such order, trade or node."""

    code = "not_found"
    exit_status = 3


class RefusedError(DhtexError):
    """A valid request that the rules of the market or a peer refuse; `reason` is the refusal code."""

    code = "refused"
    exit_status = 4

    def __init__(self, message: str, *, reason: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class OutcomeUnknownError(DhtexError):
    """The answer did not arrive in the time that was given to wait; what was to be done may be done."""

    code = "outcome_unknown"
    exit_status = 5


def went_away(hint: str = "see what it says: dhtex logs") -> OutcomeUnknownError:
    """The end of an answer of the node before its end."""
    return OutcomeUnknownError("the node went away before it had answered", hint=hint)


class NotRunningError(DhtexError):
    """No background node answers: none runs, or it is silent."""

    code = "not_running"
    exit_status = 6


class NoPeerError(DhtexError):
    """No peer can be reached."""

    code = "no_peer"
    exit_status = 7


class VerificationError(DhtexError):
    """A signature, hash or stamp is wrong, or access was denied (wrong token)."""

    code = "verification"
    exit_status = 8


class IncompleteError(DhtexError):
    """Holders of a part of the book could not be read: a range of prices is missing from what was shown."""

    code = "incomplete"
    exit_status = 9
