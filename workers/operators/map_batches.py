"""A Python function of a frame that gives a frame with the same number of rows.

It is called with a batch's rows, however many these are: what it gives for a row must not depend on the rows beside it. Where it
raises, or gives what does not fit, the batch is halved until what is left is single rows, and those are dead letters; so a
bad row costs about twenty calls in a batch of a thousand, and the others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl

from ...topics.batch import INTERNAL_COLUMNS, Batch
from ...topics.schema import Schema
from ..operator import Emit, Operator
from ..rowwise import failure_text, function_text

FrameFunction = Callable[[pl.DataFrame], pl.DataFrame]


@dataclass(frozen=True, eq=False, slots=True)
class MapBatches:
    """`schema`: of the frame given; its columns are cast to it, strictly."""

    kind: ClassVar[str] = "map_batches"
    function: FrameFunction
    schema: Schema

    def output_schemas(self, inputs: Sequence[Schema]) -> Sequence[Schema]:
        return [self.schema]

    def build(self, inputs: Sequence[Schema]) -> Operator:
        return _MapBatches(self.function, self.schema)

    def describe(self) -> Mapping[str, str]:
        return {"function": function_text(self.function)}


class _Misfit(Exception):
    """What the function gave is not what was said."""


class _MapBatches(Operator):
    def __init__(self, function: FrameFunction, schema: Schema) -> None:
        self.function, self.schema = function, schema

    def process(self, batch: Batch, input_index: int) -> Sequence[Emit]:
        rows = batch.frame.select(batch.user_columns)
        failed: dict[int, str] = {}
        given = self._applied(rows, 0, failed)
        internal = batch.frame.select(name for name in batch.frame.columns if name in INTERNAL_COLUMNS)
        if failed:
            self.context.reject(batch, np.array(list(failed), np.int64), list(failed.values()))
            good = np.ones(len(batch), np.bool_)
            good[list(failed)] = False
            internal = internal.filter(pl.Series(good))
        frame = pl.concat(given) if given else self.schema.empty()
        return [Emit(batch.replaced(frame.hstack(internal)))]

    def _applied(self, rows: pl.DataFrame, first: int, failed: dict[int, str]) -> list[pl.DataFrame]:
        """What was given for the rows, without those for which it fails alone. `first`: their number in the batch."""
        try:
            return [self._fitting(self.function(rows), rows.height)]
        except Exception as error:  # noqa: BLE001 - whatever a user's function raises is the fault of some row
            if rows.height == 1:
                failed[first] = self._reason(error)
                return []
        half = rows.height // 2
        return [*self._applied(rows[:half], first, failed), *self._applied(rows[half:], first + half, failed)]

    def _fitting(self, given: object, height: int) -> pl.DataFrame:
        if not isinstance(given, pl.DataFrame):
            raise _Misfit(f"{type(given).__name__}, expected a polars DataFrame")
        if given.height != height:
            raise _Misfit(f"{given.height} rows for {height}")
        if missing := [name for name in self.schema.names if name not in given.columns]:
            raise _Misfit(f"no column {missing[0]!r}, only {', '.join(given.columns)}")
        try:
            return given.select(pl.col(name).cast(kind, strict=True) for name, kind in self.schema)
        except pl.exceptions.PolarsError as error:
            raise _Misfit(f"what does not fit the schema: {error}") from error

    def _reason(self, error: Exception) -> str:
        if isinstance(error, _Misfit):
            return f"{function_text(self.function)} gave {error}"
        return failure_text(self.function, error)
