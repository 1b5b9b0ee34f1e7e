"""The package with its busiest modules compiled, if `scripts/bench` could make it (see `scripts/_compiled.py`)."""

import os
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).resolve().parent.parent
_FOLDER: Final = _ROOT / ".compiled"


def is_there() -> bool:
    """Whether it was made; `scripts/bench` sees to it that it is of the sources as they are."""
    return (_FOLDER / ".fingerprint").exists()


def environment(compiled: bool) -> dict[str, str]:
    """What a Python process needs to import it; or what it needs for the sources."""
    return os.environ | {"PYTHONSAFEPATH": "1", "PYTHONPATH": f"{_FOLDER if compiled else _ROOT}:{_ROOT}"}
