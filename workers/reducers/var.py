"""Variance of a column of numbers; null where there were too few values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from ...state.slots import Accumulator
from ..reducer import checked_column
from ._moments import Moments, checked_ddof
from ._values import checked_number


@dataclass(frozen=True, slots=True)
class Var:
    """`var("price")`: Float64, the variance of a sample (`var_samp` of SQL); `ddof=0`: of a population (`var_pop`).

    Null of fewer than two values, for a population of none. NaN where a value is NaN or infinite. Its last bits depend on the
    order of arrival and on how rows were batched. Method: Chan, Golub, LeVeque (1979), see `_moments.py`.
    """

    name: ClassVar[str] = "var"
    column: str
    ddof: int = 1

    def __post_init__(self) -> None:
        checked_column(self.name, self.column)
        checked_ddof(self.name, self.ddof)

    def output_type(self, column_type: pl.DataType | None) -> pl.DataType:
        checked_number(self.name, column_type)
        return pl.Float64()

    def accumulator(self, column_type: pl.DataType | None) -> Accumulator:
        return Moments(self.ddof)
