"""What became of accepts."""

from typing import Annotated

import typer

from dhtex.cli import render, words
from dhtex.cli.session import path_of, session_of

app = typer.Typer()


@app.command("list")
def list_trades(context: typer.Context) -> None:
    """List all trades of this node, as maker and as taker."""
    session = session_of(context)
    session.show(session.call("GET", path_of("trades")), render.trades)


@app.command("show")
def show(
    context: typer.Context,
    trade_id: Annotated[str, typer.Argument(metavar="ID", help="The trade's id, or its first 6 or more digits.")],
) -> None:
    """Show everything about one trade, with the messages of both sides."""
    session = session_of(context)
    session.show(session.call("GET", path_of("trades", words.record_id(trade_id))), render.trade)
