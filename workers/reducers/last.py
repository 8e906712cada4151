"""The value of the latest row by event time; null where no row had one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from ...state.slots import Accumulator
from ..reducer import checked_column
from ._edge import edge
from ._values import checked_scalar


@dataclass(frozen=True, slots=True)
class Last:
    """`last("page")`: of the column's own type. Rows where it is null are skipped; of rows of one time, the one that came last."""

    name: ClassVar[str] = "last"
    column: str

    def __post_init__(self) -> None:
        checked_column(self.name, self.column)

    def output_type(self, column_type: pl.DataType | None) -> pl.DataType:
        return checked_scalar(self.name, column_type)

    def accumulator(self, column_type: pl.DataType | None) -> Accumulator:
        return edge("last", self.output_type(column_type))
