"""aiokafka's background fetcher, keeping `RecordSet`s instead of record iterators.

Taken over from it: one request a broker at a time, at most one unread answer a partition (that is the bound on memory:
`partition_fetch_bytes_max` a partition before decompression), leaders followed, requests in flight dropped with their
assignment. Ours: what an answer becomes; partitions without a position are left alone instead of asking the group for one;
readers are woken when a partition has become caught up, so that idleness can be decided.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any, Final

import aiokafka.errors as kafka
from aiokafka.consumer.fetcher import READ_COMMITTED, Fetcher
from aiokafka.structs import TopicPartition

from ..batch import Fetch, Partition
from ..errors import BrokerUnavailableError, ConfigurationError, TopicsError
from .errors import translated
from .fetch import RecordSet, moved
from .settings import KafkaSettings

_LEADERLESS_S: Final = 0.1
_MISSING_S: Final = 5.0


class _Unread:
    """A partition's unread answer. Its broker is asked for other partitions after a short while all the same."""

    def __init__(self, records: RecordSet, assignment: Any, backoff_s: float) -> None:
        self.records = records
        self.assignment = assignment
        self._until = asyncio.get_running_loop().time() + backoff_s

    def calculate_backoff(self) -> float:
        return max(0.0, self._until - asyncio.get_running_loop().time())


class _Failed:
    """An error to be raised by the next poll of the partition."""

    def __init__(self, error: TopicsError) -> None:
        self.error = error

    def calculate_backoff(self) -> float:
        return 0.0


class _Positioned:
    """An assignment without the partitions that have no position yet."""

    def __init__(self, assignment: Any) -> None:
        self.tps = [tp for tp in assignment.tps if assignment.state_value(tp).has_valid_position]
        self.state_value = assignment.state_value


