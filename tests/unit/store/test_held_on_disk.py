"""Holdings survive a restart as they were, and what cannot be trusted does not come back."""

from pathlib import Path

import pytest

from dhtex import limits
from dhtex.errors import StateError
from dhtex.market.holding import ANY_KIND, Taken
from dhtex.market.ids import order_key
from dhtex.market.records import AnyRecord, Closing, Code, Kind
from dhtex.store import heldrows
from dhtex.store.database import Database
from dhtex.store.holdings import Holdings
from tests.builders import NETWORK, NOW, identity, make_accept, make_beat, make_order, make_refusal, make_status

Everything = list[tuple[bytes, str | None, bytes]]


def everything(holdings: Holdings, now: float = NOW + 5) -> Everything:
    return sorted(
        [(key, prefix, wire) for key, prefix, wire in holdings.replicas(now)], key=lambda row: (row[0], row[2])
    )


def put(holdings: Holdings, *records: AnyRecord, prefix: str | None = None) -> None:
    for record in records:
        assert holdings.put(record.wire, prefix, NOW + 5, "10.0.0.1").taken is not Taken.REFUSED


def fill(holdings: Holdings) -> None:
    order, closed = make_order(), make_order(number=1)
    accepts = [make_accept(order, by=identity(n)) for n in (5, 4, 3, 2)]
    put(holdings, order, *accepts, make_refusal(order, accepts[0], Code.TAKEN))
    put(holdings, order, closed, make_status(closed, Closing.CANCELED), make_order(number=2), prefix="")
    put(holdings, make_status(make_order(number=3), Closing.CANCELED))


def reopen(path: Path) -> tuple[Database, Holdings]:
    database = Database.open(path)
    return database, Holdings(database, NETWORK, 0)


def test_everything_flushed_is_there_again_in_the_same_order(tmp_path: Path) -> None:
    database, holdings = reopen(tmp_path / "node.db")
    fill(holdings)
    assert holdings.flush(NOW + 5) == 10
    assert holdings.flush(NOW + 5) == 0
    before = everything(holdings)
    accepts = holdings.page(order_key(make_order().id), Kind.ACCEPT, 0, 10_000, NOW)
    database.close()
    database, again = reopen(tmp_path / "node.db")
    assert everything(again) == before
    assert again.count == holdings.count == 10
    assert again.page(order_key(make_order().id), Kind.ACCEPT, 0, 10_000, NOW) == accepts
    assert again.flush(NOW) == 0
    database.close()


def test_a_tombstone_still_knows_its_maker_after_a_restart(tmp_path: Path) -> None:
    database, holdings = reopen(tmp_path / "node.db")
    order = make_order()
    status = make_status(order, Closing.CANCELED)
    put(holdings, status, order, prefix="")  # believed only once the order had come
    holdings.flush(NOW)
    database.close()
    database, holdings = reopen(tmp_path / "node.db")
    assert holdings.put(order.wire, "", NOW + 5, "self").newer == status.wire
    foreign = make_status(order, Closing.CANCELED, by=identity(66), maker=identity(66).public)
    assert holdings.put(foreign.wire, "", NOW + 5, "10.0.0.1").code == Code.BAD_SIGNATURE
    database.close()


def test_what_comes_after_a_restart_is_written_beside_what_was_there(tmp_path: Path) -> None:
    database, holdings = reopen(tmp_path / "node.db")
    put(holdings, make_order(), make_order(number=1))
    holdings.flush(NOW)
    database.close()
    database, holdings = reopen(tmp_path / "node.db")
    put(holdings, make_order(number=2))
    holdings.flush(NOW)
    database.close()
    database, holdings = reopen(tmp_path / "node.db")
    assert holdings.count == 3
    database.close()


