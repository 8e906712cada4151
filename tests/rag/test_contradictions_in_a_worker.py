"""Contradictions in real workers over a broker in memory: from documents that are put, edited and deleted to findings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import orjson

from millstream.rag.document import Document
from millstream.rag.document_topics import CONTRADICTION_TOPICS, TOPICS, DocumentTopics
from millstream.rag.messages import write_document
from millstream.rag.parse_job import Part
from millstream.rag.pipeline import DocumentSettings, document_pipeline
from millstream.state.stores.memory import MemoryDatabase
from millstream.topics.batch import Partition
from millstream.topics.memory import MemoryBroker
from millstream.workers.app import App
from millstream.workers.worker import Worker
from tests.rag.topics import PARTITIONS, write

NAMES = DocumentTopics.of("shop")
LARGE = {"large": Part("hashing", {"dimensions": 128})}


def settings(**options: Any) -> DocumentSettings:
    embedder = Part("hashing", {"dimensions": 64})
    return DocumentSettings.of("shop", embedder=embedder, splitter="markdown", contradictions="numbers", **options)


@asynccontextmanager
async def working(broker: MemoryBroker, chosen: DocumentSettings | None = None) -> AsyncIterator[None]:
    app = App("shop", guarantee="exactly_once", commit_interval="20ms")
    pipeline = document_pipeline(app, chosen or settings())
    pipeline.bind(broker, MemoryDatabase)
    topics = [
        replace(pipeline.topic(name).spec(), partitions=PARTITIONS) for name in (*TOPICS, CONTRADICTION_TOPICS[0])
    ]
    topics += [pipeline.topic(CONTRADICTION_TOPICS[1]).spec()]
    topics += [replace(pipeline.model_topic(name).spec(), partitions=PARTITIONS) for name in pipeline.settings.models]
    known = await broker.list_topics()
    await broker.create_topics([topic for topic in topics if topic.name not in known])
    worker = Worker(app, broker)
    async with asyncio.timeout(200), asyncio.TaskGroup() as group:
        running = group.create_task(worker.run())
        yield
        worker.stop()
        await running
    await pipeline.ingest.parts.closed()
    await pipeline.answer.parts.closed()


async def put(broker: MemoryBroker, uri: str, text: str | None) -> None:
    document = None if text is None else write_document(Document(uri, text=text, content_type="text/markdown"))
    await write(broker, NAMES.documents, {uri: document})


async def told(broker: MemoryBroker, count: int) -> list[tuple[set[str], str] | None]:
    """The first so many committed findings, each by its documents and what contradicts; None: one ended."""
    reader = broker.reader(isolation="read_committed")
    await reader.start()
    reader.assign({Partition(NAMES.contradictions, index): 0 for index in range(PARTITIONS)})
    found: list[tuple[int, bytes | None]] = []
    while len(found) < count:
        for fetch in await reader.poll(timeout_ms=1_000, records_max=100):
            found += zip(fetch.timestamps.tolist(), fetch.values, strict=True)
    await reader.stop()
    return [_said(value) for _, value in sorted(found, key=lambda one: one[0])]


def _said(value: bytes | None) -> tuple[set[str], str] | None:
    if value is None:
        return None
    body = orjson.loads(value)
    return {side["uri"] for side in body["between"]}, body["what"]


OPENS, CLOSED = "The museum is open on Mondays.", "The museum is not open on Mondays."
FOUND = ({"a.md", "b.md"}, f"{OPENS} / {CLOSED}")


async def test_found_mended_and_found_again_by_another_process() -> None:
    """Of two documents in whatever partitions; a restart repeats nothing."""
    broker = MemoryBroker()
    async with working(broker):
        await put(broker, "a.md", OPENS)
        await put(broker, "b.md", CLOSED)
        await put(broker, "c.md", "Trains leave at noon.")
        assert await told(broker, 1) == [FOUND]
        await put(broker, "b.md", OPENS)
        assert await told(broker, 2) == [FOUND, None]
    async with working(broker):
        await put(broker, "b.md", CLOSED)
        assert await told(broker, 3) == [FOUND, None, FOUND]
        await put(broker, "a.md", None)
        assert await told(broker, 4) == [FOUND, None, FOUND, None]


async def test_where_another_model_answers_its_index_is_looked_at() -> None:
    broker = MemoryBroker()
    async with working(broker, settings(models=LARGE, answer_model="large")):
        await put(broker, "a.md", OPENS)
        await put(broker, "b.md", CLOSED)
        assert await told(broker, 1) == [FOUND]
