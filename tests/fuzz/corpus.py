"""What is spoilt: sound records, contacts, tokens and addresses, and requests and answers made of them."""

import random
from typing import Any

import msgspec

from dhtex.market.ids import index_key, order_key
from dhtex.market.records import AnyRecord, Closing, Code, Side
from dhtex.overlay import wire
from dhtex.overlay.addresses import Address
from dhtex.overlay.contact import contact_at
from dhtex.overlay.trailer import encode_view, network_tag, reply_trailer, request_trailer
from tests.builders import NETWORK, identity, make_accept, make_beat, make_order, make_refusal, make_status
from tests.fuzz.mutate import any_value, below, pick, spoil_bytes, spoil_list, spoil_record

pack = msgspec.msgpack.encode
NET = network_tag(NETWORK)
PAIRS = ("BTC/USD", "ETH/EUR")


def make_records(now: int, chance: random.Random) -> list[AnyRecord]:
    """Orders around `now` by a few makers, with everything that can be said about them."""
    records: list[AnyRecord] = []
    for number in range(40):
        order = make_order(
            by=identity(1 + number % 6), number=chance.getrandbits(60), created=now + chance.randrange(-600, 60),
            pair=PAIRS[number % 2], side=chance.choice(list(Side)), price=str(chance.randrange(1, 90_000)),
        )  # fmt: skip
        accepts = [make_accept(order, by=identity(10 + taker), sealed=chance.randbytes(60)) for taker in range(3)]
        records += [order, *accepts, make_refusal(order, accepts[0], chance.choice(list(Code)))]
        closing = chance.choice(list(Closing))
        records += [
            make_status(order, closing, accept=accepts[1], seq=seq) for seq in (1, chance.randrange(1, 1 << 32))
        ]
        records.append(make_status(order, closing, accept=accepts[1], by=identity(9)))
        records.append(make_beat(by=identity(1 + number % 6), pair=order.body.pair, side=order.body.side, at=now))
    return records


