"""A process that is killed with SIGKILL: what it acknowledged is there, what it had not finished is not, nor stays."""

import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from dhtex.store import copying
from dhtex.store.database import Database
from dhtex.store.journal import Journal
from tests.unit.store.samples import STATUS, name, own_order, trade
from tests.unit.store.test_half_written import decide

DECIDER = """
import os, random, signal, sys
from pathlib import Path
from dhtex.store.database import Database
from dhtex.store.journal import Journal
from tests.unit.store.samples import STATUS, name, own_order, trade

database = Database.open(Path(sys.argv[1]))
journal = Journal(database)
seed = journal.identity(random.Random(7)).seed
if sys.argv[2] == "midway":
    with database.decision() as connection:
        connection.execute("UPDATE orders SET state = 'filled'")
        connection.execute("INSERT INTO answers(accept_id, order_id, wire) VALUES(x'01', x'01', x'01')")
        os.kill(os.getpid(), signal.SIGKILL)
for number in range(int(sys.argv[2])):
    journal.add_order(own_order(number))
    assert journal.decide_fill(name(number), name(1000 + number), STATUS, trade(1000 + number, number))
    print(number, flush=True)
sys.stdin.read()
"""


BACKER = """
import os, signal, sys
from pathlib import Path
from dhtex.store import copying

copying._count = lambda connection: os.kill(os.getpid(), signal.SIGKILL)
copying.back_up(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def run(path: Path, what: str, script: str = DECIDER) -> subprocess.Popen[str]:
    root = Path(__file__).resolve().parents[3]
    return subprocess.Popen(
        [sys.executable, "-c", script, str(path), what],
        cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.parametrize("told", [1, 17, 60])
def test_every_acknowledged_decision_survives(tmp_path: Path, told: int) -> None:
    path = tmp_path / "node.db"
    with run(path, "100000") as process:
        assert process.stdout is not None
        for number in range(told):
            assert process.stdout.readline() == f"{number}\n"
        process.kill()
        assert process.wait() == -signal.SIGKILL
        process.communicate()
    database = Database.open(path)
    journal = Journal(database)
    for number in range(told):
        assert journal.order(name(number)) == own_order(number, state="filled", seq=1, status_wire=STATUS)
        assert journal.answer(name(1000 + number)) == STATUS
        assert journal.trade(name(1000 + number)) == trade(1000 + number, number)
    # Whatever it did beyond what it told is whole: no order filled without its answer and trade.
    filled = journal.orders("filled")
    assert len(filled) == len(journal.unpublished()) == len(journal.trades()) >= told
    database.close()


def test_a_decision_cut_short_never_happened(tmp_path: Path) -> None:
    path = tmp_path / "node.db"
    database = Database.open(path)
    Journal(database).add_order(own_order())
    database.close()
    with run(path, "midway") as process:
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    database = Database.open(path)
    assert Journal(database).orders() == [own_order()]
    assert Journal(database).unpublished() == []
    database.close()


def test_a_backup_cut_short_leaves_nothing_behind_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, copy, mine = tmp_path / "node.db", tmp_path / "copy", tmp_path / "copy.20261130.part"
    decide(path)
    mine.touch()
    with run(path, str(copy), BACKER) as process:
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    (left,) = set(tmp_path.glob("copy.*.part")) - {mine}
    left.with_name(f"{left.name}-journal").touch()  # so it looks when it is killed some moments before
    count, drafts = copying._count, list[Path]()

    def count_beside_another(connection: sqlite3.Connection) -> copying.Copied:
        drafts[:] = tmp_path.glob("copy*.part*")
        with monkeypatch.context() as patch:
            patch.setattr(copying, "_count", count)
            copying.back_up(path, tmp_path / "copy")
        assert all(draft.exists() for draft in drafts)
        copy.unlink()
        return count(connection)

    monkeypatch.setattr(copying, "_count", count_beside_another)
    copying.back_up(path, copy)
    assert len(drafts) == 2
    assert left not in drafts
    assert sorted(tmp_path.iterdir()) == [copy, mine, path]
