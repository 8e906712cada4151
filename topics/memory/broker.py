"""A broker in memory that keeps Kafka's promises: for tests of pipelines, with no process, no port and no sleeping."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

from ..batch import Partition
from ..broker import Assignor, Committed, Isolation, RebalanceListener, TopicInfo, TopicSpec
from .clock import MemoryClock
from .cluster import Cluster, MemorySettings
from .consumer import MemoryGroupConsumer
from .faults import Faults, Request
from .producer import MemoryProducer
from .reader import MemoryReader

T = TypeVar("T")


class MemoryBroker:
    """Implements `topics.broker.Broker`. One object is the cluster: workers that share it are clients of one Kafka.

    `clock`: what time it is and how it moves (`MemoryClock`, by default the wall clock). `faults`: what goes wrong
    (`Faults`). `settings`: limits and timeouts (`MemorySettings`).

        broker = MemoryBroker(clock=MemoryClock(now_ms=0))
        await broker.create_topics([TopicSpec("clicks", partitions=2)])
        broker.faults.lose("commit", 3, "after")
        broker.clock.advance(10_000)

    Everything lives in one event loop; nothing is written anywhere; `stop` keeps the data, so that a second start finds it.
    """

    def __init__(self, *, clock: MemoryClock | None = None, settings: MemorySettings | None = None) -> None:
        self.clock = clock or MemoryClock()
        self.faults = Faults()
        self._cluster = Cluster(self.clock, settings or MemorySettings(), self.faults)

    async def start(self) -> None:
        """Raises BrokerUnavailableError while `faults.unreachable`."""
        await self._ask("metadata", lambda: None)

    async def stop(self) -> None:
        """Nothing to close: each client is stopped by who opened it."""

    def producer(self, *, transactional_id: str | None = None) -> MemoryProducer:
        return MemoryProducer(self._cluster, transactional_id)

    def reader(self, *, isolation: Isolation = "read_committed") -> MemoryReader:
        return MemoryReader(self._cluster, isolation)

    def consumer(
        self,
        *,
        group: str,
        topics: Collection[str],
        assignor: Assignor,
        listener: RebalanceListener,
        instance_id: str | None = None,
        isolation: Isolation = "read_committed",
    ) -> MemoryGroupConsumer:
        return MemoryGroupConsumer(
            self._cluster,
            group=group,
            topics=topics,
            assignor=assignor,
            listener=listener,
            instance_id=instance_id,
            isolation=isolation,
        )

    async def describe_topics(self, names: Collection[str]) -> dict[str, TopicInfo]:
        return await self._ask("metadata", lambda: self._cluster.describe(names))

    async def list_topics(self) -> list[str]:
        return await self._ask("metadata", self._cluster.names)

    async def create_topics(self, specs: Sequence[TopicSpec]) -> None:
        await self._ask("create_topics", lambda: self._cluster.create(specs))

    async def delete_topics(self, names: Collection[str]) -> None:
        await self._ask("delete_topics", lambda: self._cluster.delete(names))

    async def delete_records(self, before: Mapping[Partition, int]) -> None:
        await self._ask("delete_records", lambda: self._cluster.delete_records(before))

    async def group_offsets(self, group: str) -> dict[Partition, Committed]:
        """What is committed now; offsets of open transactions are not."""
        known = self._cluster.groups
        return await self._ask("group_offsets", lambda: known[group].offsets.all() if group in known else {})

    async def group_members(self, group: str) -> list[str]:
        known = self._cluster.groups
        members = known[group].members if group in known else {}
        return await self._ask("metadata", lambda: sorted(one.instance_id or name for name, one in members.items()))

    async def delete_group(self, group: str) -> None:
        await self._ask("delete_group", lambda: self._cluster.delete_group(group))

    def add_partitions(self, topic: str, count: int) -> None:
        """What an administrator does: the topic has `count` partitions from now on. Raises ConfigurationError."""
        self._cluster.add_partitions(topic, count)

    def compact(self, topic: str, *, keep_tombstones: bool = True) -> None:
        """Compact now: below the last stable offset keep the last record of each key. Offsets stay, with gaps.

        `keep_tombstones=False` also does what Kafka does a day later, and removes the keys that were deleted.
        """
        self._cluster.compact(topic, keep_tombstones=keep_tombstones)

    async def _ask(self, request: Request, action: Callable[[], T]) -> T:
        return await self._cluster.ask(request, self, action)
