"""The rules of the house that a machine can check: size, arrows, who may do I/O, where time and chance come from.

Each test reads the sources as text or as a syntax tree; nothing is run. A rule that is in the way is changed here, in
the open, and not worked around.
"""

import ast
import os
import re
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
LINE_CHARS_MAX = 120

# Imports point down: a unit may import the rows below its own, and beside itself only what `SAME_ROW` names.
ROWS: tuple[frozenset[str], ...] = (
    frozenset({"errors", "limits", "clock", "tasks", "version", "coverage"}),
    frozenset({"views", "marketviews", "config", "nodefiles", "children"}),
    frozenset({"market"}),
    frozenset({"overlay", "store"}),
    frozenset({"directory", "trading"}),
    frozenset({"mintworker"}),
    frozenset({"minting"}),
    frozenset({"node"}),
    frozenset({"sim", "control"}),
    frozenset({"daemon", "spawn", "backups"}),
    frozenset({"cli", "ccxt"}),
    frozenset({"dhtex", "__main__"}),  # the package's own front page
)
SAME_ROW = {("tasks", "errors"), ("nodefiles", "config"), ("marketviews", "views"), ("spawn", "daemon")}
# The command line is a client: it knows the socket, what stands on disk and how to start a process, and nothing that
# runs a node.
CLI_MAY_IMPORT = (
    "__version__",
    "version",
    "errors",
    "limits",
    "clock",
    "config",
    "nodefiles",
    "control.client",
    "spawn",
    "backups",
    "market.money",
)

# A file that is not here is pure: it opens nothing, waits for nothing and logs nothing.
IO_ALLOWED = (
    "clock.py",
    "tasks.py",
    "overlay/alarm.py",
    "overlay/transport.py",
    "overlay/lossy.py",
    "overlay/protocol.py",
    "overlay/searching.py",
    "overlay/server.py",
    "overlay/stockserver.py",
    "overlay/sweep.py",
    "overlay/watching.py",
    "store/",
    "directory/proving.py",
    "directory/service.py",
    "directory/tending.py",
    "directory/treereading.py",
    "trading/followed.py",
    "trading/service.py",
    "trading/settling.py",
    "trading/timers.py",
    "minting.py",
    "mintworker.py",
    "node.py",
    "node/",
    "nodefiles.py",
    "children.py",
    "control/",
    "daemon.py",
    "spawn.py",
    "cli/",
    "ccxt/",
    "sim/",
    "__init__.py",
)
IO_MODULES = {
    "asyncio",
    "concurrent",
    "logging",
    "multiprocessing",
    "selectors",
    "signal",
    "socket",
    "sqlite3",
    "subprocess",
    "threading",
    "time",
}
# What only some of the package may import.
ONLY_IN = {
    "kademlia": ("overlay/",),
    "rpcudp": ("overlay/",),
    "umsgpack": ("overlay/",),
    "sqlite3": ("store/", "sim/disk.py"),
    "nacl": ("market/identity.py",),
    "ccxt": ("ccxt/",),
    "starlette": ("control/",),
    "uvicorn": ("control/", "daemon.py"),
    "typer": ("cli/",),
    "click": ("cli/",),
    "time": (
        "clock.py",
        "nodefiles.py",
        "spawn.py",
        "cli/",
        "control/client.py",
        "sim/run.py",
    ),  # a blocking client waits in real time, and a simulation says how much quicker it was
    "secrets": ("clock.py",),
    "uuid": (),
    "pickle": (),
    "multiprocessing": ("minting.py",),
}
# Reading a clock or drawing chance, wherever the module was imported for other reasons.
CLOCKS_AND_CHANCE = re.compile(
    r"\b(?:os\.urandom|random\.(?!Random\b)\w+|datetime\.(?:now|utcnow|today)|perf_counter|monotonic_ns|time_ns)\b"
)
# The borders at which anything may be caught: datagrams, control requests, the command line.
CATCH_ALL_ALLOWED = {"overlay/protocol.py": 1, "control/server.py": 1, "cli/app.py": 1}

# Broken by underlines, so that a plain search of the sources for these words finds nothing here.
LEFT_OVERS = re.compile(r"TO_DO|FIX_ME|\bX_XX\b|NotImplemented_Error|no_ cover".replace("_", ""))
SKIPPED_TESTS = re.compile(r"mark\.sk_ip|\bxf_ail|pytest\.sk_ip".replace("_", ""))
MACHINE_PATHS = re.compile(r"(?<![\w.~$}])/(?:home|root|Users|work|private)/\w")


def package_files() -> list[Path]:
    return sorted((ROOT / "dhtex").rglob("*.py"))


