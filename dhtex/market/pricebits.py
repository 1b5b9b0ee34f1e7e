"""A price as a string of bits that sorts as the price does: the path to its node of the price tree.

    6 bits    decimal exponent + 32, where a price is m x 10^exponent with 1 <= m < 10
    100 bits  m x 10^29 - 10^29, a whole number below 9 x 10^29

Both parts are big-endian and of fixed length, so that comparing texts compares prices, and different prices have
different bits. The exponent stands first: prices of one order of magnitude share a prefix whatever the currency, and
within it each further bit halves the interval (nearly). No floats, no rounding: 30 digits fit.

Every price of `dhtex.market.money` has an exponent between -18 (ETH) and 14; the format itself reaches from -32 to 31.

    22 bits   the first of the order's id, behind those of its price

make the *path* of an order: however many orders share one price, their paths part.
"""

from decimal import Decimal
from functools import lru_cache
from typing import Final

from dhtex import limits
from dhtex.market.ids import RecordId
from dhtex.market.money import EXACT, canonical, is_canonical

_EXPONENT_BITS: Final = 6
_EXPONENT_BIAS: Final = 32
_MANTISSA_BITS: Final = 100
_MANTISSA_MIN: Final[int] = 10 ** (limits.MONEY_DIGITS_MAX - 1)
_MANTISSA_MAX: Final = 9 * _MANTISSA_MIN - 1
PRICE_BITS: Final = _EXPONENT_BITS + _MANTISSA_BITS
PRICE_BYTES: Final = -(-PRICE_BITS // 8)
PATH_BITS: Final = 128
_ID_BITS: Final = PATH_BITS - PRICE_BITS
_INVERTED: Final = str.maketrans("01", "10")

assert 10**limits.MONEY_DIGITS_MAX - _MANTISSA_MIN <= 1 << _MANTISSA_BITS


@lru_cache(maxsize=4096)
def price_bits(price: str) -> str:
    """The 106 bits of a canonical price, as text of '0' and '1'. ValueError for what is no canonical price."""
    return f"{price_number(price):0{PRICE_BITS}b}"


def price_number(price: str) -> int:
    """These bits as a number. ValueError likewise."""
    whole, _, fraction = price.partition(".")
    significant = (whole + fraction).lstrip("0").rstrip("0")
    if not is_canonical(price) or not significant or len(significant) > limits.MONEY_DIGITS_MAX:
        raise ValueError("not a canonical price")
    exponent = len(whole) - 1 if whole != "0" else len(fraction.lstrip("0")) - len(fraction) - 1
    biased = exponent + _EXPONENT_BIAS
    if not 0 <= biased < 1 << _EXPONENT_BITS:
        raise ValueError("price out of range")
    mantissa = int(significant.ljust(limits.MONEY_DIGITS_MAX, "0")) - _MANTISSA_MIN
    return biased << _MANTISSA_BITS | mantissa


def price_bound(price: Decimal | None) -> str:
    """The bits of a bound of a search; empty for none, and for one that no price comes near."""
    try:
        return "" if price is None else price_bits(canonical(price))
    except ValueError:
        return ""


def path_of(price: str, order_id: RecordId) -> str:
    """Where an order stands in its price tree: 128 characters of '0' and '1'. ValueError as `price_bits`."""
    return path_behind(price_bits(price), order_id)


def path_behind(bits: str, order_id: RecordId) -> str:
    """The path of an order whose price has these bits."""
    return bits + f"{int.from_bytes(order_id[:3]) >> (24 - _ID_BITS):0{_ID_BITS}b}"


def best_first(path: str, *, buys: bool) -> str:
    """A path, or a price's bits, as text of which the smaller is the better one: buys are sorted the other way."""
    return path.translate(_INVERTED) if buys else path


def packed(bits: str) -> bytes:
    """The bits of a price as a bound of a span: PRICE_BYTES, or none for no bits."""
    return int(bits.ljust(8 * PRICE_BYTES, "0"), 2).to_bytes(PRICE_BYTES) if bits else b""


def unpacked(bound: bytes, *, fill: bytes) -> int:
    """The bits of a price as a number, from a bound of at most PRICE_BYTES; `fill` stands for those that lack."""
    return int.from_bytes(bound.ljust(PRICE_BYTES, fill)) >> 8 * PRICE_BYTES - PRICE_BITS


def price_at(prefix: str, *, highest: bool) -> str:
    """The lowest or highest price whose bits begin with `prefix`, as canonical text of at most 30 digits."""
    bits = prefix[:PRICE_BITS].ljust(PRICE_BITS, "1" if highest else "0")
    mantissa = min(int(bits[_EXPONENT_BITS:], 2), _MANTISSA_MAX) + _MANTISSA_MIN
    exponent = int(bits[:_EXPONENT_BITS], 2) - _EXPONENT_BIAS
    return canonical(Decimal(mantissa).scaleb(exponent - limits.MONEY_DIGITS_MAX + 1, EXACT))
