"""Producers of the memory broker: idempotent, or transactional.

What is handed over is queued and delivered at the next turn of the event loop, so that `drop` and a crash can lose it, as
with a real client.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from ..batch import Headers, Partition, Records
from ..broker import Committed
from ..errors import (
    AbortableError,
    AmbiguousError,
    BrokerUnavailableError,
    ConfigurationError,
    FencedError,
    RecordTooLargeError,
    TopicsError,
)
from .cluster import Cluster
from .log import Columns

_OVERHEAD_BYTES = 70
"""What a record batch of one record adds to key, value and headers, about."""


@dataclass
class _Send:
    partition: Partition
    columns: Columns
    size_bytes: int
    delivered: asyncio.Future[int]


def _fail(send: _Send, error: Exception) -> None:
    """Whoever waited may have been cancelled meanwhile."""
    if not send.delivered.cancelled():
        send.delivered.set_exception(error)


class MemoryProducer:
    """See the `Producer` protocol."""

    def __init__(self, cluster: Cluster, transactional_id: str | None) -> None:
        self._cluster = cluster
        self._id = transactional_id
        self._epoch = -1
        self._state: Literal["new", "ready", "open", "closed"] = "new"
        self._over: TopicsError | None = None
        """What ended this producer: fenced, or an outcome that is not known."""
        self._failed: TopicsError | None = None
        """The first send of the transaction that failed."""
        self._offsets_sent = False
        self._queue: deque[_Send] = deque()
        self._queued_bytes = 0

    async def start(self) -> None:
        if self._id is None:
            await self._cluster.ask("metadata", self, lambda: None)
        else:
            name = self._id
            self._epoch = await self._cluster.ask(
                "init_producer", self, lambda: self._cluster.transactions.initialise(name)
            )
        self._state = "ready"

    async def send(self, partition: Partition, records: Records) -> Awaitable[int]:
        """As the Kafka producer: raises RecordTooLargeError with the row numbers before anything is sent,
        ConfigurationError for a partition that does not exist. The awaitable gives -1 for no records, and raises
        RecordTooLargeError too where the topic's own `max.message.bytes` is smaller."""
        self._check("open" if self._id is not None else "ready")
        self._cluster.log(partition)
        columns = columns_of(records, self._cluster.clock.now_ms)
        _refuse_larger(columns, self._cluster.settings.record_bytes_max, partition)
        delivered: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        delivered.add_done_callback(_read)
        while self._queued_bytes > self._cluster.settings.buffer_bytes_max:
            await self._cluster.signal.next()  # a delivery is under way
        if not self._queue:
            asyncio.get_running_loop().call_soon(self._deliver)
        self._queue.append(_Send(partition, columns, records.size_bytes, delivered))
        self._queued_bytes += records.size_bytes
        return delivered

    async def begin(self) -> None:
        self._check("ready")
        if self._id is None:
            raise ConfigurationError("a producer without a transactional id has no transactions")
        self._state, self._failed, self._offsets_sent = "open", None, False

    async def send_offsets(self, group: str, offsets: Mapping[Partition, Committed]) -> None:
        """Once a transaction. (The generation is not checked here, as by brokers before KIP-447: the epoch is.)"""
        self._check("open")
        if not offsets:
            return
        if self._offsets_sent:
            raise ConfigurationError(f"{self._name}: offsets are sent once a transaction, all together")
        await self._acknowledged()
        self._offsets_sent = True
        name, given = self._transactional_id, dict(offsets)
        try:
            await self._cluster.ask(
                "send_offsets",
                self,
                lambda: self._cluster.transactions.add_offsets(name, self._epoch, group, given),
            )
        except FencedError as error:
            raise self._ended_by(error) from None
        except BrokerUnavailableError as error:
            self._failed = AbortableError(f"{self._name}: {error}")
            raise self._failed from error

    async def commit(self) -> None:
        self._check("open")
        await self._acknowledged()
        await self._end("commit")

    async def abort(self) -> None:
        self._check("open")
        await self._settled()
        await self._end("abort")

    async def drop(self) -> None:
        self._state = "closed"
        while self._queue:
            _fail(self._queue.pop(), BrokerUnavailableError(f"{self._name} was dropped"))
        self._queued_bytes = 0
        self._cluster.signal.changed()

    async def stop(self) -> None:
        """Twice is fine. An abort that fails leaves the transaction to its timeout, or to the next owner of the id."""
        await self._settled()
        if self._state == "open" and self._over is None:
            try:
                await self._end("abort")
            except TopicsError:
                self._state = "closed"
        self._state = "closed"

    @property
    def _name(self) -> str:
        return "the producer" if self._id is None else f"the producer of {self._id!r}"

    @property
    def _transactional_id(self) -> str:
        assert self._id is not None
        return self._id

    def _check(self, wanted: Literal["ready", "open"]) -> None:
        if self._over is not None:
            raise self._over
        if self._state in ("new", "closed"):
            raise ConfigurationError(f"{self._name} is not started, or was stopped")
        if self._state != wanted:
            raise ConfigurationError(f"{self._name}: {'begin first' if wanted == 'open' else 'a transaction is open'}")

    def _deliver(self) -> None:
        while self._queue:
            send = self._queue.popleft()
            self._queued_bytes -= send.size_bytes
            try:
                after = self._cluster.faults.around("produce", self, partial(self._append, send))
            except FencedError as error:
                _fail(send, self._ended_by(error))
            except Exception as error:  # noqa: BLE001 - also what a test's own fault raises goes to who waits
                self._send_failed(error)
                _fail(send, error)
            else:
                if not send.delivered.cancelled():
                    send.delivered.set_result(after)
        self._cluster.signal.changed()

    def _send_failed(self, error: Exception) -> None:
        known = error if isinstance(error, TopicsError) else BrokerUnavailableError(repr(error))
        self._failed = self._failed or known
        if self._id is None:
            self._over = AmbiguousError(f"{known}; the sequence of batches has a gap: drop the producer")

    def _append(self, send: _Send) -> int:
        log = self._cluster.log(send.partition)
        if not len(send.columns):
            return -1
        topic, columns = send.partition.topic, send.columns
        limit = self._cluster.config(topic, "max.message.bytes", "")
        _refuse_larger(columns, int(limit or self._cluster.settings.record_bytes_max), send.partition)
        if "compact" in self._cluster.config(topic, "cleanup.policy", "") and None in columns.keys:
            raise ConfigurationError(f"{send.partition}: a compacted topic takes no record without a key")
        if self._id is None:
            return log.append(send.columns)
        return self._cluster.transactions.append(self._id, self._epoch, log, send.columns)

    async def _settled(self) -> None:
        while self._queue:
            await self._cluster.signal.next()

    async def _acknowledged(self) -> None:
        """Every send so far is on the broker. Raises FencedError, AbortableError where one is not."""
        await self._settled()
        if self._over is not None:
            raise self._over
        if self._failed is not None:
            if isinstance(self._failed, ConfigurationError | AbortableError):
                raise self._failed
            raise AbortableError(f"{self._name}: a send of this transaction failed: {self._failed}")

    async def _end(self, how: Literal["commit", "abort"]) -> None:
        outcome: Literal["committed", "aborted"] = "committed" if how == "commit" else "aborted"
        try:
            await self._cluster.ask(how, self, lambda: self._decide(outcome))
        except FencedError as error:
            raise self._ended_by(error) from None
        except BrokerUnavailableError as error:
            self._over = AmbiguousError(f"{self._name}, {how}: {error}. It may or may not have happened")
            raise self._over from error
        self._state = "ready"

    def _decide(self, outcome: Literal["committed", "aborted"]) -> None:
        transactions, name = self._cluster.transactions, self._transactional_id
        transactions.end(name, self._epoch, outcome)
        asyncio.get_running_loop().call_soon(transactions.finish, name)

    def _ended_by(self, error: FencedError) -> FencedError:
        self._over = error
        return error


