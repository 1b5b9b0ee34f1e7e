"""The short part of the fuzzing, from a seed that it prints; `scripts/fuzz --seed` goes on from there."""

import os
from pathlib import Path

import pytest

from dhtex.errors import StateError
from dhtex.store.database import Database
from tests.fuzz import flood
from tests.fuzz.datagrams import Siege
from tests.fuzz.decoders import fuzz_files, fuzz_records

SEED = int(os.environ.get("DHTEX_FUZZ_SEED", "1"))


def test_spoilt_datagrams_and_requests_raise_nothing() -> None:
    print(f"seed {SEED}")
    siege = Siege(SEED)
    siege.run(24_000)
    assert siege.findings.rows == []
    assert siege.counts["records held"] > 50  # so it was worth it: much of it got through
    assert siege.counts["peers"] > 5
    assert siege.counts["replies"] > 2_000
    assert siege.counts["requests 200"] > 0


def test_spoilt_records_are_refused_by_a_value() -> None:
    print(f"seed {SEED}")
    findings: list[str] = []
    counts = fuzz_records(4_000, SEED, findings)
    assert findings == []
    assert counts["stored"] > 50
    assert counts["refused"] > 1_000


def test_spoilt_state_files_are_refused_or_read(tmp_path: Path) -> None:
    print(f"seed {SEED}")
    findings: list[str] = []
    counts = fuzz_files(40, SEED, tmp_path, findings)
    assert findings == []
    assert counts["refused"] > 5


def test_a_damaged_file_whose_error_message_is_no_text_is_refused(tmp_path: Path) -> None:
    """SQLite puts bytes of the file's schema into its messages; Python cannot decode these."""
    path = tmp_path / "node.db"
    Database.open(path).close()
    data = bytearray(path.read_bytes())
    data[data.index(b"orders_by_")] = 0x9B
    path.write_bytes(data)
    with pytest.raises(StateError):
        Database.open(path)


@pytest.mark.processes
def test_a_flooded_node_still_answers_the_pings_of_its_peers() -> None:
    figures = flood.measure("pings", 3_000, 0.5)
    assert figures.peer_lost <= 0.2  # ten pings; on a busy machine one may be late
