"""The golden vectors against the code, read from disk and checked field by field: no change of the wire goes unseen."""

import hashlib
import hmac
import json
from typing import Any

import msgspec
import pytest

from dhtex.market import stamp
from dhtex.market.branches import pack, unpack
from dhtex.market.identity import Identity, seal, verify
from dhtex.market.ids import RecordId, index_key, order_key
from dhtex.market.pricebits import path_of, price_bits
from dhtex.market.records import Kind, Record, id_of, parse_record, signed_message
from tests.vectors.make import CREATED, FOLDER, NETWORK, make


def read(name: str) -> Any:
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


RECORDS = read("records.json")


@pytest.mark.parametrize("name", sorted(make()))
def test_the_files_are_what_the_code_would_write(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == make()[name]


def test_every_kind_has_a_vector() -> None:
    assert {vector["number"] for vector in RECORDS} == set(Kind)


@pytest.mark.parametrize("vector", RECORDS, ids=lambda vector: vector["kind"])
def test_a_record_s_wire_gives_its_fields_id_and_signature(vector: dict[str, Any]) -> None:
    record = parse_record(bytes.fromhex(vector["wire"]), NETWORK)
    assert isinstance(record, Record)
    assert record.kind.name.lower() == vector["kind"]
    shown = {name: getattr(record.body, name) for name in vector["fields"]}
    assert list(shown) == [field.name for field in msgspec.structs.fields(record.body)]
    plain = {name: value.hex() if isinstance(value, bytes) else value for name, value in shown.items()}
    assert json.loads(json.dumps(plain)) == vector["fields"]
    assert msgspec.msgpack.encode(record.body).hex() == vector["body"]
    assert record.id.hex() == vector["id"] == id_of(record.body).hex()
    assert (record.signature.hex(), record.stamp.hex()) == (vector["signature"], vector["stamp"])
    assert verify(record.body.author, signed_message(record.id), record.signature)
    if record.kind in stamp.STAMPED:
        assert stamp.check(record.stamp, record.id, 0, CREATED)


@pytest.mark.parametrize("vector", read("stamps.json"), ids=lambda vector: str(vector["bits"]))
def test_stamps(vector: dict[str, Any]) -> None:
    identifier, minted = bytes.fromhex(vector["id"]), bytes.fromhex(vector["stamp"])
    assert stamp.check(minted, identifier, vector["bits"], vector["hour"] * 3600)
    assert stamp.mint(identifier, vector["bits"], vector["hour"], vector["start"]) == minted


def test_keys_and_price_bits() -> None:
    vectors = read("keys.json")
    for each in vectors["order"]:
        assert order_key(RecordId(bytes.fromhex(each["id"]))).hex() == each["key"]
    for each in vectors["index"]:
        assert index_key(each["network"], each["pair"], each["side"], each["prefix"]).hex() == each["key"]
    for each in vectors["price"]:
        assert price_bits(each["price"]) == each["bits"]
    for each in vectors["path"]:
        assert path_of(each["price"], RecordId(bytes.fromhex(each["id"]))) == each["path"]
    for each in vectors["branches"]:
        assert pack(each["branches"]).hex() == each["packed"]
        assert unpack(bytes.fromhex(each["packed"]), "") == each["branches"]
    assert [each["bits"] for each in vectors["price"]] == sorted(each["bits"] for each in vectors["price"])


@pytest.mark.parametrize("vector", read("identities.json"), ids=lambda vector: vector["public"][:8])
def test_identities(vector: dict[str, Any]) -> None:
    owner = Identity.from_seed(bytes.fromhex(vector["seed"]))
    assert owner.public.hex() == vector["public"]
    assert owner.encryption_public.hex() == vector["encryption_public"]
    assert owner.sign(b"").hex() == vector["signature_of_empty"]
    sealed = seal(owner.encryption_public, b"clear", bytes.fromhex(vector["sealing_secret"]))
    assert sealed is not None
    assert sealed.hex() == vector["sealed_clear"]
    assert owner.open(sealed) == b"clear"
    seed = hmac.digest(
        bytes.fromhex(vector["seed"]), b"dhtex/order-key/1\0" + bytes.fromhex(vector["order_salt"]), "sha256"
    )
    assert Identity.from_seed(seed).public.hex() == vector["order_public"]


@pytest.mark.parametrize("vector", read("tags.json"), ids=lambda vector: vector["tag"])
def test_tags(vector: dict[str, Any]) -> None:
    secret, salt = hashlib.sha256(vector["tag"].encode()).digest(), bytes.fromhex(vector["salt"])
    message = b"dhtex/self-trade/1\0" + salt[:4]
    assert salt[4:] == hmac.digest(secret, message, "sha256")[:4]
