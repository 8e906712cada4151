"""From a document to an answer and back: put, edited, deleted, and what the answer says then. Over topics in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator

import orjson
import pyarrow as pa
import pytest

from millstream.rag.document import Document
from millstream.rag.messages import Query, write_document, write_query
from millstream.rag.operators.answer import ANSWERS, RETRIEVALS
from millstream.rag.operators.ingest import STATUS, UPDATES
from millstream.rag.parse_job import Part
from millstream.rag.pipeline import DocumentPipeline, DocumentSettings, document_pipeline
from millstream.state.stores.memory import MemoryDatabase
from millstream.topics.batch import Partition, Records
from millstream.topics.broker import TopicSpec
from millstream.topics.memory import MemoryBroker
from millstream.topics.partitioner import murmur2_partitions
from millstream.workers.app import App
from millstream.workers.errors import PlanError
from millstream.workers.graph import Sink, Work
from tests.rag.running import Running

LAMP = "# Lamps\n\nThe reading lamp is made in Jena. It costs 40 euros.\n\n# Returns\n\nA lamp may be returned within 30 days."
CLOCK = "<h1>Clocks</h1><p>The wall clock is made in Basel.</p><p>It runs on one battery.</p>"


class World:
    """Both halves of the pipeline, and the topic between them."""

    def __init__(self, pipeline: DocumentPipeline, broker: MemoryBroker) -> None:
        self.broker = broker
        self.updates = pipeline.settings.topics.index_updates
        self.heard = pipeline.heard
        self.ingest = Running(pipeline.ingest)
        self.answers = Running(pipeline.answer)
        self.passed: dict[int, int] = {}

    async def put(
        self, uri: str, content: str | None, content_type: str = "text/markdown", **metadata: object
    ) -> dict | None:
        """The document's status."""
        document = Document(uri, content=(content or "").encode(), content_type=content_type, metadata=metadata)
        before = len(self.ingest.outputs.get(UPDATES, []))
        await self.ingest.process([(uri.encode(), None if content is None else write_document(document))])
        self.ingest.commit()
        await self._publish(self.ingest.outputs.get(UPDATES, [])[before:])
        status = self.ingest.outputs[STATUS][-1][1]
        return None if status is None else orjson.loads(status)

    async def _publish(self, records: list) -> None:
        producer = self.broker.producer(transactional_id="ingest")
        await producer.start()
        await producer.begin()
        if records:
            keys = pa.array([key for key, _ in records], pa.large_binary())
            partitions = murmur2_partitions(keys, 2).tolist()
            for (key, value), partition in zip(records, partitions, strict=True):
                one = Records(pa.array([key], pa.large_binary()), pa.array([value], pa.large_binary()))
                end = await (await producer.send(Partition(self.updates, partition), one))
                self.passed[partition] = end - 1
        await producer.commit()
        await producer.stop()

    async def ask(self, question: str, **options: object) -> dict:
        """The answer, by an index that has every update."""
        query = Query("q", question, fresh_after=self.passed, **options)  # type: ignore[arg-type]
        return await self.ask_raw(write_query(query))

    async def ask_raw(self, value: bytes | None) -> dict:
        before = {output: len(self.answers.outputs.get(output, [])) for output in (ANSWERS, RETRIEVALS)}
        await self.answers.process([(b"q", value)])
        self.answers.commit()
        new = [r for output, start in before.items() for r in self.answers.outputs.get(output, [])[start:]]
        ((key, answer),) = new
        assert key == b"q"
        return orjson.loads(answer or b"")


def settings(**options: object) -> DocumentSettings:
    chosen = {"embedder": Part("hashing", {"dimensions": 64}), "splitter": Part("markdown", {"chars_max": 100}), "k": 3}
    return DocumentSettings.of("shop", **(chosen | options))  # type: ignore[arg-type]


