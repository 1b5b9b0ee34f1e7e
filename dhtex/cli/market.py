"""Pairs as a whole: what an amount costs, taking it, which pairs there are, and one of them in figures."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Any

import typer

from dhtex.cli import figures, words
from dhtex.cli.coverage import gaps
from dhtex.cli.session import Session, complain_of_gaps, path_of, session_of
from dhtex.errors import DhtexError, NotFoundError, OutcomeUnknownError, RefusedError, UsageError, went_away

app = typer.Typer()

INTERRUPTED = 130

Pair = Annotated[str, typer.Argument(metavar="PAIR", help="Such as BTC/USD.")]
Buy = Annotated[str, typer.Option("--buy", metavar="A", help="Buy so much of the base, from offers to sell.")]
Sell = Annotated[str, typer.Option("--sell", metavar="A", help="Sell so much of the base, to offers to buy.")]
MaxPrice = Annotated[str, typer.Option("--max-price", metavar="P", help="To buy: no order above this price.")]
MinPrice = Annotated[str, typer.Option("--min-price", metavar="P", help="To sell: no order below this price.")]


@app.command("quote")
def quote(
    context: typer.Context,
    pair: Pair,
    buy: Buy = "",
    sell: Sell = "",
    max_price: MaxPrice = "",
    min_price: MinPrice = "",
) -> None:
    """Say what an amount would cost now; nothing is taken.

    It also says which orders that would come from:

    \b
    dhtex quote BTC/USD --buy 2.5

    Best price first, as much of each order as is still wanted. Orders that cannot be taken in so small a part are
    passed over; so are your own (and those of nodes with the same --tag), those confirmed by hand, and those that a
    listing hides. Exits with 3 when the book has less than that, and with 9 when a part of it could not be read:
    there may be better offers.
    """
    session = session_of(context)
    view = session.call("GET", path_of("quote"), query=wish(pair, buy, sell, max_price, min_price))
    session.show(view, figures.quote)
    complain_of_gaps(view)
    if view["remaining"] != "0":
        raise NotFoundError(figures.shortage(view), hint=f"see the book: dhtex book {pair}")


@app.command("take")
def take(
    context: typer.Context,
    pair: Pair,
    buy: Buy = "",
    sell: Sell = "",
    max_price: MaxPrice = "",
    min_price: MinPrice = "",
    message: Annotated[
        str, typer.Option("--message", metavar="TEXT", help=f"A text that only the makers can read, {words.SEALED}.")
    ] = "",
    wait: Annotated[
        float, typer.Option("--wait", metavar="SECONDS", help="How long to wait for the outcome of each order.")
    ] = 30,
) -> None:
    """Buy or sell an amount, order by order.

    Takes orders, best first, one after the other, until the amount is reached:

    \b
    dhtex take BTC/USD --buy 2.5 --max-price 51000

    The plan is that of `dhtex quote`; after a refusal it is made anew, without the order that refused. 5 refusals in a
    row end it. An accept without an answer may still win, even one that is void because the deadline is over: the maker
    may have answered in time, and be cut off. So its amount is not asked for again.

    Exits with 0 when all is taken, 5 when an answer is missing, 4 when less is taken, 3 when there was nothing to take,
    and 9 in the place of these two when a part of the book could not be read. When all is taken, such a part is no
    more than a line on stderr: an exit code that asks to try again would buy twice.

    Ctrl-C sends no further accept; what was sent stays on its way, and is named.
    """
    session = session_of(context)
    body = {**wish(pair, buy, sell, max_price, min_price), "message": message, "wait_s": wait}
    view = _follow(session, body)
    _check_outcome(view)
    if unread := gaps(view):
        session.note(unread)


def wish(pair: str, buy: str, sell: str, max_price: str, min_price: str) -> dict[str, Any]:
    """What is wanted, as the node takes it. Raises UsageError."""
    if bool(buy) == bool(sell):
        raise UsageError("say what you want to do", hint="--buy 2.5 or --sell 2.5")
    side = "buy" if buy else "sell"
    return {"pair": pair, "side": side, "amount": buy or sell, "max_price": max_price, "min_price": min_price}


def _follow(session: Session, body: dict[str, Any]) -> Any:
    """Let the node take, and say what happens as it happens; the result."""
    tries: list[Any] = []
    waiting: list[Any] = []
    try:
        for step, value in session.connect(session.node).stream("POST", path_of("take"), body):
            if step == "result":
                session.show(value, figures.taken)
                return value
            if step == "tried":
                tries.append(value)
                waiting.clear()
            elif step == "sent":
                waiting.append(value)
            _say(session, step, value)
    except (KeyboardInterrupt, DhtexError) as error:
        if tries or waiting:
            _say_broken_off(session, body["amount"], tries, waiting)
        if isinstance(error, DhtexError):
            raise
        raise typer.Exit(INTERRUPTED) from None
    raise went_away(hint="see what was taken: dhtex trade list")


def _say(session: Session, step: str, value: Any) -> None:
    if session.json:
        return
    lines = {"plan": lambda: [figures.planned(value)], "trying": lambda: [figures.trying(value)]}
    lines["tried"] = lambda: figures.tried(value)
    for line in lines.get(step, list)():
        print(line, flush=True)


def _say_broken_off(session: Session, amount: str, tries: Sequence[Any], waiting: Sequence[Any]) -> None:
    """What is done and what is outstanding, when no result came."""
    from dhtex.market.money import total

    filled = total(Decimal(t["amount"]) for t in tries if t["state"] == "confirmed")
    unanswered = [t for t in tries if t["state"] not in ("confirmed", "refused")]
    unanswered += [{**step, "state": "sent"} for step in waiting]
    open_ = total(Decimal(t["amount"]) for t in unanswered)
    orders = [t["order"]["id"] for t in unanswered]
    view = {"amount": amount, "filled": f"{filled:f}", "outstanding": f"{open_:f}", "unanswered": orders}

    def lines(view: Any, page: Any) -> list[str]:
        text = f"broken off: {view['filled']} of {view['amount']} confirmed"
        text += "".join(f"; {part} {words}" for words, part in figures.unanswered(unanswered).items())
        if orders:
            text += f" ({', '.join(order[:10] for order in orders)}): see later dhtex trade list"
        return [text]

    session.show({**view, "tries": list(tries)}, lines)


def _check_outcome(view: Any) -> None:
    """Raise what an outcome other than the whole amount means."""
    unanswered = {
        t["order"]["id"][:10]: t["state"] for t in view["tries"] if t["state"] not in ("confirmed", "refused")
    }
    if unanswered:
        text = f"no answer yet from the makers of {', '.join(unanswered)}; the accepts stay on their way"
        if set(unanswered.values()) == {"void"}:
            text = f"the makers of {', '.join(unanswered)} have not answered before the deadline: the accepts are void"
        raise OutcomeUnknownError(text, hint="see later: dhtex trade list")
    if view["remaining"] != "0":
        complain_of_gaps(view)
        refused = [attempt["code"] for attempt in view["tries"] if attempt["state"] == "refused"]
        raise RefusedError(
            f"{view['remaining']} of {view['amount']} could not be taken",
            reason=refused[-1] if refused else "not_enough",
            hint=f"see what is left: dhtex book {view['symbol']}",
        )


@app.command("pairs")
def pairs(context: typer.Context) -> None:
    """List the pairs that this node knows.

    With the number of orders and the best prices. Known are pairs of which it holds orders for the network, in which it
    has open orders itself, which somebody follows here, or which were listed since it started. There may be others: no
    node has a list of all.
    """
    session = session_of(context)
    view = session.look(path_of("pairs"), None, "reading")
    session.show(view, figures.pairs)
    complain_of_gaps(view)


@app.command("stats")
def stats(
    context: typer.Context,
    pair: Pair,
    limit: Annotated[int, typer.Option("--limit", metavar="N", help="How many of the latest fills.")] = 100,
    timeframe: Annotated[
        str, typer.Option("--timeframe", metavar="TIME", help="Length of a candle: 1m, 15m, 1h, 1d.")
    ] = "1h",
) -> None:
    """Show a pair in figures.

    Spread, depth, and what was traded, with candles.

    A fill is what a maker has signed; it counts when its order can be read and fits, which is so until the order would
    have expired. It costs two proofs of work to trade with oneself: volumes are no proof of anything.
    """
    session = session_of(context)
    query = {"pair": pair, "limit": limit, "timeframe": timeframe}
    view = session.call("GET", path_of("stats"), query=query)
    session.show(view, figures.stats)
    complain_of_gaps(view)
