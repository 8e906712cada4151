"""A document put is found, an edit is seen, a delete is gone: by every question that waits for it, while other documents change."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

import pyarrow as pa
import pytest

from millstream.client import AsyncClient
from millstream.rag.document_topics import TOPICS, DocumentTopics
from millstream.rag.parse_job import Part
from millstream.rag.pipeline import DocumentSettings, bind_answers, document_pipeline
from millstream.state.stores.memory import MemoryDatabase
from millstream.topics.batch import Fetch, Partition, Records
from millstream.topics.broker import Isolation
from millstream.topics.memory import MemoryBroker
from millstream.topics.memory.reader import MemoryReader
from millstream.workers.app import App
from millstream.workers.worker import Worker
from tests.polling import LIMIT_S, until
from tests.rag.topics import PARTITIONS, ends

NAMES = DocumentTopics.of("shop")
WORDS = ["lamp", "train", "clock", "map", "rope", "bell"]
LIVES, TURNS = 10, 5
STREAMS = 2
CHUNKS_MAX = 4

Texts = frozenset[str]


class HeldReader(MemoryReader):
    """Of `index-updates` it gives nothing while the gate is shut, as one that is far behind."""

    gate: asyncio.Event
    _is_held = False

    def assign(self, positions: Mapping[Partition, int]) -> None:
        self._is_held = any(one.topic == NAMES.index_updates for one in positions)
        super().assign(positions)

    async def poll(
        self, *, timeout_ms: int, records_max: int, partitions: Collection[Partition] | None = None
    ) -> list[Fetch]:
        found = await super().poll(timeout_ms=timeout_ms, records_max=records_max, partitions=partitions)
        if self._is_held:
            await self.gate.wait()
        return found


class HoldingBroker(MemoryBroker):
    """The same cluster as another, for those whose index is to be held back."""

    def __init__(self, other: MemoryBroker) -> None:
        super().__init__()
        self._cluster = other._cluster
        self.gate = asyncio.Event()
        self.gate.set()

    def reader(self, *, isolation: Isolation = "read_committed") -> MemoryReader:
        reader = HeldReader(self._cluster, isolation)
        reader.gate = self.gate
        return reader


class Shop:
    """A pipeline that runs, a client of it, and the gate of its index."""

    def __init__(self, client: AsyncClient, broker: MemoryBroker, gate: asyncio.Event) -> None:
        self.client = client
        self.broker = broker
        self.gate = gate

    async def put(self, uri: str, texts: Texts) -> None:
        status = await self.client.put(uri, text="\n\n".join(sorted(texts)), content_type="text/markdown")
        assert (status.state, status.chunks) == ("indexed", len(texts))

    async def asked(self, uris: Iterable[str]) -> list[asyncio.Task[Texts]]:
        """Questions that are in their topic, and wait for the index if they have to."""
        before = await self._questions()
        tasks = [asyncio.create_task(self.seen(uri)) for uri in uris]

        async def all_there() -> bool:
            return await self._questions() >= before + len(tasks)

        await until(all_there)
        return tasks

    async def _questions(self) -> int:
        return sum((await ends(self.broker, NAMES.queries)).values())

    async def seen(self, uri: str, *, fresh: bool = True) -> Texts:
        """What a question finds of this document."""
        hits = await self.client.retrieve("Where is the lamp?", k=20, filter=f"uri == '{uri}'", fresh=fresh)
        return frozenset(hit.chunk.text for hit in hits)


@asynccontextmanager
async def shop(guarantee: str) -> AsyncIterator[Shop]:
    broker = MemoryBroker()
    app = App("shop", guarantee=guarantee, commit_interval="10ms")
    parts = {"embedder": Part("hashing", {"dimensions": 32}), "splitter": Part("markdown", {"chars_max": 40})}
    usual = DocumentSettings.of("shop", **parts)  # type: ignore[arg-type]
    patient = replace(usual.answer, fresh_timeout_ms=LIMIT_S * 1_000)
    pipeline = document_pipeline(app, replace(usual, answer=patient))
    holding = HoldingBroker(broker)
    bind_answers(app, holding, MemoryDatabase)
    await broker.create_topics([replace(pipeline.topic(name).spec(), partitions=PARTITIONS) for name in TOPICS])
    worker = Worker(app, broker)
    async with asyncio.timeout(300), asyncio.TaskGroup() as group:
        group.create_task(worker.run())
        async with AsyncClient("shop", broker=broker, timeout_s=200) as client:
            yield Shop(client, broker, holding.gate)
        worker.stop()
    await pipeline.ingest.parts.closed()
    await pipeline.answer.parts.closed()


def version(chance: random.Random, uri: str) -> Texts:
    """Paragraphs of one chunk each, some of which another version has too."""
    words = chance.sample(WORDS, chance.randint(1, CHUNKS_MAX))
    return frozenset(f"The {word} of {uri}, number {chance.randint(0, 1)}." for word in words)


async def lived(shop: Shop, chance: random.Random, uri: str) -> int:
    """Put, edited, deleted and put again, and asked about after each; how often it was not there any more."""
    gone = 0
    for _ in range(TURNS):
        texts = version(chance, uri) if chance.random() < 0.7 else frozenset()
        await (shop.put(uri, texts) if texts else shop.client.delete(uri))
        assert await shop.seen(uri) == texts
        gone += not texts
    return gone


async def streamed(shop: Shop, chance: random.Random, name: str, over: asyncio.Event) -> None:
    """Other documents, as fast as they go."""
    while not over.is_set():
        uri = f"{name}-{chance.randrange(10)}"
        await (shop.put(uri, version(chance, uri)) if chance.random() < 0.8 else shop.client.delete(uri))


@pytest.mark.parametrize("guarantee", ["exactly_once", "at_least_once"])
async def test_beside_a_stream_of_updates_each_question_sees_what_was_done_before_it(guarantee: str) -> None:
    """Every put is found, every edit is seen and what it replaced is not, every delete is gone."""
    over = asyncio.Event()
    async with shop(guarantee) as one, asyncio.TaskGroup() as group:
        for number in range(STREAMS):
            group.create_task(streamed(one, random.Random(number), f"other{number}", over))
        gone = await asyncio.gather(*(lived(one, random.Random(100 + n), f"mine{n}") for n in range(LIVES)))
        over.set()
    assert 0 < sum(gone) < LIVES * TURNS


async def test_a_question_waits_for_an_index_that_is_behind_and_without_fresh_after_it_does_not() -> None:
    """The negative control: not waiting, every one of them sees what was there before."""
    chance = random.Random(7)
    async with shop("exactly_once") as one:
        before = {f"d{n}": version(chance, f"d{n}") if n % 3 else frozenset[str]() for n in range(9)}
        for uri, texts in before.items():
            if texts:
                await one.put(uri, texts)
        assert [await one.seen(uri) for uri in before] == list(before.values())

        one.gate.clear()
        after = {uri: _other(chance, uri, texts) for uri, texts in before.items()}
        for uri, texts in after.items():
            await (one.put(uri, texts) if texts else one.client.delete(uri))
        assert [await one.seen(uri, fresh=False) for uri in before] == list(before.values())
        waiting = await one.asked(after)
        assert not any(task.done() for task in waiting)

        one.gate.set()
        assert await asyncio.gather(*waiting) == list(after.values())
        assert [await one.seen(uri) for uri in after] == list(after.values())


async def test_what_is_committed_behind_an_open_transaction_is_waited_for() -> None:
    """A worker that has not committed yet holds back what readers see of a topic; what another has committed since counts as put."""
    removal = Records(pa.array([b"other.md#0"], pa.large_binary()), pa.array([None], pa.large_binary()))
    async with shop("exactly_once") as one:
        other = one.broker.producer(transactional_id="another worker")
        await other.start()
        await other.begin()
        for index in range(PARTITIONS):
            await (await other.send(Partition(NAMES.index_updates, index), removal))
        texts = frozenset({"The lamp is made in Jena."})
        await one.put("lamp.md", texts)
        assert await one.seen("lamp.md", fresh=False) == frozenset()
        (waiting,) = await one.asked(["lamp.md"])
        await other.commit()
        assert await waiting == texts
        await other.stop()


def _other(chance: random.Random, uri: str, texts: Texts) -> Texts:
    """A version of what was not there; of what was, another one or none."""
    if texts and uri in {"d2", "d5", "d8"}:
        return frozenset()
    while (another := version(chance, uri)) == texts:
        continue
    return another
