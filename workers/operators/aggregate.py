"""Rows gathered by key without a window: a running aggregate, given as upserts.

At each commit (`flush`) every group that changed is given once, with its current values: however many rows came, a reader of the
compacted output needs one record a key. Its time is that of the group's latest row, but never behind the watermark that was
passed on before it. Nothing is late here: a count without a window has no time by which it is over.

Reducers that look at event time (`first`, `last`) do so over all rows of the group. State is kept for good (`state/groups.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl

from ...state.groups import GroupRows, GroupState
from ...topics.batch import BEFORE, MIN_TIME, OFFSET, TIME, Batch
from ...topics.key import columns_of
from ...topics.schema import Schema
from ..gathering import (
    EMIT_ROWS_MAX,
    Aggregates,
    accumulators,
    aggregation_state,
    keyed,
    result_schema,
    values_of,
)
from ..operator import Context, Emit, Operator, StateDefinition
from ..reducer import describe_reducer


@dataclass(frozen=True, slots=True)
class Aggregate:
    """Output 0: `by`, the aggregates; keyed by `by`. `name`: of the store."""

    kind: ClassVar[str] = "aggregate"
    by: tuple[str, ...]
    aggregates: Aggregates
    name: str = "groups"

    def output_schemas(self, inputs: Sequence[Schema]) -> Sequence[Schema]:
        return [result_schema("group_by", inputs[0], self.by, self.aggregates)]

    def build(self, inputs: Sequence[Schema]) -> AggregateOperator:
        (results,) = self.output_schemas(inputs)
        return AggregateOperator(self, GroupState(self.name, lambda: accumulators(inputs[0], self.aggregates)), results)

    def describe(self) -> Mapping[str, str]:
        reducers = {name: describe_reducer(reducer) for name, reducer in self.aggregates}
        return {"by": ", ".join(self.by), **reducers}

    def state_definition(self, inputs: Sequence[Schema]) -> StateDefinition:
        return aggregation_state("none", self.by, self.aggregates, inputs[0], 0)


class AggregateOperator(Operator):
    """The running step."""

    def __init__(self, step: Aggregate, state: GroupState, results: Schema) -> None:
        self.step = step
        self.state = state
        self.results = results
        self.states = (state,)
        self.watermark = MIN_TIME

    def open(self, context: Context, watermark: int) -> None:
        self.context = context
        self.watermark = watermark

    def process(self, batch: Batch, input_index: int) -> Sequence[Emit]:
        batch, keys = keyed(batch, self.step.by, self.context)
        if len(batch):
            self.state.add(keys, values_of(batch.frame, self.step.aggregates), batch.time)
        return ()

    def advance(self, watermark: int) -> Sequence[Emit]:
        self.watermark = max(self.watermark, watermark)
        return ()

    def flush(self) -> Sequence[Emit]:
        rows = self.state.take_updates()
        if rows is None:
            return ()
        frame = self._frame(rows)
        if rows.unfit is not None:
            beyond = np.flatnonzero(rows.unfit)
            self.context.reject(Batch(frame), beyond, [UNFIT] * len(beyond))
            frame = frame.filter(pl.Series(~rows.unfit))
        return [Emit(Batch(part)) for part in frame.iter_slices(EMIT_ROWS_MAX) if len(part)]

    def _frame(self, rows: GroupRows) -> pl.DataFrame:
        by = len(self.step.by)
        columns = columns_of(rows.keys, Schema(self.results.columns[:by])).get_columns()
        names = self.results.names[by:]
        columns += [result.alias(name) for name, result in zip(names, rows.results, strict=True)]
        columns += [
            pl.Series(TIME, np.maximum(rows.times, self.watermark)),
            pl.Series(BEFORE, np.full(len(rows), self.watermark)),
            pl.Series(OFFSET, np.full(len(rows), -1)),
        ]
        return pl.DataFrame(columns)


UNFIT = "group_by: an integer sum is beyond 64 bits; sum a float column"
