"""aiokafka's sender with four transactional requests done otherwise.

- AddPartitionsToTxn right after a commit is refused for a moment (CONCURRENT_TRANSACTIONS): asked again after 3 ms, not 20.
- Offsets of a transaction are sent with the group member they belong to where the broker offers it (KIP-447): a zombie's
  are refused although its producer was not fenced yet. A second line of defence, the producer's epoch being the first.
- EndTxn is sent once. Where its answer is lost nobody knows what happened, and a delayed one could end the *next*
  transaction (KAFKA-17754): so the producer is over, not retried.
- Error 13 to TxnOffsetCommit, which Kafka 3.7.0 answers, is retried.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from typing import Any, Final

import aiokafka.errors as kafka
from aiokafka.client import CoordinationType
from aiokafka.producer.sender import AddPartitionsToTxnHandler, EndTxnHandler, Sender, TxnOffsetCommitHandler

from .errors import (
    FENCED_INSTANCE_ID,
    ILLEGAL_GENERATION,
    NETWORK_EXCEPTION,
    PRODUCER_FENCED,
    UNKNOWN_MEMBER,
    OutcomeUnknown,
    StaleMember,
    root_cause,
)
from .protocol import MemberTxnOffsetCommitRequest

_CONCURRENT_TRANSACTIONS: Final = 51
_ADD_AGAIN_S: Final = 0.003

TransactionMember = tuple[int, str, str | None]
"""Generation, member id, instance id; (-1, "", None): the broker checks nothing."""

NO_MEMBER: Final[TransactionMember] = (-1, "", None)


class TransactionSender(Sender):  # type: ignore[misc]
    """`failure` is what ended it; `member` is asked at each offsets request."""

    failure: BaseException | None = None
    member: TransactionMember = NO_MEMBER

    def _fail_all(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self.end(root_cause(task.exception() or Exception()))

    def end(self, error: BaseException) -> None:
        """Nothing more is to be done with this producer: whoever waits for anything is told why."""
        self.failure = self.failure or error
        manager = self._txn_manager
        if manager._transaction_waiter is None:
            manager._transaction_waiter = asyncio.get_running_loop().create_future()
        self._message_accumulator.fail_all(error)
        manager.fatal_error(error)
        manager._transaction_waiter.exception()  # read, or asyncio complains when nobody waits

    async def _do_add_partitions_to_txn(self, tps: Any) -> Any:
        return await _AddPartitions(self, tps).do(await self._coordinator())

    async def _do_txn_offset_commit(self, offsets: Any, group_id: str) -> None:
        if not offsets:
            return
        try:
            node = await self._find_coordinator(CoordinationType.GROUP, group_id)
        except kafka.GroupAuthorizationFailedError as error:
            self._txn_manager.error_transaction(error)
            return
        await _CommitOffsets(self, offsets, group_id).do(node)

    async def _do_txn_commit(self, commit_result: Any) -> None:
        await self._message_accumulator.flush_for_commit()
        manager = self._txn_manager
        if manager.is_fatal_error():
            return
        if manager.is_empty_transaction():
            manager.complete_transaction()
            return
        await _EndOnce(self, commit_result).do(await self._coordinator())

    async def _coordinator(self) -> Any:
        return await self._find_coordinator(CoordinationType.TRANSACTION, self._txn_manager.transactional_id)


class _AddPartitions(AddPartitionsToTxnHandler):  # type: ignore[misc]
    def handle_response(self, response: Any) -> float | None:
        backoff: float | None = super().handle_response(response)
        codes = {code for _, partitions in response.errors for _, code in partitions}
        return _ADD_AGAIN_S if backoff is not None and _CONCURRENT_TRANSACTIONS in codes else backoff


class _CommitOffsets(TxnOffsetCommitHandler):  # type: ignore[misc]
    def create_request(self) -> Any:
        manager = self._sender._txn_manager
        topics: defaultdict[str, list[tuple[int, int, str]]] = defaultdict(list)
        for tp, known in sorted(self._offsets.items()):
            topics[tp.topic].append((tp.partition, known.offset, known.metadata))
        return MemberTxnOffsetCommitRequest(
            (manager.transactional_id, self._group_id, manager.producer_id, manager.producer_epoch),
            self._sender.member,
            list(topics.items()),
        )

    def handle_response(self, response: Any) -> float | None:
        rows = [(topic[0], [(row[0], row[1]) for row in topic[1]]) for topic in response.errors]
        codes = {code for _, partitions in rows for _, code in partitions}
        if codes & {ILLEGAL_GENERATION, UNKNOWN_MEMBER, FENCED_INSTANCE_ID}:
            self._sender._txn_manager.error_transaction(
                StaleMember(f"group {self._group_id!r} refuses offsets of generation {self._sender.member[0]}")
            )
            return None
        if PRODUCER_FENCED in codes:
            raise kafka.ProducerFenced
        if NETWORK_EXCEPTION in codes:
            return float(self._default_backoff)
        response.errors = rows
        backoff: float | None = super().handle_response(response)
        return backoff


class _EndOnce(EndTxnHandler):  # type: ignore[misc]
    async def do(self, node_id: Any) -> bool:
        client = self._sender.client
        if not await client.ready(node_id, group=self.group):
            await asyncio.sleep(self.handle_error())  # nothing was sent
            return False
        try:
            response = await client.send(node_id, self.create_request(), group=self.group)
        except kafka.NodeNotReadyError:
            await asyncio.sleep(self.handle_error())
            return False
        except kafka.KafkaError as error:
            self._sender.end(OutcomeUnknown(f"the answer was lost: {error!r}"))
            return True
        backoff = self.handle_response(response)
        if backoff is None:
            return True
        await asyncio.sleep(backoff)
        return False


FindMember = Callable[[str, Any], TransactionMember]
"""(group, partitions) -> the member of the group in this process that owns them."""
