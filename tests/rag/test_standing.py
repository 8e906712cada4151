"""Standing questions: which of them a change may touch, what becomes of their answers, and the whole of it in a worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from millstream.rag.document import Answer, Chunk, Document, Hit, chunk_ids
from millstream.rag.document_topics import TOPICS, DocumentTopics
from millstream.rag.embedders.hashing import Hashing
from millstream.rag.messages import Query, read_query, write_document, write_query
from millstream.rag.operators.answer import ANSWERS
from millstream.rag.parse_job import Part
from millstream.rag.pipeline import DocumentPipeline, DocumentSettings, document_pipeline
from millstream.rag.retrieve import Retriever, Wanted
from millstream.rag.settings import RetrievalSettings
from millstream.rag.standing import Revised, Standing, StandingIndex, answer_print, revised, signature
from millstream.rag.updates import vector_bytes, write_update
from millstream.rag.view_state import ViewPlan, ViewState
from millstream.state.stores.memory import MemoryDatabase
from millstream.topics.batch import Partition
from millstream.topics.memory import MemoryBroker
from millstream.workers.app import App
from millstream.workers.worker import Worker
from tests.rag.running import Running
from tests.rag.topics import PARTITIONS, write

ASK = b'{"question": "x"}'
FIRST = Answer("q", "x", "Jena")
HELD = Standing(ASK, "s1", answer_print(FIRST), 4)


@pytest.mark.parametrize(
    ("held", "answer", "query", "again", "expected"),
    [
        (None, FIRST, ASK, False, Revised(Standing(ASK, "s2", HELD.answer, 0), FIRST)),
        (HELD, FIRST, ASK, False, Revised(Standing(ASK, "s2", HELD.answer, 5), replace(FIRST, revision=5))),
        (HELD, FIRST, ASK, True, Revised(replace(HELD, shown="s2"), None)),
        (
            HELD,
            replace(FIRST, answer="Turin"),
            ASK,
            True,
            Revised(
                Standing(ASK, "s2", answer_print(replace(FIRST, answer="Turin")), 5),
                replace(FIRST, answer="Turin", revision=5),
            ),
        ),
        (HELD, replace(FIRST, answer="Turin"), b"other", True, Revised(None, None)),
        (None, FIRST, ASK, True, Revised(None, None)),
        (HELD, replace(FIRST, error="away"), ASK, True, Revised(None, None)),
        (None, replace(FIRST, error="away"), ASK, False, Revised(None, replace(FIRST, error="away"))),
    ],
)
def test_an_answer_is_published_only_if_it_differs(
    held: Standing | None, answer: Answer, query: bytes, again: bool, expected: Revised
) -> None:
    assert revised(held, answer, query, "s2", again=again) == expected


def test_what_is_kept_comes_back() -> None:
    assert Standing.from_bytes(HELD.to_bytes()) == HELD


def test_a_signature_is_of_what_is_shown_and_not_of_scores() -> None:
    one, two = (Chunk(chunk_ids(uri, ["t"])[0], uri, "t") for uri in "ab")
    assert signature([Hit(one, 1), Hit(two, 0)]) == signature([Hit(one, 5), Hit(two, 4)])
    others = [[Hit(two, 1), Hit(one, 0)], [Hit(one, 1)], [], [Hit(replace(one, version=2), 1), Hit(two, 0)]]
    assert len({signature(hits) for hits in others} | {signature([Hit(one, 1), Hit(two, 0)])}) == 5


def test_an_answer_is_its_words_and_a_retrieval_its_chunks() -> None:
    one, two = ((Hit(Chunk("0" * 32, uri, "t"), 1.0),) for uri in "ab")
    answers = [Answer("q", "x", said, sources=sources) for said in ("Jena", None) for sources in (one, two)]
    jena, jena_too, first, second = map(answer_print, answers)
    assert (jena == jena_too, first == second) == (True, False)
    refusals = [Answer("q", "x", no_answer=True, sources=sources) for sources in (one, two)]
    assert len({answer_print(answer) for answer in refusals}) == 1


def test_a_query_says_whether_it_stands() -> None:
    for query in (Query("q", "x", standing=True), Query("q", "x", standing=True, again=True), Query("q", "x")):
        assert read_query(b"q", write_query(query)) == query
    assert not read_query(b"q", b'{"question": "x", "again": true}').again


WORDS = "lamp clock train noon jena basel glass green made paid".split()
TEXT = some.lists(some.sampled_from(WORDS), min_size=1, max_size=5).map(" ".join)


class Small:
    """An index whose chunks come and go."""

    def __init__(self) -> None:
        self.embedder = Hashing(64)
        plan = ViewPlan("t", "", self.embedder.fingerprint(), 64)
        self.view = ViewState(plan, MemoryDatabase())
        self.retriever = Retriever(self.view, RetrievalSettings())
        self.offset = 0

    async def vector(self, text: str) -> np.ndarray:
        return np.asarray((await self.embedder.embed([text], "query"))[0])

    async def change(self, changes: dict[str, str | None]) -> list[bytes]:
        records: list[tuple[bytes | None, bytes | None]] = []
        for uri, text in changes.items():
            chunk = Chunk(chunk_ids(uri, [uri])[0], uri, text or "")
            vector = vector_bytes(await self.vector(text or ""), "f32")
            value = None if text is None else write_update(chunk, vector, self.embedder.fingerprint(), "f32")
            records.append((chunk.key.encode(), value))
        self.offset += len(records)
        self.view.apply(0, self.offset, records)
        return [key for key, _ in records if key is not None]

    async def candidates(self, question: str, k: int) -> list[Hit]:
        return self.retriever.retrieve(Wanted(question, await self.vector(question), k))


@settings(max_examples=60, deadline=None)
@given(
    some.lists(TEXT, min_size=1, max_size=4),
    some.lists(
        some.dictionaries(some.sampled_from("abcdefgh"), some.none() | TEXT, min_size=1, max_size=3), max_size=6
    ),
)
async def test_no_question_whose_best_chunks_change_is_left_out(
    questions: list[str], changes: list[dict[str, str | None]]
) -> None:
    """Beside the slow way: every question looked up after every change. Weights of words and sigma move with the corpus, so a
    question that is not touched may find known chunks in another order; but it never finds one that it was not looked at with.
    """
    small = Small()
    await small.change({f"seed{n}": word for n, word in enumerate(WORDS)})
    small.retriever.sigma = lambda tenant=None: 0.1  # type: ignore[method-assign]
    index = StandingIndex(64, 2.5, small.view.keywords.terms)
    seen: dict[int, set[str]] = {}

    async def look(number: int) -> None:
        hits = await small.candidates(questions[number], 3)
        keywords = small.view.keywords
        weights = {term: keywords.idf(term) for term in keywords.terms.unique(questions[number])}
        index.watch((0, b"%d" % number), await small.vector(questions[number]), hits, 3, weights)
        seen[number] = {hit.chunk.key + hit.chunk.text for hit in hits}

    for number in range(len(questions)):
        await look(number)
    for change in changes:
        keys = await small.change(change)
        touched = index.touched({key.decode() for key in keys}, small.view.held(keys), 0.1)
        for number in range(len(questions)):
            hits = await small.candidates(questions[number], 3)
            new = {hit.chunk.key for hit in hits if hit.chunk.key + hit.chunk.text not in seen[number]}
            came = new & {key.decode() for key in keys}
            firmly = [hit for hit in hits if hit.chunk.key in came and hit.score > hits[-1].score + 0.5]
            if firmly:
                assert (0, b"%d" % number) in touched
        for _, key in touched:
            await look(int(key))
    index.drop(index.places(0))
    assert len(index) == 0


@pytest.mark.parametrize(("weight", "expected"), [(2.5, set()), (None, {(0, b"q")})])
async def test_by_a_ranking_without_a_bound_every_chunk_touches_every_question(
    weight: float | None, expected: set
) -> None:
    """Rank fusion, or BM25: what a chunk would score cannot be told without a look-up."""
    small = Small()
    await small.change({word: word for word in WORDS[:3]})
    index = StandingIndex(64, weight, small.view.keywords.terms)
    index.watch((0, b"q"), await small.vector("lamp"), await small.candidates("lamp", 1), 1, {"lamp": 1.0})
    keys = await small.change({"new": "noon"})
    assert expected == index.touched({key.decode() for key in keys}, small.view.held(keys), 0.1)


NAMES = DocumentTopics.of("shop")


class Stage:
    """A pipeline in a worker, and what stands in the topic of answers."""

    def __init__(self, broker: MemoryBroker, pipeline: DocumentPipeline) -> None:
        self.broker = broker
        self.pipeline = pipeline

    async def put(self, uri: str, text: str | None) -> None:
        document = Document(uri, text=text or "", content_type="text/markdown")
        await write(self.broker, NAMES.documents, {uri: None if text is None else write_document(document)})

    async def ask(self, key: str, question: str | None, **options: bool) -> None:
        value = None if question is None else write_query(Query("", question, **options))  # type: ignore[arg-type]
        await write(self.broker, NAMES.queries, {key: value})

    async def answers(self, key: str, count: int) -> list[dict | None]:
        """The first so many records of this key, once they are there."""
        reader = self.broker.reader()
        await reader.start()
        reader.assign({Partition(NAMES.answers, index): 0 for index in range(PARTITIONS)})
        found: list[dict | None] = []
        while len(found) < count:
            for fetch in await reader.poll(timeout_ms=1_000, records_max=100):
                pairs = zip(fetch.keys, fetch.values, strict=True)
                found += [
                    None if value is None else orjson.loads(value) for known, value in pairs if known == key.encode()
                ]
        await reader.stop()
        return found

    async def until(self, key: str, said: str) -> list[dict | None]:
        """Its records up to the last one so far, which has this answer. How many come before depends on what is faster."""
        count = 1
        while True:
            found = await self.answers(key, count)
            last = found[-1]
            if last is not None and last["answer"] == said:
                return found
            count = len(found) + 1


@asynccontextmanager
async def working(broker: MemoryBroker, settings: DocumentSettings | None = None) -> AsyncIterator[Stage]:
    """A worker of its own process, as far as anything is kept but in topics."""
    app = App("shop", guarantee="exactly_once", commit_interval="20ms")
    usual = DocumentSettings.of("shop", embedder=Part("hashing", {"dimensions": 64}), splitter="markdown", k=1)
    pipeline = document_pipeline(app, settings or usual)
    pipeline.bind(broker, MemoryDatabase)
    known = await broker.list_topics()
    topics = [replace(pipeline.topic(name).spec(), partitions=PARTITIONS) for name in TOPICS]
    await broker.create_topics([topic for topic in topics if topic.name not in known])
    worker = Worker(app, broker)
    async with asyncio.timeout(100), asyncio.TaskGroup() as group:
        running = group.create_task(worker.run())
        yield Stage(broker, pipeline)
        worker.stop()
        await running
    await pipeline.ingest.parts.closed()
    await pipeline.answer.parts.closed()


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with working(MemoryBroker()) as stage:
        yield stage


def told(answers: list[dict | None]) -> list[tuple[str | None, int] | None]:
    return [None if one is None else (one["answer"], one["revision"]) for one in answers]


async def test_an_answer_is_kept_up_to_date(stage: Stage) -> None:
    """Asked before its document is there, then after it came, was edited, and was joined by one that matters to nobody."""
    await stage.ask("s", "Where is the lamp made?", standing=True)
    assert told(await stage.answers("s", 1)) == [(None, 0)]
    await stage.put("lamp.md", "The lamp is made in Jena.")
    assert told(await stage.answers("s", 2))[1:] == [("The lamp is made in Jena. [1]", 1)]
    await stage.put("train.md", "Trains leave at noon.")
    await stage.put("lamp.md", "The lamp is made in Turin.")
    assert told(await stage.answers("s", 3))[2:] == [("The lamp is made in Turin. [1]", 2)]
    await stage.put("lamp.md", None)
    assert told(await stage.answers("s", 4))[3:] == [(None, 3)]


JENA, TURIN = "The lamp is made in Jena. [1]", "The lamp is made in Turin. [1]"


async def test_a_question_ends_with_a_record_without_a_value(stage: Stage) -> None:
    """And what comes afterwards is not answered to it: the next question of that key is a first one."""
    await stage.put("lamp.md", "The lamp is made in Jena.")
    await stage.ask("s", "Where is the lamp made?", standing=True)
    before = len(await stage.until("s", JENA))
    await stage.ask("s", None)
    assert (await stage.answers("s", before + 1))[before] is None
    await stage.put("lamp.md", "The lamp is made in Turin.")
    await stage.ask("s", "Where is the lamp made?", standing=True)
    await stage.until("s", TURIN)
    after = (await stage.answers("s", before + 2))[before + 1]
    assert after is not None
    assert after["revision"] == 0


async def test_a_question_stands_beyond_a_restart() -> None:
    """Another process takes it up, and answers the change that comes then; where nothing changed it says nothing."""
    broker = MemoryBroker()
    async with working(broker) as stage:
        await stage.put("lamp.md", "The lamp is made in Jena.")
        await stage.ask("s", "Where is the lamp made?", standing=True)
        before = await stage.until("s", JENA)
    async with working(broker) as stage:
        await stage.ask("other", "Where is the lamp made?")
        await stage.answers("other", 1)
        await stage.put("lamp.md", "The lamp is made in Turin.")
        after = await stage.until("s", TURIN)
    assert len(after) == len(before) + 1
    assert after[-1] is not None
    assert after[-1]["revision"] == len(before)


async def test_only_so_many_may_stand() -> None:
    """One more is told so, and one that was there may be asked again, and makes room when it ends."""
    broker = MemoryBroker()
    made = DocumentSettings.of("shop", embedder=Part("hashing", {"dimensions": 64}))
    pipeline = DocumentPipeline(replace(made, answer=replace(made.answer, standing_max=1)))
    await broker.create_topics([replace(pipeline.topic("index_updates").spec(), partitions=1)])
    pipeline.bind(broker, MemoryDatabase)
    running = Running(pipeline.answer)
    asked = write_query(Query("", "Where?", standing=True))
    for key, value in ((b"a", asked), (b"b", asked), (b"a", asked), (b"a", None), (b"b", asked), (b"c", None)):
        await running.process([(key, value)])
    running.commit()
    bodies = [(key, None if value is None else orjson.loads(value)) for key, value in running.outputs[ANSWERS]]
    assert [(key, body and (body["revision"], body["error"])) for key, body in bodies] == [
        (b"a", (0, None)),
        (b"b", (0, "there are 1 standing questions already (standing_max, per task)")),
        (b"a", (1, None)),
        (b"a", None),
        (b"b", (0, None)),
        (b"c", (0, "queries: the value is null; a question is an object with the field question")),
    ]
    running.operator.close()
    await pipeline.answer.parts.closed()
