"""The market of a pair: its ladder, and live."""

import sys
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final

import typer

from dhtex.cli import ladder, render
from dhtex.cli.pipes import reader_watched
from dhtex.cli.session import Session, complain_of_gaps, is_terminal, path_of, session_of
from dhtex.cli.text import Page
from dhtex.errors import NotRunningError

app = typer.Typer()

CLEAR_SCREEN: Final = "\x1b[H\x1b[J"

Pair = Annotated[str, typer.Argument(metavar="PAIR", help="Such as BTC/USD.")]


@app.command("book")
def book(
    context: typer.Context,
    pair: Pair,
    limit: Annotated[int, typer.Option("--limit", metavar="N", help="At most so many prices on each side.")] = 10,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Show it anew at each change, until Ctrl-C.")] = False,
) -> None:
    """Show a pair as a ladder.

    Prices with amounts, totals, the spread, and a depth chart.

    With --follow each picture is the whole ladder of one moment: a terminal shows it in place of the one before, a pipe
    gets them one below the other, and --json one a line, numbered by "nonce".
    """
    session = session_of(context)
    query = {"pair": pair, "limit": limit}
    if not follow:
        view = session.call("GET", path_of("book"), query=query)
        session.show(view, ladder.book)
        complain_of_gaps(view)
        return
    in_place = is_terminal(sys.stdout) and not session.json

    def show(event: Any) -> None:
        if in_place:
            print(CLEAR_SCREEN, end="")
        session.show({**event["book"], "nonce": event["sequence"]}, ladder.book if in_place else _picture)

    _follow(session, path_of("book", "follow"), query, show)


def _picture(view: Any, page: Page) -> list[str]:
    """A ladder among others."""
    return [*ladder.book(view, page), ""]


@app.command("watch")
def watch(context: typer.Context, pair: Pair) -> None:
    """Follow a pair live until Ctrl-C.

    A line for each order there is, then for each that is new or has changed. With --json, one object a line.
    """
    session = session_of(context)
    _follow(
        session,
        path_of("watch"),
        {"pair": pair},
        lambda event: session.show(event, render.event),
        f"following {pair} until Ctrl-C",
    )


def _follow(session: Session, path: str, query: Mapping[str, Any], show: Callable[[Any], None], says: str = "") -> None:
    """Show what the node tells until Ctrl-C. Raises ReaderGone, or NotRunningError when the node ends the stream."""
    try:
        with reader_watched():
            events = session.events(path, query)
            if says:
                session.note(says)
            for _, event in events:
                show(event)
    except KeyboardInterrupt:
        return
    raise NotRunningError("the node has ended the stream", hint="see whether it runs: dhtex nodes")
