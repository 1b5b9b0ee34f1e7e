"""Record decoder and state file: spoilt bytes are refused by a value or a DhtexError, never by anything else."""

import random
import shutil
import traceback
from collections import Counter
from pathlib import Path

from dhtex.errors import StateError
from dhtex.market.records import Fault, parse_record
from dhtex.sim.clock import EPOCH_S
from dhtex.store.database import Database
from dhtex.store.holdings import Holdings
from dhtex.store.journal import Journal
from tests.builders import NETWORK
from tests.fuzz.corpus import Corpus
from tests.fuzz.mutate import any_value, pick, spoil_bytes, spoil_record

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
    """Open spoilt state files as a node does."""
    chance, counts = random.Random(seed), Counter[str]()
    sound = folder / "sound.db"
    _write_state(sound, chance)
    clean = sound.read_bytes()
    for number in range(count):
        path = folder / f"{number}" / "node.db"
        path.parent.mkdir()
        path.write_bytes(_spoil_file(clean, chance))
        try:
            database = Database.open(path)
            journal = Journal(database)
            journal.identity(random.Random(1))
            journal.peers()
            holdings = Holdings(database, NETWORK, 0)
            list(holdings.replicas(EPOCH_S))
            holdings.flush(EPOCH_S)
            database.close()
            counts["opened"] += 1
        except StateError:
            counts["refused"] += 1
        except Exception:  # what is looked for
            findings.append(f"seed {seed} file {number}\n{traceback.format_exc()}")
        shutil.rmtree(path.parent)
    return counts


def _write_state(path: Path, chance: random.Random) -> None:
    database = Database.open(path)
    journal = Journal(database)
    journal.identity(random.Random(1))
    holdings = Holdings(database, NETWORK, 0)
    for wire in Corpus(chance, int(EPOCH_S)).records:
        holdings.put(wire, None, EPOCH_S, "10.0.0.1")
    holdings.flush(EPOCH_S)
    database.close()


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
