"""A producer of column batches: idempotent, or transactional.

    NEW -start-> READY -begin-> OPEN -send*, send_offsets?-> OPEN -commit | abort-> READY      any -stop | drop-> CLOSED
                                                                  any lost answer, gap or fencing -> OVER -drop-> CLOSED

An OVER producer refuses everything but `drop` and `stop` with the error that ended it. It is over after every failed
batch, too: the broker has seen a gap in its sequence numbers and would refuse what follows.

Built of aiokafka's client, accumulator and sender (ours: `transactions.py`); batches come from `topics/record_batch.py`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Mapping
from typing import Any, Final

import aiokafka.errors as kafka
from aiokafka.producer.message_accumulator import MessageAccumulator
from aiokafka.producer.transaction_manager import TransactionManager, TransactionState
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from ..batch import Partition, Records
from ..broker import Committed
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
from .transactions import NO_MEMBER, FindMember, TransactionSender

_NO_TIMEOUT_MS: Final = (1 << 31) - 1
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


class KafkaProducer:
    """See the `Producer` protocol. Each call after `start` may raise what ended the producer."""

    def __init__(self, settings: KafkaSettings, transactional_id: str | None, find_member: FindMember) -> None:
        self._settings = settings
        self._id = transactional_id
        self._name = f"producer {transactional_id!r}" if transactional_id else "producer"
        self._find_member = find_member
        self._client: Client | None = None
        self._manager: Any = None
        self._accumulator: Any = None
        self._sender: TransactionSender | None = None
        self._in_order = asyncio.Lock()
        self._outstanding: set[asyncio.Task[int]] = set()
        self._buffered_bytes = 0
        self._failed: TopicsError | None = None
        self._over: TopicsError | None = None
        self._offsets_sent = False

    # -- life -----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Raises BrokerUnavailableError, AuthorizationError, ConfigurationError; then it may be started again."""
        settings = self._settings
        doing = f"starting {self._name}"
        self._client = Client(settings)
        try:
            async with asyncio.timeout(settings.commit_deadline_ms / 1000):
                await self._client.bootstrap()
                self._sender = self._make_sender(self._client)
                await self._sender.start()
        except TimeoutError:
            await self._close()
            raise BrokerUnavailableError(f"{doing}: no answer in {settings.commit_deadline_ms} ms") from None
        except (kafka.KafkaError, OSError) as error:
            await self._close()
            raise translated(error, doing) from error
        except asyncio.CancelledError:
            await self._close()
            raise

    def _make_sender(self, client: Client) -> TransactionSender:
        settings = self._settings
        timeout_ms = settings.transaction_timeout_ms if self._id is not None else _NO_TIMEOUT_MS
        self._manager = TransactionManager(self._id, timeout_ms)
        self._accumulator = MessageAccumulator(
            client.cluster,
            settings.batch_bytes_max,
            0,
            settings.delivery_timeout_ms / 1000,
            txn_manager=self._manager,
        )
        return TransactionSender(
            client,
            acks=-1,
            txn_manager=self._manager,
            message_accumulator=self._accumulator,
            retry_backoff_ms=settings.retry_backoff_ms,
            request_timeout_ms=settings.request_timeout_ms,
        )

    async def stop(self) -> None:
        """Deliver what is queued and close; an open transaction is aborted. Errors of neither are raised: what was
        sent and not awaited may be lost, what was in a transaction is."""
        if self._client is None:
            return
        if self._over is None and self._sender is not None and self._sender.failure is None:
            try:
                if self._id is not None and self._manager.state is not TransactionState.READY:
                    await self.abort()
                else:
                    await self._acknowledged()
            except TopicsError:
                pass
        await self._close()

    async def drop(self) -> None:
        await self._close()

    async def _close(self) -> None:
        client, sender = self._client, self._sender
        self._client = self._sender = None
        self._over = self._over or AmbiguousError(f"{self._name} was closed")
        if self._accumulator is not None:
            self._accumulator.fail_all(kafka.ProducerClosed())
        if client is not None:
            await client.shut()
        if sender is not None:
            closing = asyncio.ensure_future(sender.close())
            await asyncio.wait([closing], timeout=1)
            if not closing.done():
                closing.cancel()
            elif not closing.cancelled():
                closing.exception()  # whatever a background task died of: it is over anyway
        for task in self._outstanding:
            task.cancel()

    # -- sending --------------------------------------------------------------------------------------------------

    async def send(self, partition: Partition, records: Records) -> Awaitable[int]:
        """Hand over. Raises RecordTooLargeError with the row numbers, and then nothing of the records was sent; the
        caller takes those rows out and sends again.

        The awaitable gives the offset after the last record (-1 for no records). It need not be awaited to be checked:
        `send_offsets` and `commit` await all of them and fail if one failed. Raises ConfigurationError for a topic or
        partition that does not exist.
        """
        self._check(in_transaction=True)
        async with self._in_order:
            tp = await self._existing(partition)
            batches = await self._build(records)
            await self._room(sum(batch.size_bytes for batch in batches))
            self._check(in_transaction=True)
            appended = [self._append(batch, tp) for batch in batches]
        delivery = asyncio.ensure_future(self._delivered(appended, partition))
        self._outstanding.add(delivery)
        delivery.add_done_callback(self._settled)
        return delivery

    async def _existing(self, partition: Partition) -> TopicPartition:
        assert self._client is not None
        known = self._client.cluster.partitions_for_topic(partition.topic)
        if known is None:
            try:
                known = await self._client._wait_on_metadata(partition.topic)
            except kafka.UnknownTopicOrPartitionError:
                raise ConfigurationError(
                    f"{self._name}: topic {partition.topic!r} does not exist; create it first"
                ) from None
            except kafka.KafkaError as error:
                raise translated(error, f"{self._name}, topic {partition.topic!r}") from error
        if partition.index not in known:
            raise ConfigurationError(f"{self._name}: {partition} does not exist, the topic has {len(known)} partitions")
        return TopicPartition(partition.topic, partition.index)

    async def _build(self, records: Records) -> list[RecordBatch]:
        settings = self._settings

        def build() -> list[RecordBatch]:
            return record_batches(
                records,
                now_ms=now_ms,
                compression=settings.compression,
                transactional=self._id is not None,
                rows_max=settings.batch_rows_max,
                batch_bytes_max=settings.batch_bytes_max,
                record_bytes_max=settings.record_bytes_max,
            )

        now_ms = _now_ms()
        if records.size_bytes < _IN_THREAD_FROM_BYTES:
            return build()
        return await asyncio.to_thread(build)

    async def _room(self, size_bytes: int) -> None:
        """Wait until the send buffer takes that much (more than the whole buffer goes in alone)."""
        limit = self._settings.buffer_bytes_max
        while self._outstanding and self._buffered_bytes + size_bytes > limit:
            done, _ = await asyncio.wait(
                self._outstanding,
                timeout=self._settings.delivery_timeout_ms / 1000,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if not done:
                raise BrokerUnavailableError(f"{self._name}: {self._buffered_bytes:,} bytes wait for acknowledgement")
            await asyncio.sleep(0)  # lets the callbacks take the finished ones out

    def _append(self, batch: RecordBatch, tp: TopicPartition) -> Any:
        assert self._accumulator._exception is None
        pending = self._accumulator._append_batch(SendableBatch(batch), tp)
        size_bytes = batch.size_bytes
        self._buffered_bytes += size_bytes
        pending.future.add_done_callback(lambda _: self._freed(size_bytes))
        pending._drain_waiter.add_done_callback(_read)
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
            waited = self._settings.delivery_timeout_ms
            raise BrokerUnavailableError(f"{doing}: not acknowledged in {waited} ms") from None
        except (kafka.KafkaError, OSError) as error:
            raise self._because(error, doing) from error
        return end

    def _settled(self, task: asyncio.Task[int]) -> None:
        self._outstanding.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and self._failed is None:
            self._failed = translated(error, self._name, in_transaction=self._id is not None)
            if self._id is None:
                self._over = AmbiguousError(f"{self._failed}; the sequence of batches has a gap: drop the producer")

    async def _acknowledged(self) -> None:
        """Every send so far is on the broker. Raises AbortableError, FencedError, ... for the first that is not."""
        while self._outstanding:
            await asyncio.wait(self._outstanding)
            await asyncio.sleep(0)
        if self._failed is not None:
            known = isinstance(self._failed, FencedError | AmbiguousError | ConfigurationError)
            if known or self._id is None:
                raise self._failed
            raise AbortableError(f"a send of this transaction failed: {self._failed}") from self._failed

    # -- transactions ---------------------------------------------------------------------------------------------

    async def begin(self) -> None:
        self._check(in_transaction=False)
        self._manager.begin_transaction()
        self._offsets_sent = False
        self._failed = None

    async def send_offsets(self, group: str, offsets: Mapping[Partition, Committed]) -> None:
        """Once a transaction, after the sends: waits for all acknowledgements first.

        Where a consumer of this broker object is the group's member that owns the partitions, its generation goes with
        them, and a broker that knows KIP-447 (Kafka 2.5) refuses those of a generation that is over: FencedError.
        """
        self._check(in_transaction=True)
        if not offsets:
            return
        if self._offsets_sent:
            raise ConfigurationError(f"{self._name}: offsets are sent once a transaction, all together")
        await self._acknowledged()
        self._offsets_sent = True
        assert self._sender is not None
        self._sender.member = self._member(group, offsets)
        told = {
            TopicPartition(partition.topic, partition.index): OffsetAndMetadata(known.offset, known.metadata)
            for partition, known in offsets.items()
        }
        future = self._manager.add_offsets_to_txn(told, group)
        future.add_done_callback(_read)
        await self._answered(future, f"{self._name}, sending offsets of group {group!r}")

    def _member(self, group: str, offsets: Mapping[Partition, Committed]) -> Any:
        member = self._find_member(group, tuple(offsets))
        if member != NO_MEMBER and member[0] < 0:
            raise FencedError(f"{self._name}: this process is not in group {group!r} any more")
        return member

    async def commit(self) -> None:
        self._check(in_transaction=True)
        await self._acknowledged()
        await self._end(self._manager.committing_transaction, f"{self._name}, committing")

    async def abort(self) -> None:
        self._check(in_transaction=True)
        if self._manager.state is TransactionState.ABORTABLE_ERROR:
            # aiokafka would end it on its own side only, and the next transaction would commit what this one sent.
            self._over = AmbiguousError(f"{self._name}: the transaction failed; drop the producer, a new one aborts it")
            raise self._over
        await self._end(self._manager.aborting_transaction, f"{self._name}, aborting")
        if self._failed is not None:
            self._over = AmbiguousError(
                f"{self._name}: aborted, but the failed send left a gap in the sequence of batches "
                f"({self._failed}); drop the producer"
            )

    async def _end(self, start: Any, doing: str) -> None:
        try:
            start()
        except (kafka.KafkaError, AssertionError) as error:
            raise self._because(error, doing) from error
        await self._answered(self._manager.wait_for_transaction_end(), doing)

    async def _answered(self, future: Any, doing: str) -> None:
        """The deadline of every transactional request; without an answer the producer is over (fact: a delayed request
        could hit the next transaction)."""
        try:
            async with asyncio.timeout(self._settings.commit_deadline_ms / 1000):
                await asyncio.shield(future)
        except TimeoutError:
            self._over = AmbiguousError(f"{doing}: no answer in {self._settings.commit_deadline_ms} ms")
            raise self._over from None
        except asyncio.CancelledError:
            self._over = AmbiguousError(f"{doing}: was interrupted, its outcome is not known")
            raise
        except Exception as error:
            raise self._because(error, doing) from error

    def _because(self, error: BaseException, doing: str) -> TopicsError:
        """Our error, with what ended the sender rather than what followed from it."""
        ended = self._sender.failure if self._sender is not None else None
        found = translated(ended or error, doing, in_transaction=self._id is not None)
        if ended is not None or isinstance(found, FencedError | AmbiguousError):
            self._over = found
        return found

    def _check(self, *, in_transaction: bool) -> None:
        if self._over is not None:
            raise self._over
        if self._client is None or self._sender is None:
            raise ConfigurationError(f"{self._name} is not started")
        if self._sender.failure is not None:
            raise self._because(self._sender.failure, self._name)
        if self._id is None:
            return
        state = self._manager.state
        is_open = state in (TransactionState.IN_TRANSACTION, TransactionState.ABORTABLE_ERROR)
        if is_open != in_transaction:
            raise ConfigurationError(f"{self._name}: {'begin first' if in_transaction else 'a transaction is open'}")


def _read(future: Any) -> None:
    """Keep asyncio from complaining about an error that is told elsewhere."""
    if not future.cancelled():
        future.exception()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
