"""A route as a value: what serves it, and what OpenAPI says of it, are made from the same description."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from starlette.requests import Request
from starlette.responses import Response

from .door import Door

_PART: Final = re.compile(r"\{(\w+):\w+\}")

Schema = Mapping[str, Any]
"""JSON Schema, as OpenAPI 3.1 has it."""

Handler = Callable[[Door, Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """`path` as starlette has it: `{uri:path}` takes slashes too."""

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    handle: Handler
    summary: str
    tag: str
    body: Schema | None = None
    reply: Schema = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    """Of the URL, and what each is."""
    streams: bool = False
    """Server-sent events: no time limit, and a place of its own."""
    is_open: bool = False
    """Without a token."""
    kind: str = "application/json"
    """Media type of the reply, where it is no stream."""

    @property
    def place(self) -> str:
        """The path as OpenAPI has it."""
        return _PART.sub(r"{\1}", self.path)


def named(schema: str) -> Schema:
    return {"$ref": f"#/components/schemas/{schema}"}


def listed(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def fields(required: tuple[str, ...] = (), **properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(required)}


TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
FLAG: Schema = {"type": "boolean"}
OBJECT: Schema = {"type": "object"}


def optional(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}
