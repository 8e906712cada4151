"""An asynchronous Python function of a row that gives any number of rows: `flat_map` with an `async def`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from ...topics.batch import Batch
from ...topics.schema import Schema
from ..async_rows import AsyncRows
from ..attempts import CallLimits, collected
from ..operator import AsyncOperator
from ..rowwise import flattened, frame_of, function_text


@dataclass(frozen=True, eq=False, slots=True)
class AsyncFlatMap:
    """As `async_map`. `function`: returns an iterable of rows, or yields them; an error in its middle takes the row whole."""

    kind: ClassVar[str] = "async_flat_map"
    function: Callable[[dict[str, Any]], Any]
    schema: Schema
    limits: CallLimits = CallLimits()

    def output_schemas(self, inputs: Sequence[Schema]) -> Sequence[Schema]:
        return [self.schema]

    def build(self, inputs: Sequence[Schema]) -> AsyncOperator:
        return _AsyncFlatMap(self)

    def describe(self) -> Mapping[str, str]:
        return {"function": function_text(self.function), **self.limits.describe()}


class _AsyncFlatMap(AsyncRows):
    def __init__(self, step: AsyncFlatMap) -> None:
        super().__init__(step.function, step.limits, partial(collected, step.function))
        self.schema, self.text = step.schema, function_text(step.function)

    def finish(self, value: Any, row: Batch) -> Batch:
        return row.replaced(frame_of(flattened([value], [0]), row, self.schema, self.context, self.text))
