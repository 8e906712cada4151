"""The value of one column in the row where another one is smallest; null where there was no such row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from ...state.slots import Accumulator
from ..reducer import checked_column
from ._row_at import RowAt, checked_pair


@dataclass(frozen=True, slots=True)
class Argmin:
    """`argmin("page", "price")`: the page at the smallest price, of the type of `page`.

    Of rows with the same price the earliest counts, of those of one time the one that came first (as with `first`). Rows where
    either column is null are skipped. NaN gives way to any number; text and bytes are compared by bytes.
    """

    name: ClassVar[str] = "argmin"
    column: str
    by: str

    def __post_init__(self) -> None:
        checked_column(self.name, self.column)
        checked_column(self.name, self.by)

    def output_type(self, column_type: pl.DataType | None) -> pl.DataType:
        return checked_pair(self.name, column_type)[0]

    def accumulator(self, column_type: pl.DataType | None) -> Accumulator:
        return RowAt("argmin", *checked_pair(self.name, column_type))
