"""Signed orders in bulk, made before the clock runs."""

import random

from dhtex.clock import SystemClock
from dhtex.market import stamp
from dhtex.market.identity import Identity
from dhtex.market.records import VERSION, Confirm, Liveness, Order, Record, Side, id_of, seal_record

NETWORK = "bench"


def make_orders(count: int, makers: int, chance: random.Random, created: int | None = None) -> list[Record[Order]]:
    """Orders in BTC/USD by so many makers, at prices around 50,000; their stamps have no work in them.

    Processes that shall make the same ones agree on the second when they are `created`, which is else the present one.
    """
    identities = [Identity.from_seed(chance.randbytes(32)) for _ in range(makers)]
    created = int(SystemClock().now()) if created is None else created
    return [make_order(identities[index % makers], created, chance, 0) for index in range(count)]


def make_order(maker: Identity, created: int, chance: random.Random, bits: int) -> Record[Order]:
    """An order by a maker at a chance price, good for a day, with so much work in its stamp."""
    order = Order(
        version=VERSION,
        network=NETWORK,
        maker=maker.public,
        pair="BTC/USD",
        side=Side.SELL,
        price=str(chance.randrange(50_000, 60_000)),
        amount="1.5",
        minimum="0.1",
        payments=("SEPA", "Wise"),
        note="weekdays only, answers within the hour",
        created=created,
        expires=created + 86_400,
        liveness=Liveness.MAILBOX,
        confirm=Confirm.AUTO,
        encryption_key=maker.encryption_public,
        epoch=1,
        salt=chance.randbytes(8),
        reference="",
        replaces=b"",
        parent=b"",
        group=b"",
    )
    return seal_record(order, maker.sign, stamp.mint(id_of(order), bits, stamp.hour_of(created)))
