"""A producer of column batches: idempotent, or transactional.

    NEW -start-> READY -begin-> OPEN -send*, send_offsets?-> OPEN -commit | abort-> READY      any -stop | drop-> CLOSED
                                                                  any lost answer, gap or fencing -> OVER -drop-> CLOSED

An OVER producer refuses everything but `drop` and `stop` with the error that ended it. It is over after every failed
batch, too: the broker has seen a gap in its sequence numbers and would refuse what follows.

Built of aiokafka's client, accumulator and sender (ours: `transactions.py`); batches come from `topics/record_batch.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any, Final

import aiokafka.errors as kafka
from aiokafka.producer.message_accumulator import MessageAccumulator
from aiokafka.producer.transaction_manager import TransactionManager, TransactionState
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from ..batch import Partition, Records
from ..broker import Committed
from ..errors import (
    AmbiguousError,
    BrokerUnavailableError,
    ConfigurationError,
    FencedError,
    TopicsError,
)
from .client import Client
from .errors import translated
from .sending import SendBuffer, read
from .settings import KafkaSettings
from .transactions import NO_MEMBER, FindMember, TransactionSender

_NO_TIMEOUT_MS: Final = (1 << 31) - 1


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
        self._buffer: SendBuffer | None = None
        self._over: TopicsError | None = None
        self._offsets_sent = False

    # -- life -----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Raises BrokerUnavailableError, AuthorizationError, ConfigurationError.

        What failed to start, was stopped or dropped may be started again: that is a new producer.
        """
        settings = self._settings
        if self._client is not None:
            raise ConfigurationError(f"{self._name} is started already")
        self._over = None
        doing = f"starting {self._name}"
        self._client = Client(settings)
        try:
            async with asyncio.timeout(settings.commit_deadline_ms / 1000):
                await self._client.bootstrap()
                self._sender = self._make_sender(self._client)
                self._buffer = SendBuffer(
                    self._client,
                    self._accumulator,
                    settings,
                    name=self._name,
                    transactional=self._id is not None,
                    because=self._because,
                )
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
                    await self._sends().acknowledged()
            except TopicsError:
                pass
        await self._close()

    async def drop(self) -> None:
        await self._close()

    async def _close(self) -> None:
        client, sender = self._client, self._sender
        self._client = self._sender = None
        self._over = self._over or AmbiguousError(f"{self._name} was closed")
        if sender is not None:
            sender.end(kafka.ProducerClosed("it was closed"))
        if client is not None:
            await client.shut()
        if sender is not None:
            closing = asyncio.ensure_future(sender.close())
            await asyncio.wait([closing], timeout=1)
            if not closing.done():
                closing.cancel()
            elif not closing.cancelled():
                closing.exception()  # whatever a background task died of: it is over anyway

    # -- sending --------------------------------------------------------------------------------------------------

    async def send(self, partition: Partition, records: Records) -> Awaitable[int]:
        """Hand over. Raises RecordTooLargeError with the row numbers, and then nothing of the records was sent; the
        caller takes those rows out and sends again.

        The awaitable gives the offset after the last record (-1 for no records). It need not be awaited to be checked:
        `send_offsets` and `commit` await all of them and fail if one failed. Raises ConfigurationError for a topic or
        partition that does not exist.
        """
        self._check(in_transaction=True)
        return await self._sends().send(partition, records, lambda: self._check(in_transaction=True))

    def _sends(self) -> SendBuffer:
        assert self._buffer is not None
        return self._buffer

    # -- transactions ---------------------------------------------------------------------------------------------

    async def begin(self) -> None:
        if self._id is None:
            raise ConfigurationError(f"{self._name} has no transactional id")
        self._check(in_transaction=False)
        self._manager.begin_transaction()
        self._offsets_sent = False
        self._sends().failed = None

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
        await self._sends().acknowledged()
        self._offsets_sent = True
        assert self._sender is not None
        self._sender.member = self._member(group, offsets)
        told = {
            TopicPartition(partition.topic, partition.index): OffsetAndMetadata(known.offset, known.metadata)
            for partition, known in offsets.items()
        }
        future = self._manager.add_offsets_to_txn(told, group)
        future.add_done_callback(read)
        await self._answered(future, f"{self._name}, sending offsets of group {group!r}")

    def _member(self, group: str, offsets: Mapping[Partition, Committed]) -> Any:
        member = self._find_member(group, tuple(offsets))
        if member != NO_MEMBER and member[0] < 0:
            raise FencedError(f"{self._name}: this process is not in group {group!r} any more")
        return member

    async def commit(self) -> None:
        self._check(in_transaction=True)
        await self._sends().acknowledged()
        await self._end(self._manager.committing_transaction, f"{self._name}, committing")

    async def abort(self) -> None:
        self._check(in_transaction=True)
        if self._manager.state is TransactionState.ABORTABLE_ERROR:
            # aiokafka would end it on its own side only, and the next transaction would commit what this one sent.
            self._over = AmbiguousError(f"{self._name}: the transaction failed; drop the producer, a new one aborts it")
            raise self._over
        await self._end(self._manager.aborting_transaction, f"{self._name}, aborting")
        if (failed := self._sends().failed) is not None:
            self._over = AmbiguousError(
                f"{self._name}: aborted, but the failed send left a gap in the sequence of batches ({failed}); "
                "drop the producer"
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
            if (failed := self._sends().failed) is not None:
                raise AmbiguousError(f"{failed}; the sequence of batches has a gap: drop the producer") from failed
            return
        state = self._manager.state
        is_open = state in (TransactionState.IN_TRANSACTION, TransactionState.ABORTABLE_ERROR)
        if is_open != in_transaction:
            raise ConfigurationError(f"{self._name}: {'begin first' if in_transaction else 'a transaction is open'}")
