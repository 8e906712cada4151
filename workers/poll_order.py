"""Which inputs are to be read now, of those whose shards want records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..topics.batch import Partition
from .shard_runtime import ShardRuntime


def readable(
    partitions: Iterable[Partition], runtimes: Mapping[int, ShardRuntime], max_drift_ms: int | None
) -> list[Partition]:
    """Without those that wait for a table to be loaded, and without those that are too far ahead in event time."""
    return [
        one
        for one in partitions
        if not _waits(one, runtimes)
        and not (max_drift_ms is not None and _holds_back(runtimes[one.index], one, max_drift_ms))
    ]


def _waits(partition: Partition, runtimes: Mapping[int, ShardRuntime]) -> bool:
    runtime = runtimes.get(partition.index)
    tasks = runtime.tasks.values() if runtime is not None else ()
    return any(task.waits(partition) for task in tasks if partition in task.inputs)


def _holds_back(runtime: ShardRuntime, partition: Partition, drift_ms: int) -> bool:
    """Whether another input of its task has records waiting and is behind by more. What is held back is not idle meanwhile."""
    for task in runtime.tasks.values():
        if (own := task.inputs.get(partition)) is not None:
            slow = [item.time.watermark for item in task.inputs.values() if item is not own and item.lag > 0]
            own.time.held = bool(slow) and own.time.watermark > min(slow) + drift_ms
            return own.time.held
    return False
