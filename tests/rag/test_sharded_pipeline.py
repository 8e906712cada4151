"""An index in shards in real workers over a broker in memory: they come and go, and questions are answered from all of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from millstream.client import AsyncClient
from millstream.ops.run import bind_index
from millstream.rag.document import Document
from millstream.rag.document_topics import SHARD_TOPICS, TOPICS, DocumentTopics
from millstream.rag.errors import PartError
from millstream.rag.messages import Query, write_document, write_query
from millstream.rag.parse_job import Part
from millstream.rag.pipeline import DocumentPipeline, DocumentSettings, document_pipeline
from millstream.rag.settings import ShardSettings
from millstream.state.errors import DiskError
from millstream.state.stores.memory import MemoryDatabase
from millstream.topics.kafka.broker import KafkaBroker
from millstream.topics.memory import MemoryBroker
from millstream.workers.app import App
from millstream.workers.worker import Worker
from tests.polling import until
from tests.rag.topics import PARTITIONS, ends, following, write

NAMES = DocumentTopics.of("shop")
PLACES = ["Jena", "Turin", "Oslo", "Lyon", "Bern", "Cork"]
PATIENT = ShardSettings(deadline_ms=60_000)
LIMIT_S = 240


def settings(shards: ShardSettings = PATIENT) -> DocumentSettings:
    hashing = Part("hashing", {"dimensions": 64})
    return DocumentSettings.of("shop", embedder=hashing, splitter="markdown", sharded=shards, partitions=PARTITIONS)


class Running:
    """A broker with the topics, and workers that each have a pipeline of their own, as processes do."""

    def __init__(self, group: asyncio.TaskGroup, chosen: DocumentSettings) -> None:
        self.broker = MemoryBroker()
        self.group = group
        self.chosen = chosen
        self.pipelines: list[DocumentPipeline] = []
        self._asked = 0

    async def begin(self) -> None:
        pipeline = DocumentPipeline(self.chosen)
        specs = [replace(pipeline.topic(name).spec(), partitions=PARTITIONS) for name in (*TOPICS, *SHARD_TOPICS)]
        await self.broker.create_topics(specs)
        for number, place in enumerate(PLACES):
            document = Document(f"{place}.md", text=f"# Lamps\n\nLamp {number} is made in {place}.", version="1")
            await write(self.broker, NAMES.documents, {document.uri: write_document(document)})

    def worker(
        self, name: str, *, search: bool = True, open_shard: Callable[[int], MemoryDatabase] | None = None
    ) -> tuple[Worker, asyncio.Task[None]]:
        app = App("shop", commit_interval="20ms", instance_id=name)
        pipeline = document_pipeline(app, self.chosen, search=search)
        pipeline.bind(self.broker, MemoryDatabase, None, open_shard)
        self.pipelines.append(pipeline)
        worker = Worker(app, self.broker)
        return worker, self.group.create_task(worker.run())

    async def indexed(self) -> None:
        for place in PLACES:
            await following(self.broker, NAMES.documents_status, f"{place}.md")

    async def ask(self, question: str, **options: object) -> dict:
        self._asked += 1
        passed = {at: end - 1 for at, end in (await ends(self.broker, NAMES.index_updates)).items() if end}
        query = Query("", question, **{"k": 6, "strategy": "retrieve", "fresh_after": passed, **options})  # type: ignore[arg-type]
        topic = NAMES.retrievals if query.strategy == "retrieve" else NAMES.answers
        await write(self.broker, NAMES.queries, {f"q{self._asked}": write_query(query)})
        return await following(self.broker, topic, f"q{self._asked}")

    async def closed(self) -> None:
        for pipeline in self.pipelines:
            await pipeline.ingest.parts.closed()
            await pipeline.answer.parts.closed()
            assert pipeline.search is not None
            await pipeline.search.parts.closed()
        assert not any("ShardRequests" in repr(task) for task in asyncio.all_tasks()), "requests are read on"


EVERYWHERE = {f"{place}.md" for place in PLACES}


def uris(answer: dict) -> set[str]:
    return {source["uri"] for source in answer["sources"]}


async def test_questions_are_answered_from_all_shards_while_workers_come_and_go() -> None:
    async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as group:
        running = Running(group, settings())
        await running.begin()
        one, _ = running.worker("one")
        await running.indexed()
        answer = await running.ask("Where is a lamp made?")
        assert (uris(answer), answer["error"], "incomplete" in answer) == (EVERYWHERE, None, False)
        assert sorted(answer["index_position"]) == ["0", "1"]
        answer = await running.ask("Where is lamp 1 made?", strategy="fixed", k=1)
        assert answer["answer"] == "Lamp 1 is made in Turin. [1]"
        two, _ = running.worker("two")
        asked = [group.create_task(running.ask("Where is a lamp made?")) for _ in range(3)]
        for asking in asked:
            assert uris(await asking) == EVERYWHERE
        one.stop(leave=True)
        await write(running.broker, NAMES.documents, {"Cork.md": None})
        while uris(answer := await running.ask("Where is a lamp made?")) == EVERYWHERE:
            assert answer["error"] is None
        assert (uris(answer), "incomplete" in answer) == (EVERYWHERE - {"Cork.md"}, False)
        two.stop()
    await running.closed()


async def test_a_shard_that_cannot_be_held_is_named_in_every_answer() -> None:
    """Its disk is full: what the others hold is found, and the answer says what is missing."""

    def open_shard(shard: int) -> MemoryDatabase:
        if shard == 1:
            raise DiskError("no space left on device")
        return MemoryDatabase()

    async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as group:
        running = Running(group, settings(ShardSettings(deadline_ms=500)))
        await running.begin()
        worker, _ = running.worker("one", open_shard=open_shard)
        await running.indexed()
        while not (answer := await running.ask("Where is a lamp made?", fresh_after={}))["sources"]:
            assert answer["error"] or answer["incomplete"]  # the other one is catching up
        assert uris(answer) < EVERYWHERE
        assert answer["incomplete"]["missing_shards"] == [1]
        assert "no space left on device" in answer["incomplete"]["reasons"]["1"]
        assert sorted(answer["index_position"]) == ["0"]
        worker.stop()
    await running.closed()


async def test_where_nobody_holds_the_shards_questions_fail_and_say_so() -> None:
    """And standing questions are refused, with or without shards."""
    async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as group:
        running = Running(group, settings(ShardSettings(deadline_ms=200)))
        await running.begin()
        worker, _ = running.worker("one", search=False)
        await running.indexed()
        answer = await running.ask("Where is a lamp made?", strategy="fixed", fresh_after={})
        assert answer["answer"] is None
        assert "none of the index's 2 shards answers (0: no answer within 200 ms; 1: " in answer["error"]
        answer = await running.ask("Where is a lamp made?", strategy="fixed", fresh_after={}, standing=True)
        assert "a standing question needs the whole index in one process" in answer["error"]
        answer = await running.ask("Where is a lamp made?", strategy="fixed", fresh_after={9: 1})
        assert "the index has no partition 9; it has 2" in answer["error"]
        worker.stop()
    await running.closed()


def test_an_index_outside_this_process_cannot_be_in_shards() -> None:
    chosen = settings()
    elsewhere = replace(chosen.answer, view=replace(chosen.answer.view, index=Part("somewhere")))
    with pytest.raises(PartError, match="index 'somewhere' cannot be in shards; those that can are auto, exact, hnsw"):
        DocumentPipeline(replace(chosen, answer=elsewhere))


@pytest.mark.kafka
async def test_two_workers_over_a_real_kafka(kafka: str, unique: Callable[[str], str], tmp_path: Path) -> None:
    """Shards in databases on disk; the second worker takes some of them, and the first takes them back when it has gone."""
    name = unique("shards")
    hashing = Part("hashing", {"dimensions": 64})
    chosen = DocumentSettings.of(name, embedder=hashing, splitter="markdown", sharded=PATIENT, partitions=3)

    def worker(place: str) -> Worker:
        app, broker = App(name, commit_interval="50ms", instance_id=place), KafkaBroker({"bootstrap.servers": kafka})
        pipelines.append(document_pipeline(app, chosen))
        bind_index(app, broker, tmp_path / place)
        return Worker(app, broker)

    pipelines: list[DocumentPipeline] = []
    async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as group:
        one = worker("one")
        group.create_task(one.run())
        await until(lambda: asyncio.sleep(0, one.ready))
        async with AsyncClient(name, bootstrap=kafka, timeout_s=120) as client:
            await client.put_many([Document(f"{place}.md", text=f"A lamp is made in {place}.") for place in PLACES])

            async def found() -> set[str]:
                answer = await client.ask("Where is a lamp made?", k=6, strategy="retrieve", fresh=True)
                assert answer.missing_shards == {}
                return {hit.chunk.document for hit in answer.sources}

            assert await found() == EVERYWHERE
            two = worker("two")
            group.create_task(two.run())
            while not two.ready:
                assert await found() == EVERYWHERE
            await client.delete("Cork.md")
            assert await found() == EVERYWHERE - {"Cork.md"}
            two.stop(leave=True)
            assert await found() == EVERYWHERE - {"Cork.md"}
            one.stop()
    for pipeline in pipelines:
        await pipeline.ingest.parts.closed()
        await pipeline.answer.parts.closed()
        assert pipeline.search is not None
        await pipeline.search.parts.closed()
    assert not any("ShardRequests" in repr(task) for task in asyncio.all_tasks()), "requests are read on"
