"""What every model that can be heard while it speaks promises: pieces of the answer, then the completion that `complete` gives."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from millstream.rag.answer_pieces import AnswerPieces
from millstream.rag.document import Chunk, Hit, Tokens
from millstream.rag.errors import ModelError, ModelRefusedError, ModelUnavailableError
from millstream.rag.llm import Completion, StreamingLLM, streamed
from millstream.rag.llms.quote import Quote
from millstream.rag.llms.scripted import Scripted
from millstream.rag.parts import part_named
from millstream.rag.prompt import Prompt
from millstream.rag.server_events import ServerEvents
from tests.contracts.test_llms import Pauses
from tests.rag.http_server import Reply, serving

LAMP = Prompt.of(
    "Who makes the lamp?",
    [Hit(Chunk("0" * 32, f"{n}.md", text), 1.0) for n, text in enumerate(["Trains leave.", "Ada makes the lamp."])],
)


def sse(*events: Any, named: bool = False, end: str = "") -> bytes:
    """As the providers send it: with `event:` lines or without, a comment between, `[DONE]` behind."""
    parts = [
        (f"event: {one['type']}\r\n" if named else "") + f"data: {json.dumps(one, ensure_ascii=False)}\r\n\r\n"
        for one in events
    ]
    return (": keep-alive\r\n\r\n".join(parts) + end).encode()


def openai(*pieces: str) -> bytes:
    first = {"model": "m-1", "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}
    said = [{"model": "m-1", "choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces]
    last = {"model": "m-1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    usage = {"model": "m-1", "choices": [], "usage": {"prompt_tokens": 12, "completion_tokens": 3}}
    return sse(first, *said, last, usage, end="data: [DONE]\n\n")


def anthropic(*pieces: str) -> bytes:
    """A tool's input, as JSON is asked for; words, where it is not."""
    is_form = pieces[:1] and pieces[0].startswith("{")
    block = {"type": "tool_use", "id": "t", "name": "answer", "input": {}} if is_form else {"type": "text", "text": ""}
    kind, field = ("input_json_delta", "partial_json") if is_form else ("text_delta", "text")
    deltas = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": kind, field: piece}} for piece in ["", *pieces]
    ]
    return sse(
        {"type": "message_start", "message": {"model": "m-1", "content": [], "usage": {"input_tokens": 12}}},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "ping"},
        *deltas,
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}},
        {"type": "message_stop"},
        named=True,
    )


def cohere(*pieces: str) -> bytes:
    deltas = [
        {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": piece}}}} for piece in pieces
    ]
    end = {"finish_reason": "COMPLETE", "usage": {"tokens": {"input_tokens": 12, "output_tokens": 3}}}
    return sse(
        {"id": "x", "type": "message-start", "delta": {"message": {"role": "assistant"}}},
        {"type": "content-start", "index": 0, "delta": {"message": {"content": {"type": "text", "text": ""}}}},
        *deltas,
        {"type": "content-end", "index": 0},
        {"type": "message-end", "delta": end},
        named=True,
    )


def gemini(*pieces: str) -> bytes:
    said = [{"candidates": [{"content": {"role": "model", "parts": [{"text": piece}]}}]} for piece in pieces]
    usage = {"promptTokenCount": 12, "candidatesTokenCount": 3}
    last = {"candidates": [{"content": {"parts": [{"text": ""}]}, "finishReason": "STOP"}], "usageMetadata": usage}
    return sse(*said, last | {"modelVersion": "m-1"})


PROVIDERS: dict[str, Callable[..., bytes]] = {
    "openai": openai,
    "anthropic": anthropic,
    "cohere": cohere,
    "gemini": gemini,
}
every_provider = pytest.mark.parametrize("name", PROVIDERS)


async def heard(name: str, *replies: Reply, **options: Any) -> tuple[list[str], Completion, list[dict[str, Any]]]:
    """The pieces, and the completion behind them."""
    async with serving(*replies) as server:
        chosen = {"url": server.url, "model": "m", "api_key_env": "", "sleep": Pauses(), **options}
        llm = part_named("llm", name, chosen)
        pieces: list[str] = []
        try:
            return pieces, await streamed(llm, LAMP, None, pieces.append), server.requests
        finally:
            await llm.close()


SAID = json.dumps({"answer": "Ada [2], in „Jena“ \U0001f4a1.\nYes.", "sources": [2]})
TEXT = "Ada [2], in „Jena“ \U0001f4a1.\nYes."


@every_provider
@pytest.mark.parametrize(("reply", "said"), [("json", SAID), ("text", TEXT)])
async def test_pieces_and_then_the_completion(name: str, reply: str, said: str) -> None:
    cut = [said[:5], said[5:14], said[14:40], said[40:]]
    pieces, done, (request,) = await heard(name, Reply(body=PROVIDERS[name](*cut)), reply=reply)
    assert "".join(pieces) == done.text == TEXT
    assert len(pieces) > 1
    assert "" not in pieces
    assert (done.cited, done.tokens) == ((2,), Tokens(12, 3))
    assert done.model in {"m", "m-1"}
    assert request["body"].get("stream") or request["path"].endswith(":streamGenerateContent?alt=sse")


@every_provider
@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("json", '{"answer": null, "sources": []}'),
        ("json", '{"answer": "no information!", "sources": [1]}'),
        ("text", "No information."),
        ("text", "No information. The documents speak of trains."),
        ("text", "The documents above do not mention who makes the lamp."),
        ("text", "[1]"),
    ],
)
async def test_no_answer_is_no_piece(name: str, reply: str, said: str) -> None:
    pieces, done, _ = await heard(name, Reply(body=PROVIDERS[name](*said)), reply=reply)
    assert (pieces, done.text) == ([], None)