def python_files() -> list[Path]:
    folders = ("dhtex", "tests", "bench", "scripts", "bootstrap")
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def text_files() -> list[Path]:
    """Whatever is written by hand: sources, scripts, documents."""
    found = {path for folder in ("scripts", "bootstrap", "docs", ".ci") for path in (ROOT / folder).rglob("*")}
    found |= {path for pattern in ("*.md", "*.toml", "*.lock") for path in ROOT.glob(pattern)}
    return sorted({path for path in found | set(python_files()) if path.is_file() and "__pycache__" not in path.parts})


def name(path: Path) -> str:
    """A path as the tables above write it: below `dhtex/`, else below the repository."""
    inside = path.relative_to(ROOT)
    return str(inside.relative_to("dhtex")) if inside.parts[0] == "dhtex" else str(inside)


def listed(path: Path, allowed: tuple[str, ...]) -> bool:
    return any(name(path) == entry or (entry.endswith("/") and name(path).startswith(entry)) for entry in allowed)


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Every imported module with its line, those inside functions and behind TYPE_CHECKING too."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)}:{node.lineno}: write imports from the top"
            assert node.module is not None
            # `from dhtex import limits` imports dhtex.limits, `from dhtex.market import ids` dhtex.market.ids
            if node.module == "dhtex" or (ROOT / node.module.replace(".", "/")).is_dir():
                yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)
            else:
                yield node.module, node.lineno


def unit_of(path: Path) -> str:
    parts = path.relative_to(ROOT / "dhtex").parts
    return "dhtex" if parts == ("__init__.py",) else parts[0].removesuffix(".py")


def row_of(one: str) -> int:
    for row, units in enumerate(ROWS):
        if one in units:
            return row
    raise AssertionError(f"dhtex.{one} stands in no row: add it to ROWS")


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function, its docstring and its list of parameters aside: these are tables and prose."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (function.end_lineno or 0) - body[0].lineno + 1 if body else 0


def report(problems: list[str]) -> None:
    assert not problems, "\n" + "\n".join(problems)


def test_every_file_is_short() -> None:
    sizes = ((path, len(path.read_text(encoding="utf-8").splitlines())) for path in python_files())
    report([f"{name(path)}: {lines} lines" for path, lines in sizes if lines > FILE_LINES_MAX])


def test_every_function_is_short() -> None:
    problems = []
    for path in python_files():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = length(node)
                if lines > FUNCTION_LINES_MAX:
                    problems.append(f"{name(path)}:{node.lineno}: {node.name} has {lines} lines")
    report(problems)


def test_every_line_fits() -> None:
    problems = []
    for path in text_files():
        if path.suffix in {".py", ".sh", ""}:
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                if len(line) > LINE_CHARS_MAX:
                    problems.append(f"{name(path)}:{number}: {len(line)} characters")
    report(problems)


def test_every_module_says_what_it_is_for() -> None:
    report([name(path) for path in python_files() if ast.get_docstring(tree(path)) is None and path.stat().st_size])


def test_imports_point_down() -> None:
    problems = []
    for path in package_files():
        source = unit_of(path)
        for module, line in imports(path):
            if module.split(".")[0] != "dhtex" or source == "dhtex":
                continue
            target = (module + ".version").split(".")[1]  # a bare `import dhtex` is for the version
            target = "version" if target == "__version__" else target
            if target != source and row_of(target) >= row_of(source) and (source, target) not in SAME_ROW:
                problems.append(f"{name(path)}:{line}: {source} must not import {module}")
    report(problems)


def test_the_command_line_is_only_a_client() -> None:
    problems = []
    for path in package_files():
        if unit_of(path) in {"cli", "__main__"}:
            for module, line in imports(path):
                inner = module.removeprefix("dhtex.")
                allowed = any(f"{inner}.".startswith(f"{entry}.") for entry in ("cli", *CLI_MAY_IMPORT))
                if inner != module and not allowed:
                    problems.append(f"{name(path)}:{line}: the command line must not import {module}")
    report(problems)


def test_io_stays_in_the_listed_files() -> None:
    problems = []
    for path in package_files():
        if listed(path, IO_ALLOWED):
            continue
        problems += [f"{name(path)}:{line}: imports {m}" for m, line in imports(path) if m.split(".")[0] in IO_MODULES]
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Await | ast.AsyncFor | ast.AsyncWith):
                problems.append(f"{name(path)}:{node.lineno}: waits")
    report(problems)


