"""Standard deviation of a column of numbers; null where there were too few values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl

from ...state.slots import Accumulator, Slots
from ..reducer import checked_column
from ._moments import Moments, checked_ddof
from ._values import checked_number, series_of


@dataclass(frozen=True, slots=True)
class Std:
    """`std("price")`: Float64, the square root of `var`: of a sample (`stddev_samp` of SQL); `ddof=0`: of a population.

    Null of fewer than two values, for a population of none.
    """

    name: ClassVar[str] = "std"
    column: str
    ddof: int = 1

    def __post_init__(self) -> None:
        checked_column(self.name, self.column)
        checked_ddof(self.name, self.ddof)

    def output_type(self, column_type: pl.DataType | None) -> pl.DataType:
        checked_number(self.name, column_type)
        return pl.Float64()

    def accumulator(self, column_type: pl.DataType | None) -> Accumulator:
        return _Deviation(self.ddof)


class _Deviation(Moments):
    def result(self, slots: Slots) -> pl.Series:
        variances, present = self.variances(slots)
        return series_of(np.sqrt(variances), pl.Float64(), present)
