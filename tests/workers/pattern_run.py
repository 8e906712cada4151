"""Drives a step that looks for patterns as a task would: batches, watermarks, commits, checkpoints, crashes."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import gettempdir

import polars as pl

from millstream.state.checkpoint import write
from millstream.state.restore import ChangelogTail, restore
from millstream.state.spill import is_spilling
from millstream.state.store import Changes, DurableState
from millstream.state.stores.memory import MemoryDatabase
from millstream.topics.batch import BEFORE, MAX_TIME, MIN_TIME, OFFSET, TIME, Batch
from millstream.topics.schema import Schema
from millstream.workers.operator import Emit, Operator
from millstream.workers.operators.deduplicate import Deduplicate
from millstream.workers.operators.followed_by import FollowedBy
from millstream.workers.operators.not_followed_by import NotFollowedBy
from tests.oracles.patterns import Given, Row
from tests.workers.window_run import Counts

ROWS = Schema.of({"k": "string", "v": "int"})
Pattern = Deduplicate | FollowedBy | NotFollowedBy


def batch_of(rows: Sequence[Row]) -> Batch:
    columns = {"k": [row.key for row in rows], "v": [row.value for row in rows]}
    internal = {TIME: [row.time for row in rows], BEFORE: [row.before for row in rows], OFFSET: list(range(len(rows)))}
    frame = pl.DataFrame(columns, schema=ROWS.polars())
    return Batch(frame.with_columns([pl.Series(name, values, pl.Int64) for name, values in internal.items()]))


@dataclass
class Run:
    """A task with one step. What it has given since the last commit is lost in a crash."""

    step: Pattern
    database: MemoryDatabase = field(default_factory=MemoryDatabase)
    changelog: list[dict[str, list[Changes]]] = field(default_factory=list)
    given: Given = field(default_factory=Given)
    watermark: int = MIN_TIME
    counts: Counts = field(default_factory=lambda: Counts("pattern"))
    committed: tuple[Given, int] = field(default_factory=lambda: (Given(), MIN_TIME))
    operator: Operator = field(init=False)
    memory_bytes_max: int | None = None
    """Of rows that wait to be followed; the others are on disk."""

    def __post_init__(self) -> None:
        self.start()

    @property
    def inputs(self) -> list[Schema]:
        return [ROWS] if isinstance(self.step, Deduplicate) else [ROWS, ROWS]

    def start(self, *, forget_offsets: bool = False) -> None:
        built = self.step.build(self.inputs)
        assert isinstance(built, Operator)
        self.operator = built
        for state in filter(is_spilling, self.states.values()):
            if self.memory_bytes_max is not None:
                state.spill_to(Path(gettempdir()), self.memory_bytes_max)
        stored = int(self.database.meta("changelog") or 0)
        tails = {name: ChangelogTail(fold_bytes=2_000) for name in self.states}
        for commit in self.changelog[stored:]:
            for name, changes in commit.items():
                for some in changes:
                    tails[name].add(name, some)
        restore(self.database, self.states, {name: tail.of(name) for name, tail in tails.items()})
        self.operator.open(self.counts, MIN_TIME if forget_offsets else self.watermark)

    @property
    def states(self) -> dict[str, DurableState]:
        return {state.name: state for state in self.operator.states}

    def rows(self, rows: Sequence[Row]) -> None:
        self.take(self.operator.process(batch_of(rows), rows[0].side))

    def advance(self, watermark: int) -> None:
        if watermark > self.watermark:
            self.take(self.operator.advance(watermark))
            self.watermark = watermark

    def commit(self) -> None:
        self.take(self.operator.flush())
        self.changelog.append({state.name: state.take_changes() for state in self.operator.states})
        self.committed = deepcopy(self.given), self.watermark

    def checkpoint(self) -> None:
        self.commit()
        write(self.database, self.states, {"changelog": b"%d" % len(self.changelog)})

    def crash(self) -> None:
        self.given, self.watermark = deepcopy(self.committed[0]), self.committed[1]
        self.start()

    @property
    def passed_on(self) -> int:
        return max(self.watermark - self.operator.delay_ms, MIN_TIME)

    def take(self, emits: Iterable[Emit]) -> None:
        results, late = self.step.output_schemas(self.inputs)
        for emit in emits:
            frame = emit.batch.frame
            wanted = late if emit.output else results
            assert {name: frame.schema[name] for name in wanted.names} == wanted.polars()
            assert frame.columns == [*wanted.names, TIME, BEFORE, OFFSET]
            if emit.output == 1:
                assert frame["late_reason"].null_count() == 0
                both = frame["v"] if "v_next" not in frame.columns else frame["v"].fill_null(frame["v_next"])
                self.given.late += both.to_list()
                continue
            assert (frame[TIME] >= frame[BEFORE]).all(), "a result is never late for what follows"
            assert (frame[TIME] >= self.passed_on).all(), "a result is never behind what was passed on"
            self.given.results += (
                frame.select("v", "v_next").rows() if "v_next" in wanted.names else frame["v"].to_list()
            )


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
