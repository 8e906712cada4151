"""The routes that Pathway's clients call, with the same JSON, so that they work unchanged (its 0.33, LangChain's and LlamaIndex's).

    /v1/retrieve                                    {query, k, metadata_filter, filepath_globpattern} -> [{text, metadata, dist}]
    /v1/inputs, /v1/pw_list_documents, /v2/list_documents     {metadata_filter, filepath_globpattern, return_status} -> [metadata]
    /v1/pw_ai_answer, /v2/answer                    {prompt, filters, model, return_context_docs} -> {response, context_docs}
    /v1/pw_ai_summary, /v2/summarize                {text_list, model} -> a text
    /v1/statistics                                  in `documents.py`, ours and theirs in one

All of them by POST, as the clients do, and by GET with parameters, as the servers take them too. `dist` is smaller for what fits better
(the negative of our score) and comparable within one question only. A document's `path` is its id.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response

from ...rag.catalogue import LIST_MAX
from ...rag.catalogue_values import Listed
from ...rag.errors import AnswerError, MessageError
from ...rag.fields import Fields
from ...rag.filters import FilterText
from ...rag.messages import K_MAX, Query
from ...rag.prompt import Passage, Prompt
from .door import Door
from .replies import HttpError, reply
from .requests import id_of, json_of, query_of
from .route import FLAG, NUMBER, OBJECT, TEXT, WHOLE, Handler, Route, Schema, fields, listed, optional

TEXTS_MAX: Final = 100
K_DEFAULT: Final = 3
_SUMMARISE: Final = "Summarise these documents in a few sentences. Keep the important points and names."
_NUMBERS_AND_FLAGS: Final = {"k", "return_status", "return_context_docs"}

Work = Callable[[Door, Request, Fields], Awaitable[Response]]


def _served(work: Work, known: set[str]) -> Handler:
    """By POST from the body, by GET from the parameters (where a number or a flag is JSON)."""

    async def handle(door: Door, request: Request) -> Response:
        if request.method == "GET":
            given: dict[str, Any] = {name: _plain(name, text) for name, text in query_of(request, known).items()}
        else:
            given = await json_of(request, door.settings.body_bytes_max, known)
        return await work(door, request, Fields(given, request.url.path))

    return handle


def _plain(name: str, text: str) -> Any:
    if name not in _NUMBERS_AND_FLAGS:
        return text
    try:
        return orjson.loads(text.lower())
    except orjson.JSONDecodeError:
        return text


def _filter(given: Fields, name: str = "metadata_filter") -> FilterText | None:
    wanted = {"jmespath": given.text(name), "glob": given.text("filepath_globpattern")}
    return {language: text for language, text in wanted.items() if text} or None


def _query(request: Request, question: str, **options: Any) -> Query:
    request.state.query = query_id = id_of(None)
    return Query(query_id, question, **options)


async def retrieve(door: Door, request: Request, given: Fields) -> Response:
    k = given.whole("k", K_DEFAULT, 1, K_MAX)
    query = _query(request, given.required_text("query"), k=k, filter=_filter(given), strategy="retrieve")
    return reply([_found(one) for one in orjson.loads(await door.ask(query))["sources"]])


def _found(source: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {"path": source["uri"], **source["metadata"]}
    return {"text": source["text"], "metadata": metadata, "dist": -source["score"]}


async def inputs(door: Door, request: Request, given: Fields) -> Response:
    wanted, with_status = _filter(given), given.flag("return_status", False)
    found: list[Listed] = []
    after: str | None = ""
    while after is not None:
        page = await door.transport.documents(wanted, after=after, limit=LIST_MAX)
        found += page.documents
        after = page.next
        if len(found) > door.settings.listed_documents_max:
            most = door.settings.listed_documents_max
            raise HttpError(400, "too_large", f"more than {most} documents: take GET /v1/documents, which has pages")
    return reply([_input(one, with_status=with_status) for one in found])


def _input(one: Listed, *, with_status: bool) -> dict[str, Any]:
    told = {"path": one.uri, "seen_at": one.at_ms // 1000, **one.status.metadata}
    is_there = one.status.state == "indexed" or one.status.stale
    return {"_indexing_status": "INDEXED" if is_there else "INGESTED", **told} if with_status else told


async def answer(door: Door, request: Request, given: Fields) -> Response:
    model = given.text("model") or None
    query = _query(request, given.required_text("prompt"), filter=_filter(given, "filters"), model=model)
    found = orjson.loads(await door.ask(query))
    told: dict[str, Any] = {"response": door.no_answer if found["no_answer"] else found["answer"]}
    if given.flag("return_context_docs", False):
        told["context_docs"] = [_found(one) for one in found["sources"]]
    return reply(told)


async def summarise(door: Door, request: Request, given: Fields) -> Response:
    """By the pipeline's model, asked here: there are no documents of the index in it, and so nothing to commit with them."""
    texts = given.array("text_list")
    if not texts or len(texts) > TEXTS_MAX or not all(isinstance(one, str) and one.strip() for one in texts):
        raise MessageError(f"{request.url.path}: expected 1 to {TEXTS_MAX} texts that are not blank - at $.text_list")
    passages = tuple(Passage(number, f"text {number}", text) for number, text in enumerate(texts, 1))
    model = door.parts.asking.llm
    said = await model.complete(Prompt(_SUMMARISE, passages), given.text("model") or None)
    if said.text is None:
        raise AnswerError("the pipeline's model gives no summary of these texts (llm: quote cannot)")
    return reply(orjson.dumps(said.text))


_RETRIEVE: Final = fields(
    ("query",), query=TEXT, k=WHOLE, metadata_filter=optional(TEXT), filepath_globpattern=optional(TEXT)
)
_INPUTS: Final = fields(metadata_filter=optional(TEXT), filepath_globpattern=optional(TEXT), return_status=FLAG)
_ANSWER: Final = fields(
    ("prompt",), prompt=TEXT, filters=optional(TEXT), model=optional(TEXT), return_context_docs=FLAG
)
_SUMMARY: Final = fields(("text_list",), text_list=listed(TEXT), model=optional(TEXT))
_CHUNKS: Final = listed(fields(text=TEXT, metadata=OBJECT, dist=NUMBER))
_SERVED: Final[tuple[tuple[tuple[str, ...], Work, str, Schema, Schema], ...]] = (
    (("/v1/retrieve",), retrieve, "Chunks that fit", _RETRIEVE, _CHUNKS),
    (
        ("/v1/inputs", "/v1/pw_list_documents", "/v2/list_documents"),
        inputs,
        "Metadata of all documents",
        _INPUTS,
        listed(OBJECT),
    ),
    (
        ("/v1/pw_ai_answer", "/v2/answer"),
        answer,
        "Answers a question",
        _ANSWER,
        fields(response=TEXT, context_docs=_CHUNKS),
    ),
    (("/v1/pw_ai_summary", "/v2/summarize"), summarise, "Summarises texts", _SUMMARY, TEXT),
)


def _routes() -> list[Route]:
    made = []
    for paths, work, summary, body, told in _SERVED:
        handle = _served(work, set(body["properties"]))
        for path in paths:
            parameters = {name: "As in the body." for name in body["properties"] if name != "text_list"}
            made.append(Route("POST", path, handle, summary, "pathway", body, told))
            if work is not summarise:
                made.append(Route("GET", path, handle, summary, "pathway", reply=told, parameters=parameters))
    return made


ROUTES: Final = tuple(_routes())
