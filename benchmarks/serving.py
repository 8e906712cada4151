"""What stands between a question and its chunks on a real Kafka, beside the look-up itself: topics, HTTP, commits.

Through topics: a question in, its retrieval out (a worker at-least-once with a commit every 5 ms, and exactly-once with its usual 100 ms).
Through HTTP: the same from a gateway that has an index of its own. Put to searchable: a document goes to `documents`, until a look-up
through the gateway that waits for it (`fresh`) has found it. The embedder is `hashing`, so next to no time is embedding.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from millstream.client import AsyncClient
from millstream.ops.gateway.door import Door
from millstream.ops.gateway.server import GatewayServer
from millstream.ops.gateway.settings import GatewaySettings
from millstream.ops.local_broker import LocalBroker
from millstream.rag.document import Document
from millstream.rag.document_topics import SHARD_TOPICS, TOPICS
from millstream.rag.pipeline import DocumentPipeline, bind_answers, document_pipeline
from millstream.rag.topics_transport import TopicsTransport
from millstream.state.stores.memory import MemoryDatabase
from millstream.topics.kafka.broker import KafkaBroker
from millstream.workers.app import App
from millstream.workers.worker import Worker

DOCUMENTS = 2_000
QUESTIONS = 200
PUTS = 50
CONTENT_TYPE = "text/plain"


@asynccontextmanager
async def running(
    bootstrap: str, name: str, guarantee: str, commit: str, shards: int = 0
) -> AsyncIterator[DocumentPipeline]:
    """A worker with a pipeline; `shards`: of its index, 0: it is whole."""
    app, broker = App(name, guarantee=guarantee, commit_interval=commit), KafkaBroker({"bootstrap.servers": bootstrap})
    pipeline = document_pipeline(app, embedder="hashing", sharded=shards > 0)
    bind_answers(app, broker, MemoryDatabase)
    await broker.start()
    names = (*TOPICS, *SHARD_TOPICS) if shards else TOPICS
    await broker.create_topics([replace(pipeline.topic(one).spec(), partitions=shards or 1) for one in names])
    worker = Worker(app, broker)
    task = asyncio.create_task(worker.run())
    while not worker.ready:  # noqa: ASYNC110 - a worker tells nobody
        await asyncio.sleep(0.05)
    yield pipeline
    worker.stop(leave=True)
    await task
    await pipeline.ingest.parts.closed()
    await pipeline.answer.parts.closed()
    if pipeline.search is not None:
        await pipeline.search.parts.closed()


@asynccontextmanager
async def serving(bootstrap: str, pipeline: DocumentPipeline) -> AsyncIterator[str]:
    """Beside the worker, over its index."""
    transport = TopicsTransport(
        pipeline.settings.topics, KafkaBroker({"bootstrap.servers": bootstrap}), own=True, timeout_s=120
    )
    settings = GatewaySettings(port=0, timeout_ms=120_000, requests_per_minute_max=10**9, burst_requests_max=10**9)
    server = GatewayServer(Door(transport, settings, pipeline.answer))
    await server.start()
    yield f"http://{server.address}"
    await server.stop()


async def timed(count: int, work: Callable[[int], Awaitable[object]]) -> list[float]:
    """Milliseconds of each, one after another."""
    took = []
    for number in range(count):
        started = time.perf_counter()
        await work(number)
        took.append((time.perf_counter() - started) * 1e3)
    return took


def text(number: int, turn: int = 0) -> str:
    return f"Thing{number} was made in town{(number * 7 + turn) % 101} by person{number % 53}, turn{turn}."


async def measured(bootstrap: str, guarantee: str, commit: str) -> dict[str, list[float]]:
    name = f"serving-{guarantee.replace('_', '-')}"
    found: dict[str, list[float]] = {}
    async with running(bootstrap, name, guarantee, commit) as pipeline, serving(bootstrap, pipeline) as url:  # noqa: SIM117
        async with AsyncClient(name, bootstrap=bootstrap, timeout_s=120) as topics:
            documents = [Document(f"{n}.txt", text=text(n), content_type=CONTENT_TYPE) for n in range(DOCUMENTS)]
            await topics.put_many(documents)
            await topics.retrieve("ready", fresh=True)
            found["topics"] = await timed(QUESTIONS, lambda n: topics.retrieve(f"Where was thing{n} made?", k=5))
            async with AsyncClient(url=url, timeout_s=120) as http:
                await http.retrieve("ready", fresh=True)
                found["http"] = await timed(QUESTIONS, lambda n: http.retrieve(f"Where was thing{n} made?", k=5))

                async def put_and_found(number: int) -> None:
                    await topics.put(f"{number}.txt", text=text(number, 1), content_type=CONTENT_TYPE)
                    hits = await http.retrieve(f"thing{number} turn1", k=1, fresh=True)
                    assert "turn1" in hits[0].chunk.text, hits

                found["searchable"] = await timed(PUTS, put_and_found)
    return found


def results() -> list[dict[str, Any]]:
    """As they stand in `build/bench.json`."""
    targets = {"topics": 30.0, "http": 10.0, "searchable": 300.0}
    rows: list[dict[str, Any]] = []
    with LocalBroker() as broker:
        for guarantee, commit in (("at_least_once", "5ms"), ("exactly_once", "100ms")):
            for what, took in asyncio.run(measured(broker.bootstrap, guarantee, commit)).items():
                for at, quantile in (("p50", 0.5), ("p99", 0.99)):
                    # what a commit every 100 ms costs is the setting's, and no goal
                    has_goal = at == "p50" and (what != "topics" or guarantee == "at_least_once")
                    rows.append(
                        {
                            "name": f"serving_{what}_{guarantee}_{at}",
                            "value": round(float(np.quantile(took, quantile)), 2),
                            "unit": "ms",
                            "better": "lower",
                            "target": targets[what] if has_goal else None,
                        }
                    )
    return rows


if __name__ == "__main__":
    for row in results():
        print(f"{row['name']:48} {row['value']:8.2f} ms  (goal {row['target']})", flush=True)
