"""Asks the shards of an index: writes requests to their partitions, reads the replies, and hands them to who waits. The thin shell.

    request    shard-queries, the shard's partition     outside the worker's transactions: a look-up changes nothing
    reply      shard-hits, one partition a process      read uncommitted, from the end, outside any group

Replies are read uncommitted because a reply is as right when the transaction that carries it is aborted, and because a worker that dies
with one open would hold up the replies of all others behind it until the transaction has timed out: just when a question must not wait.
A reply that comes twice, or too late, is dropped and counted; a question that is answered anew after a crash asks anew.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

from ..topics.arrow_buffers import large_binary
from ..topics.batch import Fetch, Partition, Records
from ..topics.broker import Broker, Reader
from ..topics.errors import BrokerUnavailableError, TopicsError
from ..topics.partitioner import murmur2
from .errors import IndexUnavailableError, MessageError
from .following import LazyProducer, kept_up
from .settings import ShardSettings
from .shard_messages import Parts, ShardQuery, ShardReply, reply_fields, write_request

_LOG: Final = logging.getLogger(__name__)
_POLL_MS: Final = 500
_POLL_RECORDS_MAX: Final = 1_000
_PAUSE_MS: Final = 1_000
"""After the broker could not be reached, and while a topic is not there yet."""


@dataclass(frozen=True, slots=True)
class ShardTopics:
    """Names."""

    index_updates: str
    shard_queries: str
    shard_hits: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of asking several shards."""

    replies: Mapping[int, ShardReply]
    missing: Mapping[int, str]
    """Shards that did not answer in time, and why, as far as they said."""


@dataclass(slots=True)
class _Waiting:
    future: asyncio.Future[ShardReply]
    parts: Parts = field(default_factory=lambda: Parts({}))


@dataclass(frozen=True, slots=True)
class _Batch:
    """Requests to one shard, and their sending."""

    values: list[bytes]
    sent: asyncio.Task[None]


