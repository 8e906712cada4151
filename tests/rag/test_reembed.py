"""A change of model: a second topic follows the first with other vectors, and answers never stop."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.rag.document import Chunk, Document, chunk_ids
from millstream.rag.document_topics import TOPICS, DocumentTopics
from millstream.rag.embedders.hashing import Hashing
from millstream.rag.messages import Query, write_document, write_query
from millstream.rag.operators.reembed import Reembed, ReembedSettings
from millstream.rag.parse_job import Part
from millstream.rag.pipeline import DocumentSettings, bind_answers, document_pipeline
from millstream.rag.updates import read_update, vector_bytes, write_update
from millstream.rag.view_state import ViewPlan, ViewState
from millstream.state.stores.memory import MemoryDatabase
from millstream.topics.batch import Partition
from millstream.topics.memory import MemoryBroker
from millstream.workers.app import App
from millstream.workers.errors import PlanError
from millstream.workers.worker import Worker
from tests.polling import until
from tests.rag.running import Running
from tests.rag.topics import PARTITIONS, following, write

OLD, NEW = Hashing(16), Hashing(32)
SMALL, LARGE = Part("hashing", {"dimensions": 16}), Part("hashing", {"dimensions": 32})
TEXTS = [f"The {word} is kept in room {n}." for n, word in enumerate(["lamp", "train", "clock", "map"])]
NAMES = DocumentTopics.of("shop")


async def record(text: str, model: Hashing = OLD, **metadata: object) -> tuple[bytes, bytes]:
    (vector,) = await model.embed([text], "document")
    chunk = Chunk(chunk_ids("d", [text])[0], "d", text, metadata, 3, "v1", {"page": 2}, "parent")
    return chunk.key.encode(), write_update(chunk, vector_bytes(vector, "f16"), model.fingerprint(), "f16")


def step() -> Running:
    return Running(Reembed(ReembedSettings(LARGE)))


async def test_a_chunk_is_what_it_was_but_for_its_vector() -> None:
    running = step()
    key, value = await record(TEXTS[0], lang="en")
    await running.process([(key, value)])
    running.commit()
    ((again, made),) = running.outputs[0]
    assert again == key
    assert made is not None
    before, after = read_update(key, value), read_update(key, made)
    assert (after.chunk, after.model) == (before.chunk, NEW.fingerprint())
    np.testing.assert_allclose(after.vector, (await NEW.embed([TEXTS[0]], "document"))[0], atol=0.001)


async def test_what_is_gone_is_gone_there_too() -> None:
    """A tombstone, and a record that no view can read; a record without a key is nobody's."""
    running = step()
    key, value = await record(TEXTS[0])
    other, _ = await record(TEXTS[1])
    await running.process([(key, value), (key, None), (other, b"junk"), (None, b"junk")])
    running.commit()
    assert running.outputs[0][1:] == [(key, None), (other, None)]
    assert running.context.counts["records_unreadable"] == 2


async def test_one_of_the_new_model_goes_on_as_it_is() -> None:
    running = step()
    new = await record(TEXTS[0], NEW)
    await running.process([new])
    running.commit()
    assert running.outputs[0] == [new]
    assert running.context.counts["chunks_embedded"] == 0


async def test_a_text_is_embedded_once() -> None:
    """Metadata changed, a crash after the commit: nothing is paid for again; what was not committed is."""
    running = step()
    await running.process([await record(TEXTS[0])])
    running.commit()
    await running.process([await record(TEXTS[1])])
    running.crash()
    running.context.counts.clear()
    await running.process([await record(TEXTS[0], lang="de"), await record(TEXTS[1])])
    assert running.context.counts["chunks_embedded"] == 1


async def test_a_text_the_embedder_refuses_is_a_dead_letter_and_stops_nothing() -> None:
    running = Running(Reembed(ReembedSettings(Part("tests.rag.embedder_that_refuses"))))
    good, bad = await record(TEXTS[0]), await record("REFUSED")
    await running.process([good])
    await running.process([bad])
    await running.process([(good[0], None)])
    running.commit()
    assert [key for key, _ in running.outputs[0]] == [good[0], good[0]]
    assert running.context.rejected == [(bad[0], "refused")]


events = st.lists(
    st.tuples(st.sampled_from(["put", "put", "new", "remove", "junk", "commit", "crash"]), st.integers(0, 3)),
    max_size=30,
)


