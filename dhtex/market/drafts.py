"""From what a person typed to the body of an order; everything that can be wrong with it is said here, in one line."""

import unicodedata
from decimal import Decimal
from typing import Any

import msgspec

from dhtex import limits
from dhtex.errors import UsageError
from dhtex.market.fields import PAYMENT, REFERENCE, check_text
from dhtex.market.ids import PublicKey
from dhtex.market.money import Pair, canonical, parse_amount, parse_price
from dhtex.market.records import VERSION, Confirm, Liveness, Order, Side
from dhtex.views import Amendment, OrderDraft


class Author(msgspec.Struct, frozen=True, kw_only=True):
    """Who signs, where, and when: what a body needs beside the person's words."""

    network: str
    maker: PublicKey
    encryption_key: bytes
    epoch: int
    now: float
    salt: bytes


class Lineage(msgspec.Struct, frozen=True, kw_only=True):
    """Where an order comes from: what it replaces, whose remainder it is, and its group; each may be empty."""

    replaces: bytes = b""
    parent: bytes = b""
    group: bytes = b""


def _one_of(text: str, what: str, *allowed: str) -> str:
    if text not in allowed:
        raise UsageError(f"'{text[:20]}' is not a {what}", hint=f"use {' or '.join(allowed)}")
    return text


def _life(expires_s: int) -> int:
    if expires_s <= 0:
        raise UsageError("the expiry lies in the past", hint="give a time from now on, for example 24h")
    if expires_s > limits.ORDER_LIFE_S_MAX:
        raise UsageError(f"an order lives for at most {limits.ORDER_LIFE_S_MAX // 86_400} days")
    return expires_s


def _minimum(text: str, amount: Decimal, pair: Pair) -> Decimal:
    minimum = parse_amount(text, pair, "minimum") if text else amount
    if minimum > amount:
        raise UsageError(f"the minimum {canonical(minimum)} is above the amount {canonical(amount)}")
    return minimum


def _body(**fields: Any) -> Order:
    try:
        return Order(**fields)
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(f"the order is not valid: {error}") from error


def order_from_draft(draft: OrderDraft, author: Author, lineage: Lineage) -> Order:
    """Build an order. Raises UsageError, one line, for whatever is wrong with the draft."""
    pair = Pair.parse(draft.pair)
    amount, price = parse_amount(draft.amount, pair), parse_price(draft.price, pair)
    minimum = _minimum(draft.minimum, amount, pair)
    check_text(draft.note, "note", limits.NOTE_CHARS_MAX, limits.NOTE_BYTES_MAX)
    check_reply(draft.reply)
    created = int(author.now)
    return _body(
        version=VERSION,
        network=author.network,
        maker=author.maker,
        pair=str(pair),
        side=Side(_one_of(draft.side.strip().lower(), "side", *Side)),
        price=canonical(price),
        amount=canonical(amount),
        minimum=canonical(minimum),
        payments=_payments(draft.payment),
        note=draft.note,
        created=created,
        expires=created + _life(draft.expires_s),
        liveness=Liveness(_one_of(draft.liveness, "liveness policy", *Liveness)),
        confirm=Confirm(_one_of(draft.confirm, "confirm policy", *Confirm)),
        encryption_key=author.encryption_key,
        epoch=author.epoch,
        salt=author.salt,
        reference=_reference(draft.reference),
        replaces=lineage.replaces,
        parent=lineage.parent,
        group=lineage.group,
    )


def _payments(methods: list[str]) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(method.strip() for method in methods))
    if len(names) > limits.PAYMENTS_MAX:
        raise UsageError(f"{len(names)} payment methods are too many, at most {limits.PAYMENTS_MAX} are allowed")
    for name in names:
        if PAYMENT.fullmatch(name) is None:
            hint = f"use up to {limits.PAYMENT_CHARS_MAX} letters, digits, spaces and . _ + -, a letter or digit first"
            raise UsageError(f"'{name[:40]}' cannot name a payment method", hint=hint)
    return names


def group_name(text: str) -> str:
    """The name of a group in its one spelling; empty for none. Raises UsageError."""
    name = unicodedata.normalize("NFC", text.strip())
    check_text(name, "group's name", limits.GROUP_CHARS_MAX, limits.GROUP_BYTES_MAX)
    return name


def _reference(text: str) -> str:
    if REFERENCE.fullmatch(text) is None:
        hint = f"use up to {limits.REFERENCE_CHARS_MAX} letters, digits and signs, without spaces"
        raise UsageError(f"'{text[:40]}' cannot be a reference", hint=hint)
    return text


def check_reply(text: str) -> None:
    """Raise UsageError for a message that cannot be sealed: too long, or with control characters."""
    size = len(text.encode(errors="replace"))
    if size > limits.MESSAGE_BYTES_MAX:
        raise UsageError(f"the message has {size} bytes of UTF-8", hint=f"at most {limits.MESSAGE_BYTES_MAX} bytes")
    check_text(text, "message", limits.MESSAGE_BYTES_MAX, limits.MESSAGE_BYTES_MAX)


def draft_of(order: Order, change: Amendment, reply: str, now: float) -> OrderDraft:
    """The draft of an order's successor: the old order with what changes. The old expiry stays unless changed.

    A minimum that was the whole amount follows the amount.
    """
    amount = change.amount if change.amount is not None else order.amount
    kept_minimum = "" if order.minimum == order.amount else order.minimum
    return OrderDraft(
        side=order.side,
        amount=amount,
        pair=order.pair,
        price=change.price if change.price is not None else order.price,
        minimum=change.minimum if change.minimum is not None else kept_minimum,
        payment=change.payment if change.payment is not None else list(order.payments),
        note=change.note if change.note is not None else order.note,
        expires_s=change.expires_s if change.expires_s is not None else order.expires - int(now),
        liveness=order.liveness,
        confirm=order.confirm,
        reference=order.reference,
        reply=reply,
    )


def accepted_amount(order: Order, text: str) -> Decimal:
    """The amount that an accept asks for; empty text means all. Raises UsageError outside [minimum, amount]."""
    pair = Pair.parse(order.pair)
    amount = parse_amount(text or order.amount, pair)
    if not Decimal(order.minimum) <= amount <= Decimal(order.amount):
        raise UsageError(
            f"the amount {canonical(amount)} is outside what the order offers",
            hint=f"choose from {order.minimum} to {order.amount} {pair.base}"
            if order.minimum != order.amount
            else f"it can only be taken whole: {order.amount} {pair.base}",
        )
    return amount