class Corpus:
    """Pools to draw from. `token` makes the write token that the node would give to an IP."""

    def __init__(self, chance: random.Random, now: int) -> None:
        self.chance = chance
        self.records = [record.wire for record in make_records(now, chance)]
        self.ids = [chance.randbytes(20) for _ in range(40)]
        orders = [record for record in make_records(now, chance) if record.kind == 1]
        self.orders = [order.id.hex() for order in orders]
        self.keys = [order_key(order.id) for order in orders]
        self.keys += [index_key(NETWORK, pair, side, "") for pair in PAIRS for side in ("buy", "sell")]
        self.keys += [chance.randbytes(20) for _ in range(10)]  # type: ignore[misc]
        self.addresses: list[Address] = [("127.0.0.1", 5000 + port) for port in range(20)]
        self.addresses += [(f"10.0.{n}.7", 4000) for n in range(10)] + [
            (f"8.8.{n % 4}.{n}", 4000) for n in range(1, 20)
        ]
        self.addresses += [("::1", 4000), ("2001:db8::1", 4000)] + [(f"2a00:1450:{n:x}::5", 4000) for n in range(6)]
        self.last = b""

    def address(self) -> Address:
        """Mostly one of a few, so that peers are met again."""
        chance = self.chance
        if chance.random() < 0.03:
            return (f"{1 + below(chance, 223)}.{below(chance, 256)}.0.1", pick(chance, (0, 1, 4000, 65535)))
        return pick(chance, self.addresses)

    def record(self) -> bytes:
        """Sound twice out of three times."""
        sound = pick(self.chance, self.records)
        return sound if self.chance.random() < 0.67 else spoil_record(sound, self.chance)

    def contact(self) -> bytes:
        """In its compact form."""
        ip, port = self.address()
        contact = contact_at(pick(self.chance, self.ids), ip, port)
        return b"" if contact is None else contact.wire

    def arguments(self, verb: wire.Verb, token: bytes) -> list[Any]:
        """What a sound request of this verb says."""
        chance = self.chance
        sender, key = pick(chance, self.ids), pick(chance, self.keys)
        if chance.random() < 0.2:
            token = pick(chance, (b"", bytes(8), b"12345678"))
        if verb is wire.GET:
            return [
                NET,
                sender,
                token,
                key,
                pick(chance, (0, 1, 2, 3, 5, 128, 129, 255)),
                pick(chance, (0, 0, 5)),
                True,
            ]
        if verb is wire.PUT:
            return [NET, sender, token, pick(chance, (None, None, "", "", "01")), self.record()]
        if verb is wire.WATCH:
            few = [pick(chance, self.keys) for _ in range(below(chance, 4))]
            return [NET, sender, token, pick(chance, (0, 60, 120)), few, few[:1], bytes(8)]
        if verb is wire.PUSH:
            return [NET, sender, below(chance, 9), key, self.record()]
        if verb is wire.DOWN:
            return [NET, sender, token, self.contact()]
        if verb is wire.PROBE:
            return [NET, sender, token, pick(chance, self.ids), pick(chance, (b"", self.contact()[20:]))]
        if verb is wire.STORE:
            return [sender, key, self.record() if chance.random() < 0.8 else any_value(chance)]
        return [] if verb is wire.STUN else [sender] if verb is wire.PING else [sender, key]

    def request(self, verb: wire.Verb, token: bytes) -> bytes:
        """A datagram that asks something, spoilt half of the time."""
        chance = self.chance
        arguments = self.arguments(verb, token)
        if chance.random() < 0.25:
            arguments = spoil_list(arguments, chance)
        marked = verb.stock and chance.random() < 0.7
        tail = request_trailer(NET, pick(chance, (0, 34, 120))) if marked else b""
        return self._finish(b"\0" + chance.randbytes(20) + pack([verb.name.decode(), arguments]) + tail)

    def reply(self, asked: bytes, sender: bytes) -> bytes:
        """An answer to a request that the node sent, spoilt half of the time."""
        chance = self.chance
        found = wire.verb_of(asked)
        if found is None:
            return b""
        verb, token = found[0], chance.randbytes(8)
        if verb is wire.PROBE and chance.random() < 0.3:
            return self._finish(b"\1" + verb.args.decode(asked[found[1] :]).nonce + pack(sender))
        answer: Any = self._answer(verb, sender, token)
        if isinstance(answer, list) and chance.random() < 0.2:
            answer = spoil_list(answer, chance)
        seen = ("9.9.9.9", 4000) if chance.random() < 0.98 else pick(chance, self.addresses)
        view = encode_view(chance.random() < 0.1, 1 + below(chance, 1 << 31), seen)
        tail = reply_trailer(NET, sender, token, view) if verb.stock and chance.random() < 0.9 else b""
        return self._finish(b"\1" + asked[1:21] + pack(answer) + tail)

    def _answer(self, verb: wire.Verb, sender: bytes, token: bytes) -> Any:
        chance = self.chance
        ok = 0 if chance.random() < 0.9 else 1
        if verb is wire.PING:
            return sender
        if verb is wire.FIND_NODE:
            return [[pick(chance, self.ids), *self.address()] for _ in range(below(chance, 9))]
        if verb is wire.GET:
            total, digest = pick(chance, (0, 1, 3, 900)), pick(chance, (bytes(8), b"01234567"))
            contacts = [self.contact() for _ in range(below(chance, 9))]
            return [sender, token, ok, contacts, total, digest, [self.record() for _ in range(below(chance, 3))]]
        if verb is wire.PUT:
            taken = pick(chance, ("stored", "known", "superseded", "refused", ""))
            return [sender, token, ok, taken, "full", 3, pick(chance, (b"", self.record()))]
        if verb is wire.WATCH:
            return [sender, token, ok, 120, chance.random() < 0.8, below(chance, 3)]
        if verb is wire.DOWN:
            return [sender, token, ok]
        if verb is wire.PROBE:
            return [sender, token, ok, chance.random() < 0.8]
        return [sender]

    def _finish(self, datagram: bytes) -> bytes:
        for _ in range(pick(self.chance, (0, 0, 0, 1, 1, 2, 4))):
            datagram = spoil_bytes(datagram, self.chance, self.last)
        self.last = datagram
        return datagram
