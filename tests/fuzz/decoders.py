"""Record decoder and state file: spoilt bytes are refused by a value or a DhtexError, never by anything else."""

import asyncio
import logging
import random
import shutil
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

from dhtex.config import NodeConfig
from dhtex.errors import DhtexError, StateError
from dhtex.market.ids import RecordId, order_key
from dhtex.market.records import Fault, Order, is_a, parse_record
from dhtex.node import Node
from dhtex.sim.clock import EPOCH_S, NodeClock
from dhtex.sim.loop import VirtualLoop
from dhtex.store.database import Database
from dhtex.store.holdings import Holdings
from dhtex.views import AcceptRequest, OrderDraft, OrderQuery, ReceiptRequest
from tests.builders import NETWORK, identity, make_accept
from tests.fuzz.corpus import PAIRS, Corpus, make_records
from tests.fuzz.datagrams import Findings, Line
from tests.fuzz.mutate import any_value, pick, spoil_bytes, spoil_record

_MENDED = "the journal cannot be written"  # damage that shows at a write is told, and what was asked is not done
_EVERY = 5_000  # records after which the shelf is begun anew
PAGE_BYTES = 4096


def fuzz_records(count: int, seed: int, findings: list[str]) -> Counter[str]:
    """Parse, admit, place and keep spoilt records; what parses must have one spelling."""
    chance, counts = random.Random(seed), Counter[str]()
    for number in range(count):
        if number % _EVERY == 0:
            corpus, holdings = Corpus(chance, int(EPOCH_S)), Holdings(Database.open(None), NETWORK, 0)
        wire = pick(chance, corpus.records)
        for _ in range(pick(chance, (0, 1, 1, 2, 5))):
            wire = (
                spoil_record(wire, chance) if len(wire) > 100 and wire in corpus.records else spoil_bytes(wire, chance)
            )
        prefix = pick(chance, (None, "", "0", "2", "1" * 200, "\ud800"))
        now = EPOCH_S + pick(chance, (0, 0, 0, 86_400, -86_400))
        try:
            record = parse_record(wire, NETWORK)
            verdict = holdings.put(wire, prefix, now, pick(chance, ("10.0.0.1", "self", "8.8.8.8")))
            counts["parsed" if not isinstance(record, Fault) else str(record)] += 1
            counts[str(verdict.taken)] += 1
            if not isinstance(record, Fault) and record.wire != wire:
                findings.append(f"two spellings: {wire.hex()}")
            holdings.stock_put(pick(chance, corpus.keys), any_value(chance), now, "10.0.0.1")
        except Exception:  # what is looked for
            findings.append(f"seed {seed} record {number}: {wire.hex()}\n{traceback.format_exc()}")
    return counts


def fuzz_files(count: int, seed: int, folder: Path, findings: list[str]) -> Counter[str]:
    """Start a node on spoilt state files, use it, and stop it."""
    chance, counts = random.Random(seed), Counter[str]()
    sound = folder / "sound"
    assert (lived := _live(sound, findings, _trade)) == "opened", lived
    clean = (sound / "node.db").read_bytes()
    for number in range(count):
        home = folder / f"{number}"
        home.mkdir()
        (home / "node.db").write_bytes(_spoil_file(clean, chance))
        found = list[str]()
        counts[_live(home, found, _look)] += 1
        findings += [f"seed {seed} file {number}: {finding}" for finding in found]
        shutil.rmtree(home)
    return counts


def _live(home: Path, findings: list[str], use: Callable[[Node], Awaitable[None]]) -> str:
    """A node's life on a folder, in virtual time: whether its state was opened or refused."""
    loop, seen = VirtualLoop(), Findings()
    loop.set_exception_handler(seen.lost)
    logging.getLogger("dhtex").addHandler(seen)

    async def live() -> str:
        node = Node(
            NodeConfig(port=4000, host="127.0.0.1", network=NETWORK, pow_bits=0, home=home, contact="call me"),
            clock=NodeClock(loop.time, 1000.0), entropy=random.Random(1), open_endpoint=Line().open,
        )  # fmt: skip
        try:
            await node.start()
        except StateError:
            return "refused"
        try:
            await use(node)
        except DhtexError as error:
            return f"opened, {type(error).__name__}: {error}"
        finally:
            await node.stop()
        return "opened"

    try:
        return loop.run_until_complete(live())
    except Exception:  # what is looked for
        findings.append(traceback.format_exc())
        return "raised"
    finally:
        logging.getLogger("dhtex").removeHandler(seen)
        loop.close()
        findings += [row for row in seen.rows if _MENDED not in row]


async def _trade(node: Node) -> None:
    """Own orders, answers, a fill and its remainder, a trade as taker, held records: a row in each table."""
    for pair in PAIRS:
        draft = OrderDraft(side="sell", amount="1", pair=pair, price="5", confirm="ask", minimum="0.1")
        order = parse_record(_own(node, (await node.add_order(draft)).order.id), NETWORK)
        assert is_a(order, Order)
        for taker in (10, 11):
            node._heard(order_key(order.id), make_accept(order, by=identity(taker), amount="0.5").wire)
        accept = make_accept(order, by=identity(10), amount="0.5")
        await node.confirm_order(order.id.hex(), accept.id.hex())
        node.settle_trade(accept.id.hex(), ReceiptRequest(outcome="failed", reason="no money came"))
    serving = node._running.overlay.protocol.serving
    records = make_records(int(EPOCH_S), random.Random(5))
    for record in records:
        serving.store(record.wire, None, None)
    order = next(record for record in records if is_a(record, Order) and record.body.confirm == "auto")
    buying = node._running.desk._buying
    buying.send(order, buying.draft(order, AcceptRequest(wait_s=0.0), EPOCH_S), b"", "hello")
    await asyncio.sleep(2)


def _own(node: Node, order_id: str) -> bytes:
    own = node._running.journal.order(RecordId(bytes.fromhex(order_id)))
    assert own is not None
    return own.wire


async def _look(node: Node) -> None:
    """What a person asks first; then a while in which the node does its chores."""
    node.status()
    await asyncio.sleep(5)
    await node.list_orders(OrderQuery(pair=PAIRS[0], mine=True))
    node.trades()
    await node.cancel_orders()
    await asyncio.sleep(120)


def _spoil_file(data: bytes, chance: random.Random) -> bytes:
    spoilt = bytearray(data)
    for _ in range(pick(chance, (1, 1, 2, 20))):
        way, place = chance.random(), chance.randrange(len(spoilt))
        if way < 0.6:
            spoilt[place] = chance.randrange(256)
        elif way < 0.8:
            spoilt[place : place + 16] = chance.randbytes(16)
        elif way < 0.9:
            start = place // PAGE_BYTES * PAGE_BYTES
            spoilt[start : start + PAGE_BYTES] = bytes(PAGE_BYTES)
        elif len(spoilt) > 2 * PAGE_BYTES:
            del spoilt[place:]
    return bytes(spoilt)
