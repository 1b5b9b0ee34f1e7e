"""Find orders, take them, and decide about those who want yours."""

from typing import Annotated, Any, Final

import typer

from dhtex.cli import render, words
from dhtex.cli.coverage import gaps
from dhtex.cli.session import Session, complain_of_gaps, interrupted, path_of, session_of
from dhtex.cli.text import plural
from dhtex.errors import OutcomeUnknownError, RefusedError, UsageError, went_away

app = typer.Typer()

ONE_OF_THEM: Final = "the order is named in more than one way"

OrderId = Annotated[str, typer.Argument(metavar="ID", help="The order's id, or its first 6 or more digits.")]
AcceptId = Annotated[
    str, typer.Argument(metavar="ACCEPT", help="Which accept, if several wait: its id, or the first digits.")
]

_ALL = "Also silent and disputed orders, and your own that are over; those of others leave the book at their end."


@app.command("list")
def list_orders(
    context: typer.Context,
    pair: Annotated[
        str, typer.Argument(metavar="PAIR", help="Such as BTC/USD; without it, all pairs that this node knows.")
    ] = "",
    side: Annotated[str, typer.Option("--side", metavar="S", help="Only offers to buy, or only to sell.")] = "",
    limit: Annotated[int, typer.Option("--limit", metavar="N", help="At most so many orders, best first.")] = 100,
    mine: Annotated[bool, typer.Option("--mine", help="Only your own.")] = False,
    everything: Annotated[bool, typer.Option("--all", help=_ALL)] = False,
    min_price: Annotated[str, typer.Option("--min-price", metavar="P", help="Only at this price or above.")] = "",
    max_price: Annotated[str, typer.Option("--max-price", metavar="P", help="Only at this price or below.")] = "",
    amount: Annotated[
        str, typer.Option("--amount", metavar="A", help="Only those of which this amount can be taken.")
    ] = "",
    pay: Annotated[str, typer.Option("--pay", metavar="M", help="Only with this payment method.")] = "",
    live: Annotated[bool, typer.Option("--live", help="Only those whose maker is there; of use with --all.")] = False,
    not_mine: Annotated[bool, typer.Option("--not-mine", help="Only those of others.")] = False,
    sort: Annotated[
        str, typer.Option("--sort", metavar="WORD", help="All in one line, by one of the words above.")
    ] = "",
    after: Annotated[str, typer.Option("--after", metavar="CURSOR", help="Go on behind an earlier list.")] = "",
) -> None:
    """List orders, best price first, and say how complete the list is.

    --sort takes cheapest, dearest, largest, smallest, newest, oldest, soonest (to expire) or latest. A list that stands
    in one line (of one side and pair, or sorted) ends with the cursor of the next page if there is more. Paging
    goes on behind the last order shown: what comes or goes meanwhile moves no other order out of sight.

    Without a pair and without --sort, no more pairs are read than fill the list; how many were not is said below it.
    """
    session = session_of(context)
    query = {
        "pair": pair,
        "side": words.side(side),
        "limit": limit,
        "mine": mine,
        "all": everything,
        "min_price": min_price,
        "max_price": max_price,
        "amount": amount,
        "payment": pay,
        "live": live,
        "not_mine": not_mine,
        "sort": sort,
        "after": after,
    }
    view = session.look(path_of("orders"), query, "reading")
    session.show(view, render.listing)
    complain_of_gaps(view)


@app.command("show")
def show(context: typer.Context, order_id: OrderId) -> None:
    """Show everything about one order."""
    session = session_of(context)
    session.show(session.call("GET", path_of("orders", words.record_id(order_id))), render.order)


