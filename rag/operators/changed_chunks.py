"""Records of index-updates -> the keys of the chunks that changed, each with where its record stands (output 0).

    input   `key`, `value` of index-updates, tombstones kept      output 0   `key`, `value`: {"partition", "offset"}

They go to a topic of one partition, whose only task (`contradictions.py`) holds all pairs of chunks: a pair belongs to two
partitions of index-updates. What a chunk says is not sent; it is looked up in the index.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from ...topics.batch import OFFSET, Batch
from ...topics.schema import Schema
from ...workers.operator import Emit, Operator
from ..contradiction import write_change
from ..raw import RAW, check_raw


@dataclass(frozen=True, slots=True)
class ChangedChunks:
    """The step."""

    kind: ClassVar[str] = "changed_chunks"

    def output_schemas(self, inputs: Sequence[Schema]) -> Sequence[Schema]:
        check_raw(self.kind, inputs)
        return (RAW,)

    def build(self, inputs: Sequence[Schema]) -> ChangedChunksRun:
        return ChangedChunksRun()

    def describe(self) -> Mapping[str, str]:
        return {}


class ChangedChunksRun(Operator):
    """The operator of one task. It keeps nothing."""

    def process(self, batch: Batch, input_index: int) -> Sequence[Emit]:
        """Records without a key are nobody's chunk."""
        frame = batch.frame.filter(pl.col("key").is_not_null())
        partition = self.context.partition
        told = [write_change(partition, offset) for offset in frame[OFFSET].to_list()]
        return [Emit(batch.replaced(frame.with_columns(pl.Series("value", told, pl.Binary()))))] if told else []
