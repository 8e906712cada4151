"""What the adapters of model endpoints promise alike: over servers that speak as the providers document it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from millstream.rag.document import Chunk, Hit, Tokens
from millstream.rag.errors import ModelError, ModelRefusedError, ModelUnavailableError, PartError
from millstream.rag.llm import Completion
from millstream.rag.parts import part_named
from millstream.rag.prompt import Prompt
from tests.rag.http_server import Reply, serving

LAMP = Prompt.of(
    "Who makes the lamp?",
    [Hit(Chunk("0" * 32, f"{n}.md", text), 1.0) for n, text in enumerate(["Trains leave.", "Ada makes the lamp."])],
)


@dataclass(frozen=True)
class Kind:
    """One provider's words. `words`: a reply of plain text. `form`: one in the form that was asked for."""

    name: str
    path: str
    key_header: str
    words: Callable[[str], dict[str, Any]]
    form: Callable[[str | None, list[int]], dict[str, Any]]
    question: Callable[[dict[str, Any]], str]
    """The user's message in a request's body."""
    asks_for_form: Callable[[dict[str, Any]], bool]
    nothing: dict[str, Any]
    """A reply in which there is no answer to be found."""


def _openai(text: str) -> dict[str, Any]:
    usage = {"prompt_tokens": 12, "completion_tokens": 3}
    return {"model": "m-1", "choices": [{"message": {"content": text}}], "usage": usage}


def _anthropic(*content: dict[str, Any], stop: str = "end_turn") -> dict[str, Any]:
    usage = {"input_tokens": 12, "output_tokens": 3}
    return {"model": "m-1", "role": "assistant", "content": list(content), "stop_reason": stop, "usage": usage}


def _cohere(text: str) -> dict[str, Any]:
    usage = {"billed_units": {"input_tokens": 1}, "tokens": {"input_tokens": 12, "output_tokens": 3}}
    message = {"role": "assistant", "content": [{"type": "text", "text": text}]}
    return {"id": "x", "finish_reason": "COMPLETE", "message": message, "usage": usage}


def _gemini(text: str) -> dict[str, Any]:
    candidate = {"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP"}
    usage = {"promptTokenCount": 12, "candidatesTokenCount": 3, "totalTokenCount": 15}
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "m-1"}


def _json(answer: str | None, sources: list[int]) -> str:
    return json.dumps({"answer": answer, "sources": sources})


KINDS = [
    Kind(
        "openai",
        "/v1/chat/completions",
        "authorization",
        _openai,
        lambda answer, sources: _openai(_json(answer, sources)),
        lambda body: body["messages"][1]["content"],
        lambda body: "response_format" in body,
        {"choices": []},
    ),
    Kind(
        "anthropic",
        "/v1/messages",
        "x-api-key",
        lambda text: _anthropic({"type": "text", "text": text}),
        lambda answer, sources: _anthropic(
            {"type": "text", "text": "I call the tool."},
            {"type": "tool_use", "id": "t", "name": "answer", "input": {"answer": answer, "sources": sources}},
            stop="tool_use",
        ),
        lambda body: body["messages"][0]["content"],
        lambda body: body.get("tool_choice") == {"type": "tool", "name": "answer"},
        {"type": "error"},
    ),
    Kind(
        "cohere",
        "/v1/chat",
        "authorization",
        _cohere,
        lambda answer, sources: _cohere(_json(answer, sources)),
        lambda body: body["messages"][1]["content"],
        lambda body: body.get("response_format", {}).get("type") == "json_object",
        {"message": "invalid"},
    ),
    Kind(
        "gemini",
        "/v1/models/m:generateContent",
        "x-goog-api-key",
        _gemini,
        lambda answer, sources: _gemini(_json(answer, sources)),
        lambda body: body["contents"][0]["parts"][0]["text"],
        lambda body: "responseSchema" in body["generationConfig"],
        {"candidates": []},
    ),
]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


class Pauses:
    """Stands in for sleeping: notes how long was asked for, in seconds."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)


async def ask(
    kind: Kind, *replies: Reply, model: str | None = None, **options: Any
) -> tuple[Completion, list[dict[str, Any]]]:
    async with serving(*replies) as server:
        chosen = {"url": server.url, "model": "m", "api_key_env": "", "sleep": Pauses(), **options}
        llm = part_named("llm", kind.name, chosen)
        try:
            return await llm.complete(LAMP, model), server.requests
        finally:
            await llm.close()


@every_kind
async def test_an_answer_has_text_citations_tokens_and_a_model(kind: Kind) -> None:
    done, _ = await ask(kind, Reply(body=kind.form("Ada [2].", [2, 9])))
    assert (done.text, done.cited, done.tokens) == ("Ada [2].", (2,), Tokens(12, 3))
    assert done.model in {"m", "m-1"}


@every_kind
async def test_no_answer_is_none(kind: Kind) -> None:
    for reply in (kind.form(None, []), kind.words("No information."), kind.words("")):
        done, _ = await ask(kind, Reply(body=reply))
        assert (done.text, done.cited) == (None, ())


@every_kind
async def test_plain_words_are_understood_where_json_was_asked_for(kind: Kind) -> None:
    done, _ = await ask(kind, Reply(body=kind.words("Ada makes it [2].")))
    assert (done.text, done.cited) == ("Ada makes it [2].", (2,))


@every_kind
@pytest.mark.parametrize("reply", ["json", "text"])
async def test_what_is_sent(kind: Kind, reply: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key in its header, documents before the question, the form only where it is wanted."""
    monkeypatch.setenv("OUR_KEY", "sk-secret")
    _, (request,) = await ask(kind, Reply(body=kind.words("x")), api_key_env="OUR_KEY", reply=reply)
    assert request["path"] == kind.path
    assert request["headers"][kind.key_header].removeprefix("bearer ") == "sk-secret"
    assert kind.asks_for_form(request["body"]) == (reply == "json")
    said = kind.question(request["body"])
    assert said.index('<document number="1"') < said.index("Ada makes") < said.index("Who makes the lamp?")
    assert "sk-secret" not in json.dumps(request["body"])


