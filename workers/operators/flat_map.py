"""A Python function of a row that gives any number of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ...topics.batch import Batch
from ...topics.schema import Schema
from ..operator import Emit, Operator
from ..rowwise import apply_rows, flattened, frame_of, function_text

RowsFunction = Callable[[dict[str, Any]], Iterable[Mapping[str, Any]]]


@dataclass(frozen=True, eq=False, slots=True)
class FlatMap:
    """As `map`; if one of the rows given does not fit the schema, the others of the same input row still go on."""

    kind: ClassVar[str] = "flat_map"
    function: RowsFunction
    schema: Schema

    def output_schemas(self, inputs: Sequence[Schema]) -> Sequence[Schema]:
        return [self.schema]

    def build(self, inputs: Sequence[Schema]) -> Operator:
        return _FlatMap(self.function, self.schema)

    def describe(self) -> Mapping[str, str]:
        return {"function": function_text(self.function)}


class _FlatMap(Operator):
    def __init__(self, function: RowsFunction, schema: Schema) -> None:
        self.function, self.schema = _whole(function), schema

    def process(self, batch: Batch, input_index: int) -> Sequence[Emit]:
        results, rows = apply_rows(self.function, batch, self.context)
        frame = frame_of(flattened(results, rows), batch, self.schema, self.context, function_text(self.function))
        return [Emit(batch.replaced(frame))]


def _whole(function: RowsFunction) -> Callable[[dict[str, Any]], list[Mapping[str, Any]]]:
    """The whole of a generator at once, so that an error in its middle takes the row and not half of it."""

    def rows(row: dict[str, Any]) -> list[Mapping[str, Any]]:
        return list(function(row))

    rows.__qualname__ = function_text(function)
    return rows
