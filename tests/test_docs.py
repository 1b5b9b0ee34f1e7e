"""Documents that are made from the sources are up to date, and no command or option is without help."""

from pathlib import Path
from typing import Any

import pytest

from dhtex.cli.reference import commands, reference
from dhtex.cli.root import make_root
from dhtex.market.trade import MAKER, RECEIPT, TAKER, mermaid

ROOT = Path(__file__).resolve().parent.parent
ALL = dict(commands(make_root(), "dhtex"))


def test_the_reference_of_the_command_line_is_up_to_date() -> None:
    written = (ROOT / "docs" / "CLI.md").read_text(encoding="utf-8")
    assert written == reference(), "run: python -m dhtex.cli.reference > docs/CLI.md"


@pytest.mark.parametrize("path", ALL)
def test_every_command_and_option_has_help(path: str) -> None:
    command: Any = ALL[path]
    assert command.help.strip()
    assert [param.name for param in command.params if not param.help] == []
    assert [param.name for param in command.params if not (param.metavar or param.is_flag)] == []


@pytest.mark.parametrize("path", [path for path in ALL if path not in ("dhtex order", "dhtex trade")])
def test_every_command_can_answer_in_json(path: str) -> None:
    assert any("--json" in param.opts for param in ALL[path].params)


def test_the_diagrams_of_the_protocol_are_drawn_from_the_tables() -> None:
    written = (ROOT / "docs" / "PROTOCOL.md").read_text(encoding="utf-8")
    assert mermaid(MAKER) in written
    assert mermaid(TAKER) in written
    assert mermaid(RECEIPT) in written


def test_the_readme_names_every_command() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [path for path in ALL if path.split()[-1] not in readme] == []