def _refuse_larger(columns: Columns, limit: int, partition: Partition) -> None:
    """Raises RecordTooLargeError naming all rows that are too large."""
    longest = max(map(len, filter(None, columns.keys)), default=0) + max(
        map(len, filter(None, columns.values)), default=0
    )
    if not columns.headers and longest + _OVERHEAD_BYTES <= limit:
        return
    sizes = [len(key or b"") + len(value or b"") for key, value in zip(columns.keys, columns.values, strict=True)]
    for row, headers in columns.headers.items():
        sizes[row] += sum(len(name.encode()) + len(value or b"") for name, value in headers)
    large = [row for row, size in enumerate(sizes) if size + _OVERHEAD_BYTES > limit]
    if large:
        raise RecordTooLargeError(
            f"{partition}: record {large[0]} of {len(sizes)} has {sizes[large[0]]} bytes, and the limit is {limit}",
            rows=large,
        )


def columns_of(records: Records, now_ms: int) -> Columns:
    count = len(records)
    headers: dict[int, Headers] = {}
    if records.headers is not None:
        headers = {row: tuple(some) for row, some in enumerate(records.headers) if some}
    times = np.full(count, now_ms, dtype=np.int64) if records.timestamps is None else records.timestamps
    keys: list[bytes | None] = [None] * count if records.keys is None else records.keys.to_pylist()
    return Columns(keys, records.values.to_pylist(), times.astype(np.int64), headers)


def _read(future: asyncio.Future[int]) -> None:
    """Keep asyncio from complaining about an error that nobody asked for."""
    if not future.cancelled():
        future.exception()
