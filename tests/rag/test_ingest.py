"""Documents to index updates: only what changed is embedded, and the end is that of an index built from scratch."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millstream.rag.call_cache import CallCache, cache_key
from millstream.rag.document import Document
from millstream.rag.embedding_batches import EmbeddingBatches
from millstream.rag.errors import EmbeddingError, PartError
from millstream.rag.messages import write_document
from millstream.rag.operators.ingest import STATUS, UPDATES, Ingest
from millstream.rag.parse_job import Part
from millstream.rag.parse_pool import ParseSettings
from millstream.rag.settings import IngestSettings
from millstream.rag.updates import read_update
from millstream.state.key_value import KeyValueState
from tests.rag.pdfs import pdf
from tests.rag.running import Running

SETTINGS = IngestSettings(
    embedder=Part("hashing", {"dimensions": 16}),
    splitter=Part("recursive", {"chars_max": 60}),
    parsing=ParseSettings(processes_max=2),
)


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    step = Ingest(SETTINGS)
    running = Running(step)
    yield running
    running.operator.close()
    await step.parts.closed()


def put(name: str, text: str, version: str = "1", **metadata: object) -> tuple[bytes, bytes]:
    return name.encode(), write_document(
        Document(name, text=text, content_type="text/plain", metadata=metadata, version=version)
    )


async def feed(running: Running, *records: tuple[bytes | None, bytes | None]) -> list[Any]:
    """The statuses they gave (None for a tombstone)."""
    before = len(running.outputs.get(STATUS, []))
    await running.process(records)
    running.commit()
    return [None if value is None else orjson.loads(value) for _, value in running.outputs.get(STATUS, [])[before:]]


def texts(running: Running) -> set[str]:
    return {read_update(key, value).chunk.text for key, value in running.compacted(UPDATES).items()}


PARAGRAPHS = [f"Paragraph number {n} has its own words, {n * 7919}." for n in range(6)]
TEXT = "\n\n".join(PARAGRAPHS)


async def test_a_document_becomes_chunks(running: Running) -> None:
    (status,) = await feed(running, put("a", TEXT, lang="en"))
    assert (status["state"], status["chunks"], status["embedded"], status["reused"]) == ("indexed", 6, 6, 0)
    assert texts(running) == set(PARAGRAPHS)
    update = next(read_update(key, value) for key, value in running.compacted(UPDATES).items())
    assert (update.chunk.document, update.chunk.metadata, update.chunk.version) == ("a", {"lang": "en"}, "1")


async def test_an_edit_embeds_only_what_changed(running: Running) -> None:
    await feed(running, put("a", TEXT))
    edited = TEXT.replace("Paragraph number 2", "Section two")
    (status,) = await feed(running, put("a", edited, "2"))
    assert (status["chunks"], status["embedded"], status["reused"], status["version"]) == (6, 1, 5, "2")
    assert texts(running) == set(edited.split("\n\n"))
    assert len(running.outputs[UPDATES]) == 6 + 2  # one new, one gone


async def test_a_moved_paragraph_costs_nothing(running: Running) -> None:
    await feed(running, put("a", TEXT))
    (status,) = await feed(running, put("a", "\n\n".join(reversed(PARAGRAPHS))))
    assert (status["embedded"], status["reused"]) == (0, 6)
    assert len(running.outputs[UPDATES]) == 6


async def test_an_unchanged_document_is_only_reported(running: Running) -> None:
    await feed(running, put("a", TEXT))
    (status,) = await feed(running, put("a", TEXT, "2"))
    assert (status["state"], status["embedded"], status["reused"], status["version"]) == ("indexed", 0, 6, "2")
    assert len(running.outputs[UPDATES]) == 6
    assert running.operator._parts.pool.started <= 2  # type: ignore[attr-defined]


async def test_other_metadata_rewrites_the_records_without_embedding(running: Running) -> None:
    await feed(running, put("a", TEXT, lang="en"))
    (status,) = await feed(running, put("a", TEXT, lang="de"))
    assert (status["embedded"], status["reused"]) == (0, 6)
    found = {read_update(key, value).chunk.metadata["lang"] for key, value in running.compacted(UPDATES).items()}
    assert found == {"de"}


@pytest.mark.parametrize(
    ("modified_at", "metadata", "expected"),
    [
        (1_700_000_000_123, {}, {"modified_at": 1_700_000_000}),
        ("2023-11-14T22:13:20+00:00", {}, {"modified_at": 1_700_000_000}),
        ("2023-11-14T22:13:20", {"x": 1}, {"modified_at": 1_700_000_000, "x": 1}),
        (5, {"modified_at": "as the producer says"}, {"modified_at": "as the producer says"}),
        ("yesterday", {}, {}),
        (None, {}, {}),
    ],
)
async def test_filters_see_when_a_document_was_modified(
    running: Running, modified_at: str | int | None, metadata: dict, expected: dict
) -> None:
    """In seconds, as the filters of Pathway's clients have it."""
    document = Document("a", text="Lamp.", content_type="text/plain", metadata=metadata, modified_at=modified_at)
    await feed(running, (b"a", write_document(document)), (b"a", write_document(document)))
    assert len(running.outputs[UPDATES]) == 1
    ((key, value),) = running.compacted(UPDATES).items()
    assert expected == read_update(key, value).chunk.metadata


