"""Routes of questions: answers, chunks, and answers and standing questions as server-sent events.

    POST /v1/answers/stream   event: draft, data: {"text"}, as the model says it; event: answer, data: the answer, which counts
    POST /v1/standing   event: revision, data: an answer   (": nothing new" now and then)   event: error, data: an error, and the end

A standing question with an `id` of the caller's stands on when the connection ends, until DELETE; without one it ends with it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from ...rag.messages import Query, read_query, write_query
from .door import Door
from .replies import HttpError, error_reply, reply
from .requests import id_of, json_of, query_of
from .route import Route, fields, named

QUESTION_FIELDS: Final = {*orjson.loads(write_query(Query("", "x", stream="x"))), "fresh"} - {"again"}
"""Those of the topic. What is not known is refused here: a misspelt filter that is passed over would be worse."""

SSE_HEADERS: Final = {"cache-control": "no-store", "x-accel-buffering": "no"}


async def _question(door: Door, request: Request, **fixed: Any) -> tuple[Query, bool, bool]:
    """The question, whether it is to be answered from a fresh index, and whether its id was given."""
    given = await json_of(request, door.settings.body_bytes_max, QUESTION_FIELDS)
    fresh = given.pop("fresh", False)
    if not isinstance(fresh, bool):
        raise HttpError(400, "bad_request", f"fresh: expected bool, got {str(fresh)[:60]!r}", param="fresh")
    query_id = id_of(given.pop("id", None) if (has_id := given.get("id") is not None) else None)
    request.state.query = query_id
    for name, wanted in ({"mode": "once"} | fixed).items():
        if given.get(name) not in (None, wanted):  # a tuple: what is given may be a list
            raise HttpError(400, "bad_request", f"{name}: this route only has {wanted!r}", param=name)
    query = read_query(query_id.encode(), orjson.dumps(given | {"id": query_id} | fixed))
    return query, fresh, has_id


async def answers(door: Door, request: Request) -> Response:
    query, fresh, _ = await _question(door, request)
    return reply(await door.ask(query, fresh=fresh), headers={"x-query-id": query.id})


async def answers_aloud(door: Door, request: Request) -> Response:
    query, fresh, _ = await _question(door, request)
    told = await begun(door.ask_aloud(query, fresh=fresh))
    headers = {**SSE_HEADERS, "x-query-id": query.id}
    return StreamingResponse(_aloud(told, query), media_type="text/event-stream", headers=headers)


async def _aloud(told: AsyncIterator[str | bytes], query: Query) -> AsyncIterator[bytes]:
    try:
        async for one in told:
            yield event("draft", orjson.dumps({"text": one})) if isinstance(one, str) else event("answer", one)
    except Exception as error:  # noqa: BLE001 - the head is sent: what went wrong is the stream's last event
        yield event("error", bytes(error_reply(error, query.id).body))


async def begun(told: AsyncGenerator[str | bytes, None]) -> AsyncIterator[str | bytes]:
    """The same, once the first of it is there: what goes wrong before that is an error of HTTP, and raised here."""
    try:
        first = await anext(told)
    except BaseException:
        await told.aclose()
        raise

    async def all_of_it() -> AsyncIterator[str | bytes]:
        async with aclosing(told):
            yield first
            async for one in told:
                yield one

    return all_of_it()


async def late_answer(door: Door, request: Request) -> Response:
    """Of a question that timed out here: 200 once it has come, 202 before."""
    query_id = id_of(query_of(request, {"id"}).get("id", request.path_params.get("id", "")))
    request.state.query = query_id
    record = door.late(query_id)
    if record is None:
        return reply({"id": query_id, "state": "pending"}, 202)
    return reply(record, headers={"x-query-id": query_id})


async def retrievals(door: Door, request: Request) -> Response:
    query, fresh, _ = await _question(door, request, strategy="retrieve")
    return reply(await door.ask(query, fresh=fresh), headers={"x-query-id": query.id})


async def standing(door: Door, request: Request) -> Response:
    query, _, has_id = await _question(door, request, mode="standing")
    return StreamingResponse(
        _revisions(door, query, ends=not has_id),
        media_type="text/event-stream",
        headers={**SSE_HEADERS, "x-query-id": query.id},
    )


async def _revisions(door: Door, query: Query, *, ends: bool) -> AsyncIterator[bytes]:
    try:
        async for record in door.stand(query):
            yield b": nothing new\n\n" if record is None else event("revision", record)
    except Exception as error:  # noqa: BLE001 - the head is sent: what went wrong is the stream's last event
        yield event("error", bytes(error_reply(error, query.id).body))
    finally:
        if ends:
            door.soon(door.transport.end(query.id))


def event(name: str, data: bytes) -> bytes:
    """JSON has no line breaks of its own, so one line of data."""
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"


async def end_standing(door: Door, request: Request) -> Response:
    query_id = id_of(query_of(request, {"id"}).get("id", request.path_params.get("id", "")))
    await door.transport.end(query_id)
    return reply({"id": query_id, "ended": True})


ROUTES: Final = (
    Route("POST", "/v1/answers", answers, "Answers a question", "questions", named("Question"), named("Answer")),
    Route(
        "POST",
        "/v1/answers/stream",
        answers_aloud,
        "Answers a question, and its answer is read while it is made: events `draft`, then one `answer`",
        "questions",
        named("Question"),
        named("Answer"),
        streams=True,
    ),
    Route(
        "GET",
        "/v1/answers",
        late_answer,
        "The answer to a question that timed out here: 202 before it has come, 404 when it is forgotten",
        "questions",
        reply=named("Answer"),
        parameters={"id": "The question's id."},
    ),
    Route(
        "GET",
        "/v1/answers/{id}",
        late_answer,
        "The answer to a question that timed out here: 202 before it has come, 404 when it is forgotten",
        "questions",
        reply=named("Answer"),
    ),
    Route(
        "POST",
        "/v1/retrievals",
        retrievals,
        "The chunks that fit a question, best first",
        "questions",
        named("Question"),
        named("Answer"),
    ),
    Route(
        "POST",
        "/v1/standing",
        standing,
        "A standing question: each new answer is an event `revision`",
        "questions",
        named("Question"),
        named("Answer"),
        streams=True,
    ),
    Route(
        "DELETE",
        "/v1/standing",
        end_standing,
        "Ends a standing question",
        "questions",
        reply=fields(id={"type": "string"}, ended={"type": "boolean"}),
        parameters={"id": "The question's id."},
    ),
    Route(
        "DELETE",
        "/v1/standing/{id}",
        end_standing,
        "Ends a standing question",
        "questions",
        reply=fields(id={"type": "string"}, ended={"type": "boolean"}),
    ),
)
