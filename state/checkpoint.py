"""When committed state goes to the database, and what is written then.

    commit, commit, ... commit -> due? -> assemble -> Database.write -> written

The deciding part is a value: `CheckpointClock` is told of commits and asked whether a checkpoint is due; the time is an
argument. A checkpoint is only ever made right after a successful commit, while the states hold nothing uncommitted.

Meta entries (the values are the worker's, this layer does not read them):

    changelog:<state>   how far the changelog of this state is contained: a restart replays from here
    input               input offsets
    watermark           the task's watermark and what belongs to it

All are written in the same atomic write as the states, so they never run ahead of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeGuard

from .settings import StateSettings
from .store import Database, DurableState, StoreBacked, StoreWrite

INPUT: Final = "input"
WATERMARK: Final = "watermark"
_CHANGELOG: Final = "changelog:"


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


@dataclass(frozen=True, slots=True)
class Positions:
    """What a database stands for, as opaque bytes of the worker's."""

    changelogs: Mapping[str, bytes]
    """By the name of the state."""
    input: bytes
    watermark: bytes


def assemble(
    states: Sequence[DurableState], positions: Positions
) -> tuple[dict[str, StoreWrite], dict[str, bytes | None]]:
    """The arguments of `Database.write`. It takes the states' checkpoints: if the write fails, the states are lost too.

    Raises ValueError where two states have one name.
    """
    names = [state.name for state in states]
    if len(set(names)) < len(names):
        raise ValueError(f"two states of one task have one name: {', '.join(sorted(names))}")
    meta: dict[str, bytes | None] = {_CHANGELOG + name: at for name, at in positions.changelogs.items()}
    meta |= {INPUT: positions.input, WATERMARK: positions.watermark}
    return {state.name: state.take_checkpoint() for state in states}, meta


def write(database: Database, states: Sequence[DurableState], positions: Positions) -> None:
    """One checkpoint. Raises what `Database.write` raises."""
    database.write(*assemble(states, positions))
    for state in backed(states):
        state.checkpoint_written()


def positions_of(database: Database, states: Iterable[str]) -> Positions | None:
    """What the database stands for; None where it holds no checkpoint. States it does not know have no position."""
    input_at, watermark = database.meta(INPUT), database.meta(WATERMARK)
    if input_at is None or watermark is None:
        return None
    found = {name: database.meta(_CHANGELOG + name) for name in states}
    return Positions({name: at for name, at in found.items() if at is not None}, input_at, watermark)


def backed(states: Iterable[DurableState]) -> list[StoreBacked]:
    """Those of the states that read through to their store."""
    return [state for state in states if is_backed(state)]


def is_backed(state: DurableState) -> TypeGuard[StoreBacked]:
    return hasattr(state, "bind")
