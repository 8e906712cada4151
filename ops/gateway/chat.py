"""OpenAI's chat completions over the documents: `POST /v1/chat/completions`, `GET /v1/models`; so that chat programs can talk to them.

The last message must be the user's: it is the question. What was said before goes along as far as it helps to find documents: a
follow-up question ("and how much is it?", by the rule of `rag/conversation.py`) is put behind the question before it. System messages,
tools and sampling are the pipeline's business and are passed over. The answer carries its sources as [1] in the text, as a list below
it, and in the field `sources`, which OpenAI's own clients keep as an extra field.

`stream` gives server-sent events of OpenAI's shape, as the model says them: drafts (`rag/drafts.py`). What counts is the committed
answer: what of it was not said yet follows, and where it is another than was said it follows whole, behind an empty line.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from ...rag.conversation import is_follow_up
from ...rag.errors import MessageError
from ...rag.fields import Fields
from ...rag.messages import QUESTION_CHARS_MAX, Query
from ...rag.terms import Terms
from .door import Door
from .questions import SSE_HEADERS, begun
from .replies import error_reply, reply
from .requests import id_of, json_of
from .route import FLAG, OBJECT, TEXT, WHOLE, Route, fields, listed, named, optional

MODEL: Final = "millstream"
"""What the pipeline answers with as it is set. Any other name is passed on to the pipeline's endpoint."""
MESSAGES_MAX: Final = 1_000
ROLES: Final = ("system", "developer", "user", "assistant", "tool", "function")
_PIECE: Final = re.compile(r"\S+\s*|\s+")

KNOWN: Final = frozenset(
    "model messages stream stream_options user metadata temperature top_p n max_tokens max_completion_tokens stop seed "
    "presence_penalty frequency_penalty logit_bias logprobs top_logprobs response_format tools tool_choice parallel_tool_calls "
    "store service_tier reasoning_effort modalities filter tenant k fresh functions function_call prediction verbosity".split()
)
"""Fields of OpenAI's, and ours that mean what they do in /v1/answers: filter, tenant, k, fresh."""


async def completions(door: Door, request: Request) -> Response:
    given = await json_of(request, door.settings.body_bytes_max, KNOWN)
    read = Fields(given, "chat")
    asked = asked_of(messages_of(read), door)
    model = read.text("model") or MODEL
    request.state.query = query_id = f"chatcmpl-{id_of(None)}"
    query = Query(
        query_id,
        asked,
        read.whole("k", 0, 1, 100) or None,
        read.text_or_texts("filter") or None,
        model=None if model == MODEL else model,
        tenant=read.text("tenant") or None,
    )
    if read.whole("n", 1, 1, 1) != 1:
        raise read.wrong("n", "1")
    stream, fresh = read.flag("stream", False), read.flag("fresh", False)
    with_usage = Fields(read.object("stream_options"), "chat").flag("include_usage", False)
    created = int(time.time())
    if not stream:
        answer = orjson.loads(await door.ask(query, fresh=fresh))
        return reply(_Told(query_id, created, answer["model"] or model).whole(_text(door, answer), answer))
    told = _Told(query_id, created, model)
    pieces = _pieces(door, await begun(door.ask_aloud(query, fresh=fresh)), told, with_usage=with_usage)
    return StreamingResponse(pieces, media_type="text/event-stream", headers=SSE_HEADERS)


async def _pieces(
    door: Door, said: AsyncIterator[str | bytes], told: _Told, *, with_usage: bool
) -> AsyncIterator[bytes]:
    """Events. After the head is sent, what goes wrong is the last of them."""
    yield _event(told.piece({"role": "assistant", "content": ""}))
    shown = ""
    try:
        async for one in said:
            if isinstance(one, str):
                shown += one
                yield _event(told.piece({"content": one}))
                continue
            answer = orjson.loads(one)
            text = _text(door, answer)
            rest = text.removeprefix(shown) if text.startswith(shown) else f"\n\n{text}"
            for piece in _PIECE.findall(rest):
                yield _event(told.piece({"content": piece}))
            for piece in told.ends(answer, with_usage=with_usage):
                yield _event(piece)
    except Exception as error:  # noqa: BLE001 - the head is sent
        yield _event(bytes(error_reply(error, told.query_id).body))


