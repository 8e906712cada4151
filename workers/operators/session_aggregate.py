"""Rows gathered by key in sessions: neighbours of one key less than a gap apart.

    row at t, with BEFORE = w      late  iff  the session it would make, merged, has  max(w, W of the task) >= end + grace
    advance(W)                     [first, last + gap) closes  iff  W >= end + grace

`emit="update"`: at each commit the sessions that changed, and a tombstone for each name (key, `window_start`) given before
that is no more, because a row came before its start or two sessions became one. `emit="final"`: each session once, when it
closes. `every` makes updates rarer, and gives early ones before a final result (`workers/early.py`); the tombstones still come
at each commit, since nobody would know of them after a crash. After one, a name may be taken back that was never given.

With rows beyond grace two sessions of one key can have the same start; of upserts the later one stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ...state.sessions import Gone, SessionRows, SessionState
from ...topics.batch import BEFORE, MIN_TIME, Batch
from ...topics.duration import duration_text
from ...topics.schema import Schema
from ..early import EarlyResults, describe_emission
from ..errors import PlanError
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
from ..given_at_commits import is_end
from ..operator import Context, Emit, Operator, StateDefinition


@dataclass(frozen=True, slots=True)
class SessionAggregate:
    """Output 0: `by`, `window_start`, `window_end` (ms, end exclusive), the aggregates. Output 1: rows too late, with `late_reason`.

    A result's time is `window_end - 1`. `name`: of the store.
    """

    kind: ClassVar[str] = "session_aggregate"
    gap_ms: int
    by: tuple[str, ...]
    aggregates: Aggregates
    grace_ms: int = 0
    emit: Literal["update", "final"] = "update"
    name: str = "sessions"
    every_ms: int | None = None

    def __post_init__(self) -> None:
        if self.gap_ms <= 0:
            raise PlanError(f"session: the gap must be longer than 0, got {duration_text(self.gap_ms)}")

    @property
    def window_text(self) -> str:
        return f"session {duration_text(self.gap_ms)}"

    def output_schemas(self, inputs: Sequence[Schema]) -> Sequence[Schema]:
        return checked_schemas(f"window {self.window_text}", inputs[0], self.by, self.aggregates)

    def build(self, inputs: Sequence[Schema]) -> SessionOperator:
        results, _ = self.output_schemas(inputs)
        early = EarlyResults(self.emit, self.every_ms)
        made = accumulators(inputs[0], self.aggregates)
        state = SessionState(
            self.name, self.gap_ms, self.grace_ms, made, updates=early.any, given_at_commits=early.at_commits
        )
        return SessionOperator(self, state, ResultWriter(results, self.by, self.window_text), early)

    def describe(self) -> Mapping[str, str]:
        emission = describe_emission(self.grace_ms, self.emit, self.every_ms)
        return describe_aggregation(self.window_text, self.by, self.aggregates, emission)

    def state_definition(self, inputs: Sequence[Schema]) -> StateDefinition:
        return aggregation_state(self.window_text, self.by, self.aggregates, inputs[0], self.grace_ms)


class SessionOperator(Operator):
    """The running step."""

    def __init__(self, step: SessionAggregate, state: SessionState, writer: ResultWriter, early: EarlyResults) -> None:
        self.step = step
        self.state = state
        self.writer = writer
        self.early = early
        self.states = (state,)
        self.delay_ms = step.grace_ms
        self.watermark = MIN_TIME
        self._changed_only = step.emit == "update"

    def open(self, context: Context, watermark: int) -> None:
        """The larger of the committed watermark and the one kept with the sessions wins: offsets can be lost."""
        self.context = context
        closed = self.state.closed_up_to
        self.watermark = watermark if closed is None else max(watermark, closed)

    @property
    def passed_on(self) -> int:
        """The watermark passed on so far."""
        return max(self.watermark - self.delay_ms, MIN_TIME)

    def process(self, batch: Batch, input_index: int) -> Sequence[Emit]:
        batch, keys = keyed(batch, self.step.by, self.context)
        before = np.maximum(batch.before, self.watermark)
        late = self.state.add(keys, batch.time, before, values_of(batch.frame, self.step.aggregates))
        early = self._emits(self.state.close_early(changed_only=self._changed_only))
        return early if late is None else [*early, self._late(batch, late)]

    def _late(self, batch: Batch, late: NDArray[np.bool_]) -> Emit:
        closes = batch.time + self.step.gap_ms + self.step.grace_ms
        woke = late & (batch.before < closes)
        for what, amount in (
            ("late_rows", int((late & ~woke).sum())),
            ("late_rows.partition_woke", int(woke.sum())),
            ("late_window_rows", int(late.sum())),
        ):
            if amount:
                self.context.count(what, amount)
        frame = batch.frame.filter(pl.Series(late))
        closed = pl.format("no open session reaches it and its own closed at {}, ", pl.lit(pl.Series(closes[late])))
        own = pl.format("the watermark of its partition was {}", BEFORE)
        task = pl.lit(f"its partition slept, and the task's watermark was {self.watermark}")
        reason = pl.concat_str(closed, pl.when(pl.lit(pl.Series(woke[late]))).then(task).otherwise(own))
        return Emit(batch.replaced(frame.with_columns(reason.alias(LATE_REASON))), 1)

    def advance(self, watermark: int) -> Sequence[Emit]:
        emits = self._emits(self.state.close(watermark, changed_only=self._changed_only))
        if is_end(watermark):  # later it would have no time; names that were just given are not taken back
            emits = [*self._taken_back(self.state.take_gone()), *emits]
        self.early.advance(self.watermark, watermark)
        self.watermark = max(self.watermark, watermark)
        return emits

    def flush(self) -> Sequence[Emit]:
        if not self.early.any:
            return ()
        rows, gone = self.state.take_updates() if self.early.take() else (None, self.state.take_gone())
        return [*self._taken_back(gone), *self._emits(rows)]

    def _taken_back(self, gone: Gone | None) -> list[Emit]:
        return [] if gone is None else self.writer.tombstones(gone.keys, gone.starts, gone.ends, self.passed_on)

    def _emits(self, rows: SessionRows | None) -> list[Emit]:
        return [] if rows is None else self.writer.emits(rows.rows, rows.starts, self.passed_on, self.context)
