"""Publish orders: one by words, one or many as JSON; and replace them.

`--json` of `order add` is two things at once, because people and programs came to want both: with an object (or `-`)
behind it, it is the order itself; alone, it is the flag that every command has. Either way the answer is JSON.
"""

from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from dhtex import limits
from dhtex.cli import drafts, render, words
from dhtex.cli.session import Session, path_of, session_of
from dhtex.errors import RefusedError, UsageError

app = typer.Typer()

_AMOUNT = "How much of the base, such as 0.25, with at most the decimals of that currency: BTC 8."
_PRICE = "For one unit of the base, in the quote, with at most the decimals of that currency: USD 2, JPY 0."
_PAY = f"A payment method, such as SEPA; may be given {limits.PAYMENTS_MAX} times."
_NOTE = f"A text for everybody, at most {limits.NOTE_CHARS_MAX} characters and {limits.NOTE_BYTES_MAX} bytes of UTF-8."
_EXPIRES = f"How long it stands: 30m, 24h, 7d; at most {limits.ORDER_LIFE_S_MAX // 86_400} days."
_FRESH = "Sign it with a key of its own, so that nobody can tell which of your orders belong together; without --group."
_GROUP = "Once one of your orders of this name is filled, the others are canceled. Nobody else learns the name."
_EXPIRES_DEFAULT = "24h"
_CANCEL_AFTER = (
    f"Cancel it after this time, {limits.CANCEL_AFTER_S_MIN}s to {limits.ORDER_LIFE_S_MAX // 86_400}d, unless you say"
    " before: dhtex order renew."
)
_JSON = "The order as a JSON object, or - for many, one a line; with nothing behind it: the flag. Prints JSON."

Side = Annotated[str, typer.Argument(metavar="SIDE", help="buy or sell: what you do with the base.")]
Amount = Annotated[str, typer.Argument(metavar="AMOUNT", help=_AMOUNT)]
Pair = Annotated[str, typer.Argument(metavar="PAIR", help="BASE/QUOTE, such as BTC/USD.")]
Price = Annotated[str, typer.Option("--price", metavar="P", help=_PRICE)]
Minimum = Annotated[str, typer.Option("--min", metavar="A", help="Let takers take a part, but not less.")]
Pay = Annotated[list[str] | None, typer.Option("--pay", metavar="M", help=_PAY)]
Expires = Annotated[str, typer.Option("--expires", metavar="TIME", help=_EXPIRES)]
Note = Annotated[str, typer.Option("--note", metavar="TEXT", help=_NOTE)]
Mailbox = Annotated[bool, typer.Option("--mailbox", help="May be accepted while your node is away.")]
Ask = Annotated[bool, typer.Option("--ask", help="You decide about each accept: dhtex order confirm.")]
Reference = Annotated[str, typer.Option("--ref", metavar="R", help="Your own reference, seen by all.")]
Group = Annotated[str, typer.Option("--group", metavar="NAME", help=_GROUP)]
FreshKey = Annotated[bool, typer.Option("--fresh-key", help=_FRESH)]
CancelAfter = Annotated[str | None, typer.Option("--cancel-after", metavar="TIME", help=_CANCEL_AFTER)]
Reply = Annotated[
    str, typer.Option("--reply", metavar="TEXT", help=f"Sealed to the taker when confirmed, {words.SEALED}.")
]
Source = Annotated[str, typer.Option("--file", metavar="FILE", help="Orders as JSON, one a line; - reads the input.")]
JsonOrder = Annotated[str | None, typer.Option("--json", metavar="[ORDER]", help=_JSON)]


