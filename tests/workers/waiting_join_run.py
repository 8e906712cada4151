"""Drives an as-of or a window join as a task would: batches, watermarks, commits, checkpoints, crashes."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Protocol

import polars as pl

from millstream.state.checkpoint import write
from millstream.state.restore import ChangelogTail, restore
from millstream.state.store import Changes, DurableState
from millstream.state.stores.memory import MemoryDatabase
from millstream.topics.batch import BEFORE, DELETED, MAX_TIME, MIN_TIME, OFFSET, TIME, Batch
from millstream.topics.schema import Schema
from millstream.workers.operator import Emit, Operator
from millstream.workers.operators.asof_join import AsofJoin
from millstream.workers.operators.window_join import WindowJoin
from tests.workers.window_run import Counts

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
    internal = {TIME: [row.time for row in rows], BEFORE: [row.before for row in rows], OFFSET: range(len(rows))}
    frame = frame.with_columns([pl.Series(name, list(values), pl.Int64) for name, values in internal.items()])
    if any(row.deleted for row in rows):
        frame = frame.with_columns(pl.Series(DELETED, [row.deleted for row in rows]))
    return Batch(frame)


@dataclass
class Run:
    """A task with one join. What it has given since the last commit is lost in a crash."""

    step: AsofJoin | WindowJoin
    database: MemoryDatabase = field(default_factory=MemoryDatabase)
    changelog: list[tuple[str, Changes]] = field(default_factory=list)
    given: Rows = field(default_factory=list)
    late: Rows = field(default_factory=list)
    watermark: int = MIN_TIME
    counts: Counts = field(default_factory=lambda: Counts("join"))
    committed: tuple[Rows, Rows, int] = ((), (), MIN_TIME)  # type: ignore[assignment]

    def __post_init__(self) -> None:
        self.committed = ([], [], MIN_TIME)
        self.start()

    def start(self) -> None:
        built = self.step.build([ONE_KEY, ONE_KEY])
        assert isinstance(built, Operator)
        self.operator = built
        stored = int(self.database.meta("changelog") or 0)
        tail = ChangelogTail(fold_bytes=2_000)
        for name, changes in self.changelog[stored:]:
            tail.add(name, changes)
        restore(self.database, self.states, {name: tail.of(name) for name in self.states})
        self.operator.open(self.counts, self.watermark)

    @property
    def states(self) -> dict[str, DurableState]:
        return {state.name: state for state in self.operator.states}

    def rows(self, rows: Sequence[SideRow]) -> None:
        self.take(self.operator.process(batch_of(rows), rows[0].side))

    def advance(self, watermark: int) -> None:
        if watermark > self.watermark:
            self.take(self.operator.advance(watermark))
            self.watermark = watermark

    def commit(self) -> None:
        self.take(self.operator.flush())
        for name, state in self.states.items():
            self.changelog += [(name, changes) for changes in state.take_changes()]
        self.committed = deepcopy(self.given), deepcopy(self.late), self.watermark

    def checkpoint(self) -> None:
        self.commit()
        write(self.database, self.states, {"changelog": b"%d" % len(self.changelog)})

    def crash(self) -> None:
        self.given, self.late, self.watermark = (
            deepcopy(self.committed[0]),
            deepcopy(self.committed[1]),
            self.committed[2],
        )
        self.start()

    def take(self, emits: Iterable[Emit]) -> None:
        results, late = self.step.output_schemas([ONE_KEY, ONE_KEY])
        passed_on = max(self.watermark - self.operator.delay_ms, MIN_TIME)
        for emit in emits:
            frame = emit.batch.frame
            wanted = late if emit.output else results
            assert {name: frame.schema[name] for name in wanted.names} == wanted.polars()
            assert frame.columns == [*wanted.names, TIME, BEFORE, OFFSET]
            if emit.output == 1:
                assert frame["late_reason"].null_count() == 0
                self.late += frame.to_dicts()
                continue
            assert set(frame[BEFORE]) == {passed_on}
            self.given += frame.to_dicts()


def play(
    events: Sequence[SideRow | int],
    run: Run,
    chance: random.Random,
    *,
    crashes: bool,
    goes_on: Callable[..., bool] | None = None,
) -> Run:
    """The events in any batches, with commits, checkpoints and crashes anywhere. A crash goes back to the last commit."""
    at, saved = 0, 0
    while at < len(events):
        event = events[at]
        if isinstance(event, int):
            run.advance(event)
            at += 1
        else:
            stop = at + 1
            while stop < len(events) and _goes_on(event, events[stop]) and chance.random() < 0.8:
                stop += 1
            run.rows([row for row in events[at:stop] if not isinstance(row, int)])
            at = stop
        what = chance.random()
        if what < 0.2:
            run.commit()
            saved = at
        elif what < 0.3:
            run.checkpoint()
            saved = at
        elif what < 0.4 and crashes:
            run.crash()
            at = saved
    run.advance(MAX_TIME)
    return run


def _goes_on(first: SideRow, other: SideRow | int) -> bool:
    return not isinstance(other, int) and other.side == first.side
