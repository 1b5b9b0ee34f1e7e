"""What became of accepts."""

from typing import Annotated

import typer

from dhtex.cli import receipts, render, words
from dhtex.cli.session import Session, path_of, session_of

app = typer.Typer()


@app.command("list")
def list_trades(
    context: typer.Context,
    limit: Annotated[int, typer.Option("--limit", metavar="N", help="At most so many trades, newest first.")] = 100,
    after: Annotated[str, typer.Option("--after", metavar="CURSOR", help="Go on behind an earlier list.")] = "",
) -> None:
    """List the trades of this node, as maker and as taker, newest first.

    A list ends with the cursor of the next page if there is more: the id of its last trade.
    """
    session = session_of(context)
    query = {"limit": limit, "after": words.optional_id(after)}
    session.show(session.call("GET", path_of("trades"), query=query), render.trades)


@app.command("show")
def show(
    context: typer.Context,
    trade_id: Annotated[str, typer.Argument(metavar="ID", help="The trade's id, or its first 6 or more digits.")],
) -> None:
    """Show everything about one trade, with the messages of both sides."""
    session = session_of(context)
    session.show(session.call("GET", path_of("trades", words.record_id(trade_id))), render.trade)


TradeId = Annotated[str, typer.Argument(metavar="ID", help="The trade's id, or its first 6 or more digits.")]


@app.command("settle")
def settle(context: typer.Context, trade_id: TradeId) -> None:
    """Say that a confirmed trade was carried out.

    A signed receipt, for the other side and all who look at the order. You may say otherwise later, with `dhtex trade
    fail`; your last word counts.
    """
    _say(session_of(context), trade_id, {"outcome": "settled"})


@app.command("fail")
def fail(
    context: typer.Context,
    trade_id: TradeId,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help=f"Why; only the other side can read it, {words.SEALED}.")
    ] = "",
) -> None:
    """Say that a confirmed trade was not carried out.

    A signed receipt, as with `dhtex trade settle`. Everybody can see that, by whom and when; the reason is sealed to
    the other side.
    """
    _say(session_of(context), trade_id, {"outcome": "failed", "reason": reason})


def _say(session: Session, trade_id: str, body: dict[str, str]) -> None:
    session.show(session.call("POST", path_of("trades", words.record_id(trade_id), "receipt"), body), receipts.settled)
