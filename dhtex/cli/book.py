"""The market of a pair: its ladder, and live."""

from typing import Annotated

import typer

from dhtex.cli import ladder, render
from dhtex.cli.session import complain_of_gaps, path_of, session_of
from dhtex.errors import NotRunningError, OutcomeUnknownError

app = typer.Typer()

Pair = Annotated[str, typer.Argument(metavar="PAIR", help="Such as BTC/USD.")]


@app.command("book")
def book(
    context: typer.Context,
    pair: Pair,
    limit: Annotated[int, typer.Option("--limit", metavar="N", help="At most so many prices on each side.")] = 10,
) -> None:
    """Show a pair as a ladder: prices with amounts, totals, the spread, and a depth chart."""
    session = session_of(context)
    view = session.call("GET", path_of("book"), query={"pair": pair, "limit": limit})
    session.show(view, ladder.book)
    complain_of_gaps(view)


@app.command("watch")
def watch(context: typer.Context, pair: Pair) -> None:
    """Follow a pair live until Ctrl-C: a line for each order there is, then for each that is new or has changed.

    With --json, one object a line.
    """
    session = session_of(context)
    try:
        for _, event in session.events(path_of("watch"), {"pair": pair}):
            session.show(event, render.event)
    except KeyboardInterrupt:
        return
    except OutcomeUnknownError as error:  # nothing was asked for whose outcome could be unknown
        raise NotRunningError(error.message, hint=error.hint) from None
    raise NotRunningError("the node has ended the stream", hint="see whether it runs: dhtex nodes")
