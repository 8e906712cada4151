"""Reaches a document pipeline over its topics: writes records, reads what its workers write back, and hands it to who waits.

Replies are read from when it was opened. What is waited for is bounded (`pending_max`), and so is the time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

import orjson

from ..topics.arrow_buffers import large_binary
from ..topics.batch import Fetch, Partition, Records
from ..topics.broker import Broker, Producer, Reader
from ..topics.errors import BrokerUnavailableError
from ..topics.partitioner import murmur2
from .catalogue import Catalogue
from .catalogue_values import DocumentsPage, DocumentStatistics, Listed
from .document_topics import DocumentTopics
from .drafts import DraftReader
from .errors import BusyError, MessageError
from .filters import FilterText, filter_of
from .late_answers import LateAnswers
from .messages import stream_of

POLL_MS: Final = 200
POLL_RECORDS_MAX: Final = 1_000
DRAFTS_READY_TIMEOUT_MS: Final = 2_000
"""How long the first question that is to be answered aloud waits until drafts are read."""
REVISIONS_MAX: Final = 16
"""Answers of a standing question kept for a reader that is slow; an older one is of no use beside a newer one."""


class TopicsTransport:
    """`own`: the broker is started and stopped with this. `pending_max`: questions and documents waited for at once.

    `late`: keeps answers that nobody waits for any more; None: they are passed over.
    """

    def __init__(
        self,
        topics: DocumentTopics,
        broker: Broker,
        *,
        own: bool = False,
        timeout_s: float = 60.0,
        pending_max: int = 10_000,
        late: LateAnswers | None = None,
    ) -> None:
        self.topics = topics
        self.broker = broker
        self.timeout_s = timeout_s
        self.late = late
        self._own = own
        self._pending_max = pending_max
        self._counts: dict[str, int] = {}
        self._producer: Producer | None = None
        self._reader: Reader | None = None
        self._ends: Reader | None = None
        """Reads nothing: it is asked where topics end, with what is not committed yet."""
        self._tasks: list[asyncio.Task[None]] = []
        self._catalogue: Catalogue | None = None
        self._drafts: DraftReader | None = None
        self._answers: dict[str, asyncio.Future[bytes]] = {}
        self._standing: dict[str, asyncio.Queue[bytes | None]] = {}
        self._statuses: dict[str, list[asyncio.Future[bytes | None]]] = {}

    @property
    def pending(self) -> int:
        """Questions and documents that are waited for."""
        return len(self._answers) + len(self._standing) + sum(map(len, self._statuses.values()))

    def is_asked(self, query_id: str) -> bool:
        """Whether somebody here waits for its answer."""
        return query_id in self._answers

    @property
    def questions(self) -> int:
        """That are waited for here, standing ones too."""
        return len(self._answers) + len(self._standing)

    # Documents

    async def put(self, uri: str, value: bytes) -> bytes | None:
        return await self._written(uri, value)

    async def delete(self, uri: str) -> None:
        await self._written(uri, None)

    async def _written(self, uri: str, value: bytes | None) -> bytes | None:
        self._check_room()
        waiting: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._statuses.setdefault(uri, []).append(waiting)
        try:
            async with asyncio.timeout(self.timeout_s):
                await self.send(self.topics.documents, uri, value)
                return await waiting
        finally:
            left = [one for one in self._statuses.get(uri, ()) if one is not waiting]
            if left:
                self._statuses[uri] = left
            else:
                self._statuses.pop(uri, None)

    async def document(self, uri: str) -> Listed | None:
        return (await self.catalogue()).get(uri)

    async def documents(
        self, filter_text: FilterText | None = None, *, after: str = "", limit: int = 100
    ) -> DocumentsPage:
        test = None if filter_text is None else filter_of(filter_text).matches
        return await (await self.catalogue()).page(test, after=after, limit=limit)

    async def statistics(self) -> DocumentStatistics:
        return (await self.catalogue()).statistics()

    async def catalogue(self) -> Catalogue:
        """Read from when it is first asked for. Raises NotFreshError."""
        self._open_reader()
        if self._catalogue is None:
            self._catalogue = Catalogue(self.broker, self.topics.documents_status)
            self._tasks.append(asyncio.create_task(self._catalogue.run()))
        await self._catalogue.wait_ready(self.timeout_s)
        return self._catalogue

    # Questions

    async def ask(self, query_id: str, value: bytes, *, fresh: bool = False) -> bytes:
        self._check_room()
        if query_id in self._answers or query_id in self._standing:
            raise MessageError(f"queries: {query_id!r} is being asked already; take another id, or none - at $.id")
        waiting: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._answers[query_id] = waiting
        try:
            async with asyncio.timeout(self.timeout_s):
                if fresh:
                    value = await self.placed(value)
                # A conversation's questions lie in one partition, in their order.
                await self.send(self.topics.queries, stream_of(value) or query_id, value)
                return await waiting
        finally:
            del self._answers[query_id]
            if self.late is not None and not (waiting.done() and not waiting.cancelled()):
                self.late.given_up(query_id)

    async def ask_aloud(self, query_id: str, value: bytes, *, fresh: bool = False) -> AsyncGenerator[str | bytes, None]:
        """Pieces of the answer while it is made (at most once, and they may be wrong), then what `ask` gives, which counts.

        For a query with `drafts`. Raises as `ask`.
        """
        reader = self._draft_reader()
        await reader.wait_ready(DRAFTS_READY_TIMEOUT_MS)
        with reader.listening(query_id) as pieces:
            asking = asyncio.ensure_future(self.ask(query_id, value, fresh=fresh))
            try:
                while not asking.done():
                    following = asyncio.ensure_future(pieces.get())
                    await asyncio.wait({asking, following}, return_when=asyncio.FIRST_COMPLETED)
                    if following.done():
                        yield following.result()
                    following.cancel()
                yield asking.result()
            finally:
                asking.cancel()
                await asyncio.wait([asking])

    def _draft_reader(self) -> DraftReader:
        """Reads from when the first answer is listened to."""
        self._open_reader()
        if self._drafts is None:
            self._drafts = DraftReader(self.broker, self.topics.answer_drafts)
            self._tasks.append(asyncio.create_task(self._drafts.run()))
        return self._drafts

    async def stand(self, query_id: str, value: bytes) -> AsyncGenerator[bytes, None]:
        self._check_room()
        if query_id in self._answers or query_id in self._standing:
            raise MessageError(f"queries: {query_id!r} is listened to already; take another id, or none - at $.id")
        queue = self._standing[query_id] = asyncio.Queue(REVISIONS_MAX)
        try:
            await self.send(self.topics.queries, query_id, value)
            while (record := await queue.get()) is not None:
                yield record
        finally:
            del self._standing[query_id]

    async def end(self, query_id: str) -> None:
        await self.send(self.topics.queries, query_id, None)

    async def placed(self, value: bytes) -> bytes:
        """The question, to be answered once the index has everything that is in its topic now."""
        return with_position(value, await self.index_ends())

    async def index_ends(self) -> dict[int, int]:
        """Offset of the last record of each partition of the index's topic, committed or not.

        The last stable offset would not do: a transaction of another worker that is still open holds it back behind what a worker
        has committed since, and a document that was just put would not be waited for.
        """
        if self._ends is None:
            raise RuntimeError("the client is not open; use it in 'async with'")
        ends = await self._ends.end_offsets(await self._partitions(self.topics.index_updates))
        return {partition.index: end - 1 for partition, end in ends.items() if end > 0}

    def _check_room(self) -> None:
        if self.pending >= self._pending_max:
            raise BusyError(f"{self._pending_max} questions and documents are waited for already; ask again later")

    # Beginning and end

    async def open(self) -> None:
        """Raises TopicsError where the broker is not to be had, MessageError where a topic is not there."""
        if self._own:
            await self.broker.start()
        self._producer, self._reader = self.broker.producer(), self.broker.reader()
        self._ends = self.broker.reader(isolation="read_uncommitted")
        await self._producer.start()
        for reader in (self._reader, self._ends):
            await reader.start()
        replies = [
            partition
            for topic in (self.topics.answers, self.topics.retrievals, self.topics.documents_status)
            for partition in await self._partitions(topic)
        ]
        self._reader.assign(await self._reader.end_offsets(replies))
        self._tasks.append(asyncio.create_task(self._read()))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._tasks, self._catalogue, self._drafts = [], None, None
        if self._producer is not None:
            await self._producer.stop()
        for reader in (self._reader, self._ends):
            if reader is not None:
                await reader.stop()
        self._producer = self._reader = self._ends = None
        if self._own:
            await self.broker.stop()

    async def send(self, topic: str, key: str, value: bytes | None) -> None:
        """To the partition where the key belongs, as any of Kafka's clients does."""
        if self._producer is None:
            raise RuntimeError("the client is not open; use it in 'async with'")
        partitions = await self._partitions(topic)
        encoded = key.encode()
        target = partitions[(murmur2(encoded) & 0x7FFFFFFF) % len(partitions)]
        await (await self._producer.send(target, Records(large_binary([encoded]), large_binary([value]))))

    async def _partitions(self, topic: str) -> list[Partition]:
        if topic not in self._counts:
            found = await self.broker.describe_topics([topic])
            if topic not in found:
                raise MessageError(f"there is no topic {topic!r}; has the pipeline run, and is its name right?")
            self._counts[topic] = found[topic].partitions
        return [Partition(topic, index) for index in range(self._counts[topic])]

    def _open_reader(self) -> Reader:
        if self._reader is None:
            raise RuntimeError("the client is not open; use it in 'async with'")
        return self._reader

    # Replies

    async def _read(self) -> None:
        """While the broker is out of reach who waits goes on waiting."""
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
        is_status = fetch.partition.topic == self.topics.documents_status
        for key, value in zip(fetch.keys, fetch.values, strict=True):
            name = (key or b"").decode("utf-8", "replace")
            if is_status:
                self._reported(name, value)
            elif name in self._standing:
                _newest(self._standing[name], value)
            elif name in self._answers and not self._answers[name].done():
                self._answers[name].set_result(value or b"")
            elif self.late is not None and value is not None:
                self.late.came(name, value)

    def _reported(self, uri: str, value: bytes | None) -> None:
        """The oldest who waits for this document is told: statuses come in the order in which versions were put."""
        if self._statuses.get(uri):
            waiting = self._statuses[uri].pop(0)
            if not waiting.done():
                waiting.set_result(value)


def _newest(queue: asyncio.Queue[bytes | None], value: bytes | None) -> None:
    if queue.full():
        queue.get_nowait()
    queue.put_nowait(value)


def with_position(value: bytes, ends: dict[int, int]) -> bytes:
    """The question, to be answered once the index has passed these offsets (those it names itself go before them)."""
    body = orjson.loads(value)
    if not body.get("fresh_after"):
        body["fresh_after"] = {str(partition): offset for partition, offset in ends.items()}
    return orjson.dumps(body)
