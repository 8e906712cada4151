"""Rows gathered by key in windows aligned to the epoch (tumbling, hopping, cumulative).

    row at t, with BEFORE = w     late for [start, end)  iff  max(w, W of the task) >= end + grace
    advance(W)                    [start, end) closes    iff  W >= end + grace

Lateness is judged row by row and window by window against the watermark of the row's own partition, so the cutting of
batches changes nothing. A row of a partition that slept while the others went on may be behind the task's watermark although
it is not behind its own: its windows are gone, and it is counted apart (`late_rows.partition_woke`).

`emit="update"`: at each commit (`flush`) the net change by key and window; what changed last comes when the window closes.
`emit="final"`: each window once, when it closes. `every` makes updates rarer, and gives early ones before a final result
(`workers/early.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Final, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ...state.slots import ResultRows
from ...state.windows import WindowState
from ...topics.batch import BEFORE, MIN_TIME, Batch
from ...topics.schema import Schema
from ..early import EarlyResults, describe_emission
from ..gathering import (
    LATE_REASON,
    Aggregates,
    ResultWriter,
    accumulators,
    aggregation_state,
    checked_schemas,
    describe_aggregation,
    keyed,
    values_of,
)
from ..grid import Aligned
from ..operator import Context, Emit, Operator, StateDefinition

_PAIRS_MAX: Final = 1_000_000
"""Rows times windows a row worked on at once."""


@dataclass(frozen=True, slots=True)
class WindowAggregate:
    """Output 0: `by`, `window_start`, `window_end` (ms, end exclusive), the aggregates. Output 1: rows too late, with `late_reason`.

    A result's time is `window_end - 1`. `name`: of the store.
    """

    kind: ClassVar[str] = "window_aggregate"
    window: Aligned
    by: tuple[str, ...]
    aggregates: Aggregates
    grace_ms: int = 0
    emit: Literal["update", "final"] = "update"
    name: str = "windows"
    every_ms: int | None = None

    def output_schemas(self, inputs: Sequence[Schema]) -> Sequence[Schema]:
        return checked_schemas(f"window {self.window.describe()}", inputs[0], self.by, self.aggregates)

    def build(self, inputs: Sequence[Schema]) -> WindowOperator:
        results, _ = self.output_schemas(inputs)
        early = EarlyResults(self.emit, self.every_ms)
        made = partial(accumulators, inputs[0], self.aggregates)
        state = WindowState(self.name, self.grace_ms, made, given_at_commits=early.at_commits)
        return WindowOperator(self, state, ResultWriter(results, self.by, self.window.describe()), early)

    def describe(self) -> Mapping[str, str]:
        emission = describe_emission(self.grace_ms, self.emit, self.every_ms)
        return describe_aggregation(self.window.describe(), self.by, self.aggregates, emission)

    def state_definition(self, inputs: Sequence[Schema]) -> StateDefinition:
        return aggregation_state(self.window.describe(), self.by, self.aggregates, inputs[0], self.grace_ms)


class WindowOperator(Operator):
    """The running step."""

    def __init__(self, step: WindowAggregate, state: WindowState, writer: ResultWriter, early: EarlyResults) -> None:
        self.step = step
        self.state = state
        self.writer = writer
        self.early = early
        self.states = (state,)
        self.delay_ms = step.grace_ms
        self.watermark = MIN_TIME
        self._chunk_rows = max(1, _PAIRS_MAX // step.window.windows_a_row_max)

    def open(self, context: Context, watermark: int) -> None:
        """The larger of the committed watermark and the one kept with the windows wins: offsets can be lost, windows stay."""
        self.context = context
        closed = self.state.closed_up_to
        self.watermark = watermark if closed is None else max(watermark, closed)

    @property
    def passed_on(self) -> int:
        """The watermark passed on so far."""
        return max(self.watermark - self.delay_ms, MIN_TIME)

    def process(self, batch: Batch, input_index: int) -> Sequence[Emit]:
        batch, keys = keyed(batch, self.step.by, self.context)
        late = []
        for first in range(0, len(batch), self._chunk_rows):
            part = batch
            if len(batch) > self._chunk_rows:
                part = batch.replaced(batch.frame.slice(first, self._chunk_rows))
            late += self._add(part, keys.slice(first, self._chunk_rows))
        return late

    def _add(self, batch: Batch, keys: pl.Series) -> list[Emit]:
        times = batch.time
        rows, ends = self.step.window.assign(times)
        late: list[Emit] = []
        if rows is not None:
            self._count("rows_in_no_window", len(batch) - _different(rows))
        if len(ends) and max(self.watermark, int(batch.before.max())) >= int(ends.min()) + self.step.grace_ms:
            rows, ends, late = self._without_late(batch, rows if rows is not None else np.arange(len(batch)), ends)
        self.state.add(keys, rows, ends, values_of(batch.frame, self.step.aggregates), times)
        return late

    def _without_late(
        self, batch: Batch, rows: NDArray[np.int64], ends: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], list[Emit]]:
        """The (row, window) pairs that are not late, and the rows late for all their windows."""
        deadlines = ends + self.step.grace_ms
        by_own_partition = batch.before[rows] >= deadlines
        late = by_own_partition | (self.watermark >= deadlines)
        self._count("late_window_rows", int(late.sum()))
        in_time = _mask(rows[~late], len(batch))
        by_task_only = _mask(rows[~by_own_partition], len(batch)) & ~in_time
        too_late = _mask(rows, len(batch)) & ~in_time
        self._count("late_rows", int((too_late & ~by_task_only).sum()))
        self._count("late_rows.partition_woke", int(by_task_only.sum()))
        emits = [Emit(self._late_batch(batch, too_late, by_task_only), 1)] if too_late.any() else []
        return rows[~late], ends[~late], emits

    def _late_batch(self, batch: Batch, too_late: NDArray[np.bool_], by_task_only: NDArray[np.bool_]) -> Batch:
        ends = self.step.window.last_ends(batch.time)
        frame = batch.frame.filter(pl.Series(too_late))
        end, woke = pl.lit(pl.Series(ends[too_late])), pl.lit(pl.Series(by_task_only[too_late]))
        closed = pl.format("its last window ended at {} and closed at {}, ", end, end + self.step.grace_ms)
        own = pl.format("the watermark of its partition was {}", BEFORE)
        task = pl.lit(f"its partition slept, and the task's watermark was {self.watermark}")
        reason = pl.concat_str(closed, pl.when(woke).then(task).otherwise(own))
        return batch.replaced(frame.with_columns(reason.alias(LATE_REASON)))

    def _count(self, what: str, amount: int) -> None:
        if amount:
            self.context.count(what, amount)

    def advance(self, watermark: int) -> Sequence[Emit]:
        rows = self.state.close(watermark, changed_only=self.step.emit == "update")
        emits = self._emits(rows)
        self.early.advance(self.watermark, watermark)
        self.watermark = max(self.watermark, watermark)
        return emits

    def flush(self) -> Sequence[Emit]:
        return self._emits(self.state.take_updates()) if self.early.take() else ()

    def _emits(self, rows: ResultRows | None) -> Sequence[Emit]:
        if rows is None:
            return ()
        return self.writer.emits(rows, self.step.window.starts(rows.ends), self.passed_on, self.context)


def _mask(rows: NDArray[np.int64], size: int) -> NDArray[np.bool_]:
    mask = np.zeros(size, np.bool_)
    mask[rows] = True
    return mask


def _different(rows: NDArray[np.int64]) -> int:
    """How many different ones ascending rows hold."""
    return int(np.count_nonzero(np.diff(rows))) + (len(rows) > 0)
