"""The tasks of a worker that can be read now, for `queries.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .phase import READING, Phase
from .queries import Read, T
from .shard import Shard
from .shard_runtime import ShardRuntime
from .task import TaskId
from .topology import Topology

OPEN: Final = READING | {Phase.AT_REST, Phase.RESUMING}
"""Phases in which a shard's tasks hold all that was committed."""


def read_shards(
    topology: Topology, shards: Mapping[int, Shard], runtimes: Mapping[int, ShardRuntime], step: str, read: Read[T]
) -> tuple[list[T], list[int]]:
    """`read` of every task here that runs the step, and the partitions whose tasks are not here. From any thread."""
    found: list[T] = []
    missing: list[int] = []
    for sub in topology.subs:
        if any(work.name == step for work in sub.works):
            for partition in range(sub.partitions):
                here = _read_one(
                    shards.get(partition), runtimes.get(partition), TaskId(sub.name, partition), step, read
                )
                (missing.append(partition) if here is None else found.append(here))
    return found, missing


def _read_one(shard: Shard | None, runtime: ShardRuntime | None, task: TaskId, step: str, read: Read[T]) -> T | None:
    if shard is None or runtime is None:
        return None
    with runtime.lock:
        if shard.phase not in OPEN or task not in runtime.tasks:
            return None
        return read(task, runtime.tasks[task].operators[step])
