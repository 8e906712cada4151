"""What the broker keeps: topics with their logs, groups, transactional ids. Clients reach it by `ask` only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from ..batch import Partition
from ..broker import TopicInfo, TopicSpec
from ..errors import ConfigurationError
from .clock import MemoryClock, Signal
from .faults import Faults, Request
from .groups import Group
from .log import PartitionLog
from .offsets import GroupOffsets
from .transactions import TransactionCoordinator

T = TypeVar("T")

_CLEANUP: Final = "cleanup.policy"


@dataclass(frozen=True, slots=True)
class MemorySettings:
    """Limits and times of a memory broker; the defaults are a real broker's or our Kafka client's."""

    default_partitions: int = 1
    record_bytes_max: int = 1_048_588
    """`message.max.bytes`; a topic's own `max.message.bytes` goes before."""
    buffer_bytes_max: int = 32 << 20
    """What a producer queues before `send` waits."""
    session_timeout_ms: int = 10_000
    rebalance_timeout_ms: int = 10_000
    transaction_timeout_ms: int = 60_000
    offsets_timeout_ms: int = 30_000
    """How long `committed` waits for offsets to become stable."""


@dataclass(frozen=True, slots=True)
class _Topic:
    info: TopicInfo
    logs: tuple[PartitionLog, ...]


class Cluster:
    """The state behind a `MemoryBroker`. Synchronous, but for `ask`."""

    def __init__(self, clock: MemoryClock, settings: MemorySettings, faults: Faults) -> None:
        self.clock = clock
        self.settings = settings
        self.faults = faults
        self.signal = Signal()
        self.groups: dict[str, Group] = {}
        self.transactions = TransactionCoordinator(
            clock, settings.transaction_timeout_ms, self.offsets_of, self.signal.changed
        )
        self._topics: dict[str, _Topic] = {}
        self._made = 0

    async def ask(self, request: Request, client: object, action: Callable[[], T]) -> T:
        """A request of a client: takes one turn of the loop, and meets the faults."""
        await asyncio.sleep(0)
        return self.faults.around(request, client, action)

    def log(self, partition: Partition) -> PartitionLog:
        """Raises ConfigurationError for a topic or partition that does not exist."""
        topic = self._topics.get(partition.topic)
        if topic is None:
            raise ConfigurationError(f"topic {partition.topic!r} does not exist; create it first")
        if not 0 <= partition.index < len(topic.logs):
            raise ConfigurationError(f"{partition} does not exist: the topic has {len(topic.logs)} partitions")
        return topic.logs[partition.index]

    def has(self, partition: Partition) -> bool:
        topic = self._topics.get(partition.topic)
        return topic is not None and 0 <= partition.index < len(topic.logs)

    def config(self, topic: str, name: str, default: str) -> str:
        known = self._topics.get(topic)
        return default if known is None else known.info.config.get(name, default)

    def describe(self, names: Collection[str]) -> dict[str, TopicInfo]:
        return {name: self._topics[name].info for name in names if name in self._topics}

    def names(self) -> list[str]:
        return sorted(self._topics)

    def counts_of(self, topics: Sequence[str]) -> Mapping[str, int]:
        return {name: self._topics[name].info.partitions for name in topics if name in self._topics}

    def create(self, specs: Sequence[TopicSpec]) -> None:
        made = frozenset(spec.name for spec in specs if spec.name not in self._topics)
        for spec in specs:
            if spec.name in self._topics:
                continue
            count = self.settings.default_partitions if spec.partitions is None else spec.partitions
            if count < 1:
                raise ConfigurationError(f"topic {spec.name!r}: partitions must be at least 1, got {count}")
            self._made += 1
            config = {_CLEANUP: spec.cleanup, **spec.config}
            info = TopicInfo(spec.name, f"memory-{self._made}", count, config)
            logs = tuple(PartitionLog(Partition(spec.name, index)) for index in range(count))
            self._topics[spec.name] = _Topic(info, logs)
        self._tell_groups(made)

    def add_partitions(self, name: str, count: int) -> None:
        """Up to so many; raises ConfigurationError where there are as many already."""
        self.log(Partition(name, 0))
        known = self._topics[name]
        if count <= known.info.partitions:
            raise ConfigurationError(f"topic {name!r} has {known.info.partitions} partitions, got {count}")
        added = (PartitionLog(Partition(name, index)) for index in range(known.info.partitions, count))
        self._topics[name] = _Topic(replace(known.info, partitions=count), (*known.logs, *added))
        self._tell_groups(frozenset({name}))

    def delete(self, names: Collection[str]) -> None:
        gone = frozenset(name for name in names if self._topics.pop(name, None) is not None)
        for group in self.groups.values():
            for name in gone:
                group.offsets.forget(name)
        self._tell_groups(gone)

    def delete_records(self, before: Mapping[Partition, int]) -> None:
        for partition, offset in before.items():
            log = self.log(partition)
            if offset > log.end:
                raise ConfigurationError(f"{partition}: no records before {offset} to delete, it ends at {log.end}")
            log.delete_before(offset)

    def compact(self, topic: str, *, keep_tombstones: bool) -> None:
        self.log(Partition(topic, 0))
        for log in self._topics[topic].logs:
            log.compact(keep_tombstones=keep_tombstones)

    def group(self, name: str) -> Group:
        if name not in self.groups:
            self.groups[name] = Group(
                name,
                self.clock,
                session_timeout_ms=self.settings.session_timeout_ms,
                rebalance_timeout_ms=self.settings.rebalance_timeout_ms,
                counts_of=self.counts_of,
            )
        return self.groups[name]

    def offsets_of(self, group: str) -> GroupOffsets:
        return self.group(group).offsets

    def delete_group(self, name: str) -> None:
        group = self.groups.get(name)
        if group is not None and group.members:
            raise ConfigurationError(f"group {name!r} has {len(group.members)} members; stop them first")
        self.groups.pop(name, None)

    def _tell_groups(self, topics: frozenset[str]) -> None:
        if topics:
            for group in self.groups.values():
                group.topics_changed(topics)
            self.signal.changed()