@pytest.fixture(params=["exact", "hnsw"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    broker = MemoryBroker()
    await broker.create_topics([TopicSpec("shop.index-updates", partitions=2, cleanup="compact")])
    pipeline = DocumentPipeline(settings(index=request.param))
    pipeline.bind(broker, MemoryDatabase)
    world = World(pipeline, broker)
    yield world
    world.ingest.operator.close()
    world.answers.operator.close()
    await pipeline.ingest.parts.closed()
    await pipeline.answer.parts.closed()


async def test_an_answer_quotes_its_source(world: World) -> None:
    await world.put("lamp.md", LAMP, lang="en")
    await world.put("clock.html", CLOCK, "text/html")
    answer = await world.ask("Where is the reading lamp made?")
    assert answer["answer"].startswith("The reading lamp is made in Jena. [1]")
    assert (answer["no_answer"], answer["error"], answer["model"]) == (False, None, "quote")
    best = answer["sources"][0]
    assert (best["uri"], best["position"]) == ("lamp.md", 0)
    assert best["metadata"] == {"title": "Lamps", "lang": "en", "heading": "Lamps"}
    assert "Jena" in best["text"]
    assert sum(answer["index_position"].values()) >= 4
    assert (answer["strategy"], len(answer["sources"])) == ({"rounds": 1, "documents_used": 1}, 1)
    fixed = await world.ask("Where is the reading lamp made?", strategy="fixed")
    assert (fixed["strategy"], fixed["answer"]) == ({"rounds": 1, "documents_used": 3}, answer["answer"])


async def test_whoever_runs_the_pipeline_hears_answers_while_they_are_made(world: World) -> None:
    heard: list[tuple[str, str]] = []
    await world.put("lamp.md", LAMP)
    await world.ask("Where is the reading lamp made?")  # while nobody listens
    world.heard.append(lambda query, piece: heard.append((query, piece)))
    answer = await world.ask("What does the reading lamp cost?")
    assert "".join(piece for _, piece in heard) == answer["answer"]
    assert {query for query, _ in heard} == {"q"}
    assert len(heard) > 1


async def test_a_committed_answer_is_not_paid_for_again(world: World) -> None:
    """A replay, or the same question while its chunks are the same, costs no tokens; a changed chunk does."""
    await world.put("lamp.md", LAMP)
    first, again = [await world.ask("Where is the reading lamp made?") for _ in range(2)]
    world.answers.crash()
    replayed = await world.ask("Where is the reading lamp made?")
    assert first["answer"] == again["answer"] == replayed["answer"]
    assert first["tokens"]["prompt"] > 0
    assert again["tokens"] == replayed["tokens"] == {"prompt": 0, "completion": 0}
    await world.put("lamp.md", LAMP.replace("40 euros", "50 euros"))
    assert (await world.ask("Where is the reading lamp made?"))["tokens"]["prompt"] > 0


async def test_an_edited_document_changes_the_answer(world: World) -> None:
    await world.put("lamp.md", LAMP)
    status = await world.put("lamp.md", LAMP.replace("Jena", "Turin"))
    assert status is not None
    assert (status["chunks"], status["embedded"], status["reused"]) == (2, 1, 1)
    answer = await world.ask("Where is the reading lamp made?")
    assert "Turin" in answer["answer"]
    assert "Jena" not in orjson.dumps(answer).decode()


async def test_a_deleted_document_is_gone_from_answers(world: World) -> None:
    await world.put("lamp.md", LAMP)
    await world.put("clock.html", CLOCK, "text/html")
    await world.put("lamp.md", None)
    answer = await world.ask("Where is the reading lamp made?")
    assert {source["uri"] for source in answer["sources"]} == {"clock.html"}
    assert "Jena" not in orjson.dumps(answer).decode()


async def test_what_no_document_says_is_not_answered(world: World) -> None:
    answer = await world.ask("Who painted the ceiling?")
    assert (answer["answer"], answer["no_answer"], answer["sources"]) == (None, True, [])
    await world.put("lamp.md", LAMP)
    answer = await world.ask("Who painted the ceiling?")
    assert (answer["answer"], answer["no_answer"], answer["error"]) == (None, True, None)


async def test_a_filter_and_a_tenant_narrow_it(world: World) -> None:
    await world.put("a.md", "The lamp is red.", lang="en", tenant="one")
    await world.put("b.md", "The lamp is blue.", lang="en", tenant="two")
    await world.put("c.md", "The lamp is green.", lang="de", tenant="two")
    found = [
        await world.ask("What colour is the lamp?", strategy="retrieve", **options)
        for options in (
            {"filter": "lang == 'en'"},
            {"tenant": "two"},
            {"filter": "lang == 'en'", "tenant": "two"},
            {"filter": {"jmespath": "lang == `en` && path != 'a.md'"}},
            {"filter": {"glob": "[ac].md"}},
        )
    ]
    uris = [{source["uri"] for source in answer["sources"]} for answer in found]
    assert uris == [{"a.md", "b.md"}, {"b.md", "c.md"}, {"b.md"}, {"b.md"}, {"a.md", "c.md"}]
    answer = await world.ask("What colour is the lamp?", filter={"jmespath": "abs(path) > `1`"})
    assert "abs() takes number, got string" in answer["error"]


async def test_chunks_alone_come_as_a_retrieval(world: World) -> None:
    await world.put("lamp.md", LAMP)
    answer = await world.ask("lamp", strategy="retrieve", k=1)
    assert (answer["answer"], len(answer["sources"]), answer["strategy"]["rounds"]) == (None, 1, 0)
    assert len(world.answers.outputs[RETRIEVALS]) == 1


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (None, "the value is null"),
        (b"junk", "not JSON"),
        (b'{"question": "x", "filter": "a =="}', "expected a value, got the end"),
        (b'{"question": "x", "filter": {"jmespath": "a = b"}}', "Unknown token"),
        (b'{"question": "x", "filter": {"sql": "a"}}', "an object with jmespath, glob or both"),
        (b'{"question": "x", "fresh_after": {"9": 1}}', "no partition 9"),
    ],
)
async def test_a_bad_question_gets_an_answer_too(world: World, value: bytes | None, error: str) -> None:
    await world.put("lamp.md", LAMP)
    answer = await world.ask_raw(value)
    assert error in answer["error"]
    assert answer["answer"] is None


