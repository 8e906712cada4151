"""Keep the rows for which something is true."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import polars as pl

from ...topics.batch import DELETED, Batch
from ...topics.schema import Schema
from ..errors import PlanError
from ..expressions import checked_row_wise
from ..operator import Emit, Operator
from ..rowwise import apply_rows, function_text

Predicate = pl.Expr | Callable[[dict[str, Any]], bool]


@dataclass(frozen=True, eq=False, slots=True)
class Filter:
    """As `WHERE` in SQL: rows for which the predicate is null go, too. Tombstones pass: they have only a key."""

    kind: ClassVar[str] = "filter"
    predicate: Predicate

    def output_schemas(self, inputs: Sequence[Schema]) -> Sequence[Schema]:
        if isinstance(self.predicate, pl.Expr):
            kept = inputs[0].empty().select(checked_row_wise(self.predicate, "filter"))
            if kept.width != 1 or kept.dtypes[0] != pl.Boolean:
                raise PlanError(f"filter: the predicate must be a yes or no, got {kept.dtypes} from {self.predicate}")
        return inputs

    def build(self, inputs: Sequence[Schema]) -> Operator:
        return _ByExpression(self.predicate) if isinstance(self.predicate, pl.Expr) else _ByFunction(self.predicate)

    def describe(self) -> Mapping[str, str]:
        text = str(self.predicate) if isinstance(self.predicate, pl.Expr) else function_text(self.predicate)
        return {"where": text}


class _ByExpression(Operator):
    def __init__(self, predicate: pl.Expr) -> None:
        self.predicate = predicate

    def process(self, batch: Batch, input_index: int) -> Sequence[Emit]:
        predicate = self.predicate | pl.col(DELETED) if DELETED in batch.frame.columns else self.predicate
        return [Emit(batch.replaced(batch.frame.filter(predicate)))]


class _ByFunction(Operator):
    def __init__(self, function: Callable[[dict[str, Any]], bool]) -> None:
        self.function = function

    def process(self, batch: Batch, input_index: int) -> Sequence[Emit]:
        results, rows = apply_rows(self.function, batch, self.context)
        keep = [row for row, result in zip(rows, results, strict=True) if result]
        return [Emit(batch.replaced(batch.frame[keep]))]
