"""The rows of a table for which something is true; one that no longer is so is taken away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from ...topics.batch import DELETED, Batch
from ...topics.schema import Schema
from ..operator import Emit, Operator
from .filter import Filter


@dataclass(frozen=True, eq=False, slots=True)
class TableFilter:
    """A row for which the predicate is not true becomes a tombstone, whether or not a row of its key was there before."""

    kind: ClassVar[str] = "table_filter"
    predicate: pl.Expr

    def output_schemas(self, inputs: Sequence[Schema]) -> Sequence[Schema]:
        return Filter(self.predicate).output_schemas(inputs)

    def build(self, inputs: Sequence[Schema]) -> Operator:
        return _TableFilter(self.predicate)

    def describe(self) -> Mapping[str, str]:
        return {"where": str(self.predicate)}


class _TableFilter(Operator):
    def __init__(self, predicate: pl.Expr) -> None:
        self.predicate = predicate

    def process(self, batch: Batch, input_index: int) -> Sequence[Emit]:
        gone = ~self.predicate.fill_null(value=False)
        if DELETED in batch.frame.columns:
            gone = gone | pl.col(DELETED).fill_null(value=False)
        return [Emit(batch.replaced(batch.frame.with_columns(gone.alias(DELETED))))]