@app.command("cancel")
def cancel(
    context: typer.Context,
    order_id: Annotated[str, typer.Argument(metavar="ID", help="The order's id, or its first 6 or more digits.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="All of your open orders.")] = False,
    pair: Annotated[str, typer.Option("--pair", metavar="PAIR", help="All of your open orders of this pair.")] = "",
) -> None:
    """Withdraw one of your orders for good, or all that are open.

    Of many, one that cannot be withdrawn is named, the others still are, and the exit code is 4.
    """
    session = session_of(context)
    if (said := sum((bool(order_id), everything, bool(pair)))) != 1:
        raise UsageError(ONE_OF_THEM if said else "say which order", hint="give its ID, or --pair PAIR, or --all")
    if order_id:
        path = path_of("orders", words.record_id(order_id), "cancel")
        session.show(session.call("POST", path, {}), render.canceled)
        return
    view = session.call("POST", path_of("orders", "cancel"), {"pair": pair})
    session.show(view, render.canceled_all)
    failed = view["failed"]
    if failed:
        raise RefusedError(
            f"{plural(len(failed), 'order')} could not be canceled", reason=failed[0]["code"], hint="see above"
        )


@app.command("renew")
def renew(context: typer.Context) -> None:
    """Put off the end of your orders with --cancel-after.

    The time of all of them begins again.
    """
    session = session_of(context)
    session.show(session.call("POST", path_of("orders", "renew"), {}), render.renewed)


@app.command("accept")
def accept(
    context: typer.Context,
    order_id: Annotated[str, typer.Argument(metavar="ID", help="The order's id, or its first 6 or more digits.")] = "",
    best: Annotated[str, typer.Option("--best", metavar="PAIR", help="Not one order, but the best of a pair.")] = "",
    side: Annotated[str, typer.Option("--side", metavar="S", help="With --best: buy or sell, what you do.")] = "",
    max_price: Annotated[
        str, typer.Option("--max-price", metavar="P", help="With --best, to buy: at this price or below.")
    ] = "",
    min_price: Annotated[
        str, typer.Option("--min-price", metavar="P", help="With --best, to sell: at this price or above.")
    ] = "",
    amount: Annotated[str, typer.Option("--amount", metavar="A", help="How much of it; without this, all.")] = "",
    message: Annotated[
        str, typer.Option("--message", metavar="TEXT", help=f"A text that only the maker can read, {words.SEALED}.")
    ] = "",
    wait: Annotated[
        float,
        typer.Option("--wait", metavar="SECONDS", help="How long to wait for the outcome."),
    ] = 30,
) -> None:
    """Take an order, and wait for the outcome.

    Exits with 0 when the maker has confirmed, 4 when the accept was refused, 5 when the outcome is not known in time;
    then the node goes on by itself, and `dhtex trade list` tells later.

    \b
    dhtex order accept --best BTC/USD --side buy --amount 0.1 --max-price 51000

    takes the best live order that fits; when that is refused, the next, up to 5. An accept without an answer ends
    the search, because it may still win. Orders that their maker confirms by hand are passed over. With 9 it exits
    when none was taken and a part of the book could not be read.
    """
    session = session_of(context)
    if bool(order_id) == bool(best):
        raise UsageError(ONE_OF_THEM if best else "say which order", hint="give its ID, or --best PAIR")
    if best:
        said = {"side": words.side(side), "amount": amount, "min_price": min_price, "max_price": max_price}
        _accept_best(session, {"pair": best, **said, "message": message, "wait_s": wait})
        return
    if side or max_price or min_price:
        raise UsageError("--side, --max-price and --min-price go with --best", hint="see dhtex order accept --help")
    body = {"amount": amount, "message": message, "wait_s": wait}
    path = path_of("orders", words.record_id(order_id), "accept")
    view = session.work(path, body, "waiting for the maker")
    session.show(view, render.accepted)
    _check_outcome(view)


def _accept_best(session: Session, wish: dict[str, Any]) -> None:
    if not wish["side"] or not wish["amount"]:
        raise UsageError("--best needs --side and --amount", hint="--side buy --amount 0.1")
    view: Any = None
    reached = None
    try:
        for event, view in session.steps(path_of("orders", "accept"), wish, "looking for the best order"):
            reached = event, view
            if event == "tried" and view["state"] == "refused":
                session.note(render.attempt(view))
    except KeyboardInterrupt:
        raise interrupted(reached) from None
    if view is None:
        raise went_away()
    session.show(view, render.tried)
    if view["outcome"] is not None:
        _check_outcome(view["outcome"])
        if unread := gaps(view):
            session.note(unread)
        return
    complain_of_gaps(view)
    last = view["tries"][-1]
    text, hint = render.refusal_words(last["code"] or "declined", last["order"]["id"], last["order"]["symbol"])
    count = plural(len(view["tries"]), "order")
    raise RefusedError(f"{count} tried, all refused; the last: {text}", reason=last["code"] or "declined", hint=hint)


def _check_outcome(view: Any) -> None:
    """Raise what an outcome other than `confirmed` means."""
    state, code, accept_id = view["state"], view["code"], view["accept"][:10]
    if state == "confirmed":
        return
    if state == "refused":
        text, hint = render.refusal_words(code or "declined", view["order"], view["trade"]["symbol"])
        raise RefusedError(text, reason=code or "declined", hint=hint)
    if state == "void":
        raise OutcomeUnknownError(
            "the maker has not answered before the deadline: the accept is void", hint="try again"
        )
    waiting = "the maker decides by hand" if state == "pending" else "the maker has not answered yet"
    raise OutcomeUnknownError(
        f"{waiting}; the accept stays on its way", hint=f"see later: dhtex trade show {accept_id}"
    )


@app.command("confirm")
def confirm(
    context: typer.Context,
    order_id: OrderId,
    accept_id: AcceptId = "",
    reply: Annotated[
        str, typer.Option("--reply", metavar="TEXT", help=f"A text that only the taker can read, {words.SEALED}.")
    ] = "",
) -> None:
    """Let an accept of your --ask order win."""
    session = session_of(context)
    body = {"accept": words.optional_id(accept_id), "reply": reply}
    path = path_of("orders", words.record_id(order_id), "confirm")
    session.show(session.call("POST", path, body), render.decided)


@app.command("decline")
def decline(context: typer.Context, order_id: OrderId, accept_id: AcceptId = "") -> None:
    """Turn down an accept of your --ask order; the order stays open."""
    session = session_of(context)
    body = {"accept": words.optional_id(accept_id)}
    path = path_of("orders", words.record_id(order_id), "decline")
    session.show(session.call("POST", path, body), render.decided)
