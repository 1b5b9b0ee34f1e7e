"""What an extra brings is named where it is missing."""

import importlib
import sys

import pytest


def test_the_adapter_without_ccxt_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("dhtex.ccxt")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ccxt", None)
    with pytest.raises(ImportError, match=r"pip install 'dhtex\[ccxt\]'"):
        importlib.import_module("dhtex.ccxt")
