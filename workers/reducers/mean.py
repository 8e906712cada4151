"""Mean of a column of numbers; null where there was no value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ...state.slots import Accumulator, FixedAccumulator, Slots, Values
from ..reducer import checked_column, refused_type
from ._exact_sum import ExactSum
from ._values import number_type, numbers, series_of, without_nulls


@dataclass(frozen=True, slots=True)
class Mean:
    """`mean("price")`: Float64. The sum of integers behind it is exact; that of floats depends on the order in its last bits."""

    name: ClassVar[str] = "mean"
    column: str

    def __post_init__(self) -> None:
        checked_column(self.name, self.column)

    def output_type(self, column_type: pl.DataType | None) -> pl.DataType:
        self._kind(column_type)
        return pl.Float64()

    def accumulator(self, column_type: pl.DataType | None) -> Accumulator:
        return _Integers() if self._kind(column_type) == np.dtype(np.int64) else _Floats()

    def _kind(self, column_type: pl.DataType | None) -> np.dtype[np.generic]:
        kind = None if column_type is None or not column_type.is_numeric() else number_type(column_type)
        if kind is None or kind not in (np.dtype(np.float64), np.dtype(np.int64)):  # numpy: None equals float64
            raise refused_type(self.name, column_type, "integers up to 64 bits with a sign, and floats")
        return kind


class _Integers(ExactSum):
    def result(self, slots: Slots) -> pl.Series:
        return series_of(self.means(slots), pl.Float64(), self.columns[2][slots] > 0)


class _Floats(FixedAccumulator):
    """`columns`: sum, number of values."""

    def __init__(self) -> None:
        super().__init__(np.float64(0), np.int64(0))

    def add(self, slots: Slots, values: Values | None, times: NDArray[np.int64]) -> None:
        assert values is not None, "a mean is of a column"
        slots, values, _ = without_nulls(slots, values, times)
        np.add.at(self.columns[0], slots, numbers(values, np.dtype(np.float64)))
        np.add.at(self.columns[1], slots, 1)

    def merge(self, into: Slots, source: Slots) -> None:
        for column in self.columns:
            np.add.at(column, into, column[source])

    def result(self, slots: Slots) -> pl.Series:
        total, count = (column[slots] for column in self.columns)
        with np.errstate(invalid="ignore"):
            return series_of(total / count, pl.Float64(), count > 0)
