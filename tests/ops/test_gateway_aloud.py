"""Answers that are read while they are made: pieces come before the answer is whole, and the committed answer is what counts."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import orjson
import pytest

from millstream.rag.drafts import Draft, DraftReader, Drafts, write_draft
from millstream.rag.errors import ModelRefusedError
from millstream.rag.llm import Completion
from millstream.rag.llms.quote import Quote
from millstream.rag.prompt import Prompt
from millstream.topics.arrow_buffers import large_binary
from millstream.topics.batch import Partition, Records
from millstream.topics.memory import MemoryBroker
from tests.rag.served import asked

ANSWER = "The lamp is made in Jena. [1]"
QUESTION = {"question": "Where is the lamp made?", "fresh": True}
CHAT = {"messages": [{"role": "user", "content": "Where is the lamp made?"}], "fresh": True, "stream": True}
TOPIC = "shop.answer-drafts"


@pytest.fixture
async def http() -> AsyncIterator[Any]:
    async with asked(MemoryBroker(), "shop", {"lamp.md": {"text": "The lamp is made in Jena."}}) as client:
        yield client


@pytest.fixture
def may_go_on(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """The model says its first word, and the rest once this is set."""
    allowed, whole = asyncio.Event(), Quote.stream

    async def stream(self: Quote, prompt: Prompt, model: str | None = None) -> AsyncGenerator[str | Completion]:
        said = 0
        async for piece in whole(self, prompt, model):
            if said == 1:
                await allowed.wait()
            said += 1
            yield piece

    monkeypatch.setattr(Quote, "stream", stream)
    return allowed


async def events(response: Any) -> AsyncIterator[tuple[str, Any]]:
    """Name and JSON of each."""
    name = ""
    async for line in response.aiter_lines():
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            yield name, value if value == "[DONE]" else orjson.loads(value)


async def test_pieces_come_before_the_answer_is_there(http: Any, may_go_on: asyncio.Event) -> None:
    async with http.stream("POST", "/v1/answers/stream", json=QUESTION) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        told = events(response)
        assert await anext(told) == ("draft", {"text": "The"})
        may_go_on.set()
        *drafts, (name, answer) = [one async for one in told]
    assert {one[0] for one in drafts} <= {"draft"}
    assert ANSWER.startswith("The" + "".join(one["text"] for _, one in drafts))
    assert (name, answer["answer"], answer["sources"][0]["uri"]) == ("answer", ANSWER, "lamp.md")


async def test_a_chat_hears_them_too(http: Any, may_go_on: asyncio.Event) -> None:
    async with http.stream("POST", "/v1/chat/completions", json=CHAT) as response:
        told = events(response)
        assert (await anext(told))[1]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
        assert (await anext(told))[1]["choices"][0]["delta"] == {"content": "The"}
        may_go_on.set()
        *rest, last, (_, done) = [one async for one in told]
    said = "".join(one["choices"][0]["delta"]["content"] for _, one in rest)
    assert "The" + said == f"{ANSWER}\n\n[1] lamp.md"
    assert (last[1]["choices"][0]["finish_reason"], last[1]["sources"][0]["uri"], done) == ("stop", "lamp.md", "[DONE]")


async def test_where_another_answer_is_committed_than_was_said_it_follows_whole(
    http: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a worker died and another one asked again."""

    async def stream(self: Quote, prompt: Prompt, model: str | None = None) -> AsyncGenerator[str | Completion]:
        yield "The lamp is no lamp"
        yield await self.complete(prompt, model)

    monkeypatch.setattr(Quote, "stream", stream)
    lines = (await http.post("/v1/chat/completions", json=CHAT)).text.splitlines()
    pieces = [orjson.loads(line[6:]) for line in lines if line.startswith("data: {")]
    said = "".join(one["choices"][0]["delta"].get("content", "") for one in pieces)
    assert said.removeprefix("The lamp is no lamp").lstrip("\n") == f"{ANSWER}\n\n[1] lamp.md"


async def test_what_goes_wrong_behind_the_first_piece_is_the_streams_last_event(
    http: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stream(self: Quote, prompt: Prompt, model: str | None = None) -> AsyncGenerator[str | Completion]:
        yield "The"
        await heard.wait()
        raise ModelRefusedError("it has had enough")

    heard = asyncio.Event()
    monkeypatch.setattr(Quote, "stream", stream)
    async with http.stream("POST", "/v1/answers/stream", json=QUESTION) as response:
        told = events(response)
        assert await anext(told) == ("draft", {"text": "The"})
        heard.set()
        name, error = [one async for one in told][-1]
    assert (name, error["error"]["type"], "enough" in error["error"]["message"]) == ("error", "answer_failed", True)


async def test_what_is_wrong_before_is_an_error_of_http(http: Any) -> None:
    for path, body in (("/v1/answers/stream", {"question": ""}), ("/v1/chat/completions", CHAT | {"filter": "=="})):
        assert (await http.post(path, json=body)).status_code == 400
    failed = await http.post("/v1/answers/stream", json=QUESTION | {"model": "another"})
    assert (failed.status_code, failed.json()["error"]["type"]) == (502, "answer_failed")


async def test_a_question_that_did_not_ask_for_it_is_not_told(http: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model is not even asked for a stream."""

    def stream(self: Quote, prompt: Prompt, model: str | None = None) -> AsyncGenerator[str | Completion]:
        raise AssertionError("nobody listens")

    monkeypatch.setattr(Quote, "stream", stream)
    assert (await http.post("/v1/answers", json=QUESTION)).json()["answer"] == ANSWER


async def test_what_follows_a_gap_is_not_heard_and_neither_is_what_is_no_draft() -> None:
    broker = MemoryBroker()
    await broker.start()
    drafts, reader = Drafts(broker, TOPIC), DraftReader(broker, TOPIC)
    tasks = [asyncio.create_task(drafts.run()), asyncio.create_task(reader.run())]
    await reader.wait_ready(60_000)
    values = [write_draft(Draft("q", 0, "a")), b"no JSON", None, write_draft(Draft("q", 5, "gap"))]
    values += [write_draft(Draft("q", 0, "anew")), write_draft(Draft("q", 1, "b"))]
    producer = broker.producer()
    await producer.start()
    with reader.listening("q") as pieces:
        records = Records(large_binary([b"q"] * len(values)), large_binary(values))
        await (await producer.send(Partition(TOPIC, 0), records))
        assert [await pieces.get(), await pieces.get()] == ["a", "b"]
        said = drafts.of("q2")
        with reader.listening("q2") as others:
            for word in re.findall(r"\S+", "one two three"):
                said(word)
            assert await others.get() == "onetwothree"
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
