"""Drives a windowed step as a task would: batches, watermarks, commits, checkpoints, crashes. Everything drawn from one seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from millstream.state.sessions import SessionState
from millstream.state.store import Changes, KeyRange, StoreWrite
from millstream.state.windows import WindowState
from millstream.topics.batch import BEFORE, MAX_TIME, MIN_TIME, OFFSET, TIME, Batch
from millstream.topics.schema import Schema
from millstream.workers.operator import Emit
from millstream.workers.operators.session_aggregate import SessionAggregate, SessionOperator
from millstream.workers.operators.window_aggregate import WindowAggregate, WindowOperator


@dataclass
class Counts:
    """A context that remembers what it was told."""

    step: str = "windows"
    partition: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    rejected: list[tuple[dict[str, Any], str]] = field(default_factory=list)

    def count(self, what: str, amount: int) -> None:
        self.counts[what] = self.counts.get(what, 0) + amount

    def reject(self, batch: Batch, rows: np.ndarray, reasons: Sequence[str]) -> None:
        found = batch.frame[rows.tolist()].to_dicts()
        assert len(found) == len(reasons)
        self.rejected += list(zip(found, reasons, strict=True))


@dataclass(frozen=True)
class Event:
    """A row: where it came from, its time and values, and its partition's watermark just before it."""

    partition: int
    time: int
    values: dict[str, Any]
    before: int


Log = list["list[Event] | int"]
"""What a task is given, in order: rows of one partition, or the watermark it has reached."""


def batch_of(events: Sequence[Event], schema: Schema) -> Batch:
    data = {name: [event.values[name] for event in events] for name in schema.names}
    frame = pl.DataFrame(data, schema=schema.polars())
    internal = {
        TIME: [event.time for event in events],
        BEFORE: [event.before for event in events],
        OFFSET: list(range(len(events))),
    }
    return Batch(frame.with_columns([pl.Series(name, values, pl.Int64) for name, values in internal.items()]))


@dataclass
class Disk:
    """A database of one store: what was written to it, in key order."""

    entries: dict[bytes, bytes] = field(default_factory=dict)
    position: int = 0
    """Commits it stands for."""

    def write(self, write: StoreWrite, position: int) -> None:
        for deleted in write.deleted:
            for key in [key for key in self.entries if _inside(key, deleted)]:
                del self.entries[key]
        for changes in write.changes:
            for key, value in pairs(changes):
                if value is None:
                    self.entries.pop(key, None)
                else:
                    self.entries[key] = value
        self.position = position

    def stored(self, chunk_rows: int) -> list[Changes]:
        keys = sorted(self.entries)
        return [
            Changes.of(keys[i : i + chunk_rows], [self.entries[key] for key in keys[i : i + chunk_rows]])
            for i in range(0, len(keys), chunk_rows)
        ]


def _inside(key: bytes, deleted: KeyRange) -> bool:
    return key >= deleted.start and (deleted.stop is None or key < deleted.stop)


class WindowRun:
    """One task's life over a log. `commit` and `crash`: how likely each is after an entry of the log."""

    def __init__(
        self,
        step: WindowAggregate | SessionAggregate,
        schema: Schema,
        rng: random.Random,
        *,
        commit: float = 0.3,
        crash: float = 0.0,
    ) -> None:
        self.step, self.schema, self.rng = step, schema, rng
        self.commit_chance, self.crash_chance = commit, crash
        self.changelog: list[list[Changes]] = []
        self.disk = Disk()
        self.crashes = 0
        self.committed: list[list[Emit]] = []
        """What was given, by commit."""
        self.context = Counts()
        self._saved_counts: dict[str, int] = {}
        self._saved_at, self._saved_watermark = 0, MIN_TIME
        self.operator = self._built()

    @property
    def state(self) -> WindowState | SessionState:
        return self.operator.state

    def _built(self) -> WindowOperator | SessionOperator:
        operator = self.step.build([self.schema])
        operator.open(self.context, self._saved_watermark)
        return operator

    def run(self, log: Log) -> WindowRun:
        at, watermark, given = 0, MIN_TIME, []
        log = [*log, MAX_TIME]
        while at < len(log):
            given += self._work(log[at])
            watermark = log[at] if isinstance(log[at], int) else watermark  # type: ignore[assignment]
            at += 1
            if self.rng.random() < self.commit_chance or at == len(log):
                self._commit(given, at, watermark)
                given = []
            if self.rng.random() < self.crash_chance:
                self._crash()
                at, watermark, given = self._saved_at, self._saved_watermark, []
        return self

    def _work(self, entry: list[Event] | int) -> list[Emit]:
        if isinstance(entry, int):
            return list(self.operator.advance(entry))
        given: list[Emit] = []
        while entry:
            size = self.rng.choice([1, 3, 50, len(entry)])
            given += self.operator.process(batch_of(entry[:size], self.schema), 0)
            entry = entry[size:]
        return given

    def _commit(self, given: list[Emit], at: int, watermark: int) -> None:
        given += self.operator.flush()
        self.changelog.append(self.state.take_changes())
        self.committed.append(given)
        self._saved_at, self._saved_watermark = at, watermark
        self._saved_counts = dict(self.context.counts)
        if self.rng.random() < 0.4:
            self.disk.write(self.state.take_checkpoint(), len(self.changelog))

    def _crash(self) -> None:
        """Everything in memory is lost; the state comes back from the changelog alone, or from the database and the tail."""
        self.crashes += 1
        if self.rng.random() < 0.3:
            self.disk = Disk()
        self.context.counts = dict(self._saved_counts)
        tail = [changes for commit in self.changelog[self.disk.position :] for changes in commit]
        if self.rng.random() < 0.5:
            tail = compacted(tail)
        self.operator = self.step.build([self.schema])
        self.state.restore(self.disk.stored(self.rng.choice([1, 7, 1000])), tail)
        self.operator.open(self.context, self.rng.choice([self._saved_watermark, MIN_TIME]))

    @property
    def rows(self) -> list[list[dict[str, Any]]]:
        """Results by commit."""
        return [[row for emit in c if emit.output == 0 for row in emit.batch.frame.to_dicts()] for c in self.committed]

    @property
    def late(self) -> list[dict[str, Any]]:
        return [row for c in self.committed for emit in c if emit.output == 1 for row in emit.batch.frame.to_dicts()]

    @property
    def changelog_table(self) -> dict[bytes, bytes | None]:
        """What compaction leaves of the changelog."""
        table: dict[bytes, bytes | None] = {}
        for changes in [changes for commit in self.changelog for changes in commit]:
            table.update(pairs(changes))
        return table


def pairs(changes: Changes) -> list[tuple[bytes, bytes | None]]:
    keys: list[Any] = changes.keys.to_pylist()
    return list(zip(keys, changes.values.to_pylist(), strict=True))


def compacted(tail: Sequence[Changes]) -> list[Changes]:
    """The last value of each key, in the order of their last writes, in one piece."""
    table: dict[bytes, bytes | None] = {}
    for changes in tail:
        for key, value in pairs(changes):
            table.pop(key, None)
            table[key] = value
    return [Changes.of(list(table), list(table.values()))] if table else []
