"""Reading the memory broker: the reader, and what the group consumer shares with it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

from ..batch import Fetch, Partition
from ..broker import Isolation
from ..errors import ConfigurationError
from .cluster import Cluster
from .faults import Request

T = TypeVar("T")


class Reading:
    """Positions of partitions, `poll`, and the questions about offsets."""

    def __init__(self, cluster: Cluster, isolation: Isolation) -> None:
        self._cluster = cluster
        self._isolation = isolation
        self._positions: dict[Partition, int | None] = {}
        """None: assigned, not sought yet."""
        self._told_caught_up: set[Partition] = set()
        self._turn = 0
        self._running = False

    async def start(self) -> None:
        await self._ask("metadata", lambda: None)
        self._running = True

    async def stop(self) -> None:
        self._running = False
        self._positions = {}
        self._cluster.signal.changed()

    def position(self, partition: Partition) -> int:
        """Raises ConfigurationError for a partition that is not assigned, or that was not sought yet."""
        if partition not in self._positions:
            raise ConfigurationError(f"{partition} is not assigned to this reader")
        position = self._positions[partition]
        if position is None:
            raise ConfigurationError(f"{partition} has no position yet: seek first")
        return position

    async def poll(
        self, *, timeout_ms: int, records_max: int, partitions: Collection[Partition] | None = None
    ) -> list[Fetch]:
        """As the `Reader` protocol says; `records_max` is kept exactly. The timeout is by `broker.clock`."""
        until = self._cluster.clock.now_ms + timeout_ms
        while True:
            changed = self._cluster.signal.next()
            answer = await self._ask("fetch", lambda: self._take(partitions, records_max))
            fetches = [fetch for fetch in answer if self._is_news(fetch)]
            left_ms = until - self._cluster.clock.now_ms
            if fetches or left_ms <= 0:
                return fetches
            if not await self._cluster.clock.wait(changed, left_ms):
                return []

    async def begin_offsets(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        return await self._ask("list_offsets", lambda: {one: self._cluster.log(one).start for one in partitions})

    async def end_offsets(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        end = self._isolation
        return await self._ask("list_offsets", lambda: {one: self._cluster.log(one).end_for(end) for one in partitions})

    async def offsets_at(self, partitions: Collection[Partition], timestamp_ms: int) -> dict[Partition, int]:
        end = self._isolation
        return await self._ask(
            "list_offsets", lambda: {one: self._cluster.log(one).offset_at(timestamp_ms, end) for one in partitions}
        )

    async def _ask(self, request: Request, action: Callable[[], T]) -> T:
        return await self._cluster.ask(request, self, action)

    def _raise_if_over(self) -> None:
        """For the group consumer: raise what ended the membership."""

    def _take(self, wanted: Collection[Partition] | None, records_max: int) -> list[Fetch]:
        """One round over the partitions, another one first each time."""
        if not self._running:
            raise ConfigurationError("this reader is not started, or was stopped")
        self._raise_if_over()
        owned = sorted(partition for partition, position in self._positions.items() if position is not None)
        self._turn += 1
        first = self._turn % max(1, len(owned))
        fetches: list[Fetch] = []
        left = records_max
        for partition in [*owned[first:], *owned[:first]]:
            if left > 0 and (wanted is None or partition in wanted):
                fetch = self._fetch(partition, left)
                if fetch is not None:
                    fetches.append(fetch)
                    left -= len(fetch)
        return fetches

    def _fetch(self, partition: Partition, records_max: int) -> Fetch | None:
        if not self._cluster.has(partition):
            return None  # as with Kafka: deleted, or not there yet
        position = self.position(partition)
        log = self._cluster.log(partition)
        if not log.start <= position <= log.end:
            raise ConfigurationError(
                f"{partition}: offset {position} is out of range: the log has offsets from {log.start} to {log.end}"
            )
        return log.read(position, records_max, self._isolation)

    def _is_news(self, fetch: Fetch) -> bool:
        """Moves the position, now that the answer is here: a lost one must not. Whether there is anything to tell."""
        partition, told = fetch.partition, fetch.partition in self._told_caught_up
        if self._positions.get(partition) != fetch.first_offset:
            return False  # sought elsewhere, or given up, while the answer was under way
        self._positions[partition] = fetch.next_offset
        if fetch.caught_up:
            self._told_caught_up.add(partition)
        else:
            self._told_caught_up.discard(partition)
        return len(fetch) > 0 or fetch.next_offset > fetch.first_offset or (fetch.caught_up and not told)

    def _seek(self, partition: Partition, offset: int) -> None:
        self._positions[partition] = offset
        self._told_caught_up.discard(partition)
        self._cluster.signal.changed()


class MemoryReader(Reading):
    """Reads partitions it was told to read, outside any group."""

    def assign(self, positions: Mapping[Partition, int]) -> None:
        """Read exactly these partitions, each from this offset. Replaces what was assigned.

        Raises ConfigurationError when it is not started.
        """
        if not self._running:
            raise ConfigurationError("this reader is not started, or was stopped")
        self._positions = {}
        self._told_caught_up = set()
        for partition, offset in positions.items():
            self._seek(partition, offset)
