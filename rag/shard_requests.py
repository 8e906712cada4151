"""Reads what is asked of the shards held here, and replies at once, beside the worker and its commits. The thin shell.

    request    shard-queries, one partition a shard     read from the end, outside any group, by one reader for all of them
    reply      shard-hits, the asker's partition        outside the worker's transactions: they are read uncommitted anyway

A look-up is three rounds of these, and through the worker each would wait for its loop and for its shard's commits. The worker reads the
same requests a little later, in the group, whose offsets say what must still be replied to: it passes over those that were (`is_past`),
and replies itself to what came before this began, while the broker was out of reach, or when a process had died. Where both do, the
second reply is dropped by who asked.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from ..topics.arrow_buffers import large_binary
from ..topics.batch import Fetch, Partition, Records
from ..topics.broker import Broker, Producer, Reader
from ..topics.errors import BrokerUnavailableError, TopicsError
from ..topics.partitioner import murmur2
from .following import kept_up
from .shard_asker import ShardTopics
from .shard_messages import Record

Replied = Callable[[int, bytes | None, bytes | None], Awaitable[Sequence[Record]]]
"""What a shard says to the key and value of a request; nothing where it cannot be told to anybody."""

_LOG: Final = logging.getLogger(__name__)
_POLL_MS: Final = 200
_POLL_RECORDS_MAX: Final = 100
_PAUSE_MS: Final = 1_000
"""After the broker could not be reached, and while a topic is not there yet."""


class ShardRequests:
    """`run` it as a task; `is_past` may be called from any thread, the rest in the event loop."""

    def __init__(self, broker: Broker, topics: ShardTopics, replied: Replied) -> None:
        self.counts: Counter[str] = Counter()
        """`requests_answered`, `requests_unreadable`, since `take_counts`."""
        self._broker = broker
        self._topics = topics
        self._replied = replied
        self._held: set[int] = set()
        self._changed = asyncio.Event()
        self._next: dict[int, int] = {}
        """By shard that is read here: everything before this offset, and from where it began, was replied to."""
        self._began: dict[int, int] = {}
        self._moved = asyncio.Event()
        """Replaced, and set, whenever one of these has moved or gone."""

    def take_counts(self) -> dict[str, int]:
        counts, self.counts = dict(self.counts), Counter()
        return counts

    def hold(self, shard: int) -> None:
        self._held.add(shard)
        self._changed.set()

    def let_go(self, shard: int) -> None:
        self._held.discard(shard)
        self._forget([shard])
        self._changed.set()

    def is_past(self, shard: int, offset: int) -> bool:
        """Whether the request was replied to here."""
        began, reached = self._began.get(shard), self._next.get(shard)
        return began is not None and reached is not None and began <= offset < reached

    async def wait_past(self, shard: int, offset: int) -> bool:
        """Until it was; False: it will not be, and has to be replied to by whoever asks this."""
        while not self.is_past(shard, offset):
            began = self._began.get(shard)
            if began is None or offset < began:
                return False
            await self._moved.wait()
        return True

    def _forget(self, shards: Sequence[int]) -> None:
        for shard in shards:
            self._began.pop(shard, None)
            self._next.pop(shard, None)
        self._tell()

    def _tell(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled. What goes wrong is tried again; meanwhile the worker replies."""
        await kept_up("requests to shards go through the worker", self._serve, _PAUSE_MS, TopicsError)

    async def _serve(self) -> None:
        reader, producer = self._broker.reader(isolation="read_uncommitted"), self._broker.producer()
        try:
            await reader.start()
            await producer.start()
            partitions = await self._reply_partitions()
            self._changed.set()
            while True:
                if self._changed.is_set():
                    self._changed.clear()
                    await self._assign(reader)
                if not self._held:
                    await self._changed.wait()
                    continue
                fetches = await reader.poll(timeout_ms=_POLL_MS, records_max=_POLL_RECORDS_MAX)
                await self._answer(fetches, producer, partitions)
        finally:
            self._forget(list(self._began))
            await reader.stop()
            await producer.drop()

    async def _reply_partitions(self) -> int:
        topic = self._topics.shard_hits
        found = await self._broker.describe_topics([topic])
        if topic not in found:
            raise BrokerUnavailableError(f"there is no topic {topic!r} yet")
        return found[topic].partitions

    async def _assign(self, reader: Reader) -> None:
        """New shards from the end: what is before it, the worker has or will have."""
        held = sorted(self._held)
        new = [Partition(self._topics.shard_queries, shard) for shard in held if shard not in self._began]
        ends = await reader.end_offsets(new) if new else {}
        for partition, end in ends.items():
            if partition.index in self._held:  # it may have gone meanwhile
                self._began[partition.index] = self._next[partition.index] = end
        there = [shard for shard in held if shard in self._began]
        reader.assign({Partition(self._topics.shard_queries, shard): self._next[shard] for shard in there})

    async def _answer(self, fetches: Sequence[Fetch], producer: Producer, partitions: int) -> None:
        """All of them, then their replies, then what was reached is told. Raises TopicsError."""
        replies: dict[int, list[Record]] = {}
        for fetch in fetches:
            for key, value in zip(fetch.keys, fetch.values, strict=True):
                said = await self._replied(fetch.partition.index, key, value)
                self.counts["requests_answered" if said else "requests_unreadable"] += 1
                for record in said:
                    replies.setdefault((murmur2(record[0] or b"") & 0x7FFFFFFF) % partitions, []).append(record)
                await asyncio.sleep(0)  # heartbeats and who waits share this loop
        sent = [
            await producer.send(Partition(self._topics.shard_hits, at), _records(some)) for at, some in replies.items()
        ]
        for acknowledged in sent:
            await acknowledged
        for fetch in fetches:
            if fetch.partition.index in self._next:
                self._next[fetch.partition.index] = fetch.next_offset
        if fetches:
            self._tell()


def _records(records: Sequence[Record]) -> Records:
    return Records(large_binary([key for key, _ in records]), large_binary([value for _, value in records]))
