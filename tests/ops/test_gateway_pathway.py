"""Requests as Pathway's clients send them (recorded from 0.33, and from its clients in LangChain and LlamaIndex), and what they get."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from millstream.topics.memory import MemoryBroker
from tests.rag.served import asked, bound_answer

MARKDOWN = "text/markdown"


@pytest.fixture
async def http() -> AsyncIterator[Any]:
    broker = MemoryBroker()
    documents = {
        f"docs/{name}.md": {
            "text": f"The {name} is made in {town}.",
            "modified_at": when * 1_000,
            "metadata": {"owner": "ada"},
        }
        for name, town, when in (("lamp", "Jena", 1_700_000_000), ("clock", "Turin", 1_600_000_000))
    }
    async with asked(broker, "shop", documents, answer=bound_answer(broker, "shop")) as client:
        await client.post("/v1/retrievals", json={"question": "lamp", "fresh": True})
        yield client


async def test_retrieve(http: Any) -> None:
    """`requests.post(url, data=json.dumps(...))`, sorted by `dist`: the best first."""
    sent = json.dumps({"query": "Where is the lamp made?", "k": 2})
    response = await http.post("/v1/retrieve", content=sent, headers={"Content-Type": "application/json"})
    found = response.json()
    assert [set(one) for one in found] == [{"text", "metadata", "dist"}] * 2
    assert sorted(found, key=lambda one: one["dist"]) == found
    assert found[0]["text"] == "The lamp is made in Jena."
    metadata = {"path": "docs/lamp.md", "owner": "ada", "modified_at": 1_700_000_000}
    assert {name: found[0]["metadata"][name] for name in metadata} == metadata
    assert (await http.get("/v1/retrieve?query=Where is the lamp made?&k=2")).json() == found


@pytest.mark.parametrize(
    ("filters", "paths"),
    [
        ({"metadata_filter": None, "filepath_globpattern": None}, ["docs/clock.md", "docs/lamp.md"]),
        ({"metadata_filter": "modified_at >= `1650000000`"}, ["docs/lamp.md"]),
        ({"metadata_filter": "contains(path, 'clock')"}, ["docs/clock.md"]),
        ({"metadata_filter": "owner == 'ada' && contains(path, `lamp`)"}, ["docs/lamp.md"]),
        ({"metadata_filter": "globmatch('**/c*.md', path)"}, ["docs/clock.md"]),
        ({"filepath_globpattern": "docs/l*"}, ["docs/lamp.md"]),
        ({"metadata_filter": "owner == 'ada'", "filepath_globpattern": "*.txt"}, []),
    ],
)
async def test_filters_are_the_same_for_chunks_and_for_lists(
    http: Any, filters: dict[str, Any], paths: list[str]
) -> None:
    found = await http.post("/v1/retrieve", json={"query": "made", "k": 5, **filters})
    assert sorted(one["metadata"]["path"] for one in found.json()) == paths
    for route in ("/v1/inputs", "/v1/pw_list_documents", "/v2/list_documents"):
        listed = (await http.post(route, json=filters)).json()
        assert [one["path"] for one in listed] == paths
    shown = (await http.post("/v2/list_documents", json={"return_status": True, **filters})).json()
    assert [one["_indexing_status"] for one in shown] == ["INDEXED"] * len(paths)


async def test_statistics(http: Any) -> None:
    told = (await http.post("/v1/statistics", json={})).json()
    assert told["file_count"] == 2
    assert (told["last_modified"], 1_700_000_000 < told["last_indexed"]) == (1_700_000_000, True)
    assert told == (await http.get("/v1/statistics")).json()


async def test_answers(http: Any) -> None:
    for route in ("/v1/pw_ai_answer", "/v2/answer"):
        told = (await http.post(route, json={"prompt": "Where is the lamp made?"})).json()
        assert told == {"response": "The lamp is made in Jena. [1]"}
    asked = {"prompt": "Where is the lamp made?", "return_context_docs": True, "filters": "contains(path, 'lamp')"}
    told = (await http.post("/v2/answer", json=asked)).json()
    assert [one["metadata"]["path"] for one in told["context_docs"]] == ["docs/lamp.md"]
    told = (await http.post("/v2/answer", json={"prompt": "Zebra?", "filters": "path == 'no'"})).json()
    assert told == {"response": "No information"}


async def test_a_summary_is_the_models_business(http: Any) -> None:
    """The sentence that covers most of what is asked; a model writes one."""
    texts = ["Keep the important points and names of documents in few sentences.", "Else."]
    for route in ("/v1/pw_ai_summary", "/v2/summarize"):
        told = await http.post(route, json={"text_list": texts})
        assert (told.status_code, texts[0] in told.json()) == (200, True)
    refused = await http.post("/v2/summarize", json={"text_list": ["Zebra."]})
    assert (refused.status_code, refused.json()["error"]["type"]) == (502, "answer_failed")


BAD = [
    ("/v1/retrieve", {}),
    ("/v1/retrieve", {"query": "x", "k": 0}),
    ("/v1/retrieve", {"query": "x", "k": "many"}),
    ("/v1/retrieve", {"query": "x", "metadata_filter": "(("}),
    ("/v1/retrieve", {"query": "x", "metadata_filter": 5}),
    ("/v1/retrieve", {"query": "x", "metadata_filter": "nothing(path)"}),
    ("/v2/list_documents", {"return_status": "yes"}),
    ("/v2/list_documents", {"metadata_filter": "(("}),
    ("/v2/answer", {"prompt": ""}),
    ("/v2/answer", {"prompt": "x", "filter": "y"}),
    ("/v2/summarize", {"text_list": []}),
    ("/v2/summarize", {"text_list": [1]}),
]


async def test_what_is_wrong_is_a_400_that_says_so(http: Any) -> None:
    for route, body in BAD:
        response = await http.post(route, json=body)
        assert (route, body, response.status_code) == (route, body, 400)
        assert response.json()["error"]["message"]
