"""Hypothesis strategies for the market's values: canonical numbers, pairs, prefixes and whole valid records."""

from typing import Any

from hypothesis import strategies as st

from dhtex import limits
from dhtex.market.money import Pair, decimals
from dhtex.market.records import Accept, AnyRecord, Beat, Closing, Code, Confirm, Liveness, Order, Record, Side, Status
from tests import builders
from tests.builders import NOW

TICKERS = ("BTC", "ETH", "XMR", "USD", "JPY", "KWD", "CLF", "EUR", "NEWCOIN", "X2")
ids = st.binary(min_size=32, max_size=32)
seeds = st.binary(min_size=32, max_size=32)
identities = st.integers(1, 8).map(builders.identity)
prefixes = st.text("01", max_size=20)
notes = st.text(st.characters(exclude_categories=["C"]), max_size=limits.NOTE_CHARS_MAX).filter(
    lambda note: len(note.encode()) <= limits.NOTE_BYTES_MAX
)


@st.composite
def numbers(draw: st.DrawFn, places: int = 18) -> str:
    """A canonical number above zero, with at most so many decimals."""
    whole = draw(st.integers(0, 10 ** draw(st.integers(0, limits.MONEY_INTEGER_DIGITS_MAX)) - 1))
    room = min(places, limits.MONEY_DIGITS_MAX - (len(str(whole)) if whole else 0))
    digits = draw(st.integers(0, room))
    fraction = f"{draw(st.integers(0, 10**digits - 1)):0{digits}d}".rstrip("0") if digits else ""
    if not whole and not fraction:
        return "1"
    return f"{whole}.{fraction}" if fraction else str(whole)


@st.composite
def pairs(draw: st.DrawFn) -> Pair:
    """Two different currencies."""
    base, quote = draw(st.lists(st.sampled_from(TICKERS), min_size=2, max_size=2, unique=True))
    return Pair(base, quote)


@st.composite
def orders(draw: st.DrawFn, /, **overrides: Any) -> Record[Order]:
    """Any valid order that was made around NOW and has not expired then."""
    pair = draw(pairs())
    created = NOW - draw(st.integers(0, 3600))
    fields: dict[str, Any] = {
        "by": draw(identities),
        "number": draw(st.integers(0, 2**64 - 1)),
        "pair": str(pair),
        "side": draw(st.sampled_from(Side)),
        "price": draw(numbers(decimals(pair.quote))),
        "amount": draw(numbers(decimals(pair.base))),
        "payments": tuple(draw(st.lists(st.sampled_from(("sepa", "cash", "wire", "pix")), unique=True))),
        "note": draw(notes),
        "created": created,
        "expires": created + draw(st.integers(3601, limits.ORDER_LIFE_S_MAX)),
        "liveness": draw(st.sampled_from(Liveness)),
        "confirm": draw(st.sampled_from(Confirm)),
        "reference": draw(st.text("abc-123", max_size=limits.REFERENCE_CHARS_MAX)),
        **{name: draw(st.one_of(st.just(b""), ids)) for name in ("replaces", "parent", "group")},
        **overrides,
    }
    return builders.make_order(**fields)


@st.composite
def accepts(draw: st.DrawFn) -> Record[Accept]:
    """An accept of some order, open for its answer at NOW."""
    order = draw(orders(created=NOW))
    sealed = draw(st.binary(max_size=limits.SEALED_BYTES_MAX))
    return builders.make_accept(order, by=draw(identities), number=draw(st.integers(0, 99)), sealed=sealed)


@st.composite
def statuses(draw: st.DrawFn) -> Record[Status]:
    """The end of some order."""
    order = draw(orders())
    return builders.make_status(order, draw(st.sampled_from(Closing)), seq=draw(st.integers(1, 2**32 - 1)))


@st.composite
def records(draw: st.DrawFn) -> AnyRecord:
    """A valid record of any kind."""
    kind = draw(st.sampled_from(("order", "status", "accept", "refusal", "beat", "receipt")))
    if kind == "order":
        return draw(orders())
    if kind == "status":
        return draw(statuses())
    if kind == "accept":
        return draw(accepts())
    if kind == "refusal":
        order = draw(orders())
        return builders.make_refusal(order, builders.make_accept(order), draw(st.sampled_from(Code)))
    if kind == "receipt":
        order = draw(orders())
        accept = builders.make_accept(order)
        return builders.make_receipt(order, accept, seq=draw(st.integers(1, limits.RECEIPT_SEQ_MAX)))
    made: Record[Beat] = builders.make_beat(by=draw(identities), prefix=draw(prefixes), pair=str(draw(pairs())))
    return made
