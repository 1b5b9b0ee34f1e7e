"""Neighbours on the local network and the router's door: with fakes in the place of the optional packages."""

import asyncio
import sys
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar
from xml.etree.ElementTree import ParseError

import pytest

from dhtex.config import NodeConfig
from dhtex.errors import UsageError
from dhtex.node import Node, mapping
from dhtex.node.natpmp import NatPmp
from tests.unit.node.igd import Router, UpnpError, install
from tests.unit.overlay.fakes import until


class FakeAir:
    """What multicast reaches: services by name, and who listens."""

    services: ClassVar[dict[str, Any]] = {}
    handlers: ClassVar[list[Any]] = []


class FakeZeroconf:
    def __init__(self, **options: Any) -> None:
        self.zeroconf = self
        self.own: list[str] = []

    async def async_register_service(self, info: Any) -> None:
        self.own.append(info.name)
        FakeAir.services[info.name] = info
        for handler in FakeAir.handlers:
            handler(self, "", info.name, SimpleNamespace(name="Added"))

    async def async_unregister_all_services(self) -> None:
        for name in self.own:
            del FakeAir.services[name]

    async def async_close(self) -> None: ...


class FakeInfo:
    def __init__(self, kind: str, name: str, **fields: Any) -> None:
        self.name = name
        self.port = fields.get("port")
        self.properties = {key.encode(): value.encode() for key, value in fields.get("properties", {}).items()}
        self.addresses = fields.get("parsed_addresses", [])

    async def async_request(self, zeroconf: Any, timeout_ms: int) -> bool:
        found = FakeAir.services.get(self.name)
        if found is not None:
            self.port, self.properties, self.addresses = found.port, found.properties, found.addresses
        return found is not None

    def parsed_addresses(self) -> list[str]:
        return list(self.addresses)


class FakeBrowser:
    def __init__(self, zeroconf: Any, kind: str, handlers: list[Any]) -> None:
        self.handlers = handlers
        FakeAir.handlers += handlers
        for name in list(FakeAir.services):
            handlers[0](zeroconf, kind, name, SimpleNamespace(name="Added"))

    async def async_cancel(self) -> None:
        for handler in self.handlers:
            FakeAir.handlers.remove(handler)


@pytest.fixture
def router(monkeypatch: pytest.MonkeyPatch) -> Router:
    """The optional packages, as far as they are used; the router that one of them finds."""
    router = Router()
    install(monkeypatch, [router])
    modules: dict[str, dict[str, Any]] = {
        "zeroconf": {"get_all_addresses": lambda: ["127.0.0.1", "192.168.0.2"]},
        "zeroconf.asyncio": {
            "AsyncZeroconf": FakeZeroconf, "AsyncServiceInfo": FakeInfo, "AsyncServiceBrowser": FakeBrowser,
        },
    }  # fmt: skip
    for name, fields in modules.items():
        module = ModuleType(name)
        vars(module).update(fields)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(mapping, "NatPmp", lambda: NatPmp(lambda: None))
    FakeAir.services.clear()
    FakeAir.handlers.clear()
    return router


def settings(network: str = "lab", **options: Any) -> NodeConfig:
    return NodeConfig(port=0, host="127.0.0.1", network=network, pow_bits=0, **options)


@pytest.mark.parametrize(
    ("option", "package", "extra"), [("lan", "zeroconf", "lan"), ("map_port", "async_upnp_client", "nat")]
)
async def test_a_missing_package_is_named_with_the_way_to_install_it(
    monkeypatch: pytest.MonkeyPatch, option: str, package: str, extra: str
) -> None:
    for name in ("zeroconf.asyncio", "async_upnp_client.profiles.igd"):
        monkeypatch.setitem(sys.modules, name, None)  # importing it fails
    node = Node(settings(lan=option == "lan", map_port=option == "map_port"))
    with pytest.raises(UsageError, match=package) as caught:
        await node.start()
    assert caught.value.hint == f"pip install 'dhtex[{extra}]'"


@pytest.mark.usefixtures("router")
async def test_neighbours_of_one_network_meet_without_bootstrap_and_others_do_not() -> None:
    async with (
        Node(settings(lan=True)) as one, Node(settings(lan=True)) as other, Node(settings("else", lan=True)) as foreign,
    ):  # fmt: skip
        await until(lambda: len(one.peers()) == len(other.peers()) == 1)
        await asyncio.sleep(0)
        assert foreign.peers() == []
        assert len(FakeAir.services) == 3
    assert (FakeAir.services, FakeAir.handlers) == ({}, [])


@pytest.mark.parametrize("url", ["http://127.0.0.1:5000/igd.xml", "http://127.0.0.1/igd.xml"])
async def test_the_router_maps_the_port_while_the_node_runs(router: Router, url: str) -> None:
    router.location = url
    async with Node(settings(map_port=True)) as node:
        await until(lambda: router.mapped == {node.port: ("127.0.0.1", node.port, 3600)})
        told = (await node.doctor()).checks[0]
        assert (told.state, told.finding.endswith("which is mapped by UPnP")) == ("ok", True)
    assert router.mapped == {}


@pytest.mark.parametrize(
    "fault", [UpnpError(718), UpnpError(), KeyError("x"), ValueError("x"), AttributeError("x"), ParseError("x")]
)
async def test_a_router_that_refuses_or_talks_nonsense_is_asked_again(
    router: Router, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fault: Exception
) -> None:
    monkeypatch.setattr(mapping, "RETRY_S", 0.01)
    router.fault = fault
    async with Node(settings(map_port=True)) as node:
        await until(lambda: f"UDP port {node.port} is not mapped" in caplog.text)
        assert node.status().state == "alone"
        told = (await node.doctor()).checks[0]
        assert (told.state, str(node.port) in told.hint) == ("warning", True)
        router.fault = None
        await until(lambda: list(router.mapped) == [node.port])


async def test_what_is_wrong_with_the_mapping_itself_is_in_the_log(
    router: Router, caplog: pytest.LogCaptureFixture
) -> None:
    router.fault = RuntimeError("a bug")
    async with Node(settings(map_port=True)):
        await until(lambda: "a bug" in caplog.text)


async def test_a_client_by_choice_says_so() -> None:
    async with Node(settings(client=True)) as node:
        assert node.status().client
