"""Each row to the first predicate that is true for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from ...topics.batch import Batch
from ...topics.schema import Schema
from ..errors import PlanError
from ..expressions import checked_row_wise
from ..operator import Emit, Operator


@dataclass(frozen=True, eq=False, slots=True)
class Branch:
    """Outputs 0, 1, ... in the order of the predicates, and one more for the rest."""

    kind: ClassVar[str] = "branch"
    predicates: tuple[tuple[str, pl.Expr], ...]

    def output_schemas(self, inputs: Sequence[Schema]) -> Sequence[Schema]:
        for label, predicate in self.predicates:
            kinds = inputs[0].empty().select(checked_row_wise(predicate, f"branch {label!r}")).dtypes
            if kinds != [pl.Boolean]:
                raise PlanError(f"branch {label!r}: the predicate must be a yes or no, got {kinds} from {predicate}")
        return [inputs[0]] * (len(self.predicates) + 1)

    def build(self, inputs: Sequence[Schema]) -> Operator:
        return _Branch([predicate for _, predicate in self.predicates])

    def describe(self) -> Mapping[str, str]:
        return {label: str(predicate) for label, predicate in self.predicates}


class _Branch(Operator):
    def __init__(self, predicates: Sequence[pl.Expr]) -> None:
        self.predicates = predicates

    def process(self, batch: Batch, input_index: int) -> Sequence[Emit]:
        chosen = pl.lit(len(self.predicates))
        for output, predicate in reversed(list(enumerate(self.predicates))):
            chosen = pl.when(predicate).then(pl.lit(output)).otherwise(chosen)
        outputs = batch.frame.select(chosen.alias("output"))["output"]
        present = outputs.unique(maintain_order=True)
        return [Emit(batch.replaced(batch.frame.filter(outputs == output)), int(output)) for output in present]
