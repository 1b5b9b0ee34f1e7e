"""Checks of single fields that all records share. Each raises ValueError (or UsageError, which is one) and says why."""

import re
import unicodedata
from functools import lru_cache
from typing import Final

from dhtex import limits
from dhtex.config import NETWORK_NAME
from dhtex.errors import UsageError
from dhtex.market.money import Pair

PAYMENT: Final = re.compile(rf"[A-Za-z0-9][A-Za-z0-9 ._+-]{{0,{limits.PAYMENT_CHARS_MAX - 1}}}")
REFERENCE: Final = re.compile(rf"[\x21-\x7e]{{0,{limits.REFERENCE_CHARS_MAX}}}")
_TIME_MAX: Final = 1 << 40
_REMEMBERED: Final = 1024  # networks, pairs, lists of payment methods: all records name some, most one of few


def check(condition: bool, what: str) -> None:
    if not condition:
        raise ValueError(what)


def check_bytes(length: int, **values: bytes) -> None:
    for name, value in values.items():
        if len(value) != length:
            raise ValueError(f"{name} must be {length} bytes")


def check_optional_id(**values: bytes) -> None:
    for name, value in values.items():
        if value and len(value) != 32:
            raise ValueError(f"{name} must be empty or 32 bytes")


def check_times(**values: int) -> None:
    for name, value in values.items():
        if not 0 < value < _TIME_MAX:
            raise ValueError(f"{name} is not a time")


def check_span(at: int, expires: int, life_s_max: int) -> None:
    # What an answer speaks of was made before it, give or take a clock: nothing can ask to be kept for ever.
    check(expires - at <= life_s_max + limits.CLOCK_SKEW_S_MAX, "expires too late")


def check_text(text: str, what: str, chars_max: int, bytes_max: int) -> None:
    """Raise UsageError for text that is too long or could disturb a terminal."""
    size = len(text.encode(errors="replace"))
    if len(text) > chars_max or size > bytes_max:
        raise UsageError(
            f"the {what} has {len(text)} characters and {size} bytes of UTF-8",
            hint=f"at most {chars_max} characters and {bytes_max} bytes",
        )
    plain = text.isascii() and text.isprintable()  # most are, and this is much quicker to ask
    if not plain and any(unicodedata.category(c)[0] == "C" for c in text):
        raise UsageError(f"the {what} contains control or invisible characters")


@lru_cache(_REMEMBERED)
def check_network(network: str) -> None:
    check(NETWORK_NAME.fullmatch(network) is not None, "not a network name")


@lru_cache(_REMEMBERED)
def check_payments(payments: tuple[str, ...]) -> None:
    check(len(payments) <= limits.PAYMENTS_MAX, "too many payment methods")
    check(len(set(payments)) == len(payments), "a payment method twice")
    check(all(PAYMENT.fullmatch(payment) is not None for payment in payments), "not a payment method")


@lru_cache(_REMEMBERED)
def canonical_pair(text: str) -> Pair:
    pair = Pair.parse(text)
    check(str(pair) == text, "pair must be canonical")
    return pair
