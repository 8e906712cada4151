"""When committed state goes to the database, and what is written then.

    commit, commit, ... commit -> due? -> write -> written

The deciding part is a value: `CheckpointClock` is told of commits and asked whether a checkpoint is due; the time is an
argument. A checkpoint is only ever made while the states hold nothing uncommitted: after a commit, or when there is no work.

`meta` says what the database stands for (changelog positions, input offsets); the worker writes it and reads it, this
layer does not. It goes into the same atomic write as the states, so it never runs ahead of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeGuard

from .settings import StateSettings
from .store import Database, DurableState, StoreBacked


@dataclass(frozen=True, slots=True)
class CheckpointClock:
    """Since when, and how much, committed state has not been in the database. Give it the time, in milliseconds."""

    interval_ms: int
    bytes_max: int
    since_ms: int | None = None
    """Time of the first commit that the database does not have; None: it has all."""
    pending_bytes: int = 0

    @classmethod
    def of(cls, settings: StateSettings) -> CheckpointClock:
        return cls(settings.checkpoint_interval_ms, settings.checkpoint_bytes_max)

    def committed(self, now_ms: int, changed_bytes: int) -> CheckpointClock:
        """A commit was made whose changes have this size."""
        since = now_ms if self.since_ms is None else self.since_ms
        return replace(self, since_ms=since, pending_bytes=self.pending_bytes + changed_bytes)

    def written(self) -> CheckpointClock:
        """A checkpoint was made."""
        return replace(self, since_ms=None, pending_bytes=0)

    def due(self, now_ms: int) -> bool:
        if self.since_ms is None:
            return False
        return now_ms - self.since_ms >= self.interval_ms or self.pending_bytes >= self.bytes_max

    def due_at_ms(self) -> int | None:
        """When it will be due at the latest; None: not before the next commit."""
        return None if self.since_ms is None else self.since_ms + self.interval_ms


def write(database: Database, states: Mapping[str, DurableState], meta: Mapping[str, bytes | None]) -> None:
    """One checkpoint: what the states gave and what it stands for, in one atomic write.

    If it fails the states are lost too: they have given their changes away. Raises what `Database.write` raises.
    """
    database.write({name: state.take_checkpoint() for name, state in states.items()}, meta)
    for state in backed(states.values()):
        state.checkpoint_written()


def backed(states: Iterable[DurableState]) -> list[StoreBacked]:
    """Those of the states that read through to their store."""
    return [state for state in states if is_backed(state)]


def is_backed(state: DurableState) -> TypeGuard[StoreBacked]:
    return hasattr(state, "bind")
