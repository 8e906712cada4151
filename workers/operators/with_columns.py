"""Add or replace columns by polars expressions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import polars as pl

from ...topics.batch import Batch
from ...topics.schema import Schema
from ..errors import PlanError
from ..expressions import checked_row_wise
from ..operator import Emit, Operator


@dataclass(frozen=True, eq=False, slots=True)
class WithColumns:
    """`columns`: (name, expression or constant). Expressions see the columns as they were before."""

    kind: ClassVar[str] = "with_columns"
    columns: tuple[tuple[str, Any], ...]

    def output_schemas(self, inputs: Sequence[Schema]) -> Sequence[Schema]:
        if not self.columns:
            raise PlanError("with_columns needs at least one column, as in with_columns(total=pl.col('price') * 2)")
        return [Schema.of(dict(inputs[0].empty().with_columns(*self.expressions()).schema))]

    def build(self, inputs: Sequence[Schema]) -> Operator:
        return _WithColumns(self.expressions())

    def expressions(self) -> list[pl.Expr]:
        return [
            (checked_row_wise(value, f"with_columns, {name}") if isinstance(value, pl.Expr) else pl.lit(value)).alias(
                name
            )
            for name, value in self.columns
        ]

    def describe(self) -> Mapping[str, str]:
        return {name: str(value) for name, value in self.columns}


class _WithColumns(Operator):
    def __init__(self, expressions: Sequence[pl.Expr]) -> None:
        self.expressions = expressions

    def process(self, batch: Batch, input_index: int) -> Sequence[Emit]:
        return [Emit(batch.replaced(batch.frame.with_columns(*self.expressions)))]
