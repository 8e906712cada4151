"""The largest value of a column; null where there was no value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from ...state.slots import Accumulator
from ..reducer import checked_column
from ._extreme import extreme
from ._values import checked_scalar


@dataclass(frozen=True, slots=True)
class Max:
    """`max("price")`: of the column's own type. Numbers, times, booleans (false before true), text and bytes (by bytes).

    Integers are compared exactly. NaN gives way to any number: the result is NaN only where every value was.
    """

    name: ClassVar[str] = "max"
    column: str

    def __post_init__(self) -> None:
        checked_column(self.name, self.column)

    def output_type(self, column_type: pl.DataType | None) -> pl.DataType:
        return checked_scalar(self.name, column_type)

    def accumulator(self, column_type: pl.DataType | None) -> Accumulator:
        return extreme("max", self.output_type(column_type))
