"""Drives an as-of or a window join as a task would (`operator_run.py`)."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import polars as pl

from millstream.topics.batch import BEFORE, DELETED, Batch
from millstream.topics.schema import Schema
from millstream.workers.operators.asof_join import AsofJoin
from millstream.workers.operators.window_join import WindowJoin
from tests.workers.operator_run import OperatorRun, played, timed

ONE_KEY = Schema.of({"k": "string", "v": "int"})
Rows = list[dict[str, Any]]


class SideRow(Protocol):
    """What the oracles' rows have."""

    @property
    @abstractmethod
    def side(self) -> int: ...
    @property
    @abstractmethod
    def key(self) -> str | None: ...
    @property
    @abstractmethod
    def time(self) -> int: ...
    @property
    @abstractmethod
    def value(self) -> int: ...
    @property
    @abstractmethod
    def before(self) -> int: ...
    @property
    @abstractmethod
    def deleted(self) -> bool: ...


def batch_of(rows: Sequence[SideRow]) -> Batch:
    frame = pl.DataFrame({"k": [row.key for row in rows], "v": [row.value for row in rows]}, schema=ONE_KEY.polars())
    batch = timed(frame, (row.time for row in rows), (row.before for row in rows))
    if any(row.deleted for row in rows):
        batch = Batch(batch.frame.with_columns(pl.Series(DELETED, [row.deleted for row in rows])))
    return batch


@dataclass
class Told:
    """Rows of the two outputs, columns of ours included."""

    rows: Rows = field(default_factory=list)
    late: Rows = field(default_factory=list)


class Run(OperatorRun[Told]):
    """A task with one join."""

    def __init__(self, step: AsofJoin | WindowJoin, *, memory_bytes_max: int | None = None) -> None:
        super().__init__(step, [ONE_KEY, ONE_KEY], Told(), batch_of, memory_bytes_max)

    @property
    def late(self) -> Rows:
        return self.given.late

    def give_late(self, frame: pl.DataFrame) -> None:
        self.given.late += frame.to_dicts()

    def give(self, frame: pl.DataFrame) -> None:
        assert set(frame[BEFORE]) == {self.passed_on}
        self.given.rows += frame.to_dicts()


def play(events: Sequence[SideRow | int], run: Run, chance: random.Random, *, crashes: bool) -> Run:
    return played(events, run, chance, crashes=crashes)
