"""Golden vectors: what any implementation of the protocol must reproduce, byte for byte.

`python -m tests.vectors.make` writes them anew. A difference means that the protocol changed: old and new nodes no
longer understand each other, and the version in the records must change too.
"""

import json
import random
from pathlib import Path
from typing import Any, Final

import msgspec

from dhtex.market import stamp
from dhtex.market.branches import pack
from dhtex.market.identity import SEED_BYTES, Identity, seal
from dhtex.market.ids import RecordId, index_key, order_key
from dhtex.market.keyring import Keyring
from dhtex.market.pricebits import path_of, price_bits
from dhtex.market.records import (
    Accept,
    Beat,
    Body,
    Closing,
    Code,
    Confirm,
    Liveness,
    Order,
    Outcome,
    Receipt,
    Refusal,
    Side,
    Status,
    id_of,
    seal_record,
)

FOLDER: Final = Path(__file__).resolve().parent
SEED: Final = 2027
NETWORK: Final = "vectors"
CREATED: Final = 1_800_000_000
BITS: Final = 8
Vectors = list[dict[str, Any]]


def _plain(value: object) -> object:
    return value.hex() if isinstance(value, bytes) else value


def _record(body: Body, author: Identity, bits: int | None = None) -> dict[str, Any]:
    seal_of_work = b"" if bits is None else stamp.mint(id_of(body), bits, stamp.hour_of(CREATED))
    record = seal_record(body, author.sign, seal_of_work)
    fields = {field.name: getattr(body, field.name) for field in msgspec.structs.fields(body)}
    return {
        "kind": record.kind.name.lower(),
        "number": int(record.kind),
        "fields": {name: _plain(value) for name, value in fields.items()},
        "body": msgspec.msgpack.encode(body).hex(),
        "id": record.id.hex(),
        "signature": record.signature.hex(),
        "stamp": record.stamp.hex(),
        "wire": record.wire.hex(),
    }


def _order(maker: Identity, entropy: random.Random, **fields: Any) -> Order:
    plain: dict[str, Any] = {
        "version": 1,
        "network": NETWORK,
        "maker": maker.public,
        "pair": "BTC/USD",
        "side": Side.SELL,
        "price": "50000",
        "amount": "1",
        "minimum": "1",
        "payments": (),
        "note": "",
        "created": CREATED,
        "expires": CREATED + 86_400,
        "liveness": Liveness.BEAT,
        "confirm": Confirm.AUTO,
        "encryption_key": maker.encryption_public,
        "epoch": 1,
        "salt": entropy.randbytes(8),
        "reference": "",
        "replaces": b"",
        "parent": b"",
        "group": b"",
    }
    return Order(**plain | fields)


def _full_order(maker: Identity, entropy: random.Random) -> Order:
    return _order(
        maker,
        entropy,
        pair="XMR/EUR",
        side=Side.BUY,
        price="149.95",
        amount="12.5",
        minimum="0.000000000001",
        payments=("SEPA instant", "cash"),
        note="Evenings only – münze, 現金",
        expires=CREATED + 7 * 86_400,
        liveness=Liveness.MAILBOX,
        confirm=Confirm.ASK,
        epoch=4_294_967_295,
        reference="0b7e3a52-5d6f-4a8e-9f51-000000000001",
        replaces=entropy.randbytes(32),
        parent=entropy.randbytes(32),
        group=entropy.randbytes(32),
    )


def _status(order: Order, order_id: bytes, closing: Closing, **fields: Any) -> Status:
    plain: dict[str, Any] = {
        "version": 1,
        "network": NETWORK,
        "order_id": order_id,
        "maker": order.maker,
        "pair": order.pair,
        "side": order.side,
        "price": order.price,
        "expires": order.expires,
        "epoch": order.epoch,
        "seq": 1,
        "closing": closing,
        "at": CREATED + 9,
        "accept_id": b"",
        "taker": b"",
        "amount": "",
        "replaced_by": b"",
        "sealed": b"",
    }
    return Status(**plain | fields)