def _event(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"


class _Told:
    """An answer as OpenAI has it."""

    def __init__(self, query_id: str, created: int, model: str) -> None:
        self.query_id = query_id
        self._head = {"id": query_id, "created": created, "model": model}

    def whole(self, text: str, answer: Mapping[str, Any]) -> dict[str, Any]:
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
        return {
            **self._head,
            "object": "chat.completion",
            "choices": [choice],
            "usage": _usage(answer),
            "sources": answer["sources"],
            "no_answer": answer["no_answer"],
        }

    def ends(self, answer: Mapping[str, Any], *, with_usage: bool) -> Iterator[bytes]:
        """What comes behind the text."""
        yield self.piece({}, finish="stop", sources=answer["sources"], no_answer=answer["no_answer"])
        if with_usage:
            chunk = {**self._head, "object": "chat.completion.chunk", "choices": [], "usage": _usage(answer)}
            yield orjson.dumps(chunk)
        yield b"[DONE]"

    def piece(self, delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        return orjson.dumps({**self._head, "object": "chat.completion.chunk", "choices": [choice], **more})


def _usage(answer: Mapping[str, Any]) -> dict[str, int]:
    prompt, completion = answer["tokens"]["prompt"], answer["tokens"]["completion"]
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _text(door: Door, answer: Mapping[str, Any]) -> str:
    """With the sources that it names below it."""
    if answer["no_answer"]:
        return door.no_answer
    text = str(answer["answer"])
    cited = [(number, one) for number, one in enumerate(answer["sources"], 1) if f"[{number}]" in text]
    lines = [f"[{number}] {_source(one)}" for number, one in cited]
    return "\n".join([f"{text}\n", *lines]) if lines else text


def _source(source: Mapping[str, Any]) -> str:
    place = next((f", {name} {source['metadata'][name]}" for name in _PLACES if name in source["metadata"]), "")
    return f"{source['uri']}{place}"


_PLACES: Final = ("page", "slide", "sheet", "heading")


def messages_of(given: Fields) -> list[tuple[str, str]]:
    """Role and text of each. Raises MessageError."""
    said = given.array("messages")
    if not said or len(said) > MESSAGES_MAX:
        raise MessageError(f"chat: expected 1 to {MESSAGES_MAX} messages, got {len(said)} - at $.messages")
    found = [_message(one, number) for number, one in enumerate(said)]
    if found[-1][0] != "user" or not found[-1][1].strip():
        last = len(found) - 1
        raise MessageError(f"chat: the last message must be a question of the user's - at $.messages[{last}]")
    return found


def _message(said: Any, number: int) -> tuple[str, str]:
    place = f"at $.messages[{number}]"
    if not isinstance(said, dict) or said.get("role") not in ROLES:
        raise MessageError(f"chat: expected an object with a role out of {', '.join(ROLES)} - {place}")
    content = said.get("content")
    if isinstance(content, list):  # parts; those that are no text (pictures) are passed over
        texts = [one.get("text") for one in content if isinstance(one, dict)]
        content = "\n".join(text for text in texts if isinstance(text, str))
    if content is not None and not isinstance(content, str):
        raise MessageError(f"chat: expected content that is text or a list of parts - {place}")
    return str(said["role"]), content or ""


class Understands(Protocol):
    """What words a question has."""

    @property
    def terms(self) -> Terms: ...


def asked_of(said: Sequence[tuple[str, str]], by: Understands) -> str:
    """The question. One that is not understood by itself is put behind the one before it, so that what it is about is looked up too."""
    questions = [text.strip() for role, text in said if role == "user" and text.strip()]
    asked = questions[-1]
    if len(questions) > 1 and is_follow_up(asked, by.terms):
        together = f"{questions[-2]}\n{asked}"
        return together if len(together) <= QUESTION_CHARS_MAX else asked
    return asked


async def models(door: Door, request: Request) -> Response:
    return reply({"object": "list", "data": [{"id": MODEL, "object": "model", "created": 0, "owned_by": "millstream"}]})


_REQUEST: Final = fields(
    ("messages",),
    model=TEXT,
    messages=listed(fields(("role",), role=TEXT, content={})),
    stream=FLAG,
    filter=optional({"anyOf": [TEXT, OBJECT]}),
    tenant=optional(TEXT),
    k=optional(WHOLE),
    fresh=FLAG,
)
_REPLY: Final = fields(
    id=TEXT,
    object=TEXT,
    created=WHOLE,
    model=TEXT,
    choices=listed(OBJECT),
    usage=OBJECT,
    sources=listed(named("Source")),
    no_answer=FLAG,
)

ROUTES: Final = (
    Route("POST", "/v1/chat/completions", completions, "OpenAI's chat completions", "openai", _REQUEST, _REPLY),
    Route(
        "GET", "/v1/models", models, "OpenAI's list of models", "openai", reply=fields(object=TEXT, data=listed(OBJECT))
    ),
)
