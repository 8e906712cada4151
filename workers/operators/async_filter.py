"""An asynchronous Python function of a row that says whether it stays: `filter` with an `async def`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ...topics.batch import Batch
from ...topics.schema import Schema
from ..async_rows import AsyncRows
from ..attempts import AsyncFunction, CallLimits
from ..operator import AsyncOperator
from ..rowwise import function_text


@dataclass(frozen=True, eq=False, slots=True)
class AsyncFilter:
    """A row for which all attempts fail becomes a dead letter."""

    kind: ClassVar[str] = "async_filter"
    function: AsyncFunction
    limits: CallLimits = CallLimits()

    def output_schemas(self, inputs: Sequence[Schema]) -> Sequence[Schema]:
        return inputs

    def build(self, inputs: Sequence[Schema]) -> AsyncOperator:
        return _AsyncFilter(self.function, self.limits)

    def describe(self) -> Mapping[str, str]:
        return {"where": function_text(self.function), **self.limits.describe()}


class _AsyncFilter(AsyncRows):
    def finish(self, value: Any, row: Batch) -> Batch:
        return row if value else row.replaced(row.frame.clear())
