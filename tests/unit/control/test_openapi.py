"""The OpenAPI document names every route and type, and nothing that is not there."""

import asyncio
from collections.abc import Iterator
from typing import Any

from dhtex.control import api, openapi
from tests.unit.control.conftest import Served


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


async def test_it_is_served(served: Served) -> None:
    document = await asyncio.to_thread(served.unix_client.call, "GET", openapi.PATH)
    assert document == openapi.document()
    assert document["openapi"].startswith("3.1")


def test_every_route_is_in_it_and_no_other() -> None:
    paths = openapi.document()["paths"]
    named = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert named == {(route.method, route.path) for route in api.ROUTES} | {("GET", openapi.PATH)}
    names = [operation["operationId"] for methods in paths.values() for operation in methods.values()]
    assert len(set(names)) == len(names)


def test_every_reference_resolves_and_every_schema_is_used() -> None:
    document = openapi.document()
    found = set(references(document))
    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert found == known


def test_parameters_and_bodies_are_described() -> None:
    paths = openapi.document()["paths"]
    listing = {parameter["name"]: parameter for parameter in paths["/v1/orders"]["get"]["parameters"]}
    assert listing["limit"]["schema"] == {"type": "integer", "default": 100}
    assert paths["/v1/watch"]["get"]["parameters"][0]["required"] is True
    assert paths["/v1/orders/{id}"]["get"]["parameters"][0]["in"] == "path"
    assert "requestBody" in paths["/v1/orders"]["post"]
    assert "requestBody" not in paths["/v1/stop"]["post"]
    assert set(paths["/v1/orders"]["post"]["responses"]["200"]["content"]) == {"application/json", "text/event-stream"}
