"""What the README shows is what happens: its transcript is run again, and its library example as it is written."""

import asyncio
import re
import shlex
from pathlib import Path

import pytest

from tests.integration.conftest import Network, free_ports

pytestmark = pytest.mark.processes

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
NAMED = re.compile(r"\b(?=[0-9a-f]*[a-f])(?=[0-9a-f]*[0-9])(?:[0-9a-f]{10}|[0-9a-f]{8})\b")
PASSING = re.compile(r"\b\d+s\b")


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", README, re.DOTALL)
    assert found is not None
    return found[1]


def exchanges(console: str) -> list[tuple[str, list[str]]]:
    """Each command with the lines that it prints."""
    steps: list[tuple[str, list[str]]] = []
    for line in console.splitlines():
        if line.startswith("$ "):
            steps.append((line[2:], []))
        else:
            steps[-1][1].append(line)
    return steps


class Names:
    """The ids and ports of the README, and what they are called in this run."""

    def __init__(self, ports: dict[str, str]) -> None:
        self._known = ports

    def here(self, text: str) -> str:
        return re.sub("|".join(self._known), lambda match: self._known[match[0]], text)

    def agree(self, shown: str, printed: str) -> bool:
        """Whether a line is what the README shows, up to ids that are new in it and times that pass."""
        for word, here in zip(shown.split(), printed.split(), strict=False):
            name, other = word.strip(":"), here.strip(":")
            # By place: an id of this run may happen to have no letter.
            if NAMED.fullmatch(name) and re.fullmatch(rf"[0-9a-f]{{{len(name)}}}", other):
                self._known.setdefault(name, other)
        return PASSING.sub("*", " ".join(self.here(shown).split())) == PASSING.sub("*", " ".join(printed.split()))


def test_the_transcript_is_what_the_commands_print(network: Network) -> None:
    steps = exchanges(block("console"))
    assert len(steps) >= 8
    names = Names(dict(zip(("3001", "3002"), map(str, sorted(free_ports(2))), strict=True)))
    for command, shown in steps:
        words = shlex.split(names.here(command))
        assert words[0] == "dhtex"
        if words[1] == "start":
            words += ["--host", "127.0.0.1"]
            network.ports.append(int(words[words.index("--port") + 1]))
        result = network.run(*words[1:])
        printed = (result.out + result.err).splitlines()
        assert len(printed) == len(shown), (command, printed)
        for expected, line in zip(shown, printed, strict=True):
            assert names.agree(expected, line), (expected, line)


def test_the_library_example_runs_as_written(network: Network, capsys: pytest.CaptureFixture[str]) -> None:
    port = network.started(free_ports(1)[0])
    source = block("python").replace("127.0.0.1:3001", f"127.0.0.1:{port}").replace("asyncio.run(main())", "")
    scope: dict[str, object] = {}
    exec(compile(source, "README.md", "exec"), scope)
    main = scope["main"]
    assert callable(main)
    asyncio.run(main())
    assert re.fullmatch(r"[0-9a-f]{64} is held by 1 other nodes\n", capsys.readouterr().out)
