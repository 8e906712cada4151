"""Rows of two tables of one key, side by side, kept up to date: a table again.

A row is there for a key when both tables have one (`inner`), when the left has one (`left`), or when any has (`outer`); what is
missing is null. At each commit every key that changed on either side is given once: an upsert of the joined row, or a tombstone
where a row had been given and is there no more, never a tombstone for a key that had none. The time of a row is the later one of
its sides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ...state.rows import NO_ROW
from ...topics.batch import TIME, Batch
from ...topics.schema import Schema
from ..given_at_commits import GivenAtCommits
from ..join_schemas import check_option
from ..operator import Emit, Operator, StateDefinition
from ..table_rows import TableWriter, Touched, put_rows, timed_table
from ..table_schemas import LookUp, table_keys

How = Literal["inner", "left", "outer"]
HOW: Final = ("inner", "left", "outer")

_RIGHT_TIME: Final = "__right_time"

Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class TableJoin:
    """Inputs: the changes of the left and of the right table. Output 0: changes of the joined table, keyed as the left."""

    kind: ClassVar[str] = "table_join"
    left_key: tuple[str, ...]
    right_key: tuple[str, ...]
    how: How = "inner"
    suffix: str = "_right"

    @property
    def look_up(self) -> LookUp:
        return LookUp(self.kind, self.left_key, self.right_key, self.suffix)

    def output_schemas(self, inputs: Sequence[Schema]) -> Sequence[Schema]:
        check_option(self.kind, "how", self.how, HOW)
        return [self.look_up.columns(*inputs)]

    def build(self, inputs: Sequence[Schema]) -> Operator:
        return TableJoinOperator(self, inputs)

    def describe(self) -> Mapping[str, str]:
        pairs = zip(self.left_key, self.right_key, strict=True)
        return {
            "key": ", ".join(a if a == b else f"{a} = {b}" for a, b in pairs),
            "how": self.how,
            "suffix": self.suffix,
        }

    def state_definition(self, inputs: Sequence[Schema]) -> StateDefinition:
        left, right = inputs
        return StateDefinition({"how": self.how, "left": left.text(), "right": right.text()})

    def partitioned_by(self, input_index: int) -> tuple[str, ...]:
        return (self.left_key, self.right_key)[input_index]


class TableJoinOperator(GivenAtCommits):
    """The running step."""

    def __init__(self, step: TableJoin, inputs: Sequence[Schema]) -> None:
        self.step = step
        self.inputs = inputs
        self.tables = (timed_table("left", inputs[0]), timed_table("right", inputs[1]))
        self.states = self.tables
        (results,) = step.output_schemas(inputs)
        self.writer = TableWriter(results, step.left_key)
        self.touched = Touched()

    def process(self, batch: Batch, input_index: int) -> Sequence[Emit]:
        batch, keys, deleted = table_keys(batch, self.step.partitioned_by(input_index), self.context)
        if len(batch):
            self.touched.add(keys, self._there(keys), batch.time)
            put_rows(self.tables[input_index], keys, batch, deleted)
        return ()

    def flush(self) -> Sequence[Emit]:
        taken = self.touched.take()
        if taken is None:
            return ()
        touched, there = taken.told(self._there(taken.keys))
        return self.writer.emits(touched, self._joined(touched.keys), ~there, self.watermark)

    def _there(self, keys: pl.Series) -> Flags:
        """Whether the joined table has a row, as the tables are now."""
        left, right = (table.find(keys) != NO_ROW for table in self.tables)
        there: Flags = left & right if self.step.how == "inner" else left if self.step.how == "left" else left | right
        return there

    def _joined(self, keys: pl.Series) -> pl.DataFrame:
        left, right = (table.get_many(keys) for table in self.tables)
        found = self.step.look_up.renamed(right, *self.inputs)
        frame = left.hstack(found).with_columns(right[TIME].alias(_RIGHT_TIME))
        return frame.with_columns(pl.max_horizontal(TIME, _RIGHT_TIME).alias(TIME))