@every_provider
@settings(max_examples=15, deadline=None)
@given(cuts=some.lists(some.integers(1, 400), max_size=12))
async def test_bytes_may_be_cut_anywhere(name: str, cuts: list[int]) -> None:
    body = PROVIDERS[name](SAID[:9], SAID[9:30], SAID[30:])
    ends = tuple(sorted({cut for cut in cuts if cut < len(body)})) or (1,)
    pieces, done, _ = await heard(name, Reply(body=body, cuts=ends))
    assert "".join(pieces) == done.text == TEXT


@every_provider
@pytest.mark.parametrize(
    "broken",
    [
        lambda body: Reply(body=body, cut=True),
        lambda body: Reply(body=body[: len(body) // 2]),
        lambda body: Reply(body=body[: len(body) // 2] + b'\r\n\r\ndata: {"error": {"message": "overloaded"}}\r\n\r\n'),
    ],
    ids=["cut", "short", "error"],
)
async def test_a_stream_that_breaks_off_is_an_error_and_not_tried_again(
    name: str, broken: Callable[[bytes], Reply]
) -> None:
    """After half of it; whoever listens has heard the beginning."""
    body = PROVIDERS[name](*(SAID[n : n + 4] for n in range(0, len(SAID), 4)))
    whole_events = body[: body.rindex(b"\r\n\r\n", 0, len(body) // 2) + 4]
    reply = broken(whole_events * 2)
    with pytest.raises(ModelUnavailableError, match=r"the stream (broke off|ended)"):
        await heard(name, reply, Reply(body=body))


@every_provider
async def test_what_never_began_is_tried_again(name: str) -> None:
    sleep = Pauses()
    replies = [Reply(429, headers={"retry-after": "7"}), Reply(503), Reply(body=PROVIDERS[name](SAID))]
    pieces, _, _ = await heard(name, *replies, sleep=sleep)
    assert ("".join(pieces), sleep.asked) == (TEXT, [7.0, 1.0])


@every_provider
@pytest.mark.parametrize(
    ("body", "error", "reason"),
    [
        (b"data: {broken\n\n", ModelError, "not JSON"),
        (b"data: 5\n\n", ModelError, "another shape"),
        (b"<html>hello</html>", ModelUnavailableError, "the stream ended before"),
        (b"", ModelUnavailableError, "the stream ended before"),
        (b"data: " + b"x" * (2 << 20), ModelError, "an event of more than"),
    ],
)
async def test_what_is_no_stream_is_an_error_that_says_what(
    name: str, body: bytes, error: type[Exception], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        await heard(name, Reply(body=body))


@every_provider
async def test_a_refusal_of_the_endpoint_is_an_error(name: str) -> None:
    with pytest.raises(ModelRefusedError, match=r"status 401.*bad key"):
        await heard(name, Reply(401, {"error": "bad key"}))


async def test_the_model_s_own_refusal_is_no_piece() -> None:
    refused = [
        {"choices": [{"delta": {"refusal": "I cannot."}}]},
        {"choices": [{"delta": {}, "finish_reason": "stop"}]},
    ]
    pieces, done, _ = await heard("openai", Reply(body=sse(*refused)))
    assert (pieces, done.text) == ([], None)
    blocked = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 5}}
    pieces, done, _ = await heard("gemini", Reply(body=sse(blocked)))
    assert (pieces, done.text, done.tokens) == ([], None, Tokens(5, 0))


async def test_odds_come_with_a_stream_too() -> None:
    logprobs = {"content": [{"top_logprobs": [{"token": "Ada", "logprob": -0.1}]}]}
    events = [
        {"choices": [{"delta": {"content": "Ada"}, "logprobs": logprobs}]},
        {"choices": [{"delta": {"content": "."}, "logprobs": {"content": []}, "finish_reason": "stop"}]},
    ]
    _, done, _ = await heard("openai", Reply(body=sse(*events)))
    assert done.first_token == {"Ada": -0.1}


@pytest.mark.parametrize("llm", [Quote(), Scripted({LAMP.question: "Ada"})], ids=["quote", "scripted"])
async def test_those_without_an_endpoint_are_heard_too(llm: StreamingLLM) -> None:
    pieces: list[str] = []
    done = await streamed(llm, LAMP, None, pieces.append)
    assert ("".join(pieces), done) == (done.text, await llm.complete(LAMP))
    assert len(pieces) > 1


class Mute:
    """A model of somebody else's, which cannot be heard."""

    def fingerprint(self) -> str:
        return "mute"

    async def complete(self, prompt: Prompt, model: str | None = None) -> Completion:
        return Completion("Ada." if prompt.passages else None)

    async def close(self) -> None: ...


async def test_a_model_that_cannot_be_heard_says_it_in_one_piece() -> None:
    pieces: list[str] = []
    assert (await streamed(Mute(), LAMP, None, pieces.append)).text == "Ada."
    assert (await streamed(Mute(), Prompt("Who?", ()), None, pieces.append)).text is None
    assert pieces == ["Ada."]


# The parts beneath


ANSWERS = some.text(max_size=40).filter(lambda text: "\x00" not in text)


@given(ANSWERS, some.booleans(), some.booleans(), some.lists(some.integers(0, 200), max_size=10))
def test_pieces_joined_are_the_answer(answer: str, in_json: bool, ascii_only: bool, cuts: list[int]) -> None:
    """Whatever the answer and wherever it is cut; against the understanding of the whole, in `replies.py`."""
    from millstream.rag.replies import answer_in

    answer = answer.encode("utf-8", "ignore").decode()
    if not in_json and answer.lstrip()[:1] in {"{", "`"}:
        answer = f"x{answer}"
    said = json.dumps({"answer": answer, "sources": [1]}, ensure_ascii=ascii_only) if in_json else answer
    pieces, shown = AnswerPieces(LAMP), ""
    ends = [*sorted({cut for cut in cuts if cut < len(said)}), len(said)]
    for start, stop in zip([0, *ends], ends, strict=False):
        shown += pieces.add(said[start:stop])
    text, _ = answer_in(said, LAMP)
    assert (text or "").startswith(shown), "nothing is shown that the answer does not begin with"
    assert shown + pieces.rest(text) == (text or "")


@given(some.lists(some.sampled_from(["a", "b: c", "", "{}", "ü"]), max_size=6), some.data())
def test_events_are_the_same_however_they_are_cut(data: list[str], draw: some.DataObject) -> None:
    ending = draw.draw(some.sampled_from(["\n", "\r\n", "\r"]))
    stream = "".join(f"event: x{ending}data: {one}{ending}: note{ending}{ending}" for one in data).encode() + b"\n"
    cuts = sorted(draw.draw(some.sets(some.integers(0, len(stream)), max_size=8)))
    events = ServerEvents()
    ends = [*cuts, len(stream)]
    found = [one for start, stop in zip([0, *ends], ends, strict=False) for one in events.feed(stream[start:stop])]
    assert found == data


def test_data_of_several_lines_is_one_event() -> None:
    assert ServerEvents().feed(b"data: a\ndata:b\nid: 4\n\ndata: half") == ["a\nb"]