def records(maker: Identity, taker: Identity, entropy: random.Random) -> Vectors:
    """Every kind of record: plain and full orders, an accept with a message, each way to close, a refusal, a beat, and
    a receipt by each side."""
    order, full = _order(maker, entropy), _full_order(maker, entropy)
    order_id = id_of(order)
    accept = Accept(
        version=1,
        network=NETWORK,
        order_id=order_id,
        taker=taker.public,
        amount="1",
        created=CREATED + 5,
        deadline=CREATED + 65,
        encryption_key=taker.encryption_public,
        salt=entropy.randbytes(8),
        sealed=seal(maker.encryption_public, b"meet at noon", entropy.randbytes(32)) or b"",
    )
    reply = seal(taker.encryption_public, "IBAN ‑ ok".encode(), entropy.randbytes(32)) or b""
    filled = _status(
        order, order_id, Closing.FILLED, accept_id=id_of(accept), taker=taker.public, amount="1", sealed=reply
    )
    refusal = Refusal(
        version=1,
        network=NETWORK,
        order_id=order_id,
        maker=maker.public,
        accept_id=id_of(accept),
        code=Code.NOT_LIVE,
        at=CREATED + 6,
        expires=accept.deadline,
    )
    beat = Beat(
        version=1, network=NETWORK, maker=maker.public, pair="BTC/USD", side=Side.SELL, prefix="1001", at=CREATED + 30
    )
    receipt = Receipt(
        version=1,
        network=NETWORK,
        order_id=order_id,
        accept_id=id_of(accept),
        signer=maker.public,
        outcome=Outcome.SETTLED,
        seq=1,
        at=CREATED + 3600,
        expires=order.expires,
        sealed=b"",
    )
    reason = seal(maker.encryption_public, b"no coins came", random.Random(SEED + 1).randbytes(32)) or b""
    failure = msgspec.structs.replace(receipt, signer=taker.public, outcome=Outcome.FAILED, seq=2, sealed=reason)
    return [
        _record(order, maker, BITS),
        _record(full, maker, 0),
        _record(accept, taker, BITS - 4),
        _record(filled, maker),
        _record(_status(order, order_id, Closing.CANCELED, seq=2), maker),
        _record(_status(order, order_id, Closing.REPLACED, replaced_by=id_of(full)), maker),
        _record(refusal, maker),
        _record(beat, maker),
        _record(receipt, maker),
        _record(failure, taker),
    ]


def stamps(entropy: random.Random) -> Vectors:
    """Stamps of some bits each, found from a given first nonce."""
    made: Vectors = []
    for bits in (0, 1, 4, 8, 10):
        identifier, start = entropy.randbytes(32), entropy.getrandbits(64)
        minted = stamp.mint(identifier, bits, stamp.hour_of(CREATED), start)
        hour = stamp.hour_of(CREATED)
        made.append({"id": identifier.hex(), "bits": bits, "hour": hour, "start": start, "stamp": minted.hex()})
    return made


def keys(entropy: random.Random) -> dict[str, Vectors]:
    """Order keys, index keys, and the bits of prices."""
    order_ids = [RecordId(entropy.randbytes(32)) for _ in range(3)]
    index = [
        (network, pair, side, prefix)
        for network, pair in (("main", "BTC/USD"), (NETWORK, "XMR/EUR"))
        for side in ("buy", "sell")
        for prefix in ("", "0", "100100")
    ]
    prices = ["0.000000000000000001", "0.01", "0.1", "1", "9.99", "10", "50000", "50000.01", "999999999999999"]
    return {
        "order": [{"id": each.hex(), "key": order_key(each).hex()} for each in order_ids],
        "index": [
            {"network": n, "pair": pair, "side": side, "prefix": prefix, "key": index_key(n, pair, side, prefix).hex()}
            for n, pair, side, prefix in index
        ],
        "price": [{"price": price, "bits": price_bits(price)} for price in prices],
        "path": [{"price": "50000", "id": each.hex(), "path": path_of("50000", each)} for each in order_ids],
        "branches": [
            {"branches": branches, "packed": pack(branches).hex()}
            for branches in (["0"], ["100100", "1001001"], ["10010001" * 2, "1" * 128])
        ],
    }


def identities(seeds: list[bytes], entropy: random.Random) -> Vectors:
    """Seeds, their keys, and a message sealed to them."""
    made: Vectors = []
    for seed in seeds:
        owner, secret = Identity.from_seed(seed), entropy.randbytes(32)
        sealed = seal(owner.encryption_public, b"clear", secret)
        assert sealed is not None
        made.append(
            {
                "seed": seed.hex(),
                "public": owner.public.hex(),
                "encryption_public": owner.encryption_public.hex(),
                "signature_of_empty": owner.sign(b"").hex(),
                "order_salt": seed[:8].hex(),
                "order_public": Keyring(seed).fresh(seed[:8]).public.hex(),
                "sealing_secret": secret.hex(),
                "sealed_clear": sealed.hex(),
            }
        )
    return made


def tags() -> Vectors:
    """Secret tags, and the salt of an order, from the random bytes with which it begins."""
    made: Vectors = []
    for number, tag in enumerate(("correct horse battery staple", "zwölf Boxkämpfer")):
        salt = Keyring(bytes(SEED_BYTES), tag).salt(random.Random(number))
        made.append({"tag": tag, "salt": salt.hex()})
    return made


def make() -> dict[str, str]:
    """The text of every vector file, by name."""
    entropy = random.Random(SEED)
    seeds = [entropy.randbytes(SEED_BYTES) for _ in range(2)]
    maker, taker = map(Identity.from_seed, seeds)
    content = {
        "identities.json": identities(seeds, entropy),
        "records.json": records(maker, taker, entropy),
        "stamps.json": stamps(entropy),
        "keys.json": keys(entropy),
        "tags.json": tags(),
    }
    return {name: json.dumps(value, indent=1, ensure_ascii=False) + "\n" for name, value in content.items()}


def main() -> None:
    """Write all files."""
    for name, text in make().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
