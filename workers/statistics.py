"""What a worker is doing now, as values that can be shown, compared and sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ..topics.batch import Partition
from .restore_progress import RestoreStatistics

WorkerState = Literal["starting", "running", "rebalancing", "stopping", "stopped"]


@dataclass(frozen=True, slots=True)
class TaskStatistics:
    """One task."""

    name: str
    watermark: int
    """Final up to: milliseconds since the epoch, `MIN_TIME` before the first row."""
    waiting_rows: int
    """Rows whose calls are under way."""


@dataclass(frozen=True, slots=True)
class ShardStatistics:
    """One shard."""

    number: int
    phase: str
    tasks: tuple[TaskStatistics, ...]
    lag: Mapping[Partition, int]
    """Records not worked off, by input partition, as far as known."""
    restoring: tuple[RestoreStatistics, ...] = ()
    """Stores whose changelogs are being read."""


@dataclass(frozen=True, slots=True)
class StandbyStatistics:
    """A warm copy of a shard that another worker owns."""

    shard: int
    records_behind: int
    """Offsets of its changelogs that the copy does not have yet, as far as the last fetch knew."""
    position: int
    """What it has: the sum of the offsets of its changelogs."""


@dataclass(frozen=True, slots=True)
class WorkerStatistics:
    """A whole worker."""

    app: str
    state: WorkerState
    generation: int
    shards: tuple[ShardStatistics, ...] = field(default=())
    standbys: tuple[StandbyStatistics, ...] = ()

    @property
    def ready(self) -> bool:
        """Whether everything that is ours is being worked on."""
        resting = {"fencing", "positioning", "restoring", "resuming", "dropping", "lost"}
        return self.state == "running" and all(shard.phase not in resting for shard in self.shards)

    @property
    def lag(self) -> int:
        return sum(sum(shard.lag.values()) for shard in self.shards)
