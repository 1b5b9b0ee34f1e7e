"""Backups of nodes, made from outside: of running ones too, and put back only where none runs."""

from dataclasses import dataclass
from pathlib import Path

from dhtex import config, nodefiles
from dhtex.clock import system_entropy
from dhtex.errors import NotRunningError
from dhtex.store import copying


@dataclass(frozen=True, slots=True)
class Backup:
    """A copy that was made or put back; `set_aside` is where the state that stood in its place is now, or null."""

    port: int
    file: str
    epoch: int
    orders: int
    trades: int
    set_aside: str | None = None


def back_up(home: Path, wanted: str | None, target: Path) -> Backup:
    """Copy the state of a node: of the one on port `wanted`, else the only one that runs, else the only one there is.

    Raises NotRunningError or UsageError when no single node is meant, else as `copying.back_up`.
    """
    folder = _folder(home, wanted)
    copied = copying.back_up(folder / nodefiles.DATABASE, target)
    return Backup(int(folder.name), str(target), copied.epoch, copied.orders, copied.trades)


def put_back(home: Path, port: int, source: Path, *, force: bool = False) -> Backup:
    """Make a copy the state of the node on a port. Raises PortInUseError while it runs, else as `copying.put_back`."""
    config.check_port(port, lowest=1)
    copying.check(source)
    folder = config.node_folder(home, port)
    config.make_private_folder(folder)
    lock = nodefiles.Lock.take(folder)
    try:
        copied = copying.put_back(source, folder / nodefiles.DATABASE, system_entropy(), force=force)
    finally:
        lock.release()
    aside = None if copied.set_aside is None else str(copied.set_aside)
    return Backup(port, str(source), copied.epoch, copied.orders, copied.trades, aside)


def _folder(home: Path, wanted: str | None) -> Path:
    try:
        return config.node_folder(home, nodefiles.choose_node(home, wanted).port)
    except NotRunningError:
        known = [path.parent for path in home.glob(f"nodes/*/{nodefiles.DATABASE}")]
        meant = [folder for folder in known if folder.name == wanted] if wanted else known
        if len(meant) != 1:
            raise
        return meant[0]
