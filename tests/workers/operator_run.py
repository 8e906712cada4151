"""Drives a step as a task would: batches, watermarks, commits, checkpoints, crashes. One of these a kind of step says what it gives."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from pathlib import Path
from tempfile import gettempdir
from typing import Any, Generic, Protocol, TypeVar

import polars as pl

from millstream.state.checkpoint import write
from millstream.state.restore import ChangelogTail, restore
from millstream.state.spill import is_spilling
from millstream.state.store import Changes, DurableState
from millstream.state.stores.memory import MemoryDatabase
from millstream.topics.batch import BEFORE, MAX_TIME, MIN_TIME, OFFSET, TIME, Batch
from millstream.topics.schema import Schema
from millstream.workers.operator import Emit, Operator, Step
from tests.workers.window_run import Counts

Given = TypeVar("Given")


class SideRow(Protocol):
    """What the rows of all oracles have."""

    @property
    def side(self) -> int: ...


def timed(frame: pl.DataFrame, times: Iterable[int], before: Iterable[int]) -> Batch:
    """With the columns of ours; offsets count from 0."""
    internal = {TIME: list(times), BEFORE: list(before), OFFSET: range(frame.height)}
    return Batch(frame.with_columns([pl.Series(name, list(values), pl.Int64) for name, values in internal.items()]))


class OperatorRun(Generic[Given]):
    """A task with one step. What it has given since the last commit is lost in a crash.

    `given`: what was given so far, filled by `give` and `give_late`. `batch_of`: a batch of an oracle's rows.
    `memory_bytes_max`: beyond this a state that can be is on disk.
    """

    def __init__(
        self,
        step: Any,
        inputs: Sequence[Schema],
        given: Given,
        batch_of: Callable[[Sequence[Any]], Batch],
        memory_bytes_max: int | None = None,
    ) -> None:
        self.step: Any = step
        self.inputs = list(inputs)
        self.given = given
        self.batch_of = batch_of
        self.memory_bytes_max = memory_bytes_max
        self.database = MemoryDatabase()
        self.changelog: list[tuple[str, Changes]] = []
        self.watermark = MIN_TIME
        self.counts = Counts("step")
        self.committed = deepcopy(given), MIN_TIME
        self.start()

    def give(self, frame: pl.DataFrame) -> None:
        """Rows of output 0."""
        raise NotImplementedError

    def give_late(self, frame: pl.DataFrame) -> None:
        """Rows of output 1."""
        raise NotImplementedError

    # -- a task's life

    def start(self, *, forget_offsets: bool = False) -> None:
        step: Step = self.step
        built = step.build(self.inputs)
        assert isinstance(built, Operator)
        self.operator: Any = built
        for state in filter(is_spilling, self.states.values()):
            if self.memory_bytes_max is not None:
                state.spill_to(Path(gettempdir()), self.memory_bytes_max)
        stored = int(self.database.meta("changelog") or 0)
        tail = ChangelogTail(fold_bytes=2_000)
        for name, changes in self.changelog[stored:]:
            tail.add(name, changes)
        restore(self.database, self.states, {name: tail.of(name) for name in self.states})
        self.operator.open(self.counts, MIN_TIME if forget_offsets else self.watermark)

    @property
    def states(self) -> dict[str, DurableState]:
        return {state.name: state for state in self.operator.states}

    def rows(self, rows: Sequence[Any]) -> None:
        self.take(self.operator.process(self.batch_of(rows), rows[0].side))

    def advance(self, watermark: int) -> None:
        if watermark > self.watermark:
            self.take(self.operator.advance(watermark))
            self.watermark = watermark

    def commit(self) -> None:
        self.take(self.operator.flush())
        for name, state in self.states.items():
            self.changelog += [(name, changes) for changes in state.take_changes()]
        self.committed = deepcopy(self.given), self.watermark

    def checkpoint(self) -> None:
        self.commit()
        write(self.database, self.states, {"changelog": b"%d" % len(self.changelog)})

    def crash(self) -> None:
        self.given, self.watermark = deepcopy(self.committed[0]), self.committed[1]
        self.start()

    # -- what it gives

    @property
    def passed_on(self) -> int:
        return max(self.watermark - self.operator.delay_ms, MIN_TIME)

    def take(self, emits: Iterable[Emit]) -> None:
        outputs = self.step.output_schemas(self.inputs)
        for emit in emits:
            frame, wanted = emit.batch.frame, outputs[emit.output]
            assert {name: frame.schema[name] for name in wanted.names} == wanted.polars()
            assert frame.columns == [*wanted.names, TIME, BEFORE, OFFSET]
            if emit.output == 1:
                assert frame["late_reason"].null_count() == 0
                self.give_late(frame)
            else:
                self.give(frame)

    def entries(self, store: str | None = None) -> dict[bytes, bytes | None]:
        """The newest of each key that the changelog was told, of one store or of the only one."""
        return {key: value for name, one in self.changelog if store in (None, name) for key, value in one.pairs()}


Run = TypeVar("Run", bound=OperatorRun[Any])


def played(events: Sequence[Any], run: Run, chance: random.Random, *, crashes: bool) -> Run:
    """The events (rows, and watermarks as numbers) in any batches, with commits, checkpoints and crashes anywhere.

    A crash goes back to the last commit. At the end the watermark goes to infinity.
    """
    at, saved = 0, 0
    while at < len(events):
        if isinstance(events[at], int):
            run.advance(events[at])
            at += 1
        else:
            stop = _batch_end(events, at, chance)
            run.rows(events[at:stop])
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


def _batch_end(events: Sequence[Any], at: int, chance: random.Random) -> int:
    """A batch is rows of one side that follow one another, cut anywhere."""
    stop = at + 1
    while stop < len(events) and _goes_on(events[at], events[stop]) and chance.random() < 0.8:
        stop += 1
    return stop


def _goes_on(first: SideRow, other: SideRow | int) -> bool:
    return not isinstance(other, int) and other.side == first.side