class ShardAsker:
    """`run` it as a task; everything else may be called meanwhile. `name`: of this process, as replies are addressed; None: drawn."""

    def __init__(self, broker: Broker, topics: ShardTopics, settings: ShardSettings, name: str | None = None) -> None:
        self.settings = settings
        self.counts: Counter[str] = Counter()
        """`late_replies`, `unreadable_replies`, since `take_counts`."""
        self._broker = broker
        self._topics = topics
        self._name = (name or uuid.uuid4().hex).encode()
        self._waiting: dict[str, _Waiting] = {}
        self._batches: dict[int, _Batch] = {}
        """By shard, not sent yet."""
        self._producer = LazyProducer(broker)
        self._ready = asyncio.Event()
        self._at = -1
        """Next offset of the replies; none yet."""
        self._sent = 0
        self._shards = 0
        self._counted_at_s = 0.0

    def take_counts(self) -> dict[str, int]:
        counts, self.counts = dict(self.counts), Counter()
        return counts

    async def shards(self) -> int:
        """How many there are. Raises IndexUnavailableError where the two topics do not fit each other, or are not there."""
        now_s = asyncio.get_running_loop().time()
        if self._shards and now_s - self._counted_at_s < self.settings.partitions_interval_ms / 1000:
            return self._shards
        names = [self._topics.index_updates, self._topics.shard_queries]
        try:
            found = await self._broker.describe_topics(names)
        except TopicsError as error:
            raise IndexUnavailableError(f"the shards of the index cannot be counted: {error}") from error
        if missing := [name for name in names if name not in found]:
            raise IndexUnavailableError(f"the index has no shards yet: there is no topic {missing[0]!r}")
        held, asked = (found[name].partitions for name in names)
        if held != asked:
            raise IndexUnavailableError(
                f"{names[0]!r} has {held} partitions and {names[1]!r} has {asked}: a shard is a partition, so they must be as "
                "many; set `partitions` before the topics are made, or make the second one anew"
            )
        self._shards, self._counted_at_s = held, now_s
        return held

    async def ask(self, requests: Mapping[int, ShardQuery], timeouts_ms: Mapping[int, int] | None = None) -> Asked:
        """Each of these shards, beside each other. `timeouts_ms`: where one may take another time than `deadline_ms`.

        Raises IndexUnavailableError for too many requests at once, and for a shard that says that asking is of no use.
        """
        if len(self._waiting) + len(requests) > self.settings.pending_max:
            raise IndexUnavailableError(f"{len(self._waiting)} requests to shards are waited for already (pending_max)")
        timeouts = timeouts_ms or {}
        answers = await asyncio.gather(
            *(self._one(shard, one, timeouts.get(shard, self.settings.deadline_ms)) for shard, one in requests.items())
        )
        told = dict(zip(requests, answers, strict=True))
        for shard, answer in told.items():
            if isinstance(answer, ShardReply) and answer.wrong:
                raise IndexUnavailableError(f"shard {shard} of the index: {answer.wrong}")
        return Asked(
            {shard: answer for shard, answer in told.items() if isinstance(answer, ShardReply)},
            {shard: answer for shard, answer in told.items() if isinstance(answer, str)},
        )

    async def _one(self, shard: int, request: ShardQuery, timeout_ms: int) -> ShardReply | str:
        """Its reply, or why there is none."""
        reason = f"no answer within {timeout_ms} ms"
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_ms / 1000):
                await self._ready.wait()
                while True:
                    try:
                        reply = await self._replied(shard, request)
                    except TopicsError as error:
                        reply = ShardReply(shard, later=str(error))
                    if not reply.later:
                        return reply
                    reason = reply.later
                    await asyncio.sleep(self.settings.retry_ms / 1000)
        return reason

    async def _replied(self, shard: int, request: ShardQuery) -> ShardReply:
        self._sent += 1
        known = f"{self._name.decode()}:{self._sent}"
        waiting = self._waiting[known] = _Waiting(asyncio.get_running_loop().create_future())
        try:
            await self._send(shard, write_request(replace(request, id=known)))
            return await waiting.future
        finally:
            del self._waiting[known]

    async def _send(self, shard: int, value: bytes) -> None:
        """With what else is to be sent to it now: of many questions at once the requests to a shard are one batch."""
        batch = self._batches.get(shard)
        if batch is None:
            batch = self._batches[shard] = _Batch([], asyncio.ensure_future(self._send_batch(shard)))
            batch.sent.add_done_callback(_read)
        batch.values.append(value)
        await asyncio.shield(batch.sent)

    async def _send_batch(self, shard: int) -> None:
        try:
            producer = await self._producer.get()
        finally:
            values = self._batches.pop(shard).values
        target = Partition(self._topics.shard_queries, shard)
        try:
            await (await producer.send(target, Records(large_binary([self._name] * len(values)), large_binary(values))))
        except TopicsError:
            await self._producer.give_up(producer)  # after a send that failed it takes no more
            raise

    # Replies

    async def run(self) -> None:
        """Until cancelled. Raises ConfigurationError (rights)."""
        try:
            await kept_up("shards", self._follow, _PAUSE_MS)
        finally:
            await self._producer.close()

    async def _follow(self) -> None:
        reader = self._broker.reader(isolation="read_uncommitted")
        try:
            await reader.start()
            await self._begin(reader)
            self._ready.set()
            while True:
                for fetch in await reader.poll(timeout_ms=_POLL_MS, records_max=_POLL_RECORDS_MAX):
                    self._arrived(fetch)
        finally:
            self._ready.clear()
            await reader.stop()

    async def _begin(self, reader: Reader) -> None:
        """At the end, whatever is there was for somebody else; or where an earlier reader was, so that no reply is passed over."""
        topic = self._topics.shard_hits
        found = await self._broker.describe_topics([topic])
        if topic not in found:
            raise BrokerUnavailableError(f"there is no topic {topic!r} yet")
        mine = Partition(topic, (murmur2(self._name) & 0x7FFFFFFF) % found[topic].partitions)
        begin, end = (await reader.begin_offsets([mine]))[mine], (await reader.end_offsets([mine]))[mine]
        reader.assign({mine: end if self._at not in range(begin, end) else self._at})

    def _arrived(self, fetch: Fetch) -> None:
        self._at = fetch.next_offset
        for key, value in zip(fetch.keys, fetch.values, strict=True):
            if key == self._name:  # another process may have the same partition
                self._hear(value)

    def _hear(self, value: bytes | None) -> None:
        try:
            known, fields = reply_fields(value)
            waiting = self._waiting.get(known)
            if waiting is None or waiting.future.done():
                self.counts["late_replies"] += 1
                return
            whole = waiting.parts.add(fields)
        except MessageError as error:
            self.counts["unreadable_replies"] += 1
            _LOG.warning("shards: %s", error)
            return
        if whole is not None:
            waiting.future.set_result(whole)


def _read(sent: asyncio.Task[None]) -> None:
    """Those who waited may all have given up."""
    if not sent.cancelled():
        sent.exception()
