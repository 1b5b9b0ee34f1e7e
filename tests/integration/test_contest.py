"""The short form of `scripts/contest`: real processes, three in ten datagrams lost, makers killed, one outcome."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from dhtex.errors import UsageError
from dhtex.overlay import lossy
from dhtex.overlay.addresses import Address
from dhtex.overlay.transport import open_endpoint

pytestmark = pytest.mark.processes
ROOT = Path(__file__).resolve().parent.parent.parent


def test_all_sides_agree_on_contested_orders_although_makers_are_killed(bytecode: Path) -> None:
    words = [
        "--nodes",
        "6",
        "--orders",
        "8",
        "--parallel",
        "4",
        "--loss",
        "0.3",
        "--seed",
        "3",
        "--long",
        "0",
        "--limit",
        "105",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONPYCACHEPREFIX": str(bytecode)}
    run = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "_contest.py"), *words],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    assert "agree on every order" in run.stdout


async def test_a_lossy_line_loses_its_share_and_the_same_seed_loses_the_same() -> None:
    sent: list[list[int]] = []

    class Line:
        port = 7

        def sendto(self, data: bytes, addr: Address) -> None:
            sent[-1].append(data[0])

        def send_afresh(self, data: bytes, addr: Address) -> None:
            self.sendto(data, addr)

        def close(self) -> None: ...

    for seed in (1, 1, 2):
        sent.append([])
        line = lossy.LossyEndpoint(Line(), 0.3, random.Random(seed))
        for number in range(200):
            line.sendto(bytes([number]), ("127.0.0.1", 1))
    assert sent[0] == sent[1] != sent[2]
    assert 110 < len(sent[0]) < 170


@pytest.mark.parametrize("setting", ["x", "1", "-0.1", "nan", "0.3.1:4"])
def test_a_loss_that_cannot_be_is_an_error(setting: str) -> None:
    with pytest.raises(UsageError, match="share"):
        lossy.opener(setting)


def test_without_the_variable_there_is_no_lossy_line() -> None:
    assert lossy.opener("") is open_endpoint
