"""A text that was paid for is not embedded again, wherever the one who paid has died (`rag/paid_embeddings.py`)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from millstream.rag.call_cache import cache_key
from millstream.rag.embedder import Embedder, Role, Vectors
from millstream.rag.embedders.hashing import Hashing
from millstream.rag.paid_calls import PaidCall, PaidCalls
from millstream.rag.paid_embeddings import told
from millstream.rag.settings import PaidCallSettings
from millstream.topics.batch import Partition, Records
from millstream.topics.memory import MemoryBroker

TOPIC = "shop.paid-embeddings"
SETTINGS = PaidCallSettings(poll_timeout_ms=20, retry_pause_ms=5)
TEXTS = ["the lamp", "the chair", "the lamp"]


@dataclass
class Priced:
    """Says what `Hashing` says, for money."""

    asked: list[tuple[str, Role]] = field(default_factory=list)
    dimensions: int = 8

    def fingerprint(self) -> str:
        return f"priced {self.dimensions}"

    async def embed(self, texts: Sequence[str], role: Role) -> Vectors:
        self.asked += [(text, role) for text in texts]
        return await Hashing(self.dimensions).embed(texts, role)

    async def close(self) -> None:
        """Nothing is open."""


async def started() -> MemoryBroker:
    broker = MemoryBroker()
    await broker.start()
    return broker


@asynccontextmanager
async def of_a_process(broker: MemoryBroker, embedder: Embedder) -> AsyncIterator[Embedder]:
    """As a worker has it that is killed at the end: what it knew is gone."""
    made = told(embedder, PaidCalls(broker, TOPIC, SETTINGS))
    yield made
    await made.close()


async def test_who_comes_later_has_the_same_vectors_and_pays_nothing() -> None:
    broker, first, second = await started(), Priced(), Priced()
    async with of_a_process(broker, first) as embedder:
        paid = await embedder.embed(TEXTS, "document")
    async with of_a_process(broker, second) as embedder:
        found = await embedder.embed(TEXTS, "document")
    assert np.array_equal(paid, found)
    assert np.array_equal(paid, await Hashing(8).embed(TEXTS, "document"))
    assert first.asked == [("the lamp", "document"), ("the chair", "document")], "each text once"
    assert second.asked == []


async def test_negative_control_where_nobody_is_told_it_is_paid_for_again() -> None:
    first, second = Priced(), Priced()
    for embedder in (first, second):
        await told(embedder, None).embed(TEXTS, "document")
    assert first.asked == second.asked != []


async def test_only_what_is_new_is_embedded() -> None:
    broker, priced = await started(), Priced()
    async with of_a_process(broker, priced) as embedder:
        await embedder.embed(["the lamp"], "document")
        vectors = await embedder.embed(["the chair", "the lamp"], "document")
        nothing = await embedder.embed([], "document")
    assert np.array_equal(vectors, await Hashing(8).embed(["the chair", "the lamp"], "document"))
    assert [text for text, _ in priced.asked] == ["the lamp", "the chair"]
    assert nothing.shape == (0, 8)


async def test_the_two_sides_of_a_search_and_two_models_are_not_mixed() -> None:
    broker, small, large = await started(), Priced(), Priced(dimensions=16)
    async with of_a_process(broker, small) as embedder:
        await embedder.embed(["the lamp"], "document")
        await embedder.embed(["the lamp"], "query")
    async with of_a_process(broker, large) as embedder:
        assert (await embedder.embed(["the lamp"], "document")).shape == (1, 16)
    assert [role for _, role in small.asked] == ["document", "query"]
    assert len(large.asked) == 1


async def test_what_is_no_vector_of_this_embedder_is_passed_over() -> None:
    """Anybody may write to a topic: a vector that is too short, one with a number that is none, and one that is right."""
    broker, priced = await started(), Priced()
    keys = [cache_key("priced 8 document", text) for text in ("short", "nan", "right")]
    broken, right = np.full(8, np.nan, np.float32), np.eye(1, 8, dtype=np.float32)[0]
    values = [b"\0\0\0\0" + vector.tobytes() for vector in (right[:4], broken, right)]
    async with of_a_process(broker, Priced()) as embedder:
        await embedder.embed(["makes the topic"], "document")
    producer = broker.producer()
    await producer.start()
    records = Records(pa.array(keys, pa.large_binary()), pa.array(values, pa.large_binary()))
    await (await producer.send(Partition(TOPIC, 0), records))
    async with of_a_process(broker, priced) as embedder:
        vectors = await embedder.embed(["short", "nan", "right"], "document")
    assert [text for text, _ in priced.asked] == ["short", "nan"]
    assert np.array_equal(vectors[2], right)
    assert np.isfinite(vectors).all()


async def test_no_more_is_read_at_the_start_than_is_held() -> None:
    broker = await started()
    one = PaidCalls(broker, TOPIC, SETTINGS)
    async with _following(one):
        await one.tell_all({b"%d" % number: PaidCall("", b"x") for number in range(10)})
    few = PaidCalls(broker, TOPIC, PaidCallSettings(entries_max=3, poll_timeout_ms=20))
    async with _following(few):
        found = [number for number in range(10) if await few.find(b"%d" % number)]
    assert found == [7, 8, 9]


def test_an_embedder_that_costs_nothing_tells_nobody() -> None:
    free = Hashing()
    assert told(free, PaidCalls(MemoryBroker(), TOPIC, SETTINGS)) is free


@asynccontextmanager
async def _following(calls: PaidCalls) -> AsyncIterator[None]:
    import asyncio

    running = asyncio.create_task(calls.run())
    yield
    running.cancel()
    await asyncio.wait([running])
