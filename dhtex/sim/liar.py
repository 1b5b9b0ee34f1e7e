"""A holder that lies: it hides what it holds, shows what has ended, answers nonsense, says to have taken what it threw
away, names peers that do not exist, and pushes old records again. In all else its node is an honest one.
"""

import asyncio
import random
from typing import Final

from dhtex import limits
from dhtex.market.holding import NO_DIGEST, NO_KIND, PutVerdict, Taken
from dhtex.market.ids import DhtKey, NodeId
from dhtex.overlay import wire
from dhtex.overlay.addresses import Address
from dhtex.overlay.pages import digest_of
from dhtex.overlay.ports import Answering
from dhtex.sim.host import Host

REMEMBERED_MAX: Final = 400  # records that it may show again
PUSH_AGAIN_S: Final = 5.0


class Liar:
    """Stands in the place of the honest one."""

    def __init__(self, serving: Answering, own_id: NodeId, entropy: random.Random) -> None:
        self._honest = serving
        self._own_id = own_id
        self._entropy = entropy
        self._seen: dict[tuple[DhtKey, bytes], None] = {}

    def get(
        self, args: wire.GetArgs, token: bytes, address: Address, room_bytes: int = limits.DATAGRAM_BYTES_MAX
    ) -> wire.GetReply:
        """The truth, or nothing, or what was once true, or nonsense."""
        answer = self._honest.get(args, token, address, room_bytes)
        way = self._entropy.choice(("truth", "truth", "hide", "old", "nonsense", "promise"))
        if args.kind == NO_KIND or way == "truth":
            return answer
        if way == "hide":
            answer.total, answer.digest, answer.wires = 0, NO_DIGEST, []
        elif way == "promise":
            answer.total, answer.wires = answer.total + 7, answer.wires[:1]
        elif way == "nonsense":
            answer.total, answer.digest = self._entropy.randrange(9), self._entropy.randbytes(8)
            answer.wires = [self._entropy.randbytes(60), *answer.wires[:1]]
            answer.contacts = [self._nobody() for _ in answer.contacts[:2]]
        else:
            orders = [record for key, record in self._seen if key == args.key and record[1] == 1]
            answer.wires = self._fitting(orders, answer.contacts)
            answer.total, answer.digest = len(answer.wires), digest_of(answer.wires)
        return answer

    def put(self, args: wire.PutArgs, token: bytes, address: Address) -> wire.PutReply:
        """Taken, or not; and what it says about it need not be so."""
        way = self._entropy.choice(("truth", "truth", "claim", "refuse", "newer"))
        if way == "truth":
            reply = self._honest.put(args, token, address)
        else:
            reply = wire.PutReply(self._own_id, token, wire.OK, Taken.STORED, "", 0, b"")
        if way == "refuse":
            reply.taken, reply.code = Taken.REFUSED, self._entropy.choice(("full", "expired", "bad_signature", "x"))
        elif way == "newer" and self._seen:
            reply.taken, reply.newer = Taken.SUPERSEDED, self._entropy.choice(list(self._seen))[1]
        return reply

    def store(self, record: bytes, prefix: str | None, source: Address | None) -> PutVerdict:
        """Keep a record, and remember it for ever."""
        verdict = self._honest.store(record, prefix, source)
        if verdict.key is not None and verdict.taken is Taken.STORED:
            self.remember(verdict.key, record)
        return verdict

    def remember(self, key: DhtKey, record: bytes) -> None:
        """Note a record that may be shown again later."""
        self._seen[key, record] = None
        if len(self._seen) > REMEMBERED_MAX:
            del self._seen[next(iter(self._seen))]

    def any_old(self) -> tuple[DhtKey, bytes] | None:
        """Some record that was here once, and its key."""
        return self._entropy.choice(list(self._seen)) if self._seen else None

    def _fitting(self, records: list[bytes], contacts: list[bytes]) -> list[bytes]:
        room, fitting = limits.DATAGRAM_BYTES_MAX - 120 - sum(map(len, contacts)), list[bytes]()
        for record in records:
            room -= len(record) + 3
            if room >= 0:
                fitting.append(record)
        return fitting

    def _nobody(self) -> bytes:
        return self._entropy.randbytes(20) + bytes((10, 98, 0, self._entropy.randrange(1, 250), 0x0F, 0xA0))


def corrupt(host: Host, seed: int, push_again_s: float = PUSH_AGAIN_S) -> None:
    """Make a liar of the node that has just started on a machine. It pushes something old every `push_again_s`."""
    overlay = host.parts.overlay
    liar = Liar(overlay.protocol.serving, overlay.protocol.own_id, random.Random(f"{seed}/liar/{host.lives}"))
    for key, _, record in host.parts.holdings.replicas(0.0):
        liar.remember(key, record)
    overlay.protocol.serving = liar
    assert host.life is not None
    host.life.spawn(_push_again(host, liar, push_again_s))


async def _push_again(host: Host, liar: Liar, pause_s: float) -> None:
    while True:
        await asyncio.sleep(pause_s)
        if (old := liar.any_old()) is not None:
            host.parts.overlay._watching.stored(*old)
