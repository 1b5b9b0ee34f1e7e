"""A port mapping by NAT-PMP from a gateway on this machine, or by UPnP, and what happens when one way or both fail."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from dhtex import limits
from dhtex.node import mapping, natpmp
from dhtex.node.gateway import Granted, default_gateway
from dhtex.node.mapping import Mapping
from dhtex.node.natpmp import NatPmp, decode_answer, encode_request
from dhtex.node.upnp import Upnp
from dhtex.overlay.addresses import Address
from tests.unit.node.igd import Router, UpnpError, install
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


async def test_a_port_is_mapped_prolonged_and_taken_back_and_always_the_one_that_peers_see_is_asked_for() -> None:
    async with gateway(granting(external=4444, lifetime_s=600)) as it:
        door = NatPmp(lambda: it.address)
        assert await door.open(PORT, 3600) == Granted(4444, 600)
        assert await door.open(PORT, 3600) == Granted(4444, 600)
        await door.close(PORT)
        assert it.asked == [(PORT, PORT, 3600), (PORT, PORT, 3600), (PORT, 0, 0)]


async def test_a_lost_request_is_repeated_and_silence_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(natpmp, "TRIES_S", (0.05, 0.1, 5.0))
    async with gateway(lambda data: []) as it:
        opening = asyncio.ensure_future(NatPmp(lambda: it.address).open(PORT, 3600))
        await until(lambda: len(it.asked) == 2)
        it.answer = granting()
        assert await opening == Granted(PORT, 3600)
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
        assert await NatPmp(lambda: it.address).open(PORT, 3600) == Granted(PORT, 3600)


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


class Other:
    """Another way, which fails while `fault` is set."""

    name = "other"
    fault: OSError | None = None

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.external = PORT

    async def open(self, port: int, lease_s: int) -> Granted:
        self.calls.append("open")
        if self.fault is not None:
            raise self.fault
        return Granted(self.external, lease_s)

    async def close(self, port: int) -> None:
        self.calls.append("close")


@asynccontextmanager
async def running(asked: Mapping) -> AsyncIterator[None]:
    task = asyncio.ensure_future(asked.run(PORT))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asked.close(PORT)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pause is longer than a hundredth of a second."""
    monkeypatch.setattr(mapping, "RENEW_S_MIN", 0.0)
    monkeypatch.setattr(mapping, "RENEW_S_MAX", 0.01)
    monkeypatch.setattr(mapping, "RETRY_S", 0.01)


@pytest.mark.usefixtures("hasty")
async def test_the_second_way_is_tried_when_the_first_fails_and_the_one_that_worked_first_thereafter(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    async with gateway(granting(code=2)) as it:
        other = Other()
        async with running(Mapping([NatPmp(lambda: it.address), other])):
            await until(lambda: len(other.calls) > 3)
            assert f"UDP port {PORT} is mapped by other" in caplog.text
            assert len(it.asked) == 1
            other.fault = OSError("gone")
            reasons = "NAT-PMP: the gateway refuses: mappings are switched off"
            await until(lambda: f"UDP port {PORT} is not mapped (other: gone; {reasons})" in caplog.text)
            it.answer = granting()
            await until(lambda: f"UDP port {PORT} is mapped by NAT-PMP" in caplog.text)
        assert it.asked[-1] == (PORT, 0, 0)
        assert "close" not in other.calls


async def test_a_router_that_has_forgotten_us_is_asked_again_long_before_the_mapping_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    judged_s = limits.PROBERS_SILENT * (limits.PROBE_S + limits.PROBE_WAIT_S)  # when who is not reached is a client
    assert max(mapping.RENEW_S_MAX, mapping.RETRY_S) < judged_s
    monkeypatch.setattr(mapping, "RENEW_S_MIN", 0.0)
    monkeypatch.setattr(mapping, "RENEW_S_MAX", 0.01)
    other = Other()
    async with running(Mapping([other])):
        await until(lambda: len(other.calls) > 3)


@pytest.mark.usefixtures("hasty")
async def test_what_was_mapped_is_taken_back_even_if_it_could_not_be_prolonged() -> None:
    other = Other()
    asked = Mapping([other])
    async with running(asked):
        await until(lambda: asked.outcome.told == "is mapped by other")
        other.fault = OSError("busy")
        await until(lambda: "busy" in asked.outcome.told)
    assert other.calls[-1] == "close"


@pytest.mark.usefixtures("hasty")
async def test_a_mapping_of_another_port_than_peers_see_is_no_success(caplog: pytest.LogCaptureFixture) -> None:
    other = Other()
    other.external = PORT + 1
    asked = Mapping([other])
    async with running(asked):
        await until(lambda: "3001 is taken" in asked.outcome.told)
        assert "another --port" in asked.outcome.hint
        await until(lambda: len(other.calls) > 3)
        assert [record.levelname for record in caplog.records] == ["WARNING"]  # once
        other.external = PORT
        await until(lambda: asked.outcome == ("is mapped by other", ""))


async def test_a_router_that_knows_only_mappings_for_ever_gets_one_and_is_told_to_forget_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    router = Router()
    router.only_permanent = True
    install(monkeypatch, [router])
    door = Upnp()
    assert await door.open(PORT, 3600) == Granted(PORT, 3600)
    assert router.mapped == {PORT: ("127.0.0.1", PORT, 0)}
    await door.close(PORT)
    assert router.mapped == {}


async def test_of_several_routers_that_of_the_way_out_is_asked_first_and_then_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    far, near = Router("http://127.0.0.100:5000/x"), Router("http://127.0.0.2:5000/x")
    assert far.location < near.location
    install(monkeypatch, [far, near])
    assert await Upnp(lambda: "127.0.0.2").open(PORT, 3600) == Granted(PORT, 3600)
    assert (list(far.mapped), list(near.mapped)) == ([], [PORT])
    near.fault = UpnpError(501)
    assert await Upnp(lambda: "127.0.0.2").open(PORT, 3600) == Granted(PORT, 3600)
    assert list(far.mapped) == [PORT]


async def test_a_router_that_was_restarted_and_is_elsewhere_now_is_found_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, after = Router(), Router("http://127.0.0.1:5001/igd.xml")
    routers = [before]
    install(monkeypatch, routers)
    door = Upnp()
    await door.open(PORT, 3600)
    routers[:] = [after]
    before.fault = UpnpError()
    await door.open(PORT, 3600)
    assert list(after.mapped) == [PORT]


async def test_a_router_that_can_map_nothing_is_not_said_to_have_mapped(monkeypatch: pytest.MonkeyPatch) -> None:
    for router in (Router(kind="urn:schemas-upnp-org:service:WANCommonInterfaceConfig:1"), Router()):
        del router.actions["AddPortMapping"]
        install(monkeypatch, [router])
        with pytest.raises(OSError, match=r"nothing that maps ports|nonsense"):
            await Upnp().open(PORT, 3600)


async def test_why_no_router_maps_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    router = Router()
    router.fault = UpnpError(718)
    install(monkeypatch, [router, Router("http://[")])
    with pytest.raises(OSError, match="port is taken"):
        await Upnp().open(PORT, 3600)
    install(monkeypatch, [])
    with pytest.raises(OSError, match="no router answers"):
        await Upnp().open(PORT, 3600)


@pytest.mark.parametrize("fault", [ValueError("x"), KeyError("x"), RecursionError("devices within devices")])
async def test_a_router_that_talks_nonsense_is_no_reason_to_end(
    fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    router = Router()
    router.fault = fault
    install(monkeypatch, [router])
    with pytest.raises(OSError, match="talks nonsense"):
        await Upnp().open(PORT, 3600)
