"""What a flood of orders does to one holder: what comes in, what it is asked for, and who else stays listed."""

import random
import statistics
import time
from dataclasses import dataclass
from itertools import count

from bench.measure import table
from bench.records import NETWORK, make_order
from dhtex import limits
from dhtex.market.branches import unpack
from dhtex.market.holding import MOVED, PutVerdict, Taken
from dhtex.market.identity import Identity
from dhtex.market.records import Code, Order, Record
from dhtex.store.database import Database
from dhtex.store.holdings import Holdings

SEED = 11
BITS = 1  # so that minting takes no time; what counts is how many more are asked
FLOOD = 10_000
HONEST = 25
HONEST_ORDERS = 4
ROOM = 24_000
STEPS = 5
FLOODER = "203.0.113.7"
INTRO = """## Floods

One holder that stands for all: it holds every order at its own key and at its node of the pair's tree, so two records
an order, and the tree divides as usual. {honest} makers have {each} orders each in the pair. Then one address posts
{flood} orders in the same pair with the {bits} bit that the network asks, and drops what is refused; after each fifth
of them a new maker publishes an order, and stamps it anew if more is asked. "One key pays" mints what is asked, up to
{more} bits more as nodes do; its work is the hashing of an order that was taken, on average, at the network's price.
The last row of each is a day later. The holder has room for {room} records here in place of {real}, so that {flood}
orders could fill it.

{rows}
"""


@dataclass(slots=True)
class Tally:
    """How a flood has gone so far."""

    posted: int = 0
    taken: int = 0
    work: float = 0.0
    asked: int = BITS


class Holder:
    """One node's holdings, which are asked for every key."""

    def __init__(self, created: int) -> None:
        self.holdings = Holdings(Database.open(None), NETWORK, BITS)
        self.created = created
        self.cpu_us: list[float] = []

    def put(self, order: Record[Order], source: str, now: float) -> PutVerdict:
        """Put an order at both of its keys, following the tree; the worse verdict."""
        started = time.process_time()
        verdict = self.holdings.put(order.wire, None, now, source)
        prefix = ""
        while verdict.taken is not Taken.REFUSED:
            at_index = self.holdings.put(order.wire, prefix, now, source)
            if at_index.code != MOVED:
                verdict = at_index if at_index.taken is Taken.REFUSED else verdict
                break
            prefix = (unpack(at_index.newer, prefix) or [prefix])[0]
        self.cpu_us.append((time.process_time() - started) * 1e6)
        return verdict

    def listed(self) -> set[bytes]:
        """All orders that a reader of the pair's tree would find here."""
        nodes = [self.holdings.tree_node(key) for key in self.holdings.tree_keys()]
        return {order.id for node in nodes if node is not None for order in node.orders}


def run(quick: bool) -> str:
    """Measure; the report's section."""
    flood = FLOOD // 10 if quick else FLOOD
    held_max, limits.RECORDS_HELD_MAX = limits.RECORDS_HELD_MAX, ROOM * flood // FLOOD  # type: ignore[misc]
    try:
        rows = [
            *_flood("one key", flood, 1, pays=False),
            *_flood("one key pays", flood, 1, pays=True),
            *_flood(f"{flood} keys", flood, flood, pays=False),
        ]
        room = limits.RECORDS_HELD_MAX
    finally:
        limits.RECORDS_HELD_MAX = held_max  # type: ignore[misc]
    head = ["flood", "orders posted", "taken", "work", "records held", "honest orders listed"]
    head += ["bits asked of the flood", "of somebody new", "who is taken then", "CPU of an order, µs"]
    return INTRO.format(
        honest=HONEST, each=HONEST_ORDERS, flood=flood, bits=BITS, more=limits.STAMP_BITS_MORE_MAX, room=room,
        real=limits.RECORDS_HELD_MAX, rows=table(head, rows),
    )  # fmt: skip


def _flood(name: str, orders: int, keys: int, *, pays: bool) -> list[list[object]]:
    chance, now = random.Random(SEED), float(int(time.time()))
    holder, tally, strangers = Holder(int(now)), Tally(), count()
    honest = [make_order(_key(chance), int(now), chance, BITS) for _ in range(HONEST) for _ in range(HONEST_ORDERS)]
    for number, order in enumerate(honest):
        assert holder.put(order, f"198.51.100.{number % HONEST}", now).taken is Taken.STORED
    flooders = [_key(chance) for _ in range(keys)]
    rows = []
    for number in range(orders):
        _post(holder, tally, flooders[number % keys], now, chance, pays)
        if (number + 1) % (orders // STEPS) == 0:
            rows.append([name, *_look(holder, tally, honest, next(strangers), now, chance)])
    gone = now + 86_400
    rows.append([name, *_look(holder, tally, [], next(strangers), gone, chance)[:-1], ""])
    return rows


def _post(holder: Holder, tally: Tally, maker: Identity, now: float, chance: random.Random, pays: bool) -> None:
    tally.posted += 1
    order = make_order(maker, int(now), chance, min(tally.asked, BITS + limits.STAMP_BITS_MORE_MAX) if pays else BITS)
    verdict = holder.put(order, FLOODER, now)
    if verdict.code == Code.STAMP_TOO_LOW:
        tally.asked = verdict.bits
        if not pays or tally.asked > BITS + limits.STAMP_BITS_MORE_MAX:
            return
        order = make_order(maker, int(now), chance, tally.asked)
        verdict = holder.put(order, FLOODER, now)
    if verdict.taken is Taken.STORED:
        tally.taken += 1
        tally.work += 2.0 ** (order.stamp[1] - BITS)


def _look(
    holder: Holder, tally: Tally, honest: list[Record[Order]], stranger: int, now: float, chance: random.Random
) -> list[object]:
    """What stands after a part of a flood; and a new maker publishes an order as nodes do: stamps it anew if asked."""
    found = holder.listed()
    listed = f"{sum(order.id in found for order in honest)} of {len(honest)}" if honest else ""
    source, maker = f"192.0.2.{stranger}", _key(chance)
    asked, verdict = BITS, holder.put(make_order(maker, int(now), chance, BITS), source, now)
    if verdict.code == Code.STAMP_TOO_LOW:
        asked = verdict.bits
        verdict = holder.put(make_order(maker, int(now), chance, asked), source, now)
    work = tally.work / tally.taken if tally.taken else 0.0
    cpu_us = statistics.median(holder.cpu_us)
    holder.cpu_us.clear()
    taken = "yes" if verdict.taken is Taken.STORED else "NO"
    return [tally.posted, tally.taken, work, holder.holdings.count, listed, tally.asked, asked, taken, cpu_us]


def _key(chance: random.Random) -> Identity:
    return Identity.from_seed(chance.randbytes(32))
