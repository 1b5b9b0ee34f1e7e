"""What is decoded again without checks is what was checked, and whatever a disk has spoilt is found out."""

from pathlib import Path

import msgspec
import pytest

from dhtex.market.ids import order_key
from dhtex.market.kept import decode_kept, reopen
from dhtex.market.records import AnyRecord, Closing, Fault, Kind, Receipt, Status, is_a, parse_record, record_id
from dhtex.store.database import Database
from dhtex.store.holdings import Holdings
from tests.builders import NETWORK, NOW, make_accept, make_order, make_receipt, make_status, one_of_each


@pytest.mark.parametrize("kind", Kind)
def test_a_kept_record_is_the_one_that_came(kind: Kind) -> None:
    record = one_of_each()[kind]
    for again in (reopen(record.wire, record.id, NETWORK), decode_kept(record.wire, record.kind, record.id)):
        assert again is not None
        assert isinstance(again.body, type(record.body))
        assert msgspec.structs.astuple(again.body) == msgspec.structs.astuple(record.body)
        assert again.body.author == record.body.author
        for name in ("kind", "id", "signature", "stamp", "wire"):
            assert getattr(again, name) == getattr(record, name)


@pytest.mark.parametrize("kind", Kind)
def test_every_spoilt_byte_is_found_or_leaves_the_signed_words_as_they_were(kind: Kind) -> None:
    record = one_of_each()[kind]
    unnoticed = 0
    for place in range(len(record.wire)):
        for flip in (0x01, 0x80, 0xFF):
            spoilt = bytearray(record.wire)
            spoilt[place] ^= flip
            again = reopen(bytes(spoilt), record.id, NETWORK)
            if again is not None:  # the signature and the stamp are not under the id; readers check them
                unnoticed += 1
                parsed = parse_record(again.wire, NETWORK)
                assert not isinstance(parsed, Fault)
                assert (parsed.id, parsed.body) == (record.id, record.body)
                assert (again.signature, again.stamp) != (record.signature, record.stamp)
    assert unnoticed <= 3 * (len(record.signature) + len(record.stamp))


def test_a_second_spelling_is_not_read() -> None:
    record = make_order()
    spelled = record.wire.replace(b"\x94\x01", b"\x94\xcc\x01", 1)
    assert reopen(spelled, record.id, NETWORK) is None


@pytest.mark.parametrize("wire", [b"", b"\xc0", b"\x94\x01\xc4\x00\xc4\x00\xc4\x00", "text", 7, None])
def test_what_is_no_record_is_none(wire: object) -> None:
    assert reopen(wire, make_order().id, NETWORK) is None
    assert reopen(make_order().wire, wire, NETWORK) is None


def test_a_body_that_hashes_right_and_means_nothing_is_not_read(tmp_path: Path) -> None:
    """As only somebody could write it who owns the file: it must not end the node."""
    database = Database.open(tmp_path / "node.db")
    order = make_order()
    holdings = Holdings(database, NETWORK, 0)
    assert holdings.put(order.wire, "", NOW, "10.0.0.1").key is not None
    holdings.flush(NOW)
    with database.batch() as connection:
        connection.execute("UPDATE held SET prefix = x'3031'")
    assert Holdings(database, NETWORK, 0).count == 0
    with database.batch() as connection:
        connection.execute("UPDATE held SET prefix = '', number = ?", ((1 << 63) - 1,))
    again = Holdings(database, NETWORK, 0)
    assert again.count == 0
    again.put(order.wire, "", NOW, "10.0.0.1")
    assert again.flush(NOW) == 2
    assert Holdings(database, NETWORK, 0).count == 1
    database.close()


@pytest.mark.parametrize("price", ["", "abc", "0", "050", "1" + "0" * 40])
def test_an_order_without_a_price_is_not_read(tmp_path: Path, price: str) -> None:
    database = Database.open(tmp_path / "node.db")
    order, encoder = make_order(), msgspec.msgpack.Encoder()
    holdings = Holdings(database, NETWORK, 0)
    holdings.put(order.wire, "", NOW, "10.0.0.1")
    holdings.flush(NOW)
    fields = (*msgspec.structs.astuple(order.body)[:5], price, *msgspec.structs.astuple(order.body)[6:])
    body = encoder.encode(fields)
    values = (record_id(Kind.ORDER, body), encoder.encode((1, body, order.signature, order.stamp)))
    assert reopen(values[1], values[0], NETWORK) is not None
    with database.batch() as connection:
        connection.execute(
            "INSERT INTO held SELECT 2, dht_key, ?, prefix, anchored, ? FROM held WHERE number = 1", values
        )
    again = Holdings(database, NETWORK, 0)
    assert (again.count, again.pairs(), again.flush(NOW)) == (1, {"BTC/USD"}, 1)
    assert database.rows("SELECT number FROM held") == [(1,)]
    database.close()


def test_a_row_that_stands_there_twice_is_dropped(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "node.db")
    holdings = Holdings(database, NETWORK, 0)
    holdings.put(make_order().wire, None, NOW, "10.0.0.1")
    holdings.flush(NOW)
    with database.batch() as connection:
        connection.execute(
            "INSERT INTO held SELECT 7, dht_key, record_id, prefix, anchored, wire FROM held WHERE number = 1"
        )
    again = Holdings(database, NETWORK, 0)
    assert (again.count, again.flush(NOW)) == (1, 1)
    assert database.rows("SELECT number FROM held") == [(1,)]
    database.close()


def test_rules_still_ask_records_that_were_read_from_disk(tmp_path: Path) -> None:
    """Certificates and answers are decoded from their bytes when somebody needs them."""
    database = Database.open(tmp_path / "node.db")
    order = make_order()
    accept = make_accept(order)
    records: list[AnyRecord] = [order, accept, make_status(order, Closing.FILLED, accept=accept)]
    holdings = Holdings(database, NETWORK, 0)
    for record in records:
        holdings.put(record.wire, None, NOW + 5, "10.0.0.1")
    holdings.flush(NOW + 5)
    again = Holdings(database, NETWORK, 0)
    receipt = make_receipt(order, accept)
    verdict = again.put(receipt.wire, None, NOW + 5, "10.0.0.1")
    assert verdict.taken == "stored"
    wires = again.page(order_key(order.id), Kind.STATUS, 0, 10_000, NOW + 5).wires
    assert is_a(parse_record(wires[0], NETWORK), Status)
    assert is_a(parse_record(receipt.wire, NETWORK), Receipt)
    database.close()
