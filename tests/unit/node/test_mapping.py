"""A port mapping by NAT-PMP from a gateway on this machine, and what happens when one way or both fail."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from dhtex.node import mapping, natpmp
from dhtex.node.mapping import Mapping
from dhtex.node.natpmp import Granted, NatPmp, decode_answer, default_gateway, encode_request
from dhtex.overlay.addresses import Address
from tests.unit.overlay.fakes import until

PORT = 3001
Answer = Callable[[bytes], list[bytes]]


def granting(external: int = PORT, lifetime_s: int = 3600, code: int = 0) -> Answer:
    def answer(data: bytes) -> list[bytes]:
        _, _, _, internal, _, wanted_s = struct.unpack(">BBHHHI", data)
        return [struct.pack(">BBHIHHI", 0, 129, code, 77, internal, external, min(wanted_s, lifetime_s))]

    return answer


class Gateway(asyncio.DatagramProtocol):
    """Answers requests as it is told to, and keeps them."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[tuple[int, int, int]] = []  # internal port, wanted external port, wanted life

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self.transport = transport
        self.address: Address = transport.get_extra_info("sockname")

    def datagram_received(self, data: bytes, addr: Address) -> None:
        version, operation, _, internal, external, lifetime_s = struct.unpack(">BBHHHI", data)
        assert (version, operation) == (0, 1)
        self.asked.append((internal, external, lifetime_s))
        for answer in self.answer(data):
            self.transport.sendto(answer, addr)


@asynccontextmanager
async def gateway(answer: Answer) -> AsyncIterator[Gateway]:
    loop = asyncio.get_running_loop()
    transport, made = await loop.create_datagram_endpoint(lambda: Gateway(answer), local_addr=("127.0.0.1", 0))
    try:
        yield made
    finally:
        transport.close()


async def test_a_port_is_mapped_prolonged_at_the_port_that_was_given_and_taken_back() -> None:
    async with gateway(granting(external=4444, lifetime_s=600)) as it:
        door = NatPmp(lambda: it.address)
        assert await door.open(PORT, 3600) == 600
        assert await door.open(PORT, 3600) == 600
        await door.close(PORT)
        assert it.asked == [(PORT, PORT, 3600), (PORT, 4444, 3600), (PORT, 0, 0)]


async def test_a_lost_request_is_repeated_and_silence_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(natpmp, "TRIES_S", (0.05, 0.1, 5.0))
    async with gateway(lambda data: []) as it:
        opening = asyncio.ensure_future(NatPmp(lambda: it.address).open(PORT, 3600))
        await until(lambda: len(it.asked) == 2)
        it.answer = granting()
        assert await opening == 3600
        it.answer = lambda data: []
        monkeypatch.setattr(natpmp, "TRIES_S", (0.05, 0.05))
        with pytest.raises(TimeoutError):
            await NatPmp(lambda: it.address).open(PORT, 3600)


async def test_a_refusal_is_told_and_other_answers_are_passed_over() -> None:
    async with gateway(granting(code=2)) as it:
        with pytest.raises(OSError, match="switched off"):
            await NatPmp(lambda: it.address).open(PORT, 3600)
        other_port = granting()(encode_request(9, 9, 60))
        it.answer = lambda data: [b"", bytes(15), bytes(16), *other_port, *granting()(data)]
        assert await NatPmp(lambda: it.address).open(PORT, 3600) == 3600


async def test_where_there_is_no_gateway_and_where_nobody_listens() -> None:
    with pytest.raises(OSError, match="no gateway"):
        await NatPmp(lambda: None).open(PORT, 3600)
    async with gateway(granting()) as it:
        address = it.address
    with pytest.raises(OSError, match="refused"):
        await NatPmp(lambda: address).open(PORT, 3600)


def test_datagrams_are_those_of_the_standard() -> None:
    assert encode_request(0x1234, 0x5678, 3600) == bytes.fromhex("00010000 1234 5678 00000e10")
    assert decode_answer(bytes.fromhex("0081 0000 00000001 1234 5678 00000e10"), 0x1234) == Granted(0x5678, 3600)
    assert decode_answer(bytes.fromhex("0081 0000 00000001 1235 5678 00000e10"), 0x1234) is None
    assert decode_answer(b"", 1) is None


def test_the_gateway_is_that_of_the_default_route_with_the_lowest_metric() -> None:
    head = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
    local = "eth0\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
    wifi = "wlan0\t00000000\t0102A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n"
    wire = "eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
    assert default_gateway(head + local + wifi + wire) == "192.168.1.1"
    assert default_gateway(head + local) is None
    assert default_gateway("") is None


class Upnp:
    """The other way, which fails while `fault` is set."""

    name = "other"
    fault: OSError | None = None

    def __init__(self) -> None:
        self.calls: list[str] = []

    async def open(self, port: int, lease_s: int) -> float:
        self.calls.append("open")
        if self.fault is not None:
            raise self.fault
        return lease_s

    async def close(self, port: int) -> None:
        self.calls.append("close")


async def test_the_second_way_is_tried_when_the_first_fails_and_the_one_that_worked_first_thereafter(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(mapping, "RENEW_S_MIN", 0.0)
    monkeypatch.setattr(mapping, "LEASE_S", 0)
    monkeypatch.setattr(mapping, "RETRY_S", 0.01)
    async with gateway(granting(code=2)) as it:
        other = Upnp()
        asked = Mapping([NatPmp(lambda: it.address), other])
        running = asyncio.ensure_future(asked.run(PORT))
        await until(lambda: len(other.calls) > 3)
        assert f"UDP port {PORT} is mapped by other" in caplog.text
        assert len(it.asked) == 1
        other.fault = OSError("gone")
        await until(lambda: f"UDP port {PORT} is not mapped" in caplog.text)
        it.answer = granting()
        await until(lambda: f"UDP port {PORT} is mapped by NAT-PMP" in caplog.text)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await asked.close(PORT)
        assert it.asked[-1] == (PORT, 0, 0)
        assert "close" not in other.calls