@pytest.mark.parametrize("package", sorted(ONLY_IN))
def test_package_is_imported_only_where_it_belongs(package: str) -> None:
    problems = []
    for path in package_files():
        for module, line in imports(path):
            if module.split(".")[0] == package and not listed(path, ONLY_IN[package]):
                problems.append(f"{name(path)}:{line}: imports {module}")
    report(problems)


def code_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines with all strings blanked: a docstring may speak of what the code must not do."""
    source = path.read_text(encoding="utf-8").splitlines()
    blank: set[int] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            blank |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    yield from ((number, line) for number, line in enumerate(source, 1) if number not in blank)


def test_time_and_chance_are_injected() -> None:
    problems = []
    for path in package_files():
        if name(path) != "clock.py":
            for number, line in code_lines(path):
                if CLOCKS_AND_CHANCE.search(line):
                    problems.append(f"{name(path)}:{number}: {line.strip()}")
    report(problems)


def test_everything_is_caught_only_at_the_borders() -> None:
    found: dict[str, int] = {}
    for path in package_files():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ExceptHandler):
                caught = "" if node.type is None else ast.unparse(node.type)
                passed_on = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
                if caught in {"", "Exception", "BaseException"} and not passed_on:
                    found[name(path)] = found.get(name(path), 0) + 1
    report([f"{file}: {count} catch-alls" for file, count in found.items() if count > CATCH_ALL_ALLOWED.get(file, 0)])


def test_nothing_is_left_over() -> None:
    problems = []
    for path in text_files():
        if path == Path(__file__):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if LEFT_OVERS.search(line) or SKIPPED_TESTS.search(line) or MACHINE_PATHS.search(line):
                problems.append(f"{name(path)}:{number}: {line.strip()[:100]}")
    report(problems)


def bounds() -> list[tuple[str, str, int]]:
    found = []
    for number, line in enumerate((ROOT / "dhtex" / "limits.py").read_text(encoding="utf-8").splitlines(), 1):
        if match := re.match(r"([A-Z][A-Z0-9_]*): Final = (.*)", line):
            found.append((match[1], match[2], number))
    return found


def test_every_bound_gives_its_reason() -> None:
    assert len(bounds()) > 50
    report([f"limits.py:{line}: {bound} has no comment" for bound, rest, line in bounds() if "#" not in rest])


def test_every_bound_is_enforced_somewhere() -> None:
    sources = "\n".join(path.read_text(encoding="utf-8") for path in package_files() if name(path) != "limits.py")
    own = (ROOT / "dhtex" / "limits.py").read_text(encoding="utf-8")
    problems = []
    for bound, _, line in bounds():
        word = re.compile(rf"\b{bound}\b")
        if not word.search(sources) and len(word.findall(own)) < 2:
            problems.append(f"limits.py:{line}: nothing uses {bound}")
    report(problems)


def test_nothing_is_declared_in_vain() -> None:
    """A top-level name of the package is mentioned at least once beside its declaration, in the package itself."""
    sources = {path: path.read_text(encoding="utf-8") for path in package_files()}
    words: dict[str, int] = {}
    for source in sources.values():
        for word in re.findall(r"\w+", source):
            words[word] = words.get(word, 0) + 1
    words["main"] = 2  # called by the entry point
    problems = []
    for path, source in sources.items():
        for node in ast.parse(source).body:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            if not node.decorator_list and words[node.name] < 2 and not node.name.startswith("__"):
                problems.append(f"{name(path)}:{node.lineno}: nobody uses {node.name}")
    report(problems)


def test_scripts_can_be_run() -> None:
    scripts = [path for path in (ROOT / "scripts").iterdir() if path.is_file() and not path.name.startswith("_")]
    scripts += [ROOT / ".ci" / "run", ROOT / "bootstrap" / "testnet"]
    report([name(path) for path in scripts if not os.access(path, os.X_OK)])


def test_what_is_packed_can_be_checked_where_it_is_unpacked() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
    packed = [*settings["targets"]["sdist"]["include"], "pyproject.toml"]
    needed = {path.relative_to(ROOT).parts[0] for path in text_files()}
    report([f"{one} is not packed" for one in sorted(needed) if not any(fnmatch(one, entry) for entry in packed)])


@pytest.mark.parametrize("lock", sorted(path.name for path in ROOT.glob("requirements-*.lock")))
def test_lock_names_no_host_and_pins_everything(lock: str) -> None:
    lines = (ROOT / lock).read_text(encoding="utf-8").splitlines()
    problems = [line for line in lines if "://" in line or line.startswith("--")]
    pins = [line for line in lines if line and line[0] not in "# "]
    problems += [line for line in pins if not re.match(r"[a-z0-9-]+==\S+ (?:; .*)?\\$", line)]
    assert pins
    report(problems)
