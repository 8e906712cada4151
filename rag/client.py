"""Documents and questions from a program of yours, over Kafka: put, delete, ask, retrieve, and wait for what comes of it.

    async with AsyncClient("help", bootstrap="127.0.0.1:9092") as client:
        await client.put("lamp.md", text="The lamp is made by Ada.")
        answer = await client.ask("Who makes the lamp?", fresh=True)

It writes to the topics of a document pipeline and reads what its workers write back, as any Kafka client in any language can
(`messages.py`); it knows nothing of the workers. `sync_client.py` is the same for programs without an event loop.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from ..topics.arrow_buffers import large_binary
from ..topics.batch import Fetch, Partition, Records
from ..topics.broker import Broker, Producer, Reader
from ..topics.errors import BrokerUnavailableError
from ..topics.kafka.broker import KafkaBroker
from ..topics.partitioner import murmur2
from .document import Answer, Document, Hit
from .errors import MessageError, RagError
from .messages import Query, Status, Strategy, write_document, write_query
from .pipeline import DocumentTopics
from .read_back import read_answer, read_status

POLL_MS = 200
POLL_RECORDS_MAX = 1_000


class AnswerError(RagError):
    """The pipeline answered with an error; the text is what it said."""


class AsyncClient:
    """Of one document pipeline, by the name of its app.

    `bootstrap`: where Kafka is; `security`: further settings by Kafka's names; `broker`: one that is there already, instead of both.
    `topics`: names that differ from the usual ones, as in the pipeline. `timeout_s`: how long anything is waited for.

    Replies are read from when the client was entered. Raises TopicsError where the broker or a topic is not to be had.
    """

    def __init__(
        self,
        app: str,
        *,
        bootstrap: str = "127.0.0.1:9092",
        security: Mapping[str, object] | None = None,
        broker: Broker | None = None,
        topics: Mapping[str, str] | None = None,
        timeout_s: float = 60.0,
    ) -> None:
        self._topics = DocumentTopics.of(app, **(topics or {}))
        self._broker = broker or KafkaBroker({"bootstrap.servers": bootstrap, **(security or {})})
        self._own = broker is None
        self._timeout_s = timeout_s
        self._counts: dict[str, int] = {}
        self._producer: Producer | None = None
        self._reader: Reader | None = None
        self._reading: asyncio.Task[None] | None = None
        self._answers: dict[str, asyncio.Future[Answer]] = {}
        self._statuses: dict[str, list[asyncio.Future[Status | None]]] = {}

    # -- documents

    async def put(
        self,
        uri: str,
        *,
        text: str | None = None,
        content: bytes | None = None,
        ref: str | None = None,
        content_type: str = "",
        metadata: Mapping[str, Any] | None = None,
        version: str | int | None = None,
    ) -> Status:
        """Puts a document (exactly one of `text`, `content`, `ref`) and waits until it is indexed, or has failed: see the status.

        Raises ValueError, TimeoutError.
        """
        if sum(part is not None for part in (text, content, ref)) != 1:
            raise ValueError(f"document {uri!r}: give exactly one of text, content and ref")
        document = Document(uri, content, text, ref, content_type, metadata or {}, version=version)
        status = await self._written(uri, write_document(document))
        if status is None:
            raise MessageError(f"document {uri!r} was put, and then deleted by somebody else")
        return status

    async def delete(self, uri: str) -> None:
        """Deletes a document and waits until nothing of it is found any more. Raises TimeoutError."""
        await self._written(uri, None)

    async def _written(self, uri: str, value: bytes | None) -> Status | None:
        waiting: asyncio.Future[Status | None] = asyncio.get_running_loop().create_future()
        self._statuses.setdefault(uri, []).append(waiting)
        try:
            await self._send(self._topics.documents, uri, value)
            return await asyncio.wait_for(waiting, self._timeout_s)
        finally:
            self._statuses[uri] = [one for one in self._statuses.get(uri, ()) if one is not waiting]

    # -- questions

    async def ask(
        self,
        question: str,
        *,
        k: int | None = None,
        filter: str | Mapping[str, str] | None = None,  # noqa: A002 - the word of the queries topic
        strategy: Strategy | None = None,
        model: str | None = None,
        tenant: str | None = None,
        fresh: bool = False,
        fresh_after: Mapping[int, int] | None = None,
    ) -> Answer:
        """The answer, with its sources; `no_answer` where the documents do not say.

        `fresh`: only once the index has everything that is in its topic now, what was just put included. `fresh_after`: a position
        of your own. Raises AnswerError where the answer is an error, TimeoutError.
        """
        after = dict(fresh_after or {}) or (await self._index_ends() if fresh else {})
        query = Query(uuid.uuid4().hex, question, k, filter, strategy, model, after, tenant=tenant)
        answer = await self._asked(query)
        if answer.error:
            raise AnswerError(f"{question!r}: {answer.error}")
        return answer

    async def retrieve(self, question: str, **options: Any) -> list[Hit]:
        """The chunks that fit, best first; options as of `ask`."""
        return list((await self.ask(question, **{**options, "strategy": "retrieve"})).sources)

    async def _asked(self, query: Query) -> Answer:
        waiting: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._answers[query.id] = waiting
        try:
            await self._send(self._topics.queries, query.id, write_query(query))
            return await asyncio.wait_for(waiting, self._timeout_s)
        finally:
            del self._answers[query.id]

    async def _index_ends(self) -> dict[int, int]:
        """Offset of the last record of each partition of the index's topic."""
        reader = self._open_reader()
        ends = await reader.end_offsets(await self._partitions(self._topics.index_updates))
        return {partition.index: end - 1 for partition, end in ends.items() if end > 0}

    # -- beginning and end

    async def __aenter__(self) -> Self:
        try:
            await self._open()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def _open(self) -> None:
        await self._broker.start()
        self._producer, self._reader = self._broker.producer(), self._broker.reader()
        await self._producer.start()
        await self._reader.start()
        replies = [
            partition
            for topic in (self._topics.answers, self._topics.retrievals, self._topics.documents_status)
            for partition in await self._partitions(topic)
        ]
        self._reader.assign(await self._reader.end_offsets(replies))
        self._reading = asyncio.create_task(self._read())

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
        if self._producer is not None:
            await self._producer.stop()
        if self._reader is not None:
            await self._reader.stop()
        if self._own:
            await self._broker.stop()

    # -- inside

    async def _partitions(self, topic: str) -> list[Partition]:
        if topic not in self._counts:
            found = await self._broker.describe_topics([topic])
            if topic not in found:
                raise MessageError(f"there is no topic {topic!r}; has the pipeline run, and is its name right?")
            self._counts[topic] = found[topic].partitions
        return [Partition(topic, index) for index in range(self._counts[topic])]

    async def _send(self, topic: str, key: str, value: bytes | None) -> None:
        if self._producer is None:
            raise RuntimeError("the client is not open; use it in 'async with'")
        partitions = await self._partitions(topic)
        encoded = key.encode()
        target = partitions[(murmur2(encoded) & 0x7FFFFFFF) % len(partitions)]
        await (await self._producer.send(target, Records(large_binary([encoded]), large_binary([value]))))

    def _open_reader(self) -> Reader:
        if self._reader is None:
            raise RuntimeError("the client is not open; use it in 'async with'")
        return self._reader

    async def _read(self) -> None:
        """Hands replies to whoever waits for them. While the broker is out of reach they wait."""
        reader = self._open_reader()
        while True:
            try:
                fetches = await reader.poll(timeout_ms=POLL_MS, records_max=POLL_RECORDS_MAX)
            except BrokerUnavailableError:
                await asyncio.sleep(POLL_MS / 1000)
                continue
            for fetch in fetches:
                self._take(fetch)

    def _take(self, fetch: Fetch) -> None:
        for key, value in zip(fetch.keys, fetch.values, strict=True):
            name = (key or b"").decode("utf-8", "replace")
            if fetch.partition.topic == self._topics.documents_status:
                self._reported(name, value)
            elif name in self._answers:
                _tell(self._answers[name], lambda value=value: read_answer(value))

    def _reported(self, uri: str, value: bytes | None) -> None:
        """The oldest who waits for this document is told: statuses come in the order in which versions were put."""
        if self._statuses.get(uri):
            _tell(self._statuses[uri].pop(0), lambda: read_status(value))


def _tell(waiting: asyncio.Future[Any], read: Any) -> None:
    if waiting.done():
        return
    try:
        waiting.set_result(read())
    except MessageError as error:
        waiting.set_exception(error)
