"""What a holder in a live market has been handed: signed records of all kinds, where they belong, and who brought them.

Of a thousand records about 410 are orders at their own keys, 300 orders of index nodes, 150 statuses, 80 accepts, 25
refusals, 15 receipts and 20 beats. A maker has some 25 orders and an index node some 300, however many records there
are: more records mean more makers and more keys, not larger ones.
"""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from bench.records import NETWORK
from dhtex import limits
from dhtex.market import stamp
from dhtex.market.identity import Identity
from dhtex.market.records import (
    VERSION,
    Accept,
    AnyRecord,
    Beat,
    Closing,
    Code,
    Confirm,
    Liveness,
    Order,
    Outcome,
    Receipt,
    Record,
    Refusal,
    Side,
    Status,
    id_of,
    seal_record,
)

ORDERS_PER_MAKER = 25
ORDERS_PER_INDEX = 300
SOURCES = 64
NOTES = ("", "", "weekdays only, answers within the hour", "in person, Lisbon; coffee is on me")
PAYMENTS = (("SEPA",), ("SEPA", "Wise"), ("cash",), ("Revolut", "SEPA", "PayPal"))


class Handed(NamedTuple):
    """A record as a peer hands it over."""

    wire: bytes
    prefix: str | None
    source: str


def save(path: Path, records: Iterator[Handed]) -> None:
    """Keep records in a file, because signing them takes longer than what is measured with them."""
    encoder = msgspec.msgpack.Encoder()
    with path.open("wb") as file:
        for record in records:
            packed = encoder.encode(record)
            file.write(len(packed).to_bytes(2) + packed)


def saved(path: Path) -> Iterator[Handed]:
    """The records of a file one by one, so that they take no memory."""
    decoder = msgspec.msgpack.Decoder(Handed)
    with path.open("rb") as file:
        while head := file.read(2):
            yield decoder.decode(file.read(int.from_bytes(head)))


class Market:
    """Makers and takers who trade at the time `now`."""

    def __init__(self, now: int, chance: random.Random, records: int) -> None:
        self._now = now
        self._chance = chance
        self._makers = [self._identity() for _ in range(max(2, records // 2 // ORDERS_PER_MAKER))]
        self._takers = [self._identity() for _ in range(64)]
        self._pairs = [f"{_ticker(number)}/USD" for number in range(max(1, records * 3 // 10 // ORDERS_PER_INDEX))]
        self._sources = [f"10.{number}.0.1" for number in range(SOURCES)]

    def _identity(self) -> Identity:
        return Identity.from_seed(self._chance.randbytes(32))

    def records(self, count: int) -> Iterator[Handed]:
        """So many records, in the order in which they come. One Status in ten comes without its order."""
        made = 0
        while made < count:
            maker = self._chance.choice(self._makers)
            order = self.order(maker)
            for record, prefix in self._story(maker, order):
                if made < count:
                    made += 1
                    yield Handed(record.wire, prefix, self._chance.choice(self._sources))

    def _story(self, maker: Identity, order: Record[Order]) -> Iterator[tuple[AnyRecord, str | None]]:
        """What reaches one holder about one order: most of its places lie with other holders."""
        luck = self._chance.random()
        if luck < 0.40:
            yield order, ""
            if self._chance.random() < 0.065:
                yield self._beat(maker, order.body.pair), ""
        elif luck < 0.48:
            if luck < 0.47:
                yield order, ""
            yield self._status(maker, order), ""
        else:
            if luck < 0.98:
                yield order, None
            if self._chance.random() < 0.15:
                yield from ((record, None) for record in self._trade(maker, order))
            elif luck > 0.90:
                yield self._status(maker, order), None

    def order(self, maker: Identity, life_s: int = 0) -> Record[Order]:
        """An offer, open for up to a week."""
        chance = self._chance
        created = self._now - chance.randrange(1800)
        amount = str(chance.randrange(2, 4000))
        body = Order(
            version=VERSION,
            network=NETWORK,
            maker=maker.public,
            pair=chance.choice(self._pairs),
            side=Side.SELL,
            price=f"{chance.randrange(1, 99_999)}.{chance.randrange(1, 10)}",
            amount=amount,
            minimum=chance.choice((amount, "1")),
            payments=chance.choice(PAYMENTS),
            note=chance.choice(NOTES),
            created=created,
            expires=self._now + life_s if life_s else created + chance.randrange(7200, limits.ORDER_LIFE_S_MAX),
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
        return seal_record(body, maker.sign, stamp.mint(id_of(body), 0, stamp.hour_of(created)))

    def burst(self, count: int, life_s: int) -> Iterator[Handed]:
        """Orders that end all in the same second, `life_s` from now."""
        for _ in range(count):
            order = self.order(self._chance.choice(self._makers), life_s)
            yield Handed(order.wire, None, self._chance.choice(self._sources))

    def _accept(self, order: Record[Order]) -> tuple[Identity, Record[Accept]]:
        taker = self._chance.choice(self._takers)
        body = Accept(
            version=VERSION,
            network=NETWORK,
            order_id=order.id,
            taker=taker.public,
            amount=order.body.amount,
            created=self._now,
            deadline=self._now + 3600,
            encryption_key=taker.encryption_public,
            salt=self._chance.randbytes(8),
            sealed=self._chance.randbytes(80),
        )
        return taker, seal_record(body, taker.sign, stamp.mint(id_of(body), 0, stamp.hour_of(self._now)))

    def _trade(self, maker: Identity, order: Record[Order]) -> Iterator[AnyRecord]:
        taker, accept = self._accept(order)
        _, late = self._accept(order)
        status = self._status(maker, order, accept)
        refusal = Refusal(
            version=VERSION, network=NETWORK, order_id=order.id, maker=maker.public, accept_id=late.id,
            code=Code.TAKEN, at=self._now, expires=late.body.deadline,
        )  # fmt: skip
        receipt = Receipt(
            version=VERSION, network=NETWORK, order_id=order.id, accept_id=accept.id, signer=taker.public,
            outcome=Outcome.SETTLED, seq=1, at=self._now, expires=order.body.expires, sealed=b"",
        )  # fmt: skip
        yield from (accept, status, late)
        if self._chance.random() < 0.6:
            yield seal_record(refusal, maker.sign)
        if self._chance.random() < 0.4:
            yield seal_record(receipt, taker.sign)

    def _status(self, maker: Identity, order: Record[Order], accept: Record[Accept] | None = None) -> Record[Status]:
        body = Status(
            version=VERSION, network=NETWORK, order_id=order.id, maker=maker.public, pair=order.body.pair,
            side=order.body.side, price=order.body.price, expires=order.body.expires, epoch=1, seq=1,
            closing=Closing.CANCELED if accept is None else Closing.FILLED, at=self._now,
            accept_id=b"" if accept is None else accept.id, taker=b"" if accept is None else accept.body.taker,
            amount="" if accept is None else accept.body.amount, replaced_by=b"",
            sealed=b"" if accept is None else self._chance.randbytes(72),
        )  # fmt: skip
        return seal_record(body, maker.sign)

    def _beat(self, maker: Identity, pair: str) -> Record[Beat]:
        # From a clock that is as far ahead as is allowed, so that it lasts as long as can be while this is measured.
        at = self._now + limits.CLOCK_SKEW_S_MAX - 20
        body = Beat(
            version=VERSION, network=NETWORK, maker=maker.public, pair=pair, side=Side.SELL, prefix="", at=at
        )  # fmt: skip
        return seal_record(body, maker.sign)


def _ticker(number: int) -> str:
    return "T" + "".join(chr(ord("A") + number // 26**place % 26) for place in range(3))