class AddCommand(TyperCommand):
    """`order add`: tells the `--json` that is followed by an order from the one that stands alone."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, split_json_flag(args))


def split_json_flag(args: list[str]) -> list[str]:
    """Write a lone `--json` as `--json=`, which says the same to the parser: JSON, but no order in it."""
    end = args.index("--") if "--" in args else len(args)
    return [
        "--json=" if word == "--json" and place < end and not _is_order(args[place + 1 : place + 2]) else word
        for place, word in enumerate(args)
    ]


def _is_order(following: list[str]) -> bool:
    return bool(following) and (following[0] == "-" or following[0].lstrip()[:1] in ("{", "["))


@app.command("add", cls=AddCommand)
def add(
    context: typer.Context,
    side: Side = "",
    amount: Amount = "",
    pair: Pair = "",
    price: Price = "",
    minimum: Minimum = "",
    payment: Pay = None,
    expires: Expires = _EXPIRES_DEFAULT,
    note: Note = "",
    mailbox: Mailbox = False,
    ask: Ask = False,
    reference: Reference = "",
    group: Group = "",
    cancel_after: CancelAfter = None,
    fresh_key: FreshKey = False,
    reply: Reply = "",
    source: Source = "",
    json_order: JsonOrder = None,
) -> None:
    """Publish an order: sign it, stamp it, hand it to the network. There are three ways to say it:

    \b
    dhtex order add sell 1 BTC/USD --price 50000
    dhtex order add --json '{"buy":"BTC","sell":"USD","price":50000,"amount":1}'
    dhtex order add --file FILE    (or --json - for the input: one such object a line)

    In JSON, "buy" and "sell" name what you get and what you give. A national currency, or a coin pegged to one, is
    the quote; if both are that or neither is, what you buy is the base. Price and amount are of the pair as always. The
    names of the options work too: side, amount, pair, price, min, pay, expires, note, mailbox, ask, ref, group,
    cancel-after, fresh-key, reply.

    Of many orders, a line that cannot be published is named, the others still are, and the exit code is that of the
    first failure. When the node goes or Ctrl-C comes, it is said behind which line nothing was published. A --json
    with nothing behind it only asks for JSON as the answer, as with every command.
    """
    session = session_of(context)
    session.json = session.json or json_order is not None
    said = {"side": side, "amount": amount, "pair": pair, "price": price}
    if sum((any(said.values()), bool(source), bool(json_order))) > 1:
        raise UsageError("the order is given in more than one way", hint="see dhtex order add --help")
    terms = {"min": minimum, "pay": payment, "note": note, "mailbox": mailbox, "ask": ask, "ref": reference}
    terms |= {
        "group": group,
        "cancel-after": cancel_after is not None,
        "fresh-key": fresh_key,
        "reply": reply,
        "expires": expires if expires != _EXPIRES_DEFAULT else "",
    }
    if source or json_order:
        refuse_terms(terms)
    if source or json_order == "-":
        from dhtex.cli.bulk import publish_all

        raise typer.Exit(publish_all(session, source or "-"))
    if not json_order:
        draft = draft_from_words(said)
        draft |= {"minimum": minimum, "payment": payment or [], "note": note, "expires_s": words.duration(expires)}
        draft |= {"liveness": words.liveness(mailbox), "confirm": words.confirm(ask)}
        draft |= {"reference": reference, "reply": reply, "group": group}
        draft |= {"cancel_after_s": None if cancel_after is None else words.duration(cancel_after)}
        draft |= {"fresh_key": fresh_key}
    else:
        draft = drafts.draft_from_json(json_order)
    show_published(session, session.work(path_of("orders"), draft, "stamping the order"))


def show_published(session: Session, view: dict[str, Any]) -> None:
    """Show a signed order. Raises RefusedError when everybody who was asked to hold it said no."""
    session.show(view, render.published)
    refusals: dict[str, int] = view.get("refusals") or {}
    if refusals and not view["holders"]:
        reason = max(refusals, key=refusals.__getitem__)
        hint = "this network asks for more work than the node knows of: start it with the network's --pow-bits"
        if reason != "stamp_too_low":
            hint = "it stays yours, and is tried again"
        raise RefusedError(f"no other node took the order: {reason}", reason=reason, hint=hint)


def refuse_terms(said: dict[str, Any]) -> None:
    """Raise UsageError for an option beside an order in JSON: to leave it out would publish other terms than meant."""
    for name, value in said.items():
        if value:
            raise UsageError(f"--{name} is not for orders in JSON", hint=f'say it there, as "{name}"')


def draft_from_words(said: dict[str, str]) -> dict[str, Any]:
    """The part of a draft that must be said. Raises UsageError for what is missing."""
    for name, word in said.items():
        if not word:
            what = "--price" if name == "price" else name.upper()
            raise UsageError(f"{what} is missing", hint="for example dhtex order add sell 0.5 BTC/USD --price 50000")
    return dict(said)


@app.command("amend")
def amend(
    context: typer.Context,
    order_id: Annotated[str, typer.Argument(metavar="ID", help="Your order's id, or its first 6 or more digits.")],
    price: Annotated[str | None, typer.Option("--price", metavar="P", help="The new price.")] = None,
    amount: Annotated[str | None, typer.Option("--amount", metavar="A", help="The new amount.")] = None,
    minimum: Annotated[str | None, typer.Option("--min", metavar="A", help="The new minimum.")] = None,
    payment: Pay = None,
    note: Annotated[str | None, typer.Option("--note", metavar="TEXT", help=_NOTE)] = None,
    expires: Annotated[str | None, typer.Option("--expires", metavar="TIME", help=_EXPIRES)] = None,
) -> None:
    """Replace one of your orders by a changed one.

    It has a new id; the old one can no longer be taken.
    """
    session = session_of(context)
    change = {
        "price": price,
        "amount": amount,
        "minimum": minimum,
        "payment": payment or None,
        "note": note,
        "expires_s": None if expires is None else words.duration(expires),
    }
    if all(value is None for value in change.values()):
        raise UsageError("nothing is to change", hint="see dhtex order amend --help")
    path = path_of("orders", words.record_id(order_id), "amend")
    show_published(session, session.work(path, change, "stamping the new order"))
