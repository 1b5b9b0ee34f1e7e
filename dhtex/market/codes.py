"""Why things are refused, in words that travel and stand in answers. Imported from `dhtex.market.records`."""

from enum import StrEnum
from typing import Final


class Code(StrEnum):
    """Why an accept was refused, or a record not taken. `RETRYABLE` tells which may succeed later."""

    TAKEN = "taken"
    EXPIRED = "expired"
    CANCELED = "canceled"
    REPLACED = "replaced"
    SELF_TRADE = "self_trade"
    AMOUNT_OUT_OF_RANGE = "amount_out_of_range"
    BAD_SIGNATURE = "bad_signature"
    LATE = "late"
    UNKNOWN_ORDER = "unknown_order"
    NOT_LIVE = "not_live"
    STAMP_TOO_LOW = "stamp_too_low"
    RATE_LIMITED = "rate_limited"
    DECLINED = "declined"
    WRONG_EPOCH = "wrong_epoch"


RETRYABLE: Final = frozenset({Code.UNKNOWN_ORDER, Code.NOT_LIVE, Code.STAMP_TOO_LOW, Code.RATE_LIMITED})


class Fault(StrEnum):
    """What is wrong with bytes that claim to be a record. A value, because it is the peer's fault."""

    TOO_LARGE = "too_large"
    MALFORMED = "malformed"
    NOT_CANONICAL = "not_canonical"
    WRONG_NETWORK = "wrong_network"
