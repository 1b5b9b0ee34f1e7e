"""From words on the command line, or a line of JSON, to the draft of an order. Only the form is checked here; what the
words mean is the node's to judge.

JSON comes in two spellings:

    {"buy": "BTC", "sell": "USD", "price": 50000, "amount": 1}               what I get and what I give for it
    {"side": "buy", "pair": "BTC/USD", "price": "50000", "amount": "1"}      the names of the options

In the first, the pair follows from a rule: a national currency, or a coin pegged to one, is the quote (what the price
is given in). If both are that, or neither is, what is bought is the base. Price and amount are always of the pair: for
one unit of the base, and how many of them.

Numbers are taken as they are typed, digit by digit: no float ever stands between.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, Final, NoReturn

from dhtex.cli.lines import numbered_lines
from dhtex.cli.words import confirm, duration, liveness
from dhtex.errors import UsageError
from dhtex.market.money import is_cash

LINE_BYTES_MAX: Final = 64 << 10  # a draft is at most some hundred bytes; a file without line ends must not fill memory
Reader = Callable[[str, Any], Any]
"""Makes the value of a draft's field from a name and its value in JSON. Raises UsageError."""

# Names in JSON by the field of the draft that they mean; the first is the one that errors speak of.
_NAMES: Final = {
    "side": ("side",),
    "amount": ("amount",),
    "pair": ("pair", "symbol"),
    "price": ("price",),
    "minimum": ("min", "minimum"),
    "payment": ("pay", "payment"),
    "note": ("note",),
    "expires_s": ("expires",),
    "liveness": ("mailbox",),
    "confirm": ("ask",),
    "reference": ("ref", "reference", "clientOrderId"),
    "group": ("group",),
    "cancel_after_s": ("cancel-after",),
    "fresh_key": ("fresh-key",),
    "reply": ("reply",),
}
_FIELDS: Final = {name: field for field, names in _NAMES.items() for name in names}
_REQUIRED: Final = ("side", "amount", "pair", "price")


def draft_from_json(text: str) -> dict[str, Any]:
    """The draft that one JSON object means. Raises UsageError."""
    return draft_from_object(_read_object(text))


def draft_from_object(given: Mapping[str, Any]) -> dict[str, Any]:
    """The draft that names and values mean, whichever of the two spellings they have. Raises UsageError."""
    named = _with_pair(given) if "buy" in given or "sell" in given else given
    draft: dict[str, Any] = {}
    for name, value in named.items():
        field = _FIELDS.get(name)
        if field is None:
            raise UsageError(
                f"'{name[:40]}' is not a part of an order", hint=f"known are buy, sell, {', '.join(_FIELDS)}"
            )
        if field in draft:
            raise UsageError(f"the {field} is given twice", hint=f"as {' and '.join(_NAMES[field])}")
        if value is not None:
            read: Reader = _VALUES.get(field, _text)
            draft[field] = read(name, value)
    missing = [field for field in _REQUIRED if field not in draft]
    if missing:
        raise UsageError(f"the order has no {missing[0]}", hint="it needs a side, an amount, a pair and a price")
    return draft


def drafts_from_lines(file: BinaryIO) -> Iterator[tuple[int, dict[str, Any] | UsageError]]:
    """Line numbers, and the draft of each line or what is wrong with it. Empty lines are passed over."""
    for number, line in numbered_lines(file, LINE_BYTES_MAX):
        if line is None:
            yield number, UsageError(f"the line is longer than {LINE_BYTES_MAX} bytes", hint="one order a line")
            continue
        if not line.strip():
            continue
        try:
            yield number, draft_from_json(line.decode("utf-8-sig").strip())
        except UnicodeDecodeError:
            yield number, UsageError("the line is not UTF-8 text")
        except UsageError as error:
            yield number, error


def _read_object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(
            text, parse_float=str, parse_int=str, parse_constant=_refuse_constant, object_pairs_hook=_unique
        )
    except json.JSONDecodeError as error:
        what = error.msg.removesuffix(" at")  # as some of its messages end
        raise UsageError(f"this is not JSON: {what} at character {error.pos + 1}", hint=_EXAMPLE) from error
    except RecursionError:
        raise UsageError("the JSON is nested too deeply", hint=_EXAMPLE) from None
    if not isinstance(found, dict):
        raise UsageError("an order in JSON is one object", hint=_EXAMPLE)
    return found


_EXAMPLE: Final = """for example {"buy":"BTC","sell":"USD","price":50000,"amount":1}"""


def _refuse_constant(text: str) -> NoReturn:
    raise UsageError(f"{text} is not a number", hint="write plain digits, for example 0.25")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"'{twice[:40]}' is given twice")
    return found


def _with_pair(given: Mapping[str, Any]) -> dict[str, Any]:
    """Say `buy` and `sell` as side and pair."""
    rest = {name: value for name, value in given.items() if name not in ("buy", "sell")}
    for name in ("side", "pair", "symbol"):
        if name in rest:
            raise UsageError(f"'{name}' cannot stand beside 'buy' and 'sell'", hint=_EXAMPLE)
    tickers = [given.get("buy"), given.get("sell")]
    if not all(isinstance(ticker, str) and ticker for ticker in tickers):
        raise UsageError("'buy' and 'sell' each name one currency", hint=_EXAMPLE)
    bought, sold = (str(ticker).strip().upper() for ticker in tickers)
    side, base, quote = ("sell", sold, bought) if is_cash(bought) and not is_cash(sold) else ("buy", bought, sold)
    return {"side": side, "pair": f"{base}/{quote}", **rest}


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise UsageError(f"'{name}' must be text or a number", hint=_EXAMPLE)
    return value


def _payment(name: str, value: Any) -> list[str]:
    methods = value if isinstance(value, list) else [value]
    if not all(isinstance(method, str) for method in methods):
        raise UsageError(f"'{name}' must be a list of texts", hint='for example ["SEPA", "cash"]')
    return methods


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise UsageError(f"'{name}' must be true or false")
    return value


_VALUES: Final[dict[str, Reader]] = {
    "payment": _payment,
    "expires_s": lambda name, value: duration(_text(name, value)),
    "cancel_after_s": lambda name, value: duration(_text(name, value)),
    "fresh_key": _flag,
    "liveness": lambda name, value: liveness(_flag(name, value)),
    "confirm": lambda name, value: confirm(_flag(name, value)),
}