async def test_a_deleted_document_is_gone(running: Running) -> None:
    await feed(running, put("a", TEXT), put("b", "Other."))
    assert await feed(running, (b"a", None)) == [None]
    assert texts(running) == {"Other."}
    assert await feed(running, (b"never there", None)) == [None]


async def test_equal_texts_are_embedded_once(running: Running) -> None:
    await feed(running, put("a", TEXT))
    (status,) = await feed(running, put("b", TEXT))
    assert (status["embedded"], status["reused"]) == (0, 6)
    assert len(running.compacted(UPDATES)) == 12


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"not json", "not JSON"),
        (b'{"text": "x", "content": "eA=="}', "exactly one of"),
        (write_document(Document("a", content=b"%PDF-1.7 broken", content_type="application/pdf")), "readable PDF"),
        (write_document(Document("a", content=b"x", content_type="video/mp4")), "no parser"),
        (write_document(Document("a", ref="file:///etc/passwd", content_type="text/plain")), "is not allowed"),
    ],
)
async def test_a_version_that_fails_leaves_the_one_before_it(running: Running, value: bytes, reason: str) -> None:
    await feed(running, put("a", TEXT))
    (status,) = await feed(running, (b"a", value))
    assert (status["state"], status["chunks"], status["stale"]) == ("failed", 6, True)
    assert reason in status["error"]
    assert [key for key, text in running.context.rejected if reason in text] == [b"a"]
    assert texts(running) == set(PARAGRAPHS)
    (status,) = await feed(running, put("a", TEXT))
    assert (status["state"], status["stale"], status["embedded"]) == ("indexed", False, 0)


async def test_a_record_without_a_key_is_rejected(running: Running) -> None:
    assert await feed(running, (None, b"{}")) == []
    assert running.context.rejected == [(None, "documents: a record needs a key, the document's id")]


async def test_a_failed_first_version_is_not_stale(running: Running) -> None:
    (status,) = await feed(
        running, (b"a", write_document(Document("a", content=b"", content_type="application/pdf", version="v1")))
    )
    assert (status["state"], status["stale"], status["chunks"], status["version"]) == ("failed", False, 0, "v1")


async def test_a_pdf_is_read(running: Running) -> None:
    document = Document("a.pdf", content=pdf("From a PDF."), content_type="application/pdf")
    await feed(running, (b"a.pdf", write_document(document)))
    assert texts(running) == {"From a PDF."}


async def test_a_ref_is_loaded_where_it_is_allowed(tmp_path) -> None:
    (tmp_path / "x.txt").write_text("By reference.")
    step = Ingest(IngestSettings(SETTINGS.embedder, SETTINGS.splitter, ref_prefixes=(f"file://{tmp_path}/",)))
    running = Running(step)
    await feed(
        running, (b"a", write_document(Document("a", ref=f"file://{tmp_path}/x.txt", content_type="text/plain")))
    )
    assert texts(running) == {"By reference."}
    bad = f"file://{tmp_path}/../x.txt"
    (status,) = await feed(running, (b"a", write_document(Document("a", ref=bad, content_type="text/plain"))))
    assert "is not allowed" in status["error"]
    running.operator.close()
    await step.parts.closed()


async def test_a_moved_page_is_told_without_embedding(running: Running) -> None:
    """The text is the same, and is cited from another page now."""

    async def put_pages(*pages: str) -> dict[str, Any]:
        document = Document("a.pdf", content=pdf(*pages), content_type="application/pdf")
        (status,) = await feed(running, (b"a.pdf", write_document(document)))
        updates = [read_update(key, value) for key, value in running.compacted(UPDATES).items()]
        return {"embedded": status["embedded"]} | {one.chunk.text: one.chunk.place for one in updates}

    one, two = (
        "The first page has words enough to be a chunk by itself.",
        "So has the second, and they are other words.",
    )
    assert await put_pages(one, two) == {"embedded": 2, one: {"page": 1}, two: {"page": 2}}
    assert await put_pages("", one, two) == {"embedded": 0, one: {"page": 2}, two: {"page": 3}}


async def test_a_pdf_called_txt_is_a_pdf(running: Running) -> None:
    document = Document("notes.txt", content=pdf("From a PDF."), content_type="text/plain")
    await feed(running, (b"notes.txt", write_document(document)))
    assert texts(running) == {"From a PDF."}


