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

import polars as pl

from ...state.groups import GroupState
from ...topics.batch import Batch
from ...topics.schema import Schema
from ..gathering import (
    Aggregates,
    accumulators,
    aggregation_state,
    keyed,
    result_schema,
    values_of,
)
from ..given_at_commits import GivenAtCommits
from ..keyed_results import KeyedWriter
from ..operator import Emit, Operator, StateDefinition
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

    def build(self, inputs: Sequence[Schema]) -> Operator:
        (results,) = self.output_schemas(inputs)
        state = GroupState(self.name, lambda: accumulators(inputs[0], self.aggregates))
        return AggregateOperator(self, state, KeyedWriter("group_by", results, len(self.by)))

    @property
    def table_key(self) -> tuple[str, ...]:
        return self.by

    def describe(self) -> Mapping[str, str]:
        reducers = {name: describe_reducer(reducer) for name, reducer in self.aggregates}
        return {"by": ", ".join(self.by), **reducers}

    def state_definition(self, inputs: Sequence[Schema]) -> StateDefinition:
        return aggregation_state("none", self.by, self.aggregates, inputs[0], 0)


class AggregateOperator(GivenAtCommits):
    """The running step."""

    def __init__(self, step: Aggregate, state: GroupState, writer: KeyedWriter) -> None:
        self.step = step
        self.state = state
        self.writer = writer
        self.states = (state,)

    def process(self, batch: Batch, input_index: int) -> Sequence[Emit]:
        batch, keys = keyed(batch, self.step.by, self.context)
        if len(batch):
            self.state.add(keys, values_of(batch.frame, self.step.aggregates), batch.time)
        return ()

    def flush(self) -> Sequence[Emit]:
        rows = self.state.take_updates()
        if rows is None:
            return ()
        return self.writer.emits(rows, self.watermark, self.context)

    def read_table(self, keys: pl.Series | None) -> pl.DataFrame:
        """See `queries.TableReader`."""
        return self.writer.frame(self.state.read(keys))
