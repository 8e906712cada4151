"""Reads partitions as columns: the reader, and what the group consumer shares with it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Any, Final

import aiokafka.errors as kafka
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.structs import TopicPartition

from ..batch import Fetch, Partition
from ..broker import Isolation
from ..errors import BrokerUnavailableError, ConfigurationError
from .client import Client
from .errors import translated
from .fetcher import ColumnFetcher, OffsetOutOfRange
from .settings import KafkaSettings

_EARLIEST: Final = -2
_LATEST: Final = -1


class Reading:
    """A connection, a subscription and a fetcher; `poll` and the questions about offsets."""

    def __init__(self, settings: KafkaSettings, isolation: Isolation, *, request_timeout_ms: int) -> None:
        self._settings = settings
        self._isolation = isolation
        self._request_timeout_ms = request_timeout_ms
        self._client: Client | None = None
        self._subscription: Any = None
        self._fetcher: ColumnFetcher | None = None

    async def start(self) -> None:
        """Connects. Raises BrokerUnavailableError, AuthorizationError."""
        self._client = Client(self._settings, request_timeout_ms=self._request_timeout_ms)
        try:
            await self._client.bootstrap()
        except (kafka.KafkaError, OSError) as error:
            await self._client.shut()
            raise translated(error, f"connecting to {self._settings.bootstrap_servers}") from error
        self._subscription = SubscriptionState()
        self._fetcher = ColumnFetcher(self._client, self._subscription, self._settings, self._isolation)

    async def stop(self) -> None:
        """Closes the connections; twice is fine."""
        fetcher, client = self._fetcher, self._client
        self._fetcher = self._client = None
        if fetcher is not None:
            await fetcher.close()
        if client is not None:
            await client.shut()

    def position(self, partition: Partition) -> int:
        """Raises ConfigurationError for a partition that is not assigned, or that was not sought yet."""
        state = self._state(partition)
        if not state.has_valid_position:
            raise ConfigurationError(f"{partition} has no position yet: seek first")
        return int(state.position)

    async def poll(
        self, *, timeout_ms: int, records_max: int, partitions: Collection[Partition] | None = None
    ) -> list[Fetch]:
        """As the `Reader` protocol says. At most about `4 * partition_fetch_bytes_max` bytes a partition.

        While the cluster cannot be reached the answer is [], and connecting goes on behind it with a back-off.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_ms / 1000
        wanted = None if partitions is None else {_tp(partition) for partition in partitions}
        while True:
            self._raise_if_over()
            fetches = await self._take(wanted, records_max)
            left_s = until - loop.time()
            if fetches or left_s <= 0:
                return fetches
            await self._wait(left_s)

    async def _take(self, wanted: Collection[TopicPartition] | None, records_max: int) -> list[Fetch]:
        fetcher = self._running()
        if self._subscription.subscription is None or self._subscription.reassignment_in_progress:
            return []
        bytes_max = 4 * self._settings.partition_fetch_bytes_max
        try:
            return fetcher.take(wanted, records_max=records_max, bytes_max=bytes_max)
        except OffsetOutOfRange as error:
            ends = await self.begin_offsets([error.partition]), await self.end_offsets([error.partition])
            raise ConfigurationError(
                f"{error}: the log has offsets from {ends[0][error.partition]} to {ends[1][error.partition]}"
            ) from None

    async def _wait(self, timeout_s: float) -> None:
        try:
            await self._running().wait(timeout_s)
        except kafka.KafkaError as error:
            self._raise_if_over()
            raise translated(error, "waiting for records") from error

    def _raise_if_over(self) -> None:
        """For the group consumer: raise what ended the membership."""

    async def begin_offsets(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        return await self._offsets(partitions, _EARLIEST)

    async def end_offsets(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        return await self._offsets(partitions, _LATEST)

    async def offsets_at(self, partitions: Collection[Partition], timestamp_ms: int) -> dict[Partition, int]:
        found = await self._offsets(partitions, max(timestamp_ms, 0))
        absent = [partition for partition, offset in found.items() if offset < 0]
        return found | (await self.end_offsets(absent) if absent else {})

    async def _offsets(self, partitions: Collection[Partition], when: int) -> dict[Partition, int]:
        """Raises BrokerUnavailableError after three request timeouts (also for a partition that does not exist)."""
        if not partitions:
            return {}
        fetcher = self._running()
        assert self._client is not None, "it runs"
        await self._client.ask_about({partition.topic for partition in partitions})
        asked = {_tp(partition): when for partition in partitions}
        doing = f"asking for offsets of {', '.join(sorted(map(str, partitions)))}"
        try:
            found = await fetcher._retrieve_offsets(asked, 3 * self._settings.request_timeout_ms)
        except kafka.KafkaTimeoutError as error:
            raise BrokerUnavailableError(f"{doing}: {error}; does the topic exist?") from error
        except (kafka.KafkaError, OSError) as error:
            raise translated(error, doing) from error
        return {Partition(tp.topic, tp.partition): int(offset) for tp, (offset, _) in found.items()}

    def _state(self, partition: Partition) -> Any:
        self._running()
        subscription = self._subscription.subscription
        assignment = None if subscription is None else subscription.assignment
        state = None if assignment is None else assignment.state_value(_tp(partition))
        if state is None:
            raise ConfigurationError(f"{partition} is not assigned to this reader")
        return state

    def _running(self) -> ColumnFetcher:
        if self._fetcher is None:
            raise ConfigurationError("this reader is not started, or was stopped")
        return self._fetcher

    def _seek(self, partition: Partition, offset: int) -> None:
        self._state(partition)
        fetcher = self._running()
        fetcher.seek_to(_tp(partition), offset)
        fetcher.forget_end(_tp(partition))


class KafkaReader(Reading):
    """Reads partitions it was told to read, outside any group."""

    def __init__(self, settings: KafkaSettings, isolation: Isolation) -> None:
        super().__init__(settings, isolation, request_timeout_ms=settings.request_timeout_ms)

    def assign(self, positions: Mapping[Partition, int]) -> None:
        """Read exactly these partitions, each from this offset. Replaces what was assigned; [] stops reading."""
        fetcher = self._running()
        assert self._client is not None
        fetcher._told_caught_up.clear()
        fetcher._unheard.clear()
        self._client.set_topics({partition.topic for partition in positions})
        self._subscription.assign_from_user([_tp(partition) for partition in positions])
        for partition, offset in positions.items():
            self._seek(partition, offset)


def _tp(partition: Partition) -> TopicPartition:
    return TopicPartition(partition.topic, partition.index)
