"""What a question over an index in shards takes on a real Kafka: the look-up (three rounds of requests and replies), and the whole.

    python -m benchmarks.sharded [--shards 4] [--together 16]

One worker holds all shards and answers, in the process that asks. *Look-up* is what asks the shards alone, as an answering worker does it;
*topics* is a question in, its retrieval out, so it waits for commits too (at-least-once with one every 5 ms, exactly-once with its usual
100 ms). One after another, and `--together` at once. The embedder is `hashing`, so next to no time is embedding.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np

from millstream.client import AsyncClient
from millstream.ops.local_broker import LocalBroker
from millstream.rag.document import Document
from millstream.rag.embedders.hashing import Hashing
from millstream.rag.messages import Query
from millstream.rag.pipeline import DocumentPipeline
from millstream.rag.retrieve import Wanted
from millstream.rag.settings import ShardSettings
from millstream.rag.shard_asker import ShardAsker, ShardTopics
from millstream.rag.sharded_index import ShardedIndex
from millstream.topics.kafka.broker import KafkaBroker

from .serving import CONTENT_TYPE, running, text, timed

DOCUMENTS = 2_000
QUESTIONS = 200
SHARDS = 4
TOGETHER = 16
K = 5


@asynccontextmanager
async def asking(bootstrap: str, pipeline: DocumentPipeline) -> AsyncIterator[ShardedIndex]:
    """As an answering worker does it."""
    broker, topics = KafkaBroker({"bootstrap.servers": bootstrap}), pipeline.settings.topics
    await broker.start()
    names = ShardTopics(topics.index_updates, topics.shard_queries, topics.shard_hits)
    asker = ShardAsker(broker, names, ShardSettings(deadline_ms=60_000))
    task = asyncio.create_task(asker.run())
    yield ShardedIndex(asker, pipeline.settings.answer.retrieval, fresh_timeout_ms=60_000)
    task.cancel()
    await asyncio.wait([task])
    await broker.stop()


async def together(count: int, at_once: int, work: Callable[[int], Awaitable[object]]) -> list[float]:
    """Milliseconds of each, so many at once."""
    took: list[float] = []
    numbers = iter(range(count))

    async def some() -> None:
        for number in numbers:
            started = time.perf_counter()
            await work(number)
            took.append((time.perf_counter() - started) * 1e3)

    await asyncio.gather(*(some() for _ in range(at_once)))
    return took


def question(number: int) -> str:
    return f"Where was thing{number} made?"


async def measured(bootstrap: str, guarantee: str, commit: str, shards: int, at_once: int) -> dict[str, list[float]]:
    name = f"sharded-{guarantee.replace('_', '-')}"
    found: dict[str, list[float]] = {}
    async with (
        running(bootstrap, name, guarantee, commit, shards) as pipeline,
        AsyncClient(name, bootstrap=bootstrap, timeout_s=120) as topics,
        asking(bootstrap, pipeline) as index,
    ):
        documents = [Document(f"{n}.txt", text=text(n), content_type=CONTENT_TYPE) for n in range(DOCUMENTS)]
        await topics.put_many(documents)
        await topics.retrieve("ready", fresh=True)
        embedder = Hashing()

        async def look_up(number: int) -> None:
            vector = (await embedder.embed([question(number)], "query"))[0]
            hits = await (await index.sought(Query("", question(number)))).look_up(Wanted(question(number), vector, K))
            assert len(hits) == K, hits

        async def ask(number: int) -> None:
            hits = await topics.retrieve(question(number), k=K)
            assert len(hits) == K, hits

        await look_up(0)
        found["lookup"] = await timed(QUESTIONS, look_up)
        found["topics"] = await timed(QUESTIONS, ask)
        found["lookup_together"] = await together(2 * QUESTIONS, at_once, look_up)
        found["topics_together"] = await together(2 * QUESTIONS, at_once, ask)
    return found


def results(shards: int = SHARDS, at_once: int = TOGETHER) -> list[dict[str, Any]]:
    """As they stand in `build/bench.json`."""
    rows: list[dict[str, Any]] = []
    with LocalBroker() as broker:
        for guarantee, commit in (("at_least_once", "5ms"), ("exactly_once", "100ms")):
            for what, took in asyncio.run(measured(broker.bootstrap, guarantee, commit, shards, at_once)).items():
                for at, share in (("p50", 0.5), ("p99", 0.99)):
                    value = round(float(np.quantile(took, share)), 2)
                    rows.append(
                        {
                            "name": f"sharded_{what}_{guarantee}_{at}",
                            "value": value,
                            "unit": "ms",
                            "better": "lower",
                            "target": None,
                        }
                    )
    return rows


if __name__ == "__main__":
    options = argparse.ArgumentParser()
    options.add_argument("--shards", type=int, default=SHARDS)
    options.add_argument("--together", type=int, default=TOGETHER, help="questions at once")
    given = options.parse_args()
    for one in results(given.shards, given.together):
        print(f"{one['name']:44} {one['value']:10,.2f} {one['unit']}", flush=True)
