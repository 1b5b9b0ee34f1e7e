"""Compiles what is busiest when a wheel is built, if it is asked for: `HATCH_BUILD_HOOKS_ENABLE=1 pip install .`

What every datagram and every record that is handed to a holder passes through becomes machine code, by mypyc, from the
same sources; nothing else changes, and whoever has no C compiler leaves it out. It is done in a copy, so that no build
leaves anything among the sources, where it would be imported in the place of what is edited there.

Modules stay as they are that mypyc cannot compile or would change: those that define messages (msgspec makes their
classes while the program runs), and those whose classes come from the stock package, which sets attributes to what
their types forbid.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

OVERLAY: Final = "dhtex/overlay"
AS_THEY_ARE: Final = ("__init__", "pages", "ports", "server", "stock", "stockserver", "wire")
_MARKET: Final = "admission branches fields identity ids kept merge money pricebits stamp"
_STORE: Final = "eviction holdings orphans"
HOLDER: Final = (
    *(f"dhtex/market/{name}.py" for name in _MARKET.split()),
    *(f"dhtex/store/{name}.py" for name in _STORE.split()),
)


class Compile(BuildHookInterface[Any]):
    """Puts the compiled modules beside the sources in the wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, unless the wheel is one that only points to the sources."""
        if version == "editable":
            return
        self._folder = tempfile.TemporaryDirectory()
        root = Path(self._folder.name)
        shutil.copytree(Path(self.root) / "dhtex", root / "dhtex", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        modules = [path for path in sorted((root / OVERLAY).glob("*.py")) if path.stem not in AS_THEY_ARE]
        command = [sys.executable, "-m", "mypyc", f"--config-file={self.root}/pyproject.toml"]
        ran = subprocess.run(
            [*command, *(str(path.relative_to(root)) for path in modules), *HOLDER],
            cwd=root,
            env=os.environ | {"MYPYC_OPT_LEVEL": "3", "MYPY_CACHE_DIR": os.devnull},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if ran.returncode:
            self.app.abort(f"cannot compile; to do without, leave HATCH_BUILD_HOOKS_ENABLE unset\n{ran.stdout}")
        made = [*root.glob("*.so"), *(root / "dhtex").rglob("*.so")]
        build_data["force_include"].update({str(path): str(path.relative_to(root)) for path in made})
        build_data["pure_python"], build_data["infer_tag"] = False, True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """The wheel has been written: the copy can go."""
        if version != "editable":
            self._folder.cleanup()
