"""Both halves of the pipeline in a real worker over a broker in memory: threads, commits, changelogs and all."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from millstream.rag.document import Document
from millstream.rag.document_topics import TOPICS, DocumentTopics
from millstream.rag.messages import Query, write_document, write_query
from millstream.rag.parse_job import Part
from millstream.rag.pipeline import bind_answers, document_pipeline
from millstream.state.stores.memory import MemoryDatabase
from millstream.topics.memory import MemoryBroker
from millstream.workers.app import App
from millstream.workers.worker import Worker
from tests.rag.topics import PARTITIONS, ends, following, write

NAMES = DocumentTopics.of("shop")


def put(uri: str, text: str, version: str) -> dict[str, bytes | None]:
    return {uri: write_document(Document(uri, text=text, content_type="text/markdown", version=version))}


@pytest.mark.parametrize("guarantee", ["exactly_once", "at_least_once"])
async def test_documents_become_answers_and_edits_change_them(guarantee: str) -> None:
    broker = MemoryBroker()
    app = App("shop", guarantee=guarantee, commit_interval="20ms")
    pipeline = document_pipeline(app, embedder=Part("hashing", {"dimensions": 64}), splitter="markdown")
    assert bind_answers(app, broker, MemoryDatabase) == [pipeline.answer]
    await broker.create_topics([replace(pipeline.topic(name).spec(), partitions=PARTITIONS) for name in TOPICS])
    worker = Worker(app, broker)

    async def ask(number: int, question: str) -> dict:
        passed = {at: end - 1 for at, end in (await ends(broker, NAMES.index_updates)).items() if end}
        await write(broker, NAMES.queries, {f"q{number}": write_query(Query("", question, fresh_after=passed))})
        return await following(broker, NAMES.answers, f"q{number}")

    async with asyncio.timeout(100), asyncio.TaskGroup() as group:
        group.create_task(worker.run())
        await write(broker, NAMES.documents, put("lamp.md", "# Lamps\n\nThe lamp is made in Jena.", "1"))
        await write(broker, NAMES.documents, put("bad.pdf", "", "1") | {"bad.pdf": b"not json"})
        status = await following(broker, NAMES.documents_status, "lamp.md")
        assert (status["state"], status["embedded"]) == ("indexed", 1)
        answer = await ask(1, "Where is the lamp made?")
        assert (answer["answer"], answer["error"]) == ("The lamp is made in Jena. [1]", None)
        await write(broker, NAMES.documents, put("lamp.md", "# Lamps\n\nThe lamp is made in Turin.", "2"))
        await following(broker, NAMES.documents_status, "lamp.md", "2")
        assert (await ask(2, "Where is the lamp made?"))["answer"] == "The lamp is made in Turin. [1]"
        assert "not JSON" in (await following(broker, NAMES.documents_status, "bad.pdf"))["error"]
        await write(broker, NAMES.documents, {"lamp.md": None} | put("end.md", "The end.", "1"))
        await following(broker, NAMES.documents_status, "end.md")
        answer = await ask(3, "Where is the lamp made?")
        assert "lamp.md" not in {source["uri"] for source in answer["sources"]}
        worker.stop()
    await pipeline.ingest.parts.closed()
    await pipeline.answer.parts.closed()