def test_what_nobody_vouches_for_stays_little_after_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    statuses = [make_status(make_order(number=number), Closing.CANCELED) for number in range(6)]
    database, holdings = reopen(tmp_path / "node.db")
    for number, status in enumerate(statuses):
        holdings.put(status.wire, None, NOW + 5, f"10.0.0.{number}")
    holdings.flush(NOW)
    database.close()
    monkeypatch.setattr(limits, "ORPHANS_PER_SOURCE_MAX", 4)
    database, holdings = reopen(tmp_path / "node.db")
    assert {wire for _, _, wire in everything(holdings)} == {status.wire for status in statuses[2:]}
    assert holdings.flush(NOW) == 2
    assert len(database.rows("SELECT * FROM held")) == 4
    database.close()


def test_what_left_memory_leaves_the_disk(tmp_path: Path) -> None:
    database, holdings = reopen(tmp_path / "node.db")
    order = make_order()
    put(holdings, order, prefix="")
    holdings.flush(NOW)
    put(holdings, make_status(order, Closing.CANCELED, seq=1), make_status(order, Closing.CANCELED, seq=2), prefix="")
    holdings.flush(NOW)
    assert len(database.rows("SELECT * FROM held")) == 1
    holdings.flush(order.body.expires + limits.TOMBSTONE_S)
    assert database.rows("SELECT * FROM held") == []
    database.close()


def test_a_batch_may_be_limited(tmp_path: Path) -> None:
    database, holdings = reopen(tmp_path / "node.db")
    fill(holdings)
    written = [holdings.flush(NOW, 4) for _ in range(4)]
    assert written == [4, 4, 2, 0]
    assert len(database.rows("SELECT * FROM held")) == 10
    database.close()


def test_beats_are_not_written(tmp_path: Path) -> None:
    database, holdings = reopen(tmp_path / "node.db")
    put(holdings, make_beat(), make_beat(at=NOW + 30), prefix="")
    assert holdings.flush(NOW) == 0
    database.close()


def test_rows_that_are_not_what_they_claim_are_dropped(tmp_path: Path) -> None:
    database, holdings = reopen(tmp_path / "node.db")
    fill(holdings)
    holdings.flush(NOW)
    with database.batch() as connection:
        for column in ("wire = x'00'", "record_id = zeroblob(32)", "dht_key = zeroblob(20)", "prefix = '111'"):
            connection.execute(
                f"UPDATE held SET {column} WHERE rowid = (SELECT min(rowid) FROM held"
                " WHERE length(wire) > 1 AND record_id != zeroblob(32) AND dht_key != zeroblob(20)"
                " AND prefix IS NOT '111')"
            )
    database.close()
    database, holdings = reopen(tmp_path / "node.db")
    assert holdings.count == 6
    assert holdings.flush(NOW) == 4
    assert len(database.rows("SELECT * FROM held")) == 6
    database.close()


def test_another_network_does_not_inherit_records(tmp_path: Path) -> None:
    database, holdings = reopen(tmp_path / "node.db")
    fill(holdings)
    holdings.flush(NOW)
    assert Holdings(database, "other", 0).count == 0
    database.close()


def test_expired_records_do_not_come_back(tmp_path: Path) -> None:
    database, holdings = reopen(tmp_path / "node.db")
    order = make_order(expires=NOW + 60)
    put(holdings, order)
    holdings.flush(NOW)
    database.close()
    database, holdings = reopen(tmp_path / "node.db")
    assert holdings.page(order_key(order.id), ANY_KIND, 0, 10_000, NOW + 60).total == 0
    assert holdings.count == 0
    database.close()


def test_what_comes_and_goes_while_the_disk_refuses_leaves_nothing_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise StateError("the disk is full")

    database, holdings = reopen(tmp_path / "node.db")
    put(holdings, make_order(), make_order(number=1), prefix="")
    assert holdings.flush(NOW) == 2
    with monkeypatch.context() as patch:
        patch.setattr(heldrows, "write", refuse)
        put(holdings, *[make_order(number=number, expires=NOW + 100) for number in range(2, 50)])
        with pytest.raises(StateError):
            holdings.flush(NOW)
        assert holdings.flush(NOW + 100) == 0
    put(holdings, make_status(make_order(), Closing.CANCELED), prefix="")
    assert holdings.flush(NOW) == 2  # the status, and the order's row, which is there
    assert len(database.rows("SELECT * FROM held")) == 2
    database.close()
