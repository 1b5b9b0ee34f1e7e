"""The table of all commands, and the options that stand before them."""

from typing import Any, Final

import typer
from typer.core import TyperGroup, TyperOption
from typer.main import get_install_completion_arguments

from dhtex import __version__
from dhtex.cli.lazy import Commands, json_option, node_option

_NODE: Final = "dhtex.cli.node"
_ORDER: Final = "dhtex.cli.order"
_PUBLISH: Final = "dhtex.cli.publish"
_BOOK: Final = "dhtex.cli.book"
_MARKET: Final = "dhtex.cli.market"
_COPIES: Final = "dhtex.cli.copies"
_TRADE: Final = "dhtex.cli.trade"
_DIAGNOSE: Final = "dhtex.cli.diagnose"
_BACKUP: Final = "dhtex.cli.backup"

ROOT_HELP: Final = """dhtex: a decentralised order directory.

Start a node in the background with `dhtex start`; all other commands talk to it. Each has its own --help.
"""


def group(name: str, help_text: str, places: dict[str, str | TyperGroup]) -> TyperGroup:
    """Commands under one noun."""
    commands: Any = Commands(places)
    return TyperGroup(name=name, commands=commands, help=help_text, no_args_is_help=True, rich_markup_mode=None)


def _print_version(context: typer.Context, _: Any, value: bool) -> None:
    if value:
        print(f"dhtex {__version__}")
        context.exit()


def make_root() -> TyperGroup:
    """The command `dhtex`. Nothing of its commands is imported yet."""
    order = group(
        "order",
        "Publish, find and take orders.",
        {
            "add": _PUBLISH,
            "list": _ORDER,
            "show": _ORDER,
            "cancel": _ORDER,
            "renew": _ORDER,
            "amend": _PUBLISH,
            "accept": _ORDER,
            "confirm": _ORDER,
            "decline": _ORDER,
            "watch": _BOOK,
            "export": _COPIES,
        },
    )
    trade = group(
        "trade",
        "What became of accepts, yours and those of your orders.",
        dict.fromkeys(("list", "show", "settle", "fail"), _TRADE),
    )
    root = group(
        "dhtex",
        ROOT_HELP,
        {
            "start": _NODE,
            "stop": _NODE,
            "status": _NODE,
            "nodes": _NODE,
            "peers": _NODE,
            "connect": _NODE,
            "logs": _NODE,
            "why": _DIAGNOSE,
            "doctor": _DIAGNOSE,
            "backup": _BACKUP,
            "restore": _BACKUP,
            "order": order,
            "book": _BOOK,
            "quote": _MARKET,
            "take": _MARKET,
            "pairs": _MARKET,
            "stats": _MARKET,
            "import": _COPIES,
            "trade": trade,
        },
    )
    version = TyperOption(
        param_decls=["version", "--version"],
        is_flag=True,
        default=False,
        is_eager=True,
        expose_value=False,
        callback=_print_version,
        help="Print the version and exit.",
    )
    root.params += [node_option(envvar="DHTEX_NODE"), json_option(), version, *get_install_completion_arguments()]
    return root
