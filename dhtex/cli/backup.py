"""Copies of a node's state."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from dhtex.cli.session import session_of
from dhtex.cli.text import Page, clean, plural

app = typer.Typer()

File = Annotated[
    str, typer.Argument(metavar="FILE", help="The file of the copy. It holds the secret key: keep it safe.")
]


@app.command("backup")
def backup(context: typer.Context, file: File) -> None:
    """Copy the state of a node, running or not, to a new file.

    Its key, orders, trades and peers, of one moment.
    """
    from dhtex import backups, config

    session = session_of(context)
    made = backups.back_up(config.home_folder(), session.node, Path(file))
    session.show(asdict(made), _backed_up)


@app.command("restore")
def restore(
    context: typer.Context,
    file: File,
    port: Annotated[int, typer.Option("--port", metavar="N", help="The UDP port of the node that is made of it.")],
    force: Annotated[bool, typer.Option("--force", help="Put the state of a node on this port aside.")] = False,
) -> None:
    """Make a node of a backup; start it afterwards.

    Only one copy of a node should run: never start the node again from which the backup was taken. In case it
    went on after the backup, the restored node looks up what was signed since, and fills or withdraws an order from
    before only when most of the order's holders answer that it is open. What was published since is in nobody's
    journal: cancel such an order by its id, or others go on to list it.
    """
    from dhtex import backups, config

    session = session_of(context)
    session.show(asdict(backups.put_back(config.home_folder(), port, Path(file), force=force)), _restored)


def _contents(view: Any) -> str:
    return f"{plural(view['orders'], 'order')}, {plural(view['trades'], 'trade')}, epoch {view['epoch']}"


def _backed_up(view: Any, page: Page) -> list[str]:
    return [clean(f"copied the node on port {view['port']} to {view['file']} ({_contents(view)})")]


def _restored(view: Any, page: Page) -> list[str]:
    lines = [f"restored the node on port {view['port']} ({_contents(view)})"]
    if view["set_aside"]:
        lines.append(f"its former state is kept as {view['set_aside']}")
    return [clean(line) for line in [*lines, f"start it: dhtex start --port {view['port']}"]]
