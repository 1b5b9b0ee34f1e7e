"""The node's errors as ccxt's classes."""

from typing import Final

from ccxt.base import errors as ccxt_errors

from dhtex import errors

# By refusal code; what is not here was a valid request that cannot be fulfilled (any more).
_REFUSALS: Final = {
    "rate_limited": ccxt_errors.RateLimitExceeded,
    "amount_out_of_range": ccxt_errors.InvalidOrder,
    "self_trade": ccxt_errors.InvalidOrder,
    "stamp_too_low": ccxt_errors.InvalidOrder,
    "not_live": ccxt_errors.OrderNotFillable,
    "declined": ccxt_errors.OrderNotFillable,
}
_KINDS: Final = {
    errors.NotFoundError: ccxt_errors.OrderNotFound,
    errors.NotRunningError: ccxt_errors.ExchangeNotAvailable,
    errors.NoPeerError: ccxt_errors.NetworkError,
    errors.IncompleteError: ccxt_errors.NetworkError,
    errors.OutcomeUnknownError: ccxt_errors.RequestTimeout,
    errors.VerificationError: ccxt_errors.AuthenticationError,
    errors.UsageError: ccxt_errors.BadRequest,
}


def translated(error: errors.DhtexError, usage: type[Exception] | None = None) -> Exception:
    """The error of ccxt that says the same; `usage` stands for a request that is wrong in itself."""
    text = f"dhtex {error}"
    if isinstance(error, errors.RefusedError):
        kind: type[Exception] = _REFUSALS.get(error.reason, ccxt_errors.OrderNotFound)
        return kind(text)
    if usage is not None and isinstance(error, errors.UsageError):
        return usage(text)
    found = (kind for ours, kind in _KINDS.items() if isinstance(error, ours))
    return next(found, ccxt_errors.ExchangeError)(text)  # type: ignore[no-any-return]
