"""The OpenAPI 3.1 document of the control interface, made from the table of routes and the types it names."""

import re
from typing import Any, Final

import msgspec

from dhtex.control import api
from dhtex.version import __version__

PATH: Final = "/openapi.json"
_PARAMETER: Final = re.compile(r"\{(\w+)\}")


def document() -> dict[str, Any]:
    """The whole document, ready to be encoded as JSON."""
    bodies = [route.body for route in api.ROUTES if route.body is not api.Nothing]
    answers = [route.answer for route in api.ROUTES]
    told = [kind for route in api.ROUTES for kind in route.told]
    types = [api.ErrorView, api.ProgressView, *bodies, *answers, *told]
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    schema_of = dict(zip(map(repr, types), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in api.ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schema_of)
    paths[PATH] = {"get": _own_operation()}
    return {
        "openapi": "3.1.0",
        "info": {"title": "dhtex", "version": __version__, "description": "Control interface of one dhtex node."},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _operation(route: api.Route, schema_of: dict[str, Any]) -> dict[str, Any]:
    answer = schema_of[repr(route.answer)]
    content: dict[str, Any] = {}
    if route.stream is None:
        content["text/plain" if route.plain else "application/json"] = {"schema": answer}
    if route.steps:
        steps = {"oneOf": [schema_of[repr(kind)] for kind in (api.ProgressView, api.ErrorView, *route.told)] + [answer]}
        content["text/event-stream"] = {"schema": steps}
    elif route.stream is not None:
        content["text/event-stream"] = {"schema": answer}
    failure = {"description": "Failure", "content": {"application/json": {"schema": schema_of[repr(api.ErrorView)]}}}
    operation: dict[str, Any] = {
        "operationId": _name(route),
        "summary": route.summary,
        "parameters": _parameters(route),
        "responses": {"200": {"description": "Success", "content": content}, "default": failure},
    }
    if route.steps or route.stream is not None:
        operation["description"] = "The schema of text/event-stream is that of the data of one event."
    if route.body is not api.Nothing:
        body = schema_of[repr(route.body)]
        operation["requestBody"] = {"content": {"application/json": {"schema": body}}}
    return operation


def _own_operation() -> dict[str, Any]:
    answer = {"description": "Success", "content": {"application/json": {"schema": {"type": "object"}}}}
    return {"operationId": "get_openapi", "summary": "This document", "responses": {"200": answer}}


def _name(route: api.Route) -> str:
    words = re.findall(r"[a-z]+", route.path.removeprefix("/v1"))
    return "_".join([route.method.lower(), *words])


def _parameters(route: api.Route) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PARAMETER.findall(route.path)
    ]
    for field in msgspec.structs.fields(route.query):
        schema = {**msgspec.json.schema(field.type)}
        if not field.required:
            schema["default"] = field.default
        found.append({"name": field.name, "in": "query", "required": field.required, "schema": schema})
    return found
