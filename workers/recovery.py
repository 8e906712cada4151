"""How a shard's tasks come back: databases, then the changelogs' tails, then the offsets to go on from.

The order is that of exactly-once.md, "Taking a shard": the producer has been initialised and the committed offsets have
been read before anything here happens.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

from ..state.restore import ChangelogTail, restore
from ..state.store import Database
from ..topics.batch import Partition
from ..topics.broker import Committed, Reader
from ..topics.errors import BrokerUnavailableError
from .changelog_reader import TAIL_BYTES_MAX, Tail, Taken, read_tails, spill
from .clock import monotonic_s
from .naming import changelog_topic
from .restore_progress import RestoreProgress, RestoreStatistics
from .surroundings import Surroundings
from .task import Task, TaskId
from .task_meta import TaskMeta, usable_meta
from .topology import Topology

log = logging.getLogger("millstream.worker")

InThread = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Runs work that takes CPU or the disk where it does not hold up the event loop."""


def input_partitions(topology: Topology, shard: int) -> list[Partition]:
    """What the tasks of a shard read."""
    counts = topology.partition_counts
    topics = {source.topic.name for sub in topology.tasks_of(shard) for source in sub.sources}
    return [Partition(topic, shard) for topic in sorted(topics) if shard < counts[topic]]


class Recovery:
    """Of one shard, once: `states`, then `starts`, then `open_tasks`. `database`: a task's, opened when first asked for."""

    def __init__(
        self, around: Surroundings, shard: int, tasks: Mapping[TaskId, Task], database: Callable[[TaskId], Database]
    ) -> None:
        self.around = around
        self.shard = shard
        self.tasks = {name: task for name, task in tasks.items() if task.states}
        self.all_tasks = tasks
        self.database = database
        self.metas: dict[TaskId, TaskMeta] = {}
        self.changelog_ends: dict[str, int] = {}
        self.tails: list[Tail] = []
        self.progress: dict[str, RestoreProgress] = {}
        self.tail_bytes_max = TAIL_BYTES_MAX

    async def states(self, in_thread: InThread) -> None:
        """Every state as it was at the last commit. Raises TopicsError, StateError."""
        self.tails = await in_thread(self._find_tails)
        if self.tails:
            reader = self.around.broker.reader(isolation="read_committed")
            await reader.start()
            try:
                await self._find_ends(reader, in_thread)
                await read_tails(reader, self.tails, lambda read: in_thread(lambda: self._take(read)))
            finally:
                await reader.stop()
        self.changelog_ends = {tail.store: tail.end for tail in self.tails}
        for task in self.tasks.values():
            await in_thread(partial(self._restore, task))
        self._tell_end()

    def _find_tails(self) -> list[Tail]:
        tails: list[Tail] = []
        for task in self.tasks.values():
            meta = usable_meta(
                self.database(task.id), list(task.states), list(task.inputs), self.around.topic_ids, self.around.digests
            )
            self.metas[task.id] = meta
            for store in task.states:
                changelog = Partition(changelog_topic(self.around.settings.name, store), self.shard)
                tails.append(Tail(task.id, store, changelog, meta.changelog.get(store, 0)))
        return tails

    async def _find_ends(self, reader: Reader, in_thread: InThread) -> None:
        """Where each changelog ends now: under read_committed its last stable offset."""
        partitions = [tail.partition for tail in self.tails]
        begins = await reader.begin_offsets(partitions)
        ends = await reader.end_offsets(partitions)
        for task in {tail.task for tail in self.tails if tail.position > ends[tail.partition]}:
            log.warning(
                "shard %d: the local state of %s is ahead of its changelog; it is restored in full", self.shard, task
            )
            await in_thread(self.database(task).clear)
            self.metas[task] = TaskMeta()
        now_s = monotonic_s()
        for tail in self.tails:
            known = self.metas[tail.task].changelog.get(tail.store, 0)
            tail.position, tail.end = max(known, begins[tail.partition]), ends[tail.partition]
            told = RestoreProgress(
                self.shard, tail.store, tail.left, tail.store not in self.metas[tail.task].changelog, now_s
            )
            self.progress[tail.store] = told
            if told.told:
                log.info(told.begin())

    def _take(self, read: Taken) -> None:
        for tail, fetch in read:
            tail.take(fetch)
            self._tell(tail, len(fetch))
        if sum(tail.changes.size_bytes for tail in self.tails) > self.tail_bytes_max:
            for name in self.tasks:
                mine = [tail for tail in self.tails if tail.task == name]
                spill(self.database(name), mine, self.around.topic_ids, self.around.digests)

    def _tell(self, tail: Tail, records: int) -> None:
        now_s, progress, instrument = monotonic_s(), self.progress[tail.store], self.around.instrument
        progress.left = tail.left
        now = progress.statistics(now_s)
        labels = {"store": tail.store, "shard": str(self.shard)}
        instrument.count("restored_records", records, store=tail.store)
        instrument.gauge("restore_records_left", now.records_left, **labels)
        instrument.gauge("restore_seconds_left", now.seconds_left or 0.0, **labels)
        if line := progress.line(now_s):
            log.info(line)

    def _tell_end(self) -> None:
        now_s = monotonic_s()
        for progress in self.progress.values():
            if progress.told:
                log.info(progress.end(now_s))

    def _restore(self, task: Task) -> None:
        read = {tail.store: tail.changes.of(tail.store) for tail in self.tails if tail.task == task.id}
        restore(self.database(task.id), task.states, read)
        for tail in self.tails:
            if tail.task == task.id:
                tail.changes = ChangelogTail()

    def statistics(self) -> tuple[RestoreStatistics, ...]:
        """Of the stores of which something is still to be read."""
        now_s = monotonic_s()
        return tuple(progress.statistics(now_s) for progress in self.progress.values() if progress.left)

    async def starts(self, committed: Mapping[Partition, Committed]) -> dict[Partition, Committed]:
        """Where each input goes on: as committed, else as the store says, else at the beginning or the end.

        Raises BrokerUnavailableError for an offset below the one the local state stands for: such an answer was seen from
        a broker that had just started, and is read again.
        """
        stored = {partition: offset for meta in self.metas.values() for partition, offset in meta.inputs.items()}
        starts: dict[Partition, Committed] = {}
        missing: list[Partition] = []
        for partition in input_partitions(self.around.topology, self.shard):
            known = committed.get(partition)
            if known is not None and known.offset < stored.get(partition, 0):
                raise BrokerUnavailableError(
                    f"{partition}: committed offset {known.offset} is below {stored[partition]}, which the local state "
                    "stands for; reading it again. If offsets were reset by hand, run: millstream reset"
                )
            if known is not None:
                starts[partition] = known
            elif partition in stored:
                starts[partition] = Committed(stored[partition])
            else:
                missing.append(partition)
        return starts | {partition: Committed(offset) for partition, offset in (await self._defaults(missing)).items()}

    async def _defaults(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        if not partitions:
            return {}
        consumer = self.around.consumer
        if self.around.settings.start_from == "latest":
            return await consumer.end_offsets(partitions)
        return await consumer.begin_offsets(partitions)

    def open_tasks(self, starts: Mapping[Partition, Committed]) -> None:
        for task in self.all_tasks.values():
            task.open({partition: starts[partition] for partition in task.inputs})
