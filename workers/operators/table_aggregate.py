"""The rows of a table, gathered by group: an aggregate that follows its table, down as well as up.

Reducers only add. So the rows of a group are kept, and at each commit the groups that changed are gathered anew from theirs: every
reducer can be used, `min` and `collect` too, and nothing drifts. What a commit costs grows with the rows of the groups that changed, not
with those of the others. A group without rows is a tombstone, where it had been given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ...topics.batch import MIN_TIME, TIME, Batch
from ...topics.key import key_text
from ...topics.schema import Schema
from ..gathering import Aggregates, accumulators, aggregation_state, result_schema, values_of
from ..given_at_commits import GivenAtCommits
from ..operator import Emit, Operator, StateDefinition
from ..reducer import columns_read, describe_reducer
from ..table_rows import TableWriter, Touched, put_rows, timed_table
from ..table_schemas import table_keys

_GROUP = "__group"


@dataclass(frozen=True, slots=True)
class TableAggregate:
    """Input: a table's changes, rekeyed by `by`; `key` is the table's. Output 0: `by`, the aggregates; keyed by `by`."""

    kind: ClassVar[str] = "table_aggregate"
    key: tuple[str, ...]
    by: tuple[str, ...]
    aggregates: Aggregates

    def output_schemas(self, inputs: Sequence[Schema]) -> Sequence[Schema]:
        return [result_schema("group_by", inputs[0], self.by, self.aggregates)]

    def build(self, inputs: Sequence[Schema]) -> Operator:
        return TableAggregateOperator(self, inputs[0])

    def describe(self) -> Mapping[str, str]:
        reducers = {name: describe_reducer(reducer) for name, reducer in self.aggregates}
        return {"by": ", ".join(self.by), **reducers}

    def state_definition(self, inputs: Sequence[Schema]) -> StateDefinition:
        of_group = aggregation_state("none", self.by, self.aggregates, inputs[0], 0)
        return StateDefinition({**of_group.parameters, "key": inputs[0].text(self.key)})


class TableAggregateOperator(GivenAtCommits):
    """The running step."""

    def __init__(self, step: TableAggregate, rows: Schema) -> None:
        self.step = step
        self.rows = rows
        kinds = dict(rows)
        names = dict.fromkeys(name for _, reducer in step.aggregates for name in columns_read(reducer))
        kept = Schema((*((name, kinds[name]) for name in names), (_GROUP, pl.String())))
        self.state = timed_table("rows", kept)
        self.states = (self.state,)
        (results,) = step.output_schemas([rows])
        self.writer = TableWriter(results, step.by)
        self.touched = Touched()

    def process(self, batch: Batch, input_index: int) -> Sequence[Emit]:
        batch, _, _ = table_keys(batch, self.step.by, self.context)
        if not len(batch):
            return ()
        batch, keys, deleted = table_keys(batch, self.step.key, self.context)
        groups = key_text(batch.frame, self.step.by).alias(_GROUP)
        self._touch(groups, batch.time)
        put_rows(self.state, keys, batch.replaced(batch.frame.with_columns(groups)), deleted)
        return ()

    def _touch(self, groups: pl.Series, times: NDArray[np.int64]) -> None:
        there = self.state.rows(self.state.where(_GROUP, groups))[_GROUP].unique()
        self.touched.add(groups, groups.is_in(there.implode()).to_numpy(), times)

    def flush(self) -> Sequence[Emit]:
        taken = self.touched.take()
        if taken is None:
            return ()
        rows = self.state.rows(self.state.where(_GROUP, taken.keys))
        touched, full = taken.told(taken.keys.is_in(rows[_GROUP].unique().implode()).to_numpy())
        return self.writer.emits(touched, self._gathered(touched.keys, rows), ~full, self.watermark)

    def _reject(self, groups: pl.Series, name: str, unfit: NDArray[np.bool_]) -> None:
        """The group goes on without this value, which would be wrong."""
        rows = np.flatnonzero(unfit)
        frame = pl.DataFrame({"group": groups[rows], "column": [name] * len(rows)})
        reason = "group_by: an integer sum is beyond 64 bits; sum a float column"
        self.context.reject(Batch(frame), np.arange(len(rows)), [reason] * len(rows))

    def _gathered(self, groups: pl.Series, rows: pl.DataFrame) -> pl.DataFrame:
        """The aggregates of each group, over its rows in the order in which they last changed."""
        numbers = pl.DataFrame({_GROUP: groups, "slot": np.arange(len(groups))})
        slots = rows.select(_GROUP).join(numbers, on=_GROUP, how="left", maintain_order="left")["slot"].to_numpy()
        times = rows[TIME].to_numpy()
        latest = np.full(len(groups), MIN_TIME, np.int64)
        np.maximum.at(latest, slots, times)
        columns, every = [], np.arange(len(groups))
        gathered = zip(
            accumulators(self.rows, self.step.aggregates), values_of(rows, self.step.aggregates), strict=True
        )
        for (name, _), (accumulator, values) in zip(self.step.aggregates, gathered, strict=True):
            accumulator.reserve(len(groups))
            accumulator.add(slots, values, times)
            columns.append(accumulator.result(every).alias(name))
            if (unfit := accumulator.unfit(every)) is not None:
                self._reject(groups, name, unfit)
        return pl.DataFrame([*columns, pl.Series(TIME, latest)])
