"""How many different values a column has, exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from ...state.slots import Accumulator, Slots
from ..reducer import checked_column
from ._distinct import Distinct
from ._values import checked_scalar


@dataclass(frozen=True, slots=True)
class CountDistinct:
    """`count_distinct("user")`: Int64; nulls are not counted. NaN equals NaN, -0.0 equals 0.0.

    It keeps every different value of every open window in memory, and writes all values of a changed key and window at each
    commit: fit for thousands of different values a key, not for millions.
    """

    name: ClassVar[str] = "count_distinct"
    column: str

    def __post_init__(self) -> None:
        checked_column(self.name, self.column)

    def output_type(self, column_type: pl.DataType | None) -> pl.DataType:
        checked_scalar(self.name, column_type)
        return pl.Int64()

    def accumulator(self, column_type: pl.DataType | None) -> Accumulator:
        return _Count(checked_scalar(self.name, column_type))


class _Count(Distinct):
    def result(self, slots: Slots) -> pl.Series:
        return pl.Series([len(held or ()) for held in self.values[slots].tolist()], dtype=pl.Int64)
