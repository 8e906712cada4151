"""A Python function of a row that gives a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ...topics.batch import Batch
from ...topics.schema import Schema
from ..operator import Emit, Operator
from ..rowwise import Rows, apply_rows, frame_of, function_text

RowFunction = Callable[[dict[str, Any]], Mapping[str, Any]]


@dataclass(frozen=True, eq=False, slots=True)
class Map:
    """A row for which the function raises, or whose result does not fit the schema, becomes a dead letter."""

    kind: ClassVar[str] = "map"
    function: RowFunction
    schema: Schema

    def output_schemas(self, inputs: Sequence[Schema]) -> Sequence[Schema]:
        return [self.schema]

    def build(self, inputs: Sequence[Schema]) -> Operator:
        return _Map(self.function, self.schema)

    def describe(self) -> Mapping[str, str]:
        return {"function": function_text(self.function)}


class _Map(Operator):
    def __init__(self, function: RowFunction, schema: Schema) -> None:
        self.function, self.schema = function, schema

    def process(self, batch: Batch, input_index: int) -> Sequence[Emit]:
        results, rows = apply_rows(self.function, batch, self.context)
        frame = frame_of(Rows(results, rows), batch, self.schema, self.context, function_text(self.function))
        return [Emit(batch.replaced(frame))]
