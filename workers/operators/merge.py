"""The rows of several streams, in one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from ...topics.batch import Batch
from ...topics.schema import Schema
from ..errors import PlanError
from ..operator import Emit, Operator


@dataclass(frozen=True, slots=True)
class Merge:
    """The inputs must have one schema. Rows are given as they arrive; the watermark is the smallest of the inputs'."""

    kind: ClassVar[str] = "merge"

    def output_schemas(self, inputs: Sequence[Schema]) -> Sequence[Schema]:
        first = inputs[0].polars()
        for number, other in enumerate(inputs[1:], start=2):
            if other.polars() != first:
                raise PlanError(
                    f"merge: stream {number} has columns {other.polars()}, the first has {first}; use select first"
                )
        return [inputs[0]]

    def build(self, inputs: Sequence[Schema]) -> Operator:
        return _Merge(inputs[0].names)

    def describe(self) -> Mapping[str, str]:
        return {}


class _Merge(Operator):
    def __init__(self, names: list[str]) -> None:
        self.names = names

    def process(self, batch: Batch, input_index: int) -> Sequence[Emit]:
        internal = [name for name in batch.frame.columns if name not in self.names]
        return [Emit(batch.replaced(batch.frame.select(*self.names, *internal)))]
