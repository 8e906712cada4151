"""OpenAI's chat completions over documents: its shapes, whole and as a stream."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from millstream.ops.gateway.chat import asked_of
from millstream.rag.terms import Terms
from millstream.topics.memory import MemoryBroker
from tests.rag.served import asked

LAMP = {"lamp.md": {"text": "The lamp is made in Jena.", "metadata": {"lang": "en"}}}


@pytest.fixture
async def http() -> AsyncIterator[Any]:
    async with asked(MemoryBroker(), "shop", LAMP) as client:
        yield client


class English:
    terms = Terms()


def chat(question: str, **more: Any) -> dict[str, Any]:
    return {"model": "millstream", "messages": [{"role": "user", "content": question}], "fresh": True, **more}


async def test_a_completion_has_the_answer_its_sources_and_the_shape_of_openais(http: Any) -> None:
    told = (await http.post("/v1/chat/completions", json=chat("Where is the lamp made?"))).json()
    (choice,) = told["choices"]
    text = "The lamp is made in Jena. [1]\n\n[1] lamp.md"
    message = {"role": "assistant", "content": text, "refusal": None}
    assert choice == {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    assert (told["object"], told["id"].startswith("chatcmpl-"), told["model"]) == ("chat.completion", True, "quote")
    assert told["usage"]["total_tokens"] == told["usage"]["prompt_tokens"] + told["usage"]["completion_tokens"]
    assert (told["sources"][0]["uri"], told["no_answer"]) == ("lamp.md", False)


async def test_a_stream_says_the_same_in_pieces(http: Any) -> None:
    asked = chat("Where is the lamp made?", stream=True, stream_options={"include_usage": True}, temperature=0)
    response = await http.post("/v1/chat/completions", json=asked)
    assert response.headers["content-type"].startswith("text/event-stream")
    events = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert events[-1] == "[DONE]"
    *pieces, usage = [json.loads(one) for one in events[:-1]]
    assert {one["object"] for one in (*pieces, usage)} == {"chat.completion.chunk"}
    deltas = [one["choices"][0] for one in pieces]
    assert deltas[0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(one["delta"].get("content", "") for one in deltas) == "The lamp is made in Jena. [1]\n\n[1] lamp.md"
    assert [one["finish_reason"] for one in deltas] == [None] * (len(deltas) - 1) + ["stop"]
    assert pieces[-1]["sources"][0]["uri"] == "lamp.md"
    assert (usage["choices"], usage["usage"]["total_tokens"] > 0) == ([], True)


async def test_what_the_documents_do_not_say_is_said_so(http: Any) -> None:
    told = (await http.post("/v1/chat/completions", json=chat("Who painted zebras?"))).json()
    assert (told["choices"][0]["message"]["content"], told["no_answer"]) == ("No information", True)
    told = (await http.post("/v1/chat/completions", json=chat("Where is the lamp made?", filter="lang = 'de'"))).json()
    assert told["no_answer"] is True


async def test_models(http: Any) -> None:
    (model,) = (await http.get("/v1/models")).json()["data"]
    assert (model["id"], model["object"]) == ("millstream", "model")


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        ([("user", "Where is the lamp made?")], "Where is the lamp made?"),
        ([("system", "Be kind."), ("user", " Who? ")], "Who?"),
        (
            [("user", "Who makes the lamp?"), ("assistant", "Ada."), ("user", "And where?")],
            "Who makes the lamp?\nAnd where?",
        ),
        (
            [("user", "Hi"), ("assistant", "Hi"), ("user", "In which town is the big lamp made?")],
            "In which town is the big lamp made?",
        ),
        (
            [("user", "Who makes lamps?"), ("user", "What about all the screws in the old factory and their price?")],
            "Who makes lamps?\nWhat about all the screws in the old factory and their price?",
        ),
        ([("user", "Who makes lamps?"), ("user", "Who sells red ropes?")], "Who sells red ropes?"),
        ([("user", "x" * 9_999), ("user", "And where?")], "And where?"),
    ],
)
def test_a_follow_up_is_looked_up_with_the_question_before_it(said: list[tuple[str, str]], asked: str) -> None:
    """By the same rule as in a conversation of the pipeline's own (`rag/conversation.py`)."""
    assert asked_of(said, English()) == asked


async def test_parts_of_a_message_are_read_as_text(http: Any) -> None:
    parts = [{"type": "text", "text": "Where is the lamp made?"}, {"type": "image_url", "image_url": {"url": "data:"}}]
    told = (
        await http.post("/v1/chat/completions", json=chat("") | {"messages": [{"role": "user", "content": parts}]})
    ).json()
    assert "Jena" in told["choices"][0]["message"]["content"]


BAD: list[tuple[Any, str]] = [
    ({}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": "Hi"}, "messages"),
    ({"messages": ["Hi"]}, "messages[0]"),
    ({"messages": [{"role": "wizard", "content": "Hi"}]}, "messages[0]"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0]"),
    ({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hi"}]}, "messages[1]"),
    ({"messages": [{"role": "user", "content": "x" * 10_001}]}, "question"),
    ({"messages": [{"role": "user", "content": "Hi"}] * 1_001}, "messages"),
    (chat("x", n=2), "n"),
    (chat("x", stream="yes"), "stream"),
    (chat("x", mesages=[]), "mesages"),
]


async def test_what_is_wrong_is_a_400_that_names_the_field(http: Any) -> None:
    for body, param in BAD:
        response = await http.post("/v1/chat/completions", json=body)
        assert (str(body)[:80], response.status_code) == (str(body)[:80], 400)
        assert response.json()["error"]["param"] == param
