"""Records on their way: built into batches, handed to aiokafka's accumulator, followed until acknowledged."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import aiokafka.errors as kafka
from aiokafka.structs import TopicPartition

from ..batch import Partition, Records
from ..errors import (
    AbortableError,
    AmbiguousError,
    BrokerUnavailableError,
    ConfigurationError,
    FencedError,
    TopicsError,
)
from ..record_batch import RecordBatch, record_batches
from .client import Client
from .errors import translated
from .settings import KafkaSettings

_IN_THREAD_FROM_BYTES: Final = 1 << 18


class SendableBatch:
    """A record batch as aiokafka's accumulator and sender ask for it."""

    def __init__(self, batch: RecordBatch) -> None:
        self._batch = batch

    def record_count(self) -> int:
        return self._batch.count

    def size(self) -> int:
        return self._batch.size_bytes

    def close(self) -> None:
        """It was closed from the start."""

    def closed(self) -> bool:
        return True

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        self._batch.stamp(producer_id, producer_epoch, base_sequence)

    def _build(self) -> bytes:
        return self._batch.to_bytes()


class SendBuffer:
    """Every send of one producer, in the order of the calls; remembers the first that failed.

    `because` makes our error of one of the client's, knowing what ended the producer.
    """

    def __init__(
        self,
        client: Client,
        accumulator: Any,
        settings: KafkaSettings,
        *,
        name: str,
        transactional: bool,
        because: Callable[[BaseException, str], TopicsError],
    ) -> None:
        self._client = client
        self._accumulator = accumulator
        self._settings = settings
        self._name = name
        self._transactional = transactional
        self._because = because
        self._in_order = asyncio.Lock()
        self._outstanding: set[asyncio.Task[int]] = set()
        self._buffered_bytes = 0
        self.failed: TopicsError | None = None

    async def send(self, partition: Partition, records: Records, check: Callable[[], None]) -> Awaitable[int]:
        """`check` raises when the producer has ended while this waited for room."""
        async with self._in_order:
            tp = await self._existing(partition)
            batches = await self._build(records)
            await self._room(sum(batch.size_bytes for batch in batches))
            check()
            appended = [self._append(batch, tp) for batch in batches]
        delivery = asyncio.ensure_future(self._delivered(appended, partition))
        self._outstanding.add(delivery)
        delivery.add_done_callback(self._settled)
        told = asyncio.shield(delivery)  # who gives up waiting must not keep a commit from learning of a failure
        told.add_done_callback(read)
        return told

    async def acknowledged(self) -> None:
        """Every send so far is on the broker. Raises AbortableError, FencedError, ... for the first that is not."""
        while self._outstanding:
            await asyncio.wait(self._outstanding)
            await asyncio.sleep(0)  # lets the callbacks take the finished ones out
        if self.failed is None:
            return
        if not self._transactional or isinstance(self.failed, FencedError | AmbiguousError | ConfigurationError):
            raise self.failed
        raise AbortableError(f"a send of this transaction failed: {self.failed}") from self.failed

    async def _existing(self, partition: Partition) -> TopicPartition:
        known = await self._client.partitions_of(partition.topic, doing=self._name)
        if partition.index not in known:
            raise ConfigurationError(f"{self._name}: {partition} does not exist, the topic has {len(known)} partitions")
        return TopicPartition(partition.topic, partition.index)

    async def _build(self, records: Records) -> list[RecordBatch]:
        """In a thread where it takes milliseconds: heartbeats share this loop."""
        settings, now_ms = self._settings, time.time_ns() // 1_000_000

        def build() -> list[RecordBatch]:
            return record_batches(
                records,
                now_ms=now_ms,
                compression=settings.compression,
                transactional=self._transactional,
                rows_max=settings.batch_rows_max,
                batch_bytes_max=settings.batch_bytes_max,
                record_bytes_max=settings.record_bytes_max,
            )

        return build() if records.size_bytes < _IN_THREAD_FROM_BYTES else await asyncio.to_thread(build)

    async def _room(self, size_bytes: int) -> None:
        """Wait until the buffer takes that much (more than the whole buffer goes in alone)."""
        limit = self._settings.buffer_bytes_max
        while self._outstanding and self._buffered_bytes + size_bytes > limit:
            timeout_s = self._settings.delivery_timeout_ms / 1000
            done, _ = await asyncio.wait(self._outstanding, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                raise BrokerUnavailableError(f"{self._name}: {self._buffered_bytes:,} bytes wait for acknowledgement")
            await asyncio.sleep(0)

    def _append(self, batch: RecordBatch, tp: TopicPartition) -> Any:
        pending = self._accumulator._append_batch(SendableBatch(batch), tp)
        size_bytes = batch.size_bytes
        self._buffered_bytes += size_bytes
        pending.future.add_done_callback(lambda _: self._freed(size_bytes))
        pending.future.add_done_callback(read)
        pending._drain_waiter.add_done_callback(read)
        return pending

    def _freed(self, size_bytes: int) -> None:
        self._buffered_bytes -= size_bytes

    async def _delivered(self, appended: list[Any], partition: Partition) -> int:
        doing = f"{self._name}, sending to {partition}"
        end = -1
        try:
            async with asyncio.timeout(self._settings.delivery_timeout_ms / 1000):
                for pending in appended:
                    metadata = await asyncio.shield(pending.future)
                    if metadata.offset < 0:
                        raise kafka.DuplicateSequenceNumber("delivered before, at an offset the broker forgot")
                    end = metadata.offset + pending.record_count
        except TimeoutError:
            waited_ms = self._settings.delivery_timeout_ms
            raise BrokerUnavailableError(f"{doing}: not acknowledged in {waited_ms} ms") from None
        except (kafka.KafkaError, OSError) as error:
            raise self._because(error, doing) from error
        return end

    def _settled(self, task: asyncio.Task[int]) -> None:
        self._outstanding.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and self.failed is None:
            self.failed = translated(error, self._name, in_transaction=self._transactional)


def read(future: Any) -> None:
    """Keep asyncio from complaining about an error that is told elsewhere."""
    if not future.cancelled():
        future.exception()
