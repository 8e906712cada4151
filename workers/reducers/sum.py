"""Sum of a column of numbers: integers exactly, floats in order of arrival; 0 where there was no value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ...state.slots import Accumulator, FixedAccumulator, Slots, Values
from ..reducer import checked_column, refused_type
from ._exact_sum import ExactSum
from ._values import number_type, numbers, without_nulls

_HALF = 1 << 31


@dataclass(frozen=True, slots=True)
class Sum:
    """`sum("price")`: Int64 of integers, Float64 of floats.

    An integer sum that does not fit 64 bits when it is given is an error of that result row; it never wraps. Until then it
    is kept exactly, so it is the same for every order of arrival. The last bits of a float sum depend on the order.
    """

    name: ClassVar[str] = "sum"
    column: str

    def __post_init__(self) -> None:
        checked_column(self.name, self.column)

    def output_type(self, column_type: pl.DataType | None) -> pl.DataType:
        kind = None if column_type is None or not column_type.is_numeric() else number_type(column_type)
        if kind is not None and kind == np.dtype(np.float64):  # numpy: None equals float64, its default
            return pl.Float64()
        if kind is None or kind != np.dtype(np.int64):
            raise refused_type(self.name, column_type, "integers up to 64 bits with a sign, and floats")
        return pl.Int64()

    def accumulator(self, column_type: pl.DataType | None) -> Accumulator:
        return _Integers() if isinstance(self.output_type(column_type), pl.Int64) else _Floats()


class _Integers(ExactSum):
    def result(self, slots: Slots) -> pl.Series:
        high, low = self.totals(slots)
        fits = (high >= -_HALF) & (high < _HALF)
        total = pl.Series((high << 32) | low)
        return total if fits.all() else total.zip_with(pl.Series(fits), pl.Series([None], dtype=pl.Int64))

    def unfit(self, slots: Slots) -> NDArray[np.bool_] | None:
        high, _ = self.totals(slots)
        beyond = (high < -_HALF) | (high >= _HALF)
        return beyond if beyond.any() else None


class _Floats(FixedAccumulator):
    def __init__(self) -> None:
        super().__init__(np.float64(0))

    def add(self, slots: Slots, values: Values | None, times: NDArray[np.int64]) -> None:
        assert values is not None, "a sum is of a column"
        slots, values, _ = without_nulls(slots, values, times)
        np.add.at(self.columns[0], slots, numbers(values, np.dtype(np.float64)))

    def merge(self, into: Slots, source: Slots) -> None:
        np.add.at(self.columns[0], into, self.columns[0][source])

    def result(self, slots: Slots) -> pl.Series:
        return pl.Series(self.columns[0][slots])