@pytest.fixture
async def families() -> AsyncIterator[World]:
    """Small chunks are searched, their parents shown."""
    broker = MemoryBroker()
    await broker.create_topics([TopicSpec("shop.index-updates", partitions=2, cleanup="compact")])
    pipeline = DocumentPipeline(settings(splitter=Part("parent_document", {"chars_max": 40, "parent_chars_max": 400})))
    pipeline.bind(broker, MemoryDatabase)
    world = World(pipeline, broker)
    yield world
    world.ingest.operator.close()
    world.answers.operator.close()
    await pipeline.ingest.parts.closed()
    await pipeline.answer.parts.closed()


async def test_a_parent_is_shown_once_for_its_chunks(families: World) -> None:
    text = "# Lamps\n\nThe reading lamp is made in Jena. The reading lamp costs 40 euros. The lamp may be returned within 30 days."
    status = await families.put("lamp.md", text)
    assert status is not None
    assert status["chunks"] == 4
    answer = await families.ask("Where is the reading lamp made?")
    assert [source["text"] for source in answer["sources"]] == [text]
    assert "The reading lamp is made in Jena. [1]" in answer["answer"]


async def test_a_model_that_is_not_there_is_an_error(world: World) -> None:
    await world.put("lamp.md", LAMP)
    assert "no model 'gpt'" in (await world.ask("Where is the lamp made?", model="gpt"))["error"]


async def test_a_question_without_sources(world: World) -> None:
    await world.put("lamp.md", LAMP)
    answer = await world.ask("Where is the reading lamp made?", return_sources=False)
    assert (answer["sources"], answer["no_answer"]) == ([], False)


def test_the_pipeline_is_two_halves_of_a_graph() -> None:
    app = App("shop")
    document_pipeline(app, settings())
    works = [node.name for node in app.graph if isinstance(node, Work)]
    written = {node.topic.name for node in app.graph if isinstance(node, Sink)}
    assert works == ["ingest", "answer"]
    assert written == {f"shop.{name}" for name in ("index-updates", "documents-status", "answers", "retrievals")}
    assert len(app.plan().subs) == 2


class OneAtATime(MemoryDatabase):
    """A database on disk cannot be open twice."""

    def __init__(self) -> None:
        super().__init__()
        self.is_open = False

    def opened(self) -> OneAtATime:
        assert not self.is_open
        self.is_open = True
        return self

    def close(self) -> None:
        self.is_open = False


async def test_a_rebalance_opens_the_index_when_it_is_closed() -> None:
    """The tasks of one assignment are closed and those of the next opened at once; the index is the same one on disk."""
    broker, database = MemoryBroker(), OneAtATime()
    await broker.create_topics([TopicSpec("shop.index-updates", partitions=2, cleanup="compact")])
    pipeline = DocumentPipeline(settings())
    pipeline.bind(broker, database.opened)
    world = World(pipeline, broker)
    await world.put("lamp.md", LAMP)
    for _ in range(3):
        assert (await world.ask("Where is the reading lamp made?"))["no_answer"] is False
        world.answers.crash()
    assert pipeline.view is not None
    await pipeline.view.wait_ready(20_000)
    world.ingest.operator.close()
    world.answers.operator.close()
    await pipeline.ingest.parts.closed()
    await pipeline.answer.parts.closed()
    assert not database.is_open


async def test_a_pipeline_that_is_not_bound_says_so() -> None:
    with pytest.raises(PlanError, match=r"call pipeline\.bind"):
        Running(DocumentPipeline(settings()).answer)
