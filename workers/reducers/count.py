"""Number of rows, or of a column's values that are not null."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ...state.slots import Accumulator, FixedAccumulator, Slots, Values
from ..reducer import checked_column


@dataclass(frozen=True, slots=True)
class Count:
    """`count()` counts rows, `count("price")` the rows whose price is not null, as in SQL. Int64."""

    name: ClassVar[str] = "count"
    column: str | None = None

    def __post_init__(self) -> None:
        if self.column is not None:
            checked_column(self.name, self.column)

    def output_type(self, column_type: pl.DataType | None) -> pl.DataType:
        return pl.Int64()

    def accumulator(self, column_type: pl.DataType | None) -> Accumulator:
        return _Count()


class _Count(FixedAccumulator):
    def __init__(self) -> None:
        super().__init__(np.int64(0))

    def add(self, slots: Slots, values: Values | None, times: NDArray[np.int64]) -> None:
        if isinstance(values, pl.Series) and values.null_count():
            slots = slots[values.is_not_null().to_numpy()]
        np.add.at(self.columns[0], slots, 1)

    def merge(self, into: Slots, source: Slots) -> None:
        np.add.at(self.columns[0], into, self.columns[0][source])

    def result(self, slots: Slots) -> pl.Series:
        return pl.Series(self.columns[0][slots])
