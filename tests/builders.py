"""Valid signed records from small numbers, for tests: sensible defaults, and every field can be overridden.

    order = make_order(price="49000", number=7)              # by identity(1)
    accept = make_accept(order, by=identity(5), amount="0.5")
    fill = make_status(order, Closing.FILLED, accept=accept)

The same arguments give the same bytes. `number` makes otherwise equal records differ; `by` is who signs, `bits` the
work in the stamp (0: none). Any further keyword is a field of the body.
"""

from functools import cache
from typing import Any

from dhtex import limits
from dhtex.market import stamp
from dhtex.market.identity import Identity
from dhtex.market.records import (
    Accept,
    AnyBody,
    AnyRecord,
    Beat,
    Closing,
    Code,
    Confirm,
    Kind,
    Liveness,
    Order,
    Outcome,
    Receipt,
    Record,
    Refusal,
    Side,
    Status,
    id_of,
    seal_record,
)

NOW = 1_800_000_000
NETWORK = "test"


_IDENTITIES: dict[bytes, Identity] = {}


@cache
def identity(number: int) -> Identity:
    """The identity number so-and-so: 1 is the usual maker, 2 the usual taker."""
    made = Identity.from_seed(number.to_bytes(32))
    _IDENTITIES[made.public] = made
    return made


def maker_of(order: Record[Order]) -> Identity:
    """Who signed an order that was built here."""
    return _IDENTITIES[order.body.maker]


def sealed_by(body: AnyBody, by: Identity) -> Record[AnyBody]:
    """Sign any body as it is, with an empty stamp."""
    return seal_record(body, by.sign)


def stamped_by(body: AnyBody, by: Identity, created: int, bits: int) -> Record[AnyBody]:
    """Stamp and sign an order or an accept."""
    return seal_record(body, by.sign, stamp.mint(id_of(body), bits, stamp.hour_of(created)))


def make_order(*, by: Identity | None = None, number: int = 0, bits: int = 0, **overrides: Any) -> Record[Order]:
    """An order by identity(1): sell 1 BTC (all or nothing) at 50,000 USD, open for a day from NOW."""
    by = by or identity(1)
    fields: dict[str, Any] = {
        "version": 1,
        "network": NETWORK,
        "maker": by.public,
        "pair": "BTC/USD",
        "side": Side.SELL,
        "price": "50000",
        "amount": "1",
        "payments": ("sepa",),
        "note": "",
        "created": NOW,
        "liveness": Liveness.BEAT,
        "confirm": Confirm.AUTO,
        "encryption_key": by.encryption_public,
        "epoch": 1,
        "salt": number.to_bytes(8),
        "reference": "",
        "replaces": b"",
        "parent": b"",
        "group": b"",
        **overrides,
    }
    fields.setdefault("minimum", fields["amount"])
    fields.setdefault("expires", fields["created"] + limits.ORDER_LIFE_S_DEFAULT)
    return stamped_by(Order(**fields), by, fields["created"], bits)


def make_accept(
    order: Record[Order], *, by: Identity | None = None, number: int = 0, bits: int = 0, **overrides: Any
) -> Record[Accept]:
    """identity(2) takes all of an order, a second after it was created, with a minute for the answer."""
    by = by or identity(2)
    fields: dict[str, Any] = {
        "version": 1,
        "network": NETWORK,
        "order_id": order.id,
        "taker": by.public,
        "amount": order.body.amount,
        "created": order.body.created + 1,
        "encryption_key": by.encryption_public,
        "salt": number.to_bytes(8),
        "sealed": b"",
        **overrides,
    }
    fields.setdefault("deadline", fields["created"] + limits.ACCEPT_DEADLINE_S_DEFAULT)
    return stamped_by(Accept(**fields), by, fields["created"], bits)


def make_status(
    order: Record[Order],
    closing: Closing,
    *,
    by: Identity | None = None,
    accept: Record[Accept] | None = None,
    **overrides: Any,
) -> Record[Status]:
    """The order's maker closes it two seconds after it was created.

    A fill names `accept` (by default identity(2)'s accept of all), a replacement an order that does not exist.
    """
    by = by or maker_of(order)
    fields: dict[str, Any] = {
        "version": 1,
        "network": NETWORK,
        "order_id": order.id,
        "maker": by.public,
        "pair": order.body.pair,
        "side": order.body.side,
        "price": order.body.price,
        "expires": order.body.expires,
        "epoch": order.body.epoch,
        "seq": 1,
        "closing": closing,
        "at": order.body.created + 2,
        "accept_id": b"",
        "taker": b"",
        "amount": "",
        "replaced_by": bytes([9]) * 32 if closing is Closing.REPLACED else b"",
        "sealed": b"",
    }
    if closing is Closing.FILLED:
        accept = accept or make_accept(order)
        fields |= {"accept_id": accept.id, "taker": accept.body.taker, "amount": accept.body.amount}
    return sealed_by(Status(**fields | overrides), by)


def make_refusal(
    order: Record[Order], accept: Record[Accept], code: Code, *, by: Identity | None = None, **overrides: Any
) -> Record[Refusal]:
    """The order's maker refuses an accept a second after it was made."""
    by = by or maker_of(order)
    fields: dict[str, Any] = {
        "version": 1,
        "network": NETWORK,
        "order_id": order.id,
        "maker": by.public,
        "accept_id": accept.id,
        "code": code,
        "at": accept.body.created + 1,
        "expires": accept.body.deadline,
        **overrides,
    }
    return sealed_by(Refusal(**fields), by)


def make_beat(*, by: Identity | None = None, **overrides: Any) -> Record[Beat]:
    """A sign of life of identity(1) at NOW, at the root of BTC/USD's sell side."""
    by = by or identity(1)
    fields: dict[str, Any] = {
        "version": 1,
        "network": NETWORK,
        "maker": by.public,
        "pair": "BTC/USD",
        "side": Side.SELL,
        "prefix": "",
        "at": NOW,
        **overrides,
    }
    return sealed_by(Beat(**fields), by)


def make_receipt(
    order: Record[Order], accept: Record[Accept], *, by: Identity | None = None, **overrides: Any
) -> Record[Receipt]:
    """The order's maker says a second after it was made that the trade is settled."""
    by = by or maker_of(order)
    fields: dict[str, Any] = {
        "version": 1,
        "network": NETWORK,
        "order_id": order.id,
        "accept_id": accept.id,
        "signer": by.public,
        "outcome": Outcome.SETTLED,
        "seq": 1,
        "at": order.body.created + 1,
        "expires": order.body.expires,
        "sealed": b"",
        **overrides,
    }
    return sealed_by(Receipt(**fields), by)


def one_of_each() -> dict[Kind, AnyRecord]:
    """One valid record of every kind, about one order."""
    order = make_order()
    accept = make_accept(order)
    return {
        Kind.ORDER: order,
        Kind.STATUS: make_status(order, Closing.FILLED, accept=accept),
        Kind.ACCEPT: accept,
        Kind.REFUSAL: make_refusal(order, accept, Code.TAKEN),
        Kind.BEAT: make_beat(),
        Kind.RECEIPT: make_receipt(order, accept),
    }
