"""Groups of commands that are imported and built only when they are named.

A run of the command line needs one command; importing and building all the others would cost more time than the
answer. Every command gets the options `--json` and `--node` here, so none can lack them (`start`, `nodes` and `restore`
talk to no node).
"""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, Final

import typer
from typer.core import TyperGroup, TyperOption
from typer.main import get_command_from_info

from dhtex.cli.session import session_of

JSON_HELP: Final = "Print JSON for programs instead of text for people."
_NO_NODE: Final = ("start", "nodes", "restore")
NODE_HELP: Final = "Talk to the node on this port; needed only if several are running."


def _use_json(context: typer.Context, _: Any, value: bool) -> None:
    if value:
        session_of(context).json = True


def _use_node(context: typer.Context, _: Any, value: str | None) -> None:
    if value:
        session_of(context).node = value


def json_option() -> TyperOption:
    """The flag that every command has, unless it has an own option of this name."""
    return TyperOption(
        param_decls=["json_output", "--json"],
        is_flag=True,
        default=False,
        expose_value=False,
        callback=_use_json,
        help=JSON_HELP,
    )


def node_option(envvar: str | None = None) -> TyperOption:
    """The option that names a node."""
    return TyperOption(
        param_decls=["node_port", "--node"],
        metavar="PORT",
        expose_value=False,
        callback=_use_node,
        envvar=envvar,
        show_envvar=envvar is not None,
        help=NODE_HELP,
    )


class Commands(Mapping[str, Any]):
    """Commands by name, each built when it is first asked for. `places`: a group, or the module with the command."""

    def __init__(self, places: Mapping[str, str | TyperGroup]) -> None:
        self._places = places
        self._built: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        place = self._places[name]
        if not isinstance(place, str):
            return place
        if name not in self._built:
            self._built[name] = build(name, place)
        return self._built[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def build(name: str, module: str) -> Any:
    """The command that a module has registered with its `app` under this name."""
    registered = import_module(module).app.registered_commands
    (info,) = (info for info in registered if info.name == name)
    command = get_command_from_info(info, pretty_exceptions_short=False, rich_markup_mode=None)
    taken = {option for param in command.params for option in param.opts}
    shared = [json_option()] if name in _NO_NODE else [json_option(), node_option()]
    command.params += [option for option in shared if not taken.intersection(option.opts)]
    return command
