"""Rows gathered by key, so many at a time, by arrival (Flink's countWindow; Kafka Streams has none).

    row of a key      is in window  (rows of the key before it) // rows
    its rows-th row   fills the window: it is given at once, within `process`
    end of all input  with `partial`: windows that are not full are given too

Event time decides nothing here, so no row is late, and results depend on the order of arrival (in which the rows of a key are
the same in every replay, as they are in one partition). A result's time is the largest of its rows, but never behind the
watermark that was passed on before it. How batches are cut changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Final

import polars as pl

from ...state.counted import CountedRows, CountedState
from ...topics.batch import MAX_TIME, MIN_TIME, Batch
from ...topics.schema import Schema
from ..errors import PlanError
from ..gathering import (
    Aggregates,
    accumulators,
    aggregation_state,
    describe_aggregation,
    keyed,
    result_schema,
    values_of,
)
from ..keyed_results import KeyedWriter
from ..operator import Context, Emit, Operator, StateDefinition

WINDOW_ORDINAL: Final = "window_ordinal"

_END: Final = MAX_TIME // 2
"""No time is as large: a watermark from here on is the end of a bounded input, lowered by the delays of steps before."""


@dataclass(frozen=True, slots=True)
class CountAggregate:
    """Output 0: `by`, `window_ordinal` (of the key's windows, from 0), the aggregates. `name`: of the store."""

    kind: ClassVar[str] = "count_aggregate"
    rows: int
    by: tuple[str, ...]
    aggregates: Aggregates
    partial: bool = False
    name: str = "counted"

    @property
    def window_text(self) -> str:
        return f"count {self.rows}"

    def output_schemas(self, inputs: Sequence[Schema]) -> Sequence[Schema]:
        step = f"window {self.window_text}"
        if not self.by:
            raise PlanError(
                f"{step}: windows are by key, so by= needs a column; for one over all add a constant column"
            )
        return [result_schema(step, inputs[0], self.by, self.aggregates, {WINDOW_ORDINAL: pl.Int64()})]

    def build(self, inputs: Sequence[Schema]) -> CountOperator:
        (results,) = self.output_schemas(inputs)
        state = CountedState(self.name, self.rows, partial(accumulators, inputs[0], self.aggregates))
        return CountOperator(self, state, KeyedWriter(f"window {self.window_text}", results, len(self.by)))

    def describe(self) -> Mapping[str, str]:
        given = {"partial": "at the end"} if self.partial else {}
        return describe_aggregation(self.window_text, self.by, self.aggregates, given)

    def state_definition(self, inputs: Sequence[Schema]) -> StateDefinition:
        return aggregation_state(self.window_text, self.by, self.aggregates, inputs[0], 0)


class CountOperator(Operator):
    """The running step."""

    def __init__(self, step: CountAggregate, state: CountedState, writer: KeyedWriter) -> None:
        self.step = step
        self.state = state
        self.writer = writer
        self.states = (state,)
        self.watermark = MIN_TIME

    def open(self, context: Context, watermark: int) -> None:
        self.context = context
        self.watermark = watermark

    def process(self, batch: Batch, input_index: int) -> Sequence[Emit]:
        batch, keys = keyed(batch, self.step.by, self.context)
        return self._emits(self.state.add(keys, values_of(batch.frame, self.step.aggregates), batch.time))

    def advance(self, watermark: int) -> Sequence[Emit]:
        at_the_end = watermark >= _END and self.step.partial
        emits = self._emits(self.state.take_partial()) if at_the_end else ()
        self.watermark = max(self.watermark, watermark)
        return emits

    def _emits(self, rows: CountedRows | None) -> Sequence[Emit]:
        if rows is None:
            return ()
        return self.writer.emits(rows, self.watermark, self.context, [pl.Series(WINDOW_ORDINAL, rows.ordinals)])