@every_kind
async def test_the_query_s_model_is_asked(kind: Kind) -> None:
    _, (request,) = await ask(kind, Reply(body=kind.words("x")), model="other-1")
    assert "other-1" in request["path"] or request["body"]["model"] == "other-1"


@every_kind
@pytest.mark.parametrize(
    ("replies", "error", "reason"),
    [
        ([Reply(401, {"error": "bad key"})], ModelRefusedError, "status 401.*bad key"),
        ([Reply(500, b"boom")] * 4, ModelUnavailableError, "4 attempts.*boom"),
        ([Reply(529, b"overloaded")] * 4, ModelUnavailableError, "4 attempts.*overloaded"),
        ([Reply(200, b"<html>")], ModelError, "not JSON"),
        ([Reply(200, [])], ModelError, "the endpoint's reply"),
        ([Reply(200, {})], ModelError, "the endpoint's reply has no"),
    ],
)
async def test_a_lasting_failure_is_an_error_that_says_what(
    kind: Kind, replies: list[Reply], error: type[Exception], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        await ask(kind, *replies)


@every_kind
async def test_a_reply_of_another_shape_is_an_error(kind: Kind) -> None:
    with pytest.raises(ModelError, match="the endpoint's reply has no"):
        await ask(kind, Reply(body=kind.nothing))


@every_kind
async def test_a_passing_failure_is_tried_again(kind: Kind) -> None:
    sleep = Pauses()
    replies = [Reply(429, headers={"retry-after": "7"}), Reply(503), Reply(body=kind.words("Ada"))]
    done, _ = await ask(kind, *replies, sleep=sleep)
    assert (done.text, sleep.asked) == ("Ada", [7.0, 1.0])


@every_kind
async def test_the_key_is_in_no_text(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUR_KEY", "sk-secret")
    with pytest.raises(ModelRefusedError) as caught:
        await ask(kind, Reply(403, {"error": "wrong key sk-secret"}), api_key_env="OUR_KEY")
    llm = part_named("llm", kind.name, {"url": "http://127.0.0.1:1/v1", "model": "m", "api_key_env": "OUR_KEY"})
    assert "sk-secret" not in f"{caught.value} {llm!r} {llm.fingerprint()}"
    monkeypatch.delenv("OUR_KEY")
    with pytest.raises(PartError, match="OUR_KEY is not set"):
        part_named("llm", kind.name, {"url": "http://127.0.0.1:1/v1", "model": "m", "api_key_env": "OUR_KEY"})


@every_kind
def test_a_fingerprint_tells_models_and_forms_apart(kind: Kind) -> None:
    def fingerprint(**options: Any) -> str:
        base = {"url": "http://127.0.0.1:1/v1", "model": "m", "api_key_env": ""}
        return str(part_named("llm", kind.name, {**base, **options}).fingerprint())

    told = [fingerprint(), fingerprint(model="n"), fingerprint(reply="text"), fingerprint(answer_tokens_max=9)]
    assert len(set(told)) == 4
    assert fingerprint() == told[0]


async def test_a_refusal_of_the_model_is_no_answer() -> None:
    kinds = {kind.name: kind for kind in KINDS}
    refused = _anthropic({"type": "text", "text": "I can't."}, stop="refusal")
    assert (await ask(kinds["anthropic"], Reply(body=refused)))[0].text is None
    blocked = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 5}}
    done, _ = await ask(kinds["gemini"], Reply(body=blocked))
    assert (done.text, done.tokens) == (None, Tokens(5, 0))
    cut = {"candidates": [{"finishReason": "SAFETY"}]}
    assert (await ask(kinds["gemini"], Reply(body=cut)))[0].text is None


async def test_a_name_that_is_none_does_not_get_into_the_url() -> None:
    kind = next(kind for kind in KINDS if kind.name == "gemini")
    with pytest.raises(ModelRefusedError, match="is no name of a model"):
        await ask(kind, model="../../v1/other?key=")