class ColumnFetcher(Fetcher):  # type: ignore[misc]
    """Give it a client and a subscription; `take` what it fetched."""

    def __init__(self, client: Any, subscription: Any, settings: KafkaSettings, isolation: str) -> None:
        self._told_caught_up: set[TopicPartition] = set()
        self._unheard: set[TopicPartition] = set()
        """Told to be caught up, and their broker did not answer since: nobody knows."""
        self._missing_since: dict[TopicPartition, float] = {}
        self._asked_leaders_at = 0.0
        super().__init__(
            client,
            subscription,
            fetch_max_bytes=settings.fetch_bytes_max,
            fetch_max_wait_ms=settings.fetch_max_wait_ms,
            max_partition_fetch_bytes=settings.partition_fetch_bytes_max,
            check_crcs=settings.check_crcs,
            retry_backoff_ms=max(settings.retry_backoff_ms, 50),
            auto_offset_reset="none",
            isolation_level=isolation,
        )

    def take(self, partitions: Collection[TopicPartition] | None, *, records_max: int, bytes_max: int) -> list[Fetch]:
        """What is there now, positions moved on. Raises a partition's error when nothing else is to be given out."""
        fetches: list[Fetch] = []
        left = records_max
        for tp in list(self._records):
            if left <= 0 or (partitions is not None and tp not in partitions):
                continue
            unread = self._records[tp]
            if isinstance(unread, _Failed):
                if not fetches:
                    self._done(tp)
                    raise unread.error
                continue
            fetch = self._take_one(tp, unread, left, bytes_max)
            if fetch is not None:
                fetches.append(fetch)
                left -= len(fetch)
        fetches += self._no_longer_caught_up(partitions)
        fetches += self._caught_up(partitions, {fetch.partition for fetch in fetches})
        return fetches

    def _take_one(self, tp: TopicPartition, unread: _Unread, records_max: int, bytes_max: int) -> Fetch | None:
        records = unread.records
        state = unread.assignment.state_value(tp) if unread.assignment.active else None
        if state is None or state.position != records.next_offset:
            self._done(tp)  # rebalanced, or somebody sought elsewhere
            return None
        try:
            fetch = records.take(records_max=records_max, bytes_max=bytes_max)
        except TopicsError:
            self._done(tp)
            raise
        state.consumed_to(fetch.next_offset)
        if records.exhausted:
            self._done(tp)
        if len(fetch) == 0 and fetch.next_offset == fetch.first_offset:
            return None
        (self._told_caught_up.add if fetch.caught_up else self._told_caught_up.discard)(tp)
        return fetch

    def _done(self, tp: TopicPartition) -> None:
        del self._records[tp]
        self._notify(self._wait_consume_future)

    def _caught_up(self, partitions: Collection[TopicPartition] | None, given: Collection[Partition]) -> list[Fetch]:
        """Partitions that have become caught up without a record or a move to tell it."""
        fetches = []
        for tp in self._newly_caught_up():
            partition = Partition(tp.topic, tp.partition)
            if partition in given or (partitions is not None and tp not in partitions):
                continue
            self._told_caught_up.add(tp)
            state = self._subscriptions.subscription.assignment.state_value(tp)
            fetches.append(moved(partition, state.position, self._end_of(state)))
        return fetches

    def _lose_sight(self, assignment: Any, tps: Collection[TopicPartition]) -> None:
        """Their broker did not answer. Records may come to them meanwhile."""
        for tp in self._told_caught_up.intersection(tps):
            self._told_caught_up.discard(tp)
            self._unheard.add(tp)
            if assignment.active:
                assignment.state_value(tp).highwater = None

    def _no_longer_caught_up(self, partitions: Collection[TopicPartition] | None) -> list[Fetch]:
        """Of partitions out of reach: empty fetches whose end is one further."""
        told = {tp for tp in self._unheard if partitions is None or tp in partitions}
        self._unheard -= told
        subscription = self._subscriptions.subscription
        if not told or subscription is None or subscription.assignment is None:
            return []
        assignment = subscription.assignment
        places = [(tp, assignment.state_value(tp)) for tp in sorted(told & set(assignment.tps))]
        return [
            moved(Partition(tp.topic, tp.partition), state.position, state.position + 1)
            for tp, state in places
            if state.has_valid_position and tp not in self._told_caught_up
        ]

    def _newly_caught_up(self) -> list[TopicPartition]:
        subscription = self._subscriptions.subscription
        if subscription is None or subscription.assignment is None:
            return []
        state_of = subscription.assignment.state_value
        return [
            tp
            for tp in subscription.assignment.tps
            if tp not in self._told_caught_up and tp not in self._records and self._at_end(state_of(tp))
        ]

    def _at_end(self, state: Any) -> bool:
        return state.has_valid_position and state.highwater is not None and state.position >= self._end_of(state)

    def _end_of(self, state: Any) -> int:
        if self._isolation_level == READ_COMMITTED and state.lso is not None and state.lso >= 0:
            return int(state.lso)
        return int(state.highwater)

    def forget_end(self, tp: TopicPartition) -> None:
        """After a seek: what was known of the end belongs to another position."""
        self._told_caught_up.discard(tp)
        self._unheard.discard(tp)
        state = self._subscriptions.subscription.assignment.state_value(tp)
        state.highwater = state.lso = None

    async def wait(self, timeout_s: float) -> None:
        """Until something was fetched, a partition is caught up, or the time is over. Raises the group's error."""
        waiter = self._create_fetch_waiter()
        done, _ = await asyncio.wait([waiter], timeout=timeout_s)
        if done:
            waiter.result()
        else:
            waiter.cancel()

    def _get_actions_per_node(self, assignment: Any) -> Any:
        positioned = _Positioned(assignment)
        requests, resets, timeout_s, no_leader, resumed = super()._get_actions_per_node(positioned)
        if no_leader:
            # The stock loop asks for metadata again as soon as it has an answer, hundreds of times a second.
            now = asyncio.get_running_loop().time()
            no_leader = now - self._asked_leaders_at >= _LEADERLESS_S
            self._asked_leaders_at = now if no_leader else self._asked_leaders_at
            timeout_s = min(timeout_s, _LEADERLESS_S)
            self._tell_missing(positioned.tps, now)
        return requests, resets, timeout_s, no_leader, resumed

    def _tell_missing(self, tps: Collection[TopicPartition], now: float) -> None:
        """A topic that brokers have not known for a while was deleted; without a leader it only waits for one."""
        for tp in tps:
            if self._client.cluster.partitions_for_topic(tp.topic):
                self._missing_since.pop(tp, None)
            elif now - self._missing_since.setdefault(tp, now) > _MISSING_S and tp not in self._records:
                self._missing_since.pop(tp)
                self._records[tp] = _Failed(ConfigurationError(f"topic {tp.topic!r} does not exist (any more)"))
                for waiter in list(self._fetch_waiters):
                    self._notify(waiter)

    async def _proc_fetch_request(self, assignment: Any, node_id: int, request: Any) -> bool:
        try:
            return await self._fetch(assignment, node_id, request)
        except asyncio.CancelledError:
            return False  # closed, or the assignment is over

    async def _fetch(self, assignment: Any, node_id: int, request: Any) -> bool:
        try:
            response = await self._client.send(node_id, request)
        except kafka.KafkaError:
            asked_for = {TopicPartition(topic, row[0]) for topic, rows in request.topics for row in rows}
            self._lose_sight(assignment, asked_for)
            await asyncio.sleep(self._retry_backoff)
            return False
        if not assignment.active:
            return False
        asked = {TopicPartition(topic, row[0]): row[1] for topic, partitions in request.topics for row in partitions}
        woken = retry = False
        for topic, partitions in response.topics:
            for partition, code, highwater, *rest in partitions:
                tp = TopicPartition(topic, partition)
                state = assignment.state_value(tp)
                if state.has_valid_position and state.position == asked[tp]:
                    added = self._answered(tp, assignment, code, highwater, rest)
                    if code:
                        self._lose_sight(assignment, [tp])
                    woken |= added
                    retry |= bool(code) and not added
        if retry and not woken:
            await asyncio.sleep(self._retry_backoff)
        return woken or bool(self._newly_caught_up())

    def _answered(self, tp: TopicPartition, assignment: Any, code: int, highwater: int, rest: list[Any]) -> bool:
        """`rest`: [last stable offset, log start offset (v5+), aborted transactions, records]; v11 adds a replica."""
        if code:
            return self._refused(tp, code, assignment.state_value(tp).position)
        state = assignment.state_value(tp)
        stable, aborted = (rest[0], _aborted(rest)) if len(rest) > 1 else (None, None)
        state.highwater, state.lso = highwater, stable
        if not rest[-1]:
            return False
        records = RecordSet(
            Partition(tp.topic, tp.partition),
            rest[-1],
            fetch_offset=state.position,
            end_offset=self._end_of(state),
            aborted=aborted,
            read_committed=self._isolation_level == READ_COMMITTED,
            check_crcs=self._check_crcs,
        )
        try:
            records.check_not_cut()
        except ConfigurationError as error:
            self._records[tp] = _Failed(error)
        else:
            self._records[tp] = _Unread(records, assignment, self._prefetch_backoff)
        return True

    def _refused(self, tp: TopicPartition, code: int, position: int) -> bool:
        kind = kafka.for_code(code)
        partition = Partition(tp.topic, tp.partition)
        if kind is kafka.OffsetOutOfRangeError:
            error: TopicsError = OffsetOutOfRange(partition, position)
        elif kind is kafka.TopicAuthorizationFailedError:
            error = translated(kind(tp.topic), f"reading {partition}")
        elif getattr(kind, "retriable", False) or kind is kafka.UnknownTopicOrPartitionError:
            self._client.force_metadata_update()
            return False
        else:
            error = BrokerUnavailableError(f"reading {partition} at offset {position}: {kind.__name__}")
        self._records[tp] = _Failed(error)
        return True


class OffsetOutOfRange(ConfigurationError):
    """The position is not in the log (any more); the poll adds both ends."""

    def __init__(self, partition: Partition, position: int) -> None:
        super().__init__(f"{partition}: offset {position} is out of range")
        self.partition = partition
        self.position = position


def _aborted(rest: list[Any]) -> list[tuple[int, int]]:
    entries = next((part for part in rest[1:-1] if isinstance(part, list)), None)
    return [(producer, first) for producer, first in entries or ()]
