"""An asynchronous Python function of a row that gives a row: `map` with an `async def`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ...topics.batch import Batch
from ...topics.schema import Schema
from ..async_rows import AsyncRows
from ..attempts import AsyncFunction, CallLimits
from ..operator import AsyncOperator
from ..rowwise import Rows, frame_of, function_text


@dataclass(frozen=True, eq=False, slots=True)
class AsyncMap:
    """A row for which all attempts fail, or whose result does not fit the schema, becomes a dead letter."""

    kind: ClassVar[str] = "async_map"
    function: AsyncFunction
    schema: Schema
    limits: CallLimits = CallLimits()

    def output_schemas(self, inputs: Sequence[Schema]) -> Sequence[Schema]:
        return [self.schema]

    def build(self, inputs: Sequence[Schema]) -> AsyncOperator:
        return _AsyncMap(self)

    def describe(self) -> Mapping[str, str]:
        return {"function": function_text(self.function), **self.limits.describe()}


class _AsyncMap(AsyncRows):
    def __init__(self, step: AsyncMap) -> None:
        super().__init__(step.function, step.limits)
        self.schema = step.schema

    def finish(self, value: Any, row: Batch) -> Batch:
        return row.replaced(frame_of(Rows([value], [0]), row, self.schema, self.context, function_text(self.function)))
