"""Rows of a stream with the row a table has for their key now.

One output a row of the stream, given at once and never updated: the table is looked into as it is when the row comes. A
tombstone in the table means that there is no row. Before the first row of the stream is worked on, after every start, the table
is read to where its topic ended then (`Task.waits`); later its changes are taken in as they arrive. The table is of no weight for
the watermark, and what time its rows have does not matter; for a join by time there is `asof_join`.

`how="left"`: rows without a partner, and rows whose key is null, are given with nulls; `"inner"`: they are not. Which version of
a table's row is met depends on arrival, so a repeated run may meet another one; a replay after a crash may, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

import numpy as np
import polars as pl

from ...state.rows import NO_ROW, TableState
from ...topics.batch import DELETED, Batch
from ...topics.key import key_text
from ...topics.schema import Schema
from ..join_schemas import check_option
from ..operator import Emit, Operator, StateDefinition
from ..row_bytes import RowBytes
from ..table_schemas import LookUp, table_keys

How = Literal["inner", "left"]
HOW: Final = ("inner", "left")


@dataclass(frozen=True, slots=True)
class Join:
    """Input 0: the stream. Input 1: the table's changes. Output 0: the stream's columns, then the table's but for its key."""

    kind: ClassVar[str] = "join"
    table_inputs: ClassVar[tuple[int, ...]] = (1,)
    on: tuple[str, ...]
    key: tuple[str, ...]
    how: How = "inner"
    suffix: str = "_right"
    name: str = "table"
    """Of the store."""

    @property
    def look_up(self) -> LookUp:
        return LookUp(self.kind, self.on, self.key, self.suffix)

    def output_schemas(self, inputs: Sequence[Schema]) -> Sequence[Schema]:
        check_option(self.kind, "how", self.how, HOW)
        return [self.look_up.columns(*inputs)]

    def build(self, inputs: Sequence[Schema]) -> Operator:
        columns = inputs[1].polars()
        return JoinOperator(self, inputs, TableState(self.name, columns, RowBytes(columns)))

    def describe(self) -> Mapping[str, str]:
        pairs = ", ".join(a if a == b else f"{a} = {b}" for a, b in zip(self.on, self.key, strict=True))
        return {"on": pairs, "how": self.how, "suffix": self.suffix}

    def state_definition(self, inputs: Sequence[Schema]) -> StateDefinition:
        return StateDefinition({"key": ", ".join(self.key), "table": inputs[1].text()})

    def partitioned_by(self, input_index: int) -> tuple[str, ...]:
        return (self.on, self.key)[input_index]


class JoinOperator(Operator):
    """The running step."""

    def __init__(self, step: Join, inputs: Sequence[Schema], state: TableState) -> None:
        self.step = step
        self.left, self.right = inputs
        self.state = state
        self.states = (state,)

    def process(self, batch: Batch, input_index: int) -> Sequence[Emit]:
        if input_index == 1:
            batch, keys, deleted = table_keys(batch, self.step.key, self.context)
            if len(batch):
                gone = None if deleted is None else deleted.to_numpy()
                self.state.put(keys, batch.frame.select(self.right.names), gone)
            return ()
        return [Emit(batch.replaced(self._joined(batch)))]

    def _joined(self, batch: Batch) -> pl.DataFrame:
        numbers = self._numbers(batch)
        frame = batch.frame
        if self.step.how == "inner":
            there = numbers != NO_ROW
            if DELETED in frame.columns:  # what takes a result back must reach who was given it
                there |= frame[DELETED].fill_null(value=False).to_numpy()
            if not there.all():
                frame, numbers = frame.filter(pl.Series(there)), numbers[there]
        found = self.step.look_up.renamed(self.state.rows(numbers), self.left, self.right)
        ours = [name for name in frame.columns if name not in self.left]
        return frame.select(self.left.names).hstack(found).hstack(frame.select(ours))

    def _numbers(self, batch: Batch) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Of the table's rows. Keys with a null in them match nothing."""
        numbers = self.state.find(key_text(batch.frame, self.step.on).fill_null(""))
        null = pl.any_horizontal(pl.col(name).is_null() for name in self.step.on)
        numbers[batch.frame.select(null.alias("null"))["null"].to_numpy()] = NO_ROW
        return numbers
