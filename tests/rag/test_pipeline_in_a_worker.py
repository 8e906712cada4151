"""Both halves of the pipeline in a real worker over a broker in memory: threads, commits, changelogs and all."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import orjson
import pyarrow as pa
import pytest

from millstream.rag.document import Document
from millstream.rag.messages import Query, write_document, write_query
from millstream.rag.parse_job import Part
from millstream.rag.pipeline import TOPICS, DocumentTopics, bind_answers, document_pipeline
from millstream.state.stores.memory import MemoryDatabase
from millstream.topics.batch import Partition, Records
from millstream.topics.memory import MemoryBroker
from millstream.topics.partitioner import murmur2
from millstream.workers.app import App
from millstream.workers.worker import Worker

NAMES = DocumentTopics.of("shop")
PARTITIONS = 2


async def write(broker: MemoryBroker, topic: str, records: Mapping[str, bytes | None]) -> None:
    producer = broker.producer()
    await producer.start()
    for key, value in records.items():
        one = Records(pa.array([key.encode()], pa.large_binary()), pa.array([value], pa.large_binary()))
        partition = (murmur2(key.encode()) & 0x7FFFFFFF) % PARTITIONS
        await (await producer.send(Partition(topic, partition), one))
    await producer.stop()


async def following(broker: MemoryBroker, topic: str, key: str, version: str | None = None) -> dict:
    """The committed record of this key (and, of a status, of this version)."""
    reader = broker.reader()
    await reader.start()
    reader.assign({Partition(topic, index): 0 for index in range(PARTITIONS)})
    try:
        while True:
            for fetch in await reader.poll(timeout_ms=1_000, records_max=100):
                for found, value in zip(fetch.keys, fetch.values, strict=True):
                    body = orjson.loads(value) if found == key.encode() and value else None
                    if body is not None and version in {None, body.get("version")}:
                        return body  # type: ignore[no-any-return]
    finally:
        await reader.stop()


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
        ends = {partition: offset - 1 for partition, offset in (await _ends(broker)).items() if offset}
        await write(broker, NAMES.queries, {f"q{number}": write_query(Query("", question, fresh_after=ends))})
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


async def _ends(broker: MemoryBroker) -> dict[int, int]:
    reader = broker.reader()
    await reader.start()
    ends = await reader.end_offsets([Partition(NAMES.index_updates, index) for index in range(PARTITIONS)])
    await reader.stop()
    return {partition.index: offset for partition, offset in ends.items()}