@pytest.mark.parametrize("splitter", ["semantic", "tokens", "sentences", "parent_document"])
async def test_every_splitter_works_in_a_parsing_process(splitter: str) -> None:
    """`semantic` with the pipeline's embedder."""
    step = Ingest(IngestSettings(SETTINGS.embedder, Part(splitter)))
    running = Running(step)
    (status,) = await feed(running, put("a", TEXT * 10))
    assert status["error"] is None
    assert len(texts(running)) > 1
    running.operator.close()
    await step.parts.closed()


async def test_several_versions_in_one_batch_come_in_their_order(running: Running) -> None:
    """The second is compared with the first although that is not handed back yet."""
    edited = TEXT.replace("number 0", "number zero")
    statuses = await feed(
        running, put("a", TEXT, "1"), put("b", "Other."), put("a", edited, "2"), (b"a", None), put("a", TEXT, "4")
    )
    assert [status and status["version"] for status in statuses] == ["1", "1", "2", None, "4"]
    assert [status["embedded"] for status in statuses if status][:3] == [6, 1, 1]
    assert texts(running) == {*PARAGRAPHS, "Other."}


documents = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c"]),
        st.one_of(st.none(), st.lists(st.integers(0, 5), max_size=6)),
        st.integers(0, 1),
    ),
    max_size=12,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(documents, st.randoms(use_true_random=False))
async def test_the_end_is_that_of_an_index_built_from_scratch(steps: list, draw: random.Random) -> None:
    """Random edits, deletions, batches, orders of finishing and crashes: the same records as from the last versions alone."""
    step = Ingest(SETTINGS)
    running, fresh = Running(step), Running(step)
    last: dict[str, tuple[bytes, bytes | None]] = {}
    records = []
    for name, numbers, meta in steps:
        text = None if numbers is None else "\n\n".join(PARAGRAPHS[n] for n in numbers)
        record = (name.encode(), None) if text is None else put(name, text, meta=meta)
        records.append(record)
        last[name] = record
    while records:
        size = draw.randint(1, 5)
        batch, records = records[:size], records[size:]
        if draw.random() < 0.3:  # worked on, not committed, lost
            await running.process(batch)
            running.crash()
        await running.process(batch, draw.sample(range(len(batch)), len(batch)))
        running.commit()
    await fresh.process(last.values())
    fresh.commit()
    assert _content(running) == _content(fresh)
    running.operator.close()
    fresh.operator.close()
    await step.parts.closed()


def _content(running: Running) -> dict:
    """Everything but the position, which is that of the version the chunk came with."""
    updates = {key: read_update(key, value) for key, value in running.compacted(UPDATES).items()}
    return {key: (u.chunk.text, dict(u.chunk.metadata), u.vector.tolist()) for key, u in updates.items()}


async def test_a_replay_does_not_pay_again(running: Running) -> None:
    """What was embedded and committed is in the cache of the restored task."""
    await feed(running, put("a", TEXT))
    running.crash()
    (status,) = await feed(running, put("b", TEXT))
    assert status["embedded"] == 0


async def test_missing_weights_stop_the_task_and_not_each_document() -> None:
    with pytest.raises(PartError, match="no packaged model"):
        Running(Ingest(IngestSettings(embedder=Part("local", {"model": "none"}))))


def test_the_cache_forgets_the_oldest() -> None:
    state = KeyValueState("embeddings")
    cache = CallCache(state, 3)
    keys = [cache_key("m", str(n)) for n in range(5)]
    for key in [*keys, keys[-1]]:
        cache.put(key, b"vector of " + key)
    assert cache.get_many(keys) == [None, None, *(b"vector of " + key for key in keys[2:])]
    assert len(list(state.scan_prefix())) == 2 * 3 + 1


class Slow:
    """An embedder that answers when told, and notes what it was asked."""

    dimensions = 2

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    async def embed(self, texts, role):
        self.asked.append(list(texts))
        if "bad" in texts:
            raise RuntimeError("out of order")
        import numpy as np

        return np.array([[len(text), 0] for text in texts], np.float32)


async def test_texts_of_several_documents_are_embedded_together() -> None:
    import asyncio

    slow = Slow()
    batches = EmbeddingBatches(slow, "document", 4)  # type: ignore[arg-type]
    a, b, c = await asyncio.gather(batches.embed(["a"]), batches.embed(["bb", "ccc"]), batches.embed(["d"] * 3))
    assert slow.asked == [["a", "bb", "ccc", "d"], ["d", "d"]]
    assert [row[0] for rows in (a, b, c) for row in rows.tolist()] == [1, 2, 3, 1, 1, 1]


async def test_what_an_embedder_raises_is_these_texts_error() -> None:
    batches = EmbeddingBatches(Slow(), "document", 1)  # type: ignore[arg-type]
    with pytest.raises(EmbeddingError, match="RuntimeError: out of order"):
        await batches.embed(["bad"])
    assert (await batches.embed(["ok"])).tolist() == [[2, 0]]
