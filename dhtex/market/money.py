"""Pairs, amounts and prices: exact, parsed once at the edge, never rounded.

A number travels and is stored as its *canonical* decimal string: no sign, no exponent, no leading or trailing zeros.
How many decimals a number may have is the currency's affair: ISO 4217 minor units, a small table of crypto tickers,
and eight for everything unknown. An amount counts in units of the base, a price in units of the quote.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Context, Decimal, DivisionByZero, Inexact, InvalidOperation
from typing import Final

from dhtex import limits
from dhtex.errors import UsageError

# ISO 4217 list one, by minor unit.
_ISO_0: Final = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
_ISO_2: Final = """
    AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY COP CRC CUP
    CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS
    KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD
    PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP
    TRY TTD TWD TZS UAH USD UYU UZS VED VES WST XCD YER ZAR ZMW ZWG
"""
_ISO_3: Final = "BHD IQD JOD KWD LYD OMR TND"
_ISO_4: Final = "CLF UYW"
_CRYPTO: Final = {
    **{"BTC": 8, "LTC": 8, "BCH": 8, "DOGE": 8, "DASH": 8, "ZEC": 8, "DCR": 8},
    **{"XMR": 12, "ETH": 18, "SOL": 9, "USDT": 6, "USDC": 6, "DAI": 18},
}
_DECIMALS: Final[dict[str, int]] = {
    **{code: 0 for code in _ISO_0.split()},
    **{code: 2 for code in _ISO_2.split()},
    **{code: 3 for code in _ISO_3.split()},
    **{code: 4 for code in _ISO_4.split()},
    **_CRYPTO,
}
DECIMALS_UNKNOWN: Final = 8
_PEGGED: Final = frozenset({"USDT", "USDC", "DAI"})
_CASH: Final = frozenset([*_ISO_0.split(), *_ISO_2.split(), *_ISO_3.split(), *_ISO_4.split()]) | _PEGGED

_TICKER: Final = re.compile(rf"[A-Z][A-Z0-9]{{1,{limits.TICKER_CHARS_MAX - 1}}}")
_PLAIN: Final = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_CANONICAL: Final = re.compile(r"(?:0|[1-9][0-9]*)(?:\.[0-9]*[1-9])?")


# For sums and products of numbers that were parsed here: it raises rather than rounds. Two of 30 digits make 60.
EXACT: Final = Context(prec=100, traps=[Inexact, InvalidOperation, DivisionByZero])


def decimals(ticker: str) -> int:
    """How many decimals a number of this currency may have."""
    return _DECIMALS.get(ticker, DECIMALS_UNKNOWN)


def is_cash(ticker: str) -> bool:
    """Whether it is a national currency, or a coin pegged to one: by custom what other things are priced in."""
    return ticker in _CASH


@dataclass(frozen=True, slots=True)
class Pair:
    """What is traded (base) and what it is priced in (quote)."""

    base: str
    quote: str

    def __post_init__(self) -> None:
        for ticker in (self.base, self.quote):
            if _TICKER.fullmatch(ticker) is None:
                raise UsageError(
                    f"'{ticker[:20]}' is not a currency: 2 to {limits.TICKER_CHARS_MAX} letters or digits",
                    hint="write a pair as BASE/QUOTE, for example BTC/USD",
                )
        if self.base == self.quote:
            raise UsageError(f"{self.base}/{self.quote} is not a pair: base and quote are the same")

    @classmethod
    def parse(cls, text: str) -> "Pair":
        """Read `BTC/USD` (any case). Raises UsageError."""
        parts = text.strip().upper().split("/")
        if len(parts) != 2:
            raise UsageError(f"'{text[:40]}' is not a pair", hint="write it as BASE/QUOTE, for example BTC/USD")
        return cls(parts[0], parts[1])

    def __str__(self) -> str:
        return f"{self.base}/{self.quote}"


def canonical(value: Decimal) -> str:
    """The one way to write a number that is not negative."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def total(amounts: Iterable[Decimal]) -> Decimal:
    """The exact sum."""
    result = Decimal(0)
    for amount in amounts:
        result = EXACT.add(result, amount)
    return result


def _parse(text: str, what: str, ticker: str) -> Decimal:
    plain = text.strip()
    if _PLAIN.fullmatch(plain) is None:
        raise UsageError(
            f"'{text[:40]}' cannot be the {what}", hint="write a positive number in plain digits, for example 0.25"
        )
    whole, _, fraction = plain.partition(".")
    _check_size(plain, whole.lstrip("0"), fraction.rstrip("0"), what, ticker)
    return Decimal(plain)


def _check_size(plain: str, whole: str, fraction: str, what: str, ticker: str) -> None:
    if not whole and not fraction:
        raise UsageError(f"the {what} must be more than zero")
    if len(whole) > limits.MONEY_INTEGER_DIGITS_MAX or len(whole) + len(fraction) > limits.MONEY_DIGITS_MAX:
        raise UsageError(f"the {what} {plain[:40]} is absurdly large or long")
    if len(fraction) > decimals(ticker):
        places = f"{len(fraction)} decimal{'' if len(fraction) == 1 else 's'}"
        raise UsageError(
            f"the {what} {plain[:40]} has {places}, but {ticker} has {decimals(ticker)}",
            hint="nothing is rounded for you",
        )


def parse_amount(text: str, pair: Pair, what: str = "amount") -> Decimal:
    """Read an amount of the base currency. Raises UsageError for zero, signs, exponents, too many digits or places, and
    calls it `what` it is."""
    return _parse(text, what, pair.base)


def parse_price(text: str, pair: Pair) -> Decimal:
    """Read a price, in units of the quote currency for one unit of the base. Raises UsageError as `parse_amount`."""
    return _parse(text, "price", pair.quote)


def check_canonical(text: str, what: str, ticker: str) -> None:
    """Raise ValueError for a number that is not canonical, or that reading it would refuse."""
    if _CANONICAL.fullmatch(text) is None:
        raise ValueError(f"the {what} must be canonical")
    whole, _, fraction = text.partition(".")
    _check_size(text, "" if whole == "0" else whole, fraction, what, ticker)


def is_canonical(text: str) -> bool:
    """Whether a number is written in the one accepted way."""
    return _CANONICAL.fullmatch(text) is not None
