"""Prints docs/CLI.md from the commands themselves: `python -m dhtex.cli.reference > docs/CLI.md`."""

import sys
from collections.abc import Iterator
from typing import Any, Final

from dhtex.cli.root import make_root
from dhtex.errors import DhtexError

_STATUS_WORDS: Final = {
    0: "Done. Also when Ctrl-C ends what would go on for ever: `order watch`, `book --follow`, `logs --follow`.",
    1: "A defect of dhtex.",
    141: "The reader of the output went away.",
}

HEAD: Final = """# The command line

Made from the commands by `python -m dhtex.cli.reference > docs/CLI.md`; do not edit.

Every command prints text for people, or with `--json` the same values as JSON: one object on one line, for streams one
a line. Money is text with exact digits, a time is both ISO 8601 and milliseconds. Errors go to stderr, one line with
what to do next; with `--json` as `{"error": {"code", "message", "hint", "exit_status"}}`. Ids may be shortened to their
first 6 or more digits, as long as they stay unique.

Which node: `dhtex --node 3001 ...`, or `--node` behind the command, or the environment variable `DHTEX_NODE`; with
exactly one running node none of them is needed. `DHTEX_HOME` moves all state. `NO_COLOR` turns colours off.
"""


def commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    """The command and all below it, each with the words that call it."""
    yield path, command
    for name in getattr(command, "commands", ()):
        yield from commands(command.commands[name], f"{path} {name}")


def reference() -> str:
    """The whole document."""
    parts = [HEAD, *exit_codes()]
    for path, command in commands(make_root(), "dhtex"):
        parts += section(path, command)
    return "\n".join(parts).rstrip() + "\n"


def exit_codes() -> Iterator[str]:
    """The table of exit codes, from the tree of errors."""
    meanings = {status: [words] for status, words in _STATUS_WORDS.items()}
    for kind in DhtexError.__subclasses__():
        meanings.setdefault(kind.exit_status, []).append(first_sentence(kind))
    yield "## Exit codes\n"
    yield "| code | meaning |\n|---|---|"
    yield from (f"| {status} | {' '.join(words)} |" for status, words in sorted(meanings.items()))
    yield ""


def first_sentence(kind: type) -> str:
    """What a class says of itself, in short."""
    return " ".join(str(kind.__doc__).split("\n\n")[0].split())


def section(path: str, command: Any) -> Iterator[str]:
    """One command: how to call it, what it does, what it takes."""
    arguments = [param for param in command.params if param.param_type_name == "argument"]
    options = [param for param in command.params if param.param_type_name == "option"]
    words = [path, *map(_called, arguments), *(["COMMAND"] if hasattr(command, "commands") else ())]
    yield f"## {path}\n"
    yield f"    {' '.join([*words, '[OPTIONS]'] if options else words)}\n"
    yield from paragraphs(command.help)
    rows = [(f"`{param.metavar}`", _about(param)) for param in arguments]
    rows += [(f"`{', '.join(param.opts)}{_value(param)}`", _about(param)) for param in options]
    if rows:
        yield "| | |\n|---|---|"
        yield from (f"| {name} | {text} |" for name, text in rows)
        yield ""


def paragraphs(text: str) -> Iterator[str]:
    """Help as Markdown: paragraphs stay, those marked by \\b are examples."""
    for paragraph in text.strip().split("\n\n"):
        if paragraph.startswith("\b"):
            yield "\n".join(f"    {line}" for line in paragraph.splitlines()[1:]) + "\n"
        else:
            yield paragraph + "\n"


def _called(argument: Any) -> str:
    return str(argument.metavar if argument.required else f"[{argument.metavar}]")


def _value(option: Any) -> str:
    return "" if option.is_flag else f" {option.metavar}"


def _about(param: Any) -> str:
    default = param.default if isinstance(param.default, str | int | float) and param.default else None
    shown = f" Default: {default}." if default is not None and default is not True else ""
    return f"{param.help}{shown}".replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(reference())
