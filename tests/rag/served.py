"""A document pipeline that runs in a worker, and a gateway before it, and a client of both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx2 as httpx

from millstream.ops.gateway.door import Door
from millstream.ops.gateway.run import late_answers
from millstream.ops.gateway.server import GatewayServer
from millstream.ops.gateway.settings import GatewaySettings
from millstream.rag.document_topics import TOPICS, DocumentTopics
from millstream.rag.operators.answer import Answer
from millstream.rag.parse_job import Part
from millstream.rag.pipeline import bind_answers, document_pipeline
from millstream.rag.topics_transport import TopicsTransport
from millstream.state.stores.memory import MemoryDatabase
from millstream.topics.broker import Broker
from millstream.workers.app import App
from millstream.workers.worker import Worker
from tests.polling import until
from tests.rag.topics import PARTITIONS


@asynccontextmanager
async def running(broker: Broker, name: str) -> AsyncIterator[Worker]:
    """A worker of a document pipeline, with its topics."""
    app = App(name, commit_interval="20ms")
    pipeline = document_pipeline(app, embedder=Part("hashing", {"dimensions": 64}), splitter="markdown")
    bind_answers(app, broker, MemoryDatabase)
    await broker.start()
    await broker.create_topics([replace(pipeline.topic(topic).spec(), partitions=PARTITIONS) for topic in TOPICS])
    worker = Worker(app, broker)
    task = asyncio.create_task(worker.run())
    await until(lambda: asyncio.sleep(0, worker.ready))
    yield worker
    worker.stop(leave=True)
    await task
    await pipeline.ingest.parts.closed()
    await pipeline.answer.parts.closed()


@asynccontextmanager
async def gateway(
    broker: Broker, name: str, settings: GatewaySettings | None = None, answer: Answer | None = None
) -> AsyncIterator[str]:
    """Its address. `answer`: the step of an app, bound, where the gateway has an index of its own."""
    chosen = settings or GatewaySettings(port=0)
    late = late_answers(chosen)
    transport = TopicsTransport(DocumentTopics.of(name), broker, timeout_s=chosen.timeout_ms / 1000, late=late)
    server = GatewayServer(Door(transport, chosen, answer))
    await server.start()
    try:
        yield f"http://{server.address}"
    finally:
        await server.stop()


def bound_answer(broker: Broker, name: str) -> Answer:
    """The answering half of the pipeline of `running`, in an app of its own."""
    app = App(name)
    document_pipeline(app, ingest=False, embedder=Part("hashing", {"dimensions": 64}))
    (answer,) = bind_answers(app, broker, MemoryDatabase)
    return answer


@asynccontextmanager
async def asked(
    broker: Broker, name: str, documents: dict[str, dict[str, Any]], answer: Answer | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a gateway before a worker; `documents` were put through it, by their URIs."""
    async with (
        running(broker, name),
        gateway(broker, name, answer=answer) as url,
        httpx.AsyncClient(base_url=url, timeout=60) as client,
    ):
        for uri, record in documents.items():
            put = await client.put(f"/v1/documents/{uri}", json={"content_type": "text/markdown"} | record)
            assert put.status_code == 200, put.text
        yield client
