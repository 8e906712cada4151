"""Rows of a stream with the row a global table has for them now: by any columns, since every worker has the whole table.

As `join.py` in what it gives: one output a row, at once, never updated. Nothing is repartitioned and nothing kept: the table is what
the process has read of its topic (`global_tables.py`), all that was there when it started and what has come since.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from ...topics.batch import DELETED, Batch
from ...topics.key import key_text
from ...topics.schema import Schema
from ...topics.topic import Topic
from ..errors import InvariantError
from ..global_rows import GlobalRows
from ..join_schemas import check_option
from ..operator import Emit, Operator
from ..table_schemas import LookUp
from .join import HOW, How


@dataclass(frozen=True, slots=True)
class GlobalJoin:
    """Output 0: the stream's columns, then the table's but for its key."""

    kind: ClassVar[str] = "global_join"
    on: tuple[str, ...]
    table: Topic
    how: How = "inner"
    suffix: str = "_right"

    @property
    def look_up(self) -> LookUp:
        return LookUp(self.kind, self.on, self.table.key, self.suffix)

    @property
    def right(self) -> Schema:
        assert self.table.schema is not None, "checked where it was declared"
        return self.table.schema

    def output_schemas(self, inputs: Sequence[Schema]) -> Sequence[Schema]:
        check_option(self.kind, "how", self.how, HOW)
        return [self.look_up.columns(inputs[0], self.right)]

    def build(self, inputs: Sequence[Schema]) -> Operator:
        return GlobalJoinOperator(self, inputs[0])

    def describe(self) -> Mapping[str, str]:
        pairs = ", ".join(a if a == b else f"{a} = {b}" for a, b in zip(self.on, self.table.key, strict=True))
        return {"global table": self.table.name, "on": pairs, "how": self.how, "suffix": self.suffix}


class GlobalJoinOperator(Operator):
    """The running step; `bind` gives it the table."""

    def __init__(self, step: GlobalJoin, left: Schema) -> None:
        self.step = step
        self.left = left
        self.rows: GlobalRows | None = None

    @property
    def global_topic(self) -> str:
        return self.step.table.name

    def bind_global(self, rows: GlobalRows) -> None:
        self.rows = rows

    def process(self, batch: Batch, input_index: int) -> Sequence[Emit]:
        if self.rows is None:
            raise InvariantError(f"step {self.context.step!r} was not given its global table")
        frame, on = batch.frame, self.step.on
        there, found = self.rows.look_up(key_text(frame, on).fill_null(""))
        null = frame.select(pl.any_horizontal(pl.col(name).is_null() for name in on).alias("null"))["null"]
        matched = pl.Series(there) & ~null
        found = found.select(pl.when(matched).then(pl.col(name)).alias(name) for name in found.columns)
        joined = self.step.look_up.renamed(found, self.left, self.step.right)
        ours = [name for name in frame.columns if name not in self.left]
        frame = frame.select(self.left.names).hstack(joined).hstack(frame.select(ours))
        if self.step.how == "inner":
            kept = matched | frame[DELETED].fill_null(value=False) if DELETED in frame.columns else matched
            frame = frame.filter(kept)
        return [Emit(batch.replaced(frame))]
