"""A table's changes, sent to where another column is the key: what a foreign-key join and a group of a table begin with.

A row that comes under a new value of those columns must be taken away under the old one, which only the task that owns the
table's key can know. So it keeps, a key, the columns it was last sent by, and gives for each change a tombstone under the old
ones where they differ, then the row under the new ones.

Rows of one key then travel by different ways, and may arrive in another order than they were sent. Each carries a number that
grows with every change in this task (`SEQUENCE`); a tombstone carries the number of the row it takes away. Whoever brings the
ways together again keeps the newest (`newest.py`). The idea is that of Kafka Streams' foreign-key joins (KIP-213), with a number in
the place of a hash.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ...state.key_value import KeyValueState
from ...state.rows import NO_ROW, TableState
from ...topics.batch import DELETED, Batch
from ...topics.key import key_text
from ...topics.schema import Schema
from ..errors import PlanError
from ..operator import Context, Emit, Operator, StateDefinition
from ..row_bytes import RowBytes
from ..table_rows import last_of_each
from ..table_schemas import table_keys

SEQUENCE: Final = "__sequence"
_COUNTER: Final = b"sent"


@dataclass(frozen=True, slots=True)
class Rekey:
    """Input: a table's changes. Output 0: its columns and `SEQUENCE`; tombstones have the key, `columns` and the number only."""

    kind: ClassVar[str] = "rekey"
    key: tuple[str, ...]
    columns: tuple[str, ...]

    def output_schemas(self, inputs: Sequence[Schema]) -> Sequence[Schema]:
        for column in self.columns:
            if column not in inputs[0]:
                raise PlanError(f"no column {column!r}. Columns there are: {', '.join(inputs[0].names)}")
        return [Schema((*inputs[0].columns, (SEQUENCE, pl.Int64())))]

    def build(self, inputs: Sequence[Schema]) -> Operator:
        kinds = dict(inputs[0])
        return RekeyOperator(self, {name: kinds[name] for name in self._kept})

    def describe(self) -> Mapping[str, str]:
        return {"key": ", ".join(self.key), "sent by": ", ".join(self.columns)}

    def state_definition(self, inputs: Sequence[Schema]) -> StateDefinition:
        return StateDefinition({"key": ", ".join(self.key), "sent by": inputs[0].text(self.columns)})

    @property
    def _kept(self) -> list[str]:
        return list(dict.fromkeys([*self.key, *self.columns]))


class RekeyOperator(Operator):
    """The running step."""

    def __init__(self, step: Rekey, kept: Mapping[str, pl.DataType]) -> None:
        self.step = step
        columns = {**kept, SEQUENCE: pl.Int64()}
        self.sent = TableState("sent", columns, RowBytes(columns))
        self.counter = KeyValueState("counter")
        self.states = (self.sent, self.counter)
        self.next = 1

    def open(self, context: Context, watermark: int) -> None:
        self.context = context
        self.next = int.from_bytes(self.counter.get(_COUNTER) or b"", "big") + 1

    def process(self, batch: Batch, input_index: int) -> Sequence[Emit]:
        batch, keys, gone = table_keys(batch, self.step.key, self.context)
        if not len(batch):
            return ()
        last = last_of_each(keys)  # the batch's net change: what came between was never anywhere
        frame, keys = batch.frame[last], keys[last]
        deleted = np.zeros(len(last), np.bool_) if gone is None else gone.to_numpy()[last]
        before = self.sent.find(keys)
        sent = self.sent.rows(before)
        emits = self._taken_away(frame, sent, (before != NO_ROW) & (deleted | self._moved(frame, sent)))
        emits += self._given(frame, keys, deleted)
        return emits

    def _moved(self, frame: pl.DataFrame, sent: pl.DataFrame) -> NDArray[np.bool_]:
        now, before = key_text(frame, self.step.columns), key_text(sent, self.step.columns)
        return now.ne_missing(before).to_numpy()

    def _taken_away(self, frame: pl.DataFrame, sent: pl.DataFrame, gone: NDArray[np.bool_]) -> list[Emit]:
        """Tombstones under the columns by which the rows were sent, in the place of all other columns."""
        if not gone.any():
            return []
        rows, old = frame.filter(pl.Series(gone)), sent.filter(pl.Series(gone))
        there = {SEQUENCE: old[SEQUENCE], **{name: old[name] for name in (*self.step.key, *self.step.columns)}}
        deleted = pl.lit(value=True).alias(DELETED)
        return [Emit(Batch(rows.with_columns(*(column.alias(name) for name, column in there.items()), deleted)))]

    def _given(self, frame: pl.DataFrame, keys: pl.Series, deleted: NDArray[np.bool_]) -> list[Emit]:
        numbers = np.arange(self.next, self.next + len(keys))
        frame = frame.with_columns(pl.Series(SEQUENCE, numbers))
        self.sent.put(keys, frame, deleted)
        self.next += len(keys)
        self.counter.put(_COUNTER, (self.next - 1).to_bytes(8, "big"))
        rows = frame.filter(pl.Series(~deleted)).drop(DELETED, strict=False)
        return [Emit(Batch(rows))] if rows.height else []