@settings(max_examples=80, deadline=None)
@given(events)
async def test_the_second_topic_makes_the_view_that_the_first_would_make_with_the_new_model(steps: list) -> None:
    """Random updates, commits and crashes; after a crash the input since the last commit is read again."""
    running = step()
    log: list[tuple[bytes, bytes | None]] = []
    committed = 0
    for what, number in steps:
        key, value = await record(TEXTS[number], NEW if what == "new" else OLD)
        if what in {"put", "new", "remove", "junk"}:
            log.append((key, {"remove": None, "junk": b"junk"}.get(what, value)))
            await running.process(log[-1:])
        elif what == "commit":
            running.commit()
            committed = len(log)
        else:
            running.crash()
            await running.process(log[committed:])
    running.commit()
    second = running.outputs.get(0, [])
    view = ViewState(ViewPlan("second", "", NEW.fingerprint(), 32), MemoryDatabase())
    view.apply(0, len(second), second)
    expected = {key for key, value in dict(log).items() if value not in {None, b"junk"}}
    held = {chunk.key.encode(): vector for chunk, vector in view.held(list(expected))}
    assert (set(held), len(view)) == (expected, len(expected))
    for key, vector in held.items():
        text = next(text for text in TEXTS if chunk_ids("d", [text])[0] in key.decode())
        np.testing.assert_allclose(vector, (await NEW.embed([text], "document"))[0], atol=0.001)


def put(uri: str, text: str, version: str) -> dict[str, bytes | None]:
    return {uri: write_document(Document(uri, text=text, content_type="text/plain", version=version))}


async def test_the_model_changes_while_documents_do_and_answers_go_on() -> None:
    """Old answers until the new ones are there; a document edited and one deleted on the way are so in both."""
    broker = MemoryBroker()
    shop = App("shop", guarantee="exactly_once", commit_interval="20ms")
    old = document_pipeline(shop, DocumentSettings.of("shop", embedder=SMALL, models={"large": LARGE}))
    bind_answers(shop, broker, MemoryDatabase)
    second = old.model_topic("large").name
    assert second == "shop.index-updates-large"
    await broker.create_topics([replace(old.topic(name).spec(), partitions=PARTITIONS) for name in TOPICS])
    await broker.create_topics([replace(old.model_topic("large").spec(), partitions=PARTITIONS)])
    changed = DocumentSettings.of(
        "shop", embedder=SMALL, models={"large": LARGE}, answer_model="large", topics={"queries": "shop.questions"}
    )
    app = App("shop-large", guarantee="exactly_once", commit_interval="20ms")
    new = document_pipeline(app, changed, ingest=False)
    bind_answers(app, broker, MemoryDatabase)
    await broker.create_topics([replace(new.topic("queries").spec(), partitions=PARTITIONS)])

    async def ask(topic: str, name: str, question: str) -> str:
        await write(broker, topic, {name: write_query(Query("", question))})
        return str((await following(broker, NAMES.answers, name))["answer"])

    async with asyncio.timeout(100), asyncio.TaskGroup() as group:
        first = Worker(shop, broker)
        group.create_task(first.run())
        await write(broker, NAMES.documents, put("lamp", "The lamp is made in Jena.", "1"))
        await write(broker, NAMES.documents, put("clock", "The clock is made in Glasgow.", "1"))
        for uri in ("lamp", "clock"):
            await following(broker, NAMES.documents_status, uri, "1")
        assert await ask(NAMES.queries, "q1", "Where is the lamp made?") == "The lamp is made in Jena. [1]"
        await write(broker, NAMES.documents, put("lamp", "The lamp is made in Turin.", "2") | {"clock": None})
        await following(broker, NAMES.documents_status, "lamp", "2")
        await _until_there(broker, second, {"The lamp is made in Turin."})
        other = Worker(app, broker)
        group.create_task(other.run())
        assert await ask("shop.questions", "q2", "Where is the lamp made?") == "The lamp is made in Turin. [1]"
        assert await ask(NAMES.queries, "q3", "Where is the lamp made?") == "The lamp is made in Turin. [1]"
        assert "Glasgow" not in await ask("shop.questions", "q4", "Where is the clock made?")
        for worker in (first, other):
            worker.stop()
    for pipeline in (old, new):
        await pipeline.ingest.parts.closed()
        await pipeline.answer.parts.closed()


async def _until_there(broker: MemoryBroker, topic: str, texts: set[str]) -> None:
    """Until these are the topic's chunks, as its last records by key say."""

    async def there() -> bool:
        last: dict[bytes, bytes | None] = {}
        for partition in range(PARTITIONS):
            last |= dict(await _records(broker, Partition(topic, partition)))
        return {read_update(key, value).chunk.text for key, value in last.items() if value is not None} == texts

    await until(there)


async def _records(broker: MemoryBroker, partition: Partition) -> list[tuple[bytes, bytes | None]]:
    reader = broker.reader()
    await reader.start()
    reader.assign({partition: 0})
    end = (await reader.end_offsets([partition]))[partition]
    found: list[tuple[bytes, bytes | None]] = []
    while reader.position(partition) < end:
        for fetch in await reader.poll(timeout_ms=100, records_max=1_000):
            found += [(key or b"", value) for key, value in zip(fetch.keys, fetch.values, strict=True)]
    await reader.stop()
    return found


def test_a_model_that_is_answered_with_must_be_there() -> None:
    with pytest.raises(PlanError, match="answer_model: no model 'larg'; there are large"):
        DocumentSettings.of("shop", models={"large": LARGE}, answer_model="larg")
