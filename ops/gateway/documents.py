"""Routes of documents: put, delete, list, and what became of one.

A document's id stands in the path (percent-encoded), or, where it has `..` or the like in it, in the parameter `uri`. A body of
type application/json is a record of the documents topic; of any other type it is the document itself.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response

from ...rag.catalogue import LIST_MAX
from ...rag.document import Document
from ...rag.messages import read_document, write_document
from ...rag.read_back import read_status, write_listed
from .door import Door
from .replies import HttpError, reply
from .requests import body_of, check_fields, content_type_of, flag, query_of, uri_of, whole
from .route import FLAG, TEXT, WHOLE, Route, fields, listed, named, optional

_FIELDS: Final = set(orjson.loads(write_document(Document("x")))) | {"text", "content", "ref"}
_URI: Final = {"uri": "The document's id, instead of in the path."}
_WAIT: Final = {"wait": "false: answer 202 as soon as Kafka has it (default: when it is indexed)."}


async def put(door: Door, request: Request) -> Response:
    """200 with the status once it is indexed, 422 with it where it cannot be."""
    given = query_of(request, {"uri", "wait"})
    uri = uri_of(request, given.get("uri"))
    value = await _document(door, request, uri)
    if not flag(given.get("wait", "true"), "wait"):
        await door.transport.send(door.transport.topics.documents, uri, value)
        return reply({"uri": uri}, 202)
    status = read_status(record := await door.transport.put(uri, value))
    if record is None or status is None:
        raise HttpError(409, "conflict", f"document {uri!r} was deleted by somebody else meanwhile")
    told: dict[str, Any] = {"uri": uri, "status": orjson.loads(record)}
    if status.state == "failed":
        error = {"message": status.error, "type": "unreadable", "param": None, "code": None, "query": None}
        return reply({**told, "error": error}, 422)
    return reply(told)


async def _document(door: Door, request: Request, uri: str) -> bytes:
    body = await body_of(request, door.settings.body_bytes_max)
    kind = content_type_of(request)
    if kind != "application/json":
        return write_document(Document(uri, body, content_type=kind))
    document = read_document(uri.encode(), body)
    check_fields(orjson.loads(body), _FIELDS)
    if document.uri != uri:
        raise HttpError(400, "bad_request", f"uri: the path says {uri!r}, the body {document.uri!r}", param="uri")
    return write_document(document)


async def delete(door: Door, request: Request) -> Response:
    """Also 200 where there is none: afterwards there is none."""
    given = query_of(request, {"uri", "wait"})
    uri = uri_of(request, given.get("uri"))
    if not flag(given.get("wait", "true"), "wait"):
        await door.transport.send(door.transport.topics.documents, uri, None)
        return reply({"uri": uri}, 202)
    await door.transport.delete(uri)
    return reply({"uri": uri, "deleted": True})


async def get(door: Door, request: Request) -> Response:
    """One document, or a page of the list."""
    given = query_of(request, {"uri", "filter", "jmespath", "glob", "after", "limit"})
    if request.path_params.get("uri") or "uri" in given:
        return await _one(door, uri_of(request, given.get("uri")))
    limit = whole(given.get("limit", "100"), "limit", 1, LIST_MAX)
    wanted: dict[str, str] = {language: given[language] for language in ("jmespath", "glob") if language in given}
    page = await door.transport.documents(
        given.get("filter") or wanted or None, after=given.get("after", ""), limit=limit
    )
    return reply({"documents": [write_listed(one) for one in page.documents], "next": page.next})


async def _one(door: Door, uri: str) -> Response:
    listed_one = await door.transport.document(uri)
    if listed_one is None:
        raise HttpError(404, "not_found", f"there is no document {uri!r}; GET /v1/documents lists those there are")
    return reply(write_listed(listed_one))


async def statistics(door: Door, request: Request) -> Response:
    """Ours and Pathway's in one: `file_count`, `last_modified` and `last_indexed` (seconds) are theirs."""
    found = await door.transport.statistics()
    indexed = found.last_indexed_at_ms
    told: dict[str, Any] = asdict(found) | {
        "pending": door.transport.pending,
        "file_count": found.documents,
        "last_modified": None if found.last_modified_at is None else found.last_modified_at // 1000,
        "last_indexed": None if indexed is None else indexed // 1000,
    }
    if door.has_index:
        positions = door.parts.view.positions()
        told["index"] = {"ready": door.parts.view.is_ready, "position": {str(one): at for one, at in positions.items()}}
    return reply(told)


_PUT: Final = fields(("uri", "status"), uri=TEXT, status=named("Status"))
_PAGE: Final = fields(("documents", "next"), documents=listed(named("Listed")), next=optional(TEXT))
_DELETED: Final = fields(("uri",), uri=TEXT, deleted=FLAG)
_STATISTICS: Final = fields(
    documents=WHOLE,
    failed=WHOLE,
    chunks=WHOLE,
    last_indexed_at_ms=optional(WHOLE),
    last_modified_at=optional(WHOLE),
    pending=WHOLE,
    file_count=WHOLE,
    last_modified=optional(WHOLE),
    last_indexed=optional(WHOLE),
    index=fields(ready=FLAG, position={"type": "object"}),
)
_ONE: Final = "/v1/documents/{uri:path}"
_ALL: Final = "/v1/documents"
_LIST: Final = {
    **_URI,
    "filter": "Over metadata and uri.",
    "jmespath": "The same in JMESPath.",
    "glob": "A glob pattern over the path.",
    "after": "Ids behind this one: `next` of the page before.",
    "limit": f"1 to {LIST_MAX}, default 100.",
}

ROUTES: Final = (
    Route("PUT", _ONE, put, "Puts a document", "documents", named("Document"), _PUT, _WAIT),
    Route("PUT", _ALL, put, "Puts a document", "documents", named("Document"), _PUT, _URI | _WAIT),
    Route("DELETE", _ONE, delete, "Deletes a document", "documents", reply=_DELETED, parameters=_WAIT),
    Route("DELETE", _ALL, delete, "Deletes a document", "documents", reply=_DELETED, parameters=_URI | _WAIT),
    Route("GET", _ONE, get, "What became of a document", "documents", reply=named("Listed")),
    Route("GET", _ALL, get, "Documents in the order of their ids", "documents", reply=_PAGE, parameters=_LIST),
    Route("GET", "/v1/statistics", statistics, "Of all documents", "documents", reply=_STATISTICS),
    Route("POST", "/v1/statistics", statistics, "The same, as Pathway's clients ask", "pathway", reply=_STATISTICS),
)
