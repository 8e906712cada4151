"""The different values of a column as a list, ascending."""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan
from typing import Any, ClassVar

import polars as pl

from ...state.slots import Accumulator, Slots
from ..reducer import checked_column
from ._distinct import Distinct
from ._values import checked_scalar, lists_of


@dataclass(frozen=True, slots=True)
class CollectSet:
    """`collect_set("page")`: a list of the column's own type, each value once; nulls are skipped, no rows are `[]`.

    Ascending (text and bytes by bytes, NaN last), so it is the same for every order of arrival. NaN equals NaN, -0.0 equals
    0.0. Kept and written as by `count_distinct`: fit for thousands of different values a key, not for millions.
    """

    name: ClassVar[str] = "collect_set"
    column: str

    def __post_init__(self) -> None:
        checked_column(self.name, self.column)

    def output_type(self, column_type: pl.DataType | None) -> pl.DataType:
        return pl.List(checked_scalar(self.name, column_type))

    def accumulator(self, column_type: pl.DataType | None) -> Accumulator:
        return _Set(checked_scalar(self.name, column_type))


class _Set(Distinct):
    def result(self, slots: Slots) -> pl.Series:
        return lists_of([sorted(held or (), key=_nan_last) for held in self.values[slots].tolist()], self.column_type)


def _nan_last(value: Any) -> tuple[bool, Any]:
    return (True, 0) if isinstance(value, float) and isnan(value) else (False, value)
