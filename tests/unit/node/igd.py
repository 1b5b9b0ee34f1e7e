"""A stand-in for the optional package async_upnp_client, as far as it is used, and routers that it finds."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

IP_CONNECTION = "urn:schemas-upnp-org:service:WANIPConnection:1"


class UpnpError(Exception):
    """What the package raises; `error_code` only if a router refused."""

    def __init__(self, code: int = 0) -> None:
        super().__init__(f"upnp error: {code}")
        if code:
            self.error_code = code


class Router:
    """A router with a table of mappings: host, internal port and lease by external port. It is its own service."""

    def __init__(self, location: str = "http://127.0.0.1:5000/igd.xml", kind: str = IP_CONNECTION) -> None:
        self.location = location
        self.mapped: dict[int, tuple[str, int, int]] = {}
        self.fault: Exception | None = None
        self.only_permanent = False
        self.service_type = kind
        self.actions = {"AddPortMapping": self.add, "DeletePortMapping": self.delete}
        self.all_services = [SimpleNamespace(service_type="urn:schemas-upnp-org:service:Layer3Forwarding:1"), self]

    @property
    def control_url(self) -> str:
        return self.location

    def action(self, name: str) -> Any:
        return SimpleNamespace(async_call=self.actions[name])

    async def add(self, **fields: Any) -> None:
        if self.fault is not None:
            raise self.fault
        if self.only_permanent and fields["NewLeaseDuration"]:
            raise UpnpError(725)
        assert (fields["NewProtocol"], fields["NewRemoteHost"], fields["NewEnabled"]) == ("UDP", "", True)
        row = (fields["NewInternalClient"], fields["NewInternalPort"], fields["NewLeaseDuration"])
        self.mapped[fields["NewExternalPort"]] = row

    async def delete(self, **fields: Any) -> None:
        assert (fields["NewProtocol"], fields["NewRemoteHost"]) == ("UDP", "")
        del self.mapped[fields["NewExternalPort"]]


def install(monkeypatch: pytest.MonkeyPatch, routers: list[Router]) -> None:
    """Have the package find these, whichever they are at that moment."""

    async def search(timeout: int) -> list[dict[str, str]]:
        return [{}, *({"location": router.location} for router in routers)]

    async def describe(factory: object, place: str) -> Router:
        found = next((router for router in routers if router.location == place), None)
        if found is None:
            raise UpnpError
        return found

    modules: dict[str, dict[str, Any]] = {
        "async_upnp_client": {},
        "async_upnp_client.profiles": {},
        "async_upnp_client.profiles.igd": {"IgdDevice": SimpleNamespace(async_search=search)},
        "async_upnp_client.client_factory": {
            "UpnpFactory": type(
                "UpnpFactory", (), {"__init__": lambda *_, **options: None, "async_create_device": describe}
            )
        },
        "async_upnp_client.aiohttp": {"AiohttpRequester": object},
        "async_upnp_client.exceptions": {"UpnpError": UpnpError},
    }
    for name, fields in modules.items():
        module = ModuleType(name)
        vars(module).update(fields)
        monkeypatch.setitem(sys.modules, name, module)
