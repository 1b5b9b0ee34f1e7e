"""A copy is put into the place of a node, and the machine ends in the middle of it, or its disk refuses once."""

import contextlib
import itertools
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dhtex.errors import StateError
from dhtex.store.copying import Copied, back_up, put_back
from dhtex.store.database import Database
from dhtex.store.journal import Journal
from tests.unit.store.samples import name, own_order

CALLS = ("open", "fsync", "rename", "replace", "link", "unlink")
JUNK = b"this is no database, " * 400


class PowerLost(BaseException):
    pass


class Left(NamedTuple):
    """A folder with a backup and a node that was killed, whose last order is in its log only; the seeds of both."""

    home: Path
    copied: bytes
    former: bytes


def make_node(path: Path, entropy: int) -> bytes:
    database = Database.open(path)
    seed = Journal(database).identity(random.Random(entropy)).seed
    database.close()
    return seed


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Left:
    made, home = tmp_path_factory.mktemp("made"), tmp_path_factory.mktemp("home")
    copied, former = make_node(made / "copied.db", 2), make_node(made / "node.db", 1)
    back_up(made / "copied.db", home / "copy")
    database = Database.open(made / "node.db")
    Journal(database).add_order(own_order())
    for file in ("node.db", "node.db-wal"):
        shutil.copyfile(made / file, home / file)
    database.close()
    return Left(home, copied, former)


def break_at(patch: pytest.MonkeyPatch, step: int, error: BaseException, *, for_good: bool) -> None:
    """Let a call to the system fail, the one of this number, or that and all after it."""
    numbers = itertools.count()

    def breaking(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            number = next(numbers)
            if number == step or (for_good and number > step):
                raise error
            return real(*args, **options)

        return call

    for call in CALLS:
        patch.setattr(os, call, breaking(getattr(os, call)))


def restore(home: Path) -> Copied:
    return put_back(home / "copy", home / "node.db", random.Random(5), force=True)


def broken_restores(
    template: Path, folder: Path, error: BaseException, *, for_good: bool
) -> Iterator[tuple[Path, BaseException]]:
    """What `template` has become where a restore broke off, and how, once for each step that there is."""
    for step in range(100):
        home = folder / str(step)
        shutil.copytree(template, home)
        with pytest.MonkeyPatch.context() as patch:
            break_at(patch, step, error, for_good=for_good)
            try:
                restore(home)
            except (PowerLost, StateError) as broken:
                how: BaseException = broken
            else:
                assert step > len(CALLS)
                return
        yield home, how


def seed_in(path: Path) -> bytes:
    database = Database.open(path)
    seed = Journal(database).identity(random.Random(9)).seed
    database.close()
    return seed


def has_last_order(path: Path) -> bool:
    database = Database.open(path)
    found = Journal(database).order(name(1)) is not None
    database.close()
    return found


def test_power_lost_at_any_step_leaves_one_node_or_the_other(left: Left, tmp_path: Path) -> None:
    met = set()
    for home, _ in broken_restores(left.home, tmp_path, PowerLost(), for_good=True):
        seed = seed_in(home / "node.db")
        assert seed in (left.copied, left.former)
        kept = home / ("node.db" if seed == left.former else "node.db.aside-1")
        assert seed_in(kept) == left.former
        assert has_last_order(kept)
        assert restore(home).epoch == 2 + (seed == left.copied)
        assert seed_in(home / "node.db") == left.copied
        met.add(seed)
    assert met == {left.copied, left.former}


@pytest.mark.parametrize("file", [JUNK, None])
def test_power_lost_beside_a_damaged_file_begins_no_new_node(left: Left, tmp_path: Path, file: bytes | None) -> None:
    damaged = shutil.copytree(left.home, tmp_path / "damaged")
    (damaged / "node.db").unlink()
    if file is not None:
        (damaged / "node.db").write_bytes(file)
    log = (damaged / "node.db-wal").read_bytes()
    for home, _ in broken_restores(damaged, tmp_path, PowerLost(), for_good=True):
        contents = [other.read_bytes() for other in home.glob("node.db*")]
        assert log in contents
        assert file is None or file in contents
        with contextlib.suppress(StateError):  # refused until it is done again
            assert seed_in(home / "node.db") == left.copied
        restore(home)
        assert seed_in(home / "node.db") == left.copied


def test_a_disk_that_refuses_once_changes_nothing_or_says_what(left: Left, tmp_path: Path) -> None:
    told = set()
    for home, how in broken_restores(left.home, tmp_path, OSError(28, "disk full"), for_good=False):
        assert isinstance(how, StateError)
        asides = sorted(str(path) for path in home.glob("*.aside-*"))
        assert how.hint == (f"what was there is kept as {asides[0]}" if asides else "nothing was changed")
        assert seed_in(home / "node.db") in ((left.copied, left.former) if asides else (left.former,))
        assert not list(home.glob("*.part"))
        told.add(bool(asides))
    assert told == {True, False}
