"""OpenAPI 3.1 of the routes, made from the same values that serve them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from .route import Route, named
from .schemas import SCHEMAS

_PART = re.compile(r"\{(\w+)(?::\w+)?\}")


def openapi(described: Sequence[Route]) -> dict[str, Any]:
    """As JSON has it."""
    paths: dict[str, dict[str, Any]] = {}
    for route in described:
        paths.setdefault(route.place, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Millstream gateway", "version": "1"},
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _operation(route: Route) -> dict[str, Any]:
    kind = "text/event-stream" if route.streams else route.kind
    operation: dict[str, Any] = {
        "summary": route.summary,
        "tags": [route.tag],
        "operationId": f"{route.method.lower()}{re.sub(r'[^a-z0-9]+', '_', route.path.lower())}".rstrip("_"),
        "parameters": _parameters(route),
        "responses": {
            "200": {"description": "Done", "content": {kind: {"schema": route.reply}}},
            "default": {
                "description": "What went wrong",
                "content": {"application/json": {"schema": named("Error")}},
            },
        },
    }
    if route.body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": route.body}}}
    if route.is_open:
        operation["security"] = []
    return operation


def _parameters(route: Route) -> list[dict[str, Any]]:
    text = {"type": "string"}
    in_path = [{"name": name, "in": "path", "required": True, "schema": text} for name in _PART.findall(route.path)]
    in_query = [
        {"name": name, "in": "query", "required": False, "schema": text, "description": what}
        for name, what in route.parameters.items()
    ]
    return [*in_path, *in_query]
