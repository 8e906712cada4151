"""Results by key that have no window's end as their time: those of running aggregates and of count windows.

A result's time is the largest of its rows, but never behind the watermark that was passed on before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..topics.batch import BEFORE, MIN_TIME, OFFSET, TIME, Batch
from ..topics.key import columns_of
from ..topics.schema import Schema
from .gathering import EMIT_ROWS_MAX
from .operator import Context, Emit


class KeyedRows(Protocol):
    """Results as columns of one length, as a state gives them."""

    @property
    def keys(self) -> pl.Series: ...

    @property
    def times(self) -> NDArray[np.int64]: ...

    @property
    def results(self) -> Sequence[pl.Series]: ...

    @property
    def unfit(self) -> NDArray[np.bool_] | None: ...


@dataclass(frozen=True, slots=True)
class KeyedWriter:
    """Makes batches of results. `schema`: the first `by` columns are the key's, the last ones the results. `step`: for errors."""

    step: str
    schema: Schema
    by: int

    def emits(self, rows: KeyedRows, watermark: int, context: Context, between: Sequence[pl.Series] = ()) -> list[Emit]:
        """`between`: the columns after the key's. `watermark`: passed on before. What does not fit its type is rejected."""
        frame = self._frame(rows, watermark, between)
        if rows.unfit is not None:
            beyond = np.flatnonzero(rows.unfit)
            reason = f"{self.step}: an integer sum is beyond 64 bits; sum a float column"
            context.reject(Batch(frame), beyond, [reason] * len(beyond))
            frame = frame.filter(pl.Series(~rows.unfit))
        return [Emit(Batch(part)) for part in frame.iter_slices(EMIT_ROWS_MAX) if len(part)]

    def frame(self, rows: KeyedRows) -> pl.DataFrame:
        """The results alone, as columns of the schema."""
        return self._frame(rows, MIN_TIME, ()).select(self.schema.names)

    def _frame(self, rows: KeyedRows, watermark: int, between: Sequence[pl.Series]) -> pl.DataFrame:
        columns = [*columns_of(rows.keys, Schema(self.schema.columns[: self.by])).get_columns(), *between]
        names = self.schema.names[len(columns) :]
        columns += [result.alias(name) for name, result in zip(names, rows.results, strict=True)]
        columns += [
            pl.Series(TIME, np.maximum(rows.times, watermark)),
            pl.Series(BEFORE, np.full(len(rows.times), watermark)),
            pl.Series(OFFSET, np.full(len(rows.times), -1)),
        ]
        return pl.DataFrame(columns)
