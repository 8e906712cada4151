"""Drives an interval join as a task would: batches, watermarks, commits, checkpoints, crashes."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from millstream.state.checkpoint import write
from millstream.state.restore import ChangelogTail, restore
from millstream.state.store import Changes, DurableState
from millstream.state.stores.memory import MemoryDatabase
from millstream.topics.batch import BEFORE, MAX_TIME, MIN_TIME, OFFSET, TIME, Batch
from millstream.topics.schema import Schema
from millstream.workers.operator import Emit
from millstream.workers.operators.interval_join import IntervalJoin, JoinOperator
from tests.oracles.interval_join import Given, Row
from tests.workers.window_run import Counts

ONE_KEY = Schema.of({"k": "string", "v": "int"})
TWO_KEYS = Schema.of({"k": "string", "n": "int", "v": "int"})


def batch_of(rows: Sequence[Row], schema: Schema = ONE_KEY) -> Batch:
    keys = dict(zip(schema.names, zip(*(row.key for row in rows), strict=True), strict=False))
    frame = pl.DataFrame({**keys, "v": [row.value for row in rows]}, schema=schema.polars())
    internal = {
        TIME: [row.time for row in rows],
        BEFORE: [row.before for row in rows],
        OFFSET: list(range(len(rows))),
    }
    return Batch(frame.with_columns([pl.Series(name, values, pl.Int64) for name, values in internal.items()]))


@dataclass
class Run:
    """A task with one join. What it has given since the last commit is lost in a crash."""

    step: IntervalJoin
    schema: Schema = ONE_KEY
    database: MemoryDatabase = field(default_factory=MemoryDatabase)
    changelog: list[Changes] = field(default_factory=list)
    given: Given = field(default_factory=Given)
    watermark: int = MIN_TIME
    counts: Counts = field(default_factory=lambda: Counts("join"))
    memory_bytes_max: int | None = None
    """Beyond this the buffers are on disk."""
    committed: tuple[Given, int] = field(default_factory=lambda: (Given(), MIN_TIME))

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        built = self.step.build([self.schema, self.schema])
        assert isinstance(built, JoinOperator)
        self.operator = built
        stored = int(self.database.meta("changelog") or 0)
        tail = ChangelogTail(fold_bytes=2_000)
        for changes in self.changelog[stored:]:
            tail.add("join", changes)
        if self.memory_bytes_max is not None:
            built.state.spill_to(Path(tempfile.gettempdir()), self.memory_bytes_max)
        restore(self.database, self.states, {"join": tail.of("join")})
        self.operator.open(self.counts, self.watermark)

    @property
    def states(self) -> dict[str, DurableState]:
        return {"join": self.operator.states[0]}

    def rows(self, rows: Sequence[Row]) -> None:
        self.take(self.operator.process(batch_of(rows, self.schema), rows[0].side))

    def advance(self, watermark: int) -> None:
        if watermark > self.watermark:
            self.take(self.operator.advance(watermark))
            self.watermark = watermark

    def commit(self) -> None:
        self.take(self.operator.flush())
        for state in self.operator.states:
            self.changelog += state.take_changes()
        self.committed = deepcopy(self.given), self.watermark

    def checkpoint(self) -> None:
        self.commit()
        write(self.database, self.states, {"changelog": b"%d" % len(self.changelog)})

    def crash(self) -> None:
        self.given, self.watermark = deepcopy(self.committed[0]), self.committed[1]
        self.start()

    def take(self, emits: Iterable[Emit]) -> None:
        results, late = self.step.output_schemas([self.schema, self.schema])
        for emit in emits:
            frame = emit.batch.frame
            wanted = late if emit.output else results
            assert {name: frame.schema[name] for name in wanted.names} == wanted.polars()
            assert frame.columns == [*wanted.names, TIME, BEFORE, OFFSET]
            if emit.output == 1:
                self.given.late += [v if v is not None else w for v, w in frame.select("v", "v_right").iter_rows()]
                assert frame["late_reason"].null_count() == 0
                continue
            assert set(frame[BEFORE]) == {max(self.watermark - self.step.delay_ms, MIN_TIME)}
            self.results(frame)

    def results(self, frame: pl.DataFrame) -> None:
        for left, right in frame.select("v", "v_right").iter_rows():
            if left is None:
                self.given.padded[1].append(right)
            elif right is None:
                self.given.padded[0].append(left)
            else:
                self.given.pairs.append((left, right))


def play(events: Sequence[Row | int], run: Run, chance: random.Random, *, crashes: bool) -> Given:
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
            run.rows([row for row in events[at:stop] if isinstance(row, Row)])
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
    return run.given.sorted()


def _goes_on(first: Row, other: Row | int) -> bool:
    return isinstance(other, Row) and other.side == first.side
