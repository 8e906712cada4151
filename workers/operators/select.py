"""Exactly these columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from ...topics.batch import INTERNAL_COLUMNS, Batch
from ...topics.schema import Schema
from ..errors import PlanError
from ..expressions import checked_row_wise
from ..operator import Emit, Operator


@dataclass(frozen=True, eq=False, slots=True)
class Select:
    """As `SELECT` in SQL, one row in, one row out: an expression that changes the number of rows is refused."""

    kind: ClassVar[str] = "select"
    expressions: tuple[pl.Expr, ...]

    def output_schemas(self, inputs: Sequence[Schema]) -> Sequence[Schema]:
        if not self.expressions:
            raise PlanError("select needs at least one column")
        checked = [checked_row_wise(expression, "select") for expression in self.expressions]
        return [Schema.of(dict(inputs[0].empty().select(*checked).schema))]

    def build(self, inputs: Sequence[Schema]) -> Operator:
        return _Select(self.expressions)

    def describe(self) -> Mapping[str, str]:
        return {"columns": ", ".join(str(expression) for expression in self.expressions)}


class _Select(Operator):
    def __init__(self, expressions: Sequence[pl.Expr]) -> None:
        self.expressions = expressions

    def process(self, batch: Batch, input_index: int) -> Sequence[Emit]:
        internal = [name for name in batch.frame.columns if name in INTERNAL_COLUMNS]
        return [Emit(batch.replaced(batch.frame.select(*self.expressions, *internal)))]
