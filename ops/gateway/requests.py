"""What a request brings, read with limits: its body, its JSON fields, its parameters."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from typing import Any, Final

import orjson
from starlette.requests import ClientDisconnect, Request

from ...rag.messages import DOCUMENT_ID_BYTES_MAX
from ..setting import did_you_mean
from .replies import HttpError

ID_CHARS_MAX: Final = 200
JSON_TYPES: Final = ("application/json", "application/x-ndjson")


async def body_of(request: Request, bytes_max: int) -> bytes:
    """Raises HttpError 413, also for a body that is longer than it says."""
    if (told := request.headers.get("content-length", "")).isdecimal() and int(told) > bytes_max:
        raise _too_large(int(told), bytes_max)
    body = bytearray()
    try:
        async for piece in request.stream():
            body += piece
            if len(body) > bytes_max:
                raise _too_large(len(body), bytes_max)
    except ClientDisconnect:
        raise HttpError(400, "bad_request", "the body ended before its end") from None
    return bytes(body)


def _too_large(size: int, bytes_max: int) -> HttpError:
    return HttpError(413, "too_large", f"the body has {size} bytes or more, at most {bytes_max} (body_bytes_max)")


def content_type_of(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def json_type(request: Request) -> None:
    """A page in a browser can send any other type to us unasked, but not this one. Raises HttpError 415."""
    if (given := content_type_of(request)) != "application/json":
        raise HttpError(415, "bad_request", f"expected content-type application/json, got {given or 'none'!r}")


async def json_of(request: Request, bytes_max: int, known: Collection[str]) -> dict[str, Any]:
    """The body's fields. Raises HttpError for what is no JSON object, or has a field that there is not."""
    json_type(request)
    body = await body_of(request, bytes_max)
    try:
        fields = orjson.loads(body or b"{}")
    except orjson.JSONDecodeError as error:
        raise HttpError(400, "bad_request", f"the body is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise HttpError(400, "bad_request", f"the body is not a JSON object but {type(fields).__name__}")
    check_fields(fields, known)
    return fields


def check_fields(fields: Collection[str], known: Collection[str]) -> None:
    for name in fields:
        if name not in known:
            hint = did_you_mean(name, known, otherwise=f"; there are {', '.join(sorted(known))}")
            raise HttpError(400, "bad_request", f"there is no field {name[:60]!r}{hint}", param=name[:60])


def query_of(request: Request, known: Collection[str]) -> dict[str, str]:
    """Parameters of the URL, each once."""
    given = list(request.query_params.multi_items())
    check_fields([name for name, _ in given], known)
    if len(dict(given)) < len(given):
        raise HttpError(400, "bad_request", "a parameter is given twice")
    return dict(given)


def whole(text: str, name: str, smallest: int, largest: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 12 and smallest <= int(text) <= largest):
        raise HttpError(
            400, "bad_request", f"{name}: expected int from {smallest} to {largest}, got {text[:60]!r}", param=name
        )
    return int(text)


def flag(text: str, name: str) -> bool:
    if text not in {"true", "false"}:
        raise HttpError(400, "bad_request", f"{name}: expected true or false, got {text[:60]!r}", param=name)
    return text == "true"


def id_of(given: Any) -> str:
    """A question's id: as given, or a new one."""
    if given is None:
        return uuid.uuid4().hex
    if not isinstance(given, str) or not given.strip() or len(given) > ID_CHARS_MAX:
        raise HttpError(
            400,
            "bad_request",
            f"id: expected text of 1 to {ID_CHARS_MAX} characters, got {str(given)[:60]!r}",
            param="id",
        )
    return given


def uri_of(request: Request, given: str | None) -> str:
    """A document's id, from the path or from the parameter `uri` (which may hold anything, also `..`)."""
    uri = request.path_params.get("uri") or given or ""
    if not uri or len(uri.encode("utf-8", "replace")) > DOCUMENT_ID_BYTES_MAX or "\0" in uri:
        raise HttpError(
            400, "bad_request", f"uri: expected a document's id of 1 to {DOCUMENT_ID_BYTES_MAX} bytes", param="uri"
        )
    return str(uri)
